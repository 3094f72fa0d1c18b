//! Apple's `container`: one lightweight VM per container, asked through its command line.
//!
//! `container list` is cheap and drives discovery, every second. `container stats` sleeps two seconds by design and has no
//! time limit of its own, so it is read in the background at its own interval, one child at a time; a scrape serves the
//! newest figures, with their age as a metric (`kina_collector_last_success_timestamp_seconds`). Starts are told from the
//! files that the runtime keeps of each container: see `bundles`.

mod book;
mod bundles;
mod command;
mod ending;
pub mod guest;
pub mod shapes;
pub(super) mod watch;

use std::sync::{Mutex, PoisonError};

pub use book::{Book, Change, key};
pub use command::Command;
pub use guest::Guest;
use shapes::Stats;

use crate::root::Nanos;

/// One answer of `container stats` for one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// When the command ended: the figures are of the moments before. Wall and boot clock.
    pub wall: Nanos,
    pub boot: Nanos,
    pub stats: Stats,
}

/// The newest figures of one run of a container; empty until the first answer.
#[derive(Debug, Default)]
pub struct MeasuredCell {
    stats: Mutex<Option<Measured>>,
    guest: Mutex<Option<Guest>>,
}

impl MeasuredCell {
    pub fn set(&self, m: Measured) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = Some(m);
    }

    pub fn set_guest(&self, guest: Guest) {
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest);
    }

    /// The guest tells no more: what it told is no longer true.
    pub fn forget_guest(&self) {
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// As [`MeasuredCell::with`], of what the guest's kernel told.
    pub fn with_guest<T>(&self, f: impl FnOnce(&Guest) -> T) -> Option<T> {
        self.guest.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(f)
    }

    /// Calls `f` with the newest figures, without copying them.
    pub fn with<T>(&self, f: impl FnOnce(&Measured) -> T) -> Option<T> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(f)
    }
}
