//! What a session remembers of one container between its events.

use std::collections::VecDeque;

use crate::root::Nanos;
use crate::runtime::{EventKind, Pending};

#[derive(Debug, Default)]
pub struct Tracked {
    pub name: String,
    pub image: String,
    /// The configuration leaves it out.
    pub hidden: bool,
    /// All its labels are known; events need not have them.
    pub inspected: bool,
    pub cleanup: Cleanup,
    /// A start was begun and has not come to its end.
    pub starting: bool,
    /// Created, and nothing has told yet what came of its start.
    pub unsettled: bool,
    /// When the last start was begun, at the latest.
    pub begun: Option<Nanos>,
    /// Newest end that an event told.
    pub ended: Option<Nanos>,
    pub destroyed: bool,
    /// Start time of the run that has been published.
    pub told_start: Option<Nanos>,
    /// Inspects under way.
    pub inspects: u32,
    /// An inspect is under way that the following events wait for.
    pub busy: bool,
    pub steps: VecDeque<(Step, Option<Pending>)>,
}

/// What it means when a container's network is taken down next: Podman's event `cleanup`, Docker's `disconnect`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing has been seen of it before.
    #[default]
    Unknown,
    OfARun,
    OfAFailedStart,
}

impl Tracked {
    /// Nothing more can come of it.
    pub fn done(&self) -> bool {
        self.destroyed && self.inspects == 0 && self.steps.is_empty()
    }
}

/// What is to be done of one container, one after the other.
#[derive(Debug)]
pub enum Step {
    Publish(EventKind, Nanos),
    Create(Nanos),
    Start(Nanos),
    StartFailed(Nanos),
    /// Of a container that was created at that time.
    Settle(Nanos),
}

impl Step {
    pub fn waits_for_inspect(&self) -> bool {
        !matches!(self, Self::Publish(..))
    }
}
