//! Catalog + targets → reference documentation, recording rules, alerts, dashboards.
//!
//! Everything here is text made of what stands elsewhere once: names in [`crate::catalog`], figures in
//! [`crate::targets`]. The results are committed; a test fails where they are stale.

mod docs;

use std::path::PathBuf;

/// A generated file, with its path below the output folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub path: PathBuf,
    pub content: String,
}

impl Artifact {
    fn new(path: impl Into<PathBuf>, content: String) -> Self {
        Self { path: path.into(), content }
    }
}

/// What can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `docs/metrics.md`.
    Docs,
}

impl Kind {
    pub const ALL: [Kind; 1] = [Self::Docs];
}

/// All files of one kind.
pub fn artifacts(kind: Kind) -> Vec<Artifact> {
    match kind {
        Kind::Docs => vec![Artifact::new("docs/metrics.md", docs::metrics())],
    }
}
