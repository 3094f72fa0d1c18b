//! Container starts: runtime events, boot logs and reports → phases → histograms, held beside the snapshot.
//!
//! | file | role |
//! |---|---|
//! | [`timeline`] | moments of one start → phases that are never negative and add up to the total |
//! | [`reconcile`] | the runtimes' wall-clock stamps on the kernel's boot clock |
//! | [`model`] | events in, in any order, repeated or replayed → starts, failures and exits, each once; no I/O |
//! | [`boot_log`] | the console of a virtual machine → its part of a timeline |
//! | [`console`] | a boot log that is followed as it grows |
//! | [`report`] | what a tool that knows better says of a start |
//! | [`slow`] | why a start was slow |
//! | [`ledger`] | what is held: counters, histograms, the last starts |
//! | [`follow`] | the task that feeds the model |
//!
//! Where each phase comes from is told in `docs/startup.md`.

pub mod boot_log;
mod console;
pub mod follow;
pub mod ledger;
mod listening;
pub mod model;
pub mod reconcile;
pub mod report;
pub mod slow;
pub mod timeline;

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::root::Nanos;
use crate::runtime::Key;

pub use ledger::Ledger;
pub use timeline::{Moments, Phases};

/// A part of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Pull, unpack, snapshot.
    Image,
    /// VM requested → its kernel's first line.
    VmCreate,
    /// First kernel line → init starts.
    KernelBoot,
    /// Guest init, or the runtime where there is no VM: init starts → process created.
    Init,
    /// Process created → running.
    Process,
    /// Running → first healthy check, or first listening socket. No part of the total.
    Ready,
}

impl Phase {
    pub const ALL: [Phase; 6] = [Self::Image, Self::VmCreate, Self::KernelBoot, Self::Init, Self::Process, Self::Ready];

    /// The value of the `phase` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::VmCreate => "vm_create",
            Self::KernelBoot => "kernel_boot",
            Self::Init => "init",
            Self::Process => "process",
            Self::Ready => "ready",
        }
    }
}

/// Whether everything that a start needs was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartKind {
    /// The image was pulled or unpacked, or the container created, as part of the start.
    Cold,
    /// Restart, pooled or created before.
    Warm,
}

impl StartKind {
    /// The value of the `start` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// What engines say of an image that is neither here nor to be had, in small letters.
const NO_IMAGE: [&str; 9] = [
    "no such image",
    "image not known",
    "image not found",
    "pull access denied",
    "manifest unknown",
    // Podman, which asks a registry under the name as it stands.
    "did not resolve to an alias",
    "initializing source",
    // containerd, and the kubelet above it.
    "failed to resolve reference",
    "failed to pull",
];

/// Why a start that was requested never ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    ImageMissing,
    /// The OCI runtime (runc, crun, a shim) could not make it.
    OciError,
    /// Its process ended before the runtime called it running.
    ExitAtOnce,
    /// Neither ran nor failed in time.
    Timeout,
    /// Anything else that the runtime says, or removed before it ran.
    Other,
}

impl FailureReason {
    /// The value of the `reason` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageMissing => "image_missing",
            Self::OciError => "oci_error",
            Self::ExitAtOnce => "exit_at_once",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }

    /// Sorts what a runtime says into the few reasons.
    pub fn from_message(message: &str) -> Self {
        let m = message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|w| m.contains(w));
        if has(&NO_IMAGE) {
            Self::ImageMissing
        } else if has(&["timed out", "deadline exceeded"]) {
            // Whatever was waited for; engines put before it what they were doing.
            Self::Timeout
        } else if has(&["oci runtime", "runc", "crun", "shim", "failed to create task", "exec format", "exec:"]) {
            Self::OciError
        } else if m.contains("image") && m.contains("not found") {
            Self::ImageMissing
        } else if m.contains("timeout") {
            Self::Timeout
        } else {
            Self::Other
        }
    }
}

/// Where a start was learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Events,
    Report,
    /// The runtime's events, with phases of a report.
    EventsAndReport,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Report => "report",
            Self::EventsAndReport => "events+report",
        }
    }
}

/// A finished start, or one that failed: what histograms, the log, the page, the API and traces are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct StartRecord {
    pub key: Key,
    pub name: String,
    pub image: String,
    /// Wall clock, nanoseconds since the Unix epoch; None without evidence of the request.
    pub requested: Option<Nanos>,
    /// Wall clock. None for a failed start.
    pub running: Option<Nanos>,
    /// Requested → running.
    pub total: Option<Nanos>,
    pub phases: Phases,
    pub kind: StartKind,
    /// Whether the image was present; None where the start did not need one.
    pub image_cached: Option<bool>,
    /// Whether a prepared VM or container was used; None where nobody pools.
    pub pool_hit: Option<bool>,
    pub failure: Option<(FailureReason, String)>,
    /// Rules that a slow start matched; empty for others. See [`slow`].
    pub slow: Vec<slow::Finding>,
    pub source: Source,
    /// W3C trace context that the reporter gave (`00-…`).
    pub traceparent: Option<String>,
}

impl StartRecord {
    /// The trace id, 32 hex digits: the reporter's, or one made of what the start is, so that whoever exports the trace and
    /// whoever points to it agree.
    pub fn trace_id(&self) -> String {
        match self.traceparent.as_deref().and_then(|t| t.split('-').nth(1)) {
            Some(told) => told.to_owned(),
            None => {
                let half = |salt: u8| {
                    let mut hasher = DefaultHasher::new();
                    (salt, &self.key, self.running.or(self.requested)).hash(&mut hasher);
                    hasher.finish() | 1
                };
                format!("{:016x}{:016x}", half(0), half(1))
            }
        }
    }
}

/// Why a container ended: the `reason` label of exits. One whose status nobody tells is no error.
pub fn exit_reason(code: Option<i32>, oom: bool) -> &'static str {
    match code {
        _ if oom => "oom",
        Some(0) => "ok",
        // 128 + signal, as shells and runtimes report a process that a signal ended.
        Some(129..=192) => "signal",
        Some(_) => "error",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sorted_into_reasons() {
        for (message, reason) in [
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: exec: \"x\": not found",
                FailureReason::OciError,
            ),
            ("No such image: nowhere:latest", FailureReason::ImageMissing),
            ("image \"a/b:c\": not found", FailureReason::ImageMissing),
            ("failed to create task for container: context deadline exceeded", FailureReason::Timeout),
            ("OCI runtime create failed: exec: \"timeout\": executable file not found", FailureReason::OciError),
            (
                "OCI runtime create failed: exec: \"image-tool\": executable file not found in $PATH",
                FailureReason::OciError,
            ),
            // Podman 4.3: its OCI runtime's log, and what it answers.
            (
                "OCI runtime error: runc create failed: unable to start container process: exec: \"/tmp\": permission denied",
                FailureReason::OciError,
            ),
            (
                "runc: runc create failed: exec: \"x\": permission denied: OCI permission denied",
                FailureReason::OciError,
            ),
            ("nosuchimage:1: image not known", FailureReason::ImageMissing),
            ("short-name \"nosuchimage:1\" did not resolve to an alias and no", FailureReason::ImageMissing),
            (
                "initializing source docker://localhost:5/nosuch:1: pinging container registry",
                FailureReason::ImageMissing,
            ),
            ("statfs /no/such/vol: no such file or directory", FailureReason::Other),
            // containerd.
            (
                "failed to resolve reference \"docker.io/library/nosuch:1\": docker.io/library/nosuch:1: not found",
                FailureReason::ImageMissing,
            ),
            (
                "failed to pull and unpack image \"registry.example/x:1\": failed to do request: connection refused",
                FailureReason::ImageMissing,
            ),
            ("timeout waiting for the network", FailureReason::Timeout),
            ("driver failed programming external connectivity: port is already allocated", FailureReason::Other),
            ("", FailureReason::Other),
        ] {
            assert_eq!(FailureReason::from_message(message), reason, "{message}");
        }
    }

    #[test]
    fn exits_have_reasons() {
        assert_eq!(exit_reason(Some(0), false), "ok");
        assert_eq!(exit_reason(Some(1), false), "error");
        assert_eq!(exit_reason(None, false), "unknown");
        assert_eq!(exit_reason(Some(137), false), "signal");
        assert_eq!(exit_reason(Some(137), true), "oom");
    }
}
