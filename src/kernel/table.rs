//! Readers whose facts are a table of kernel files: which hierarchy, which file, how it is parsed. One line a file.

use std::sync::Arc;

use crate::catalog::Collector;
use crate::kernel::cgroups::Version;
use crate::kernel::file::KernelFile;
use crate::kernel::parse::{Malformed, Sound};
use crate::kernel::{Context, Reader, Slots};
use crate::root::ReadError;
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, Snapshot};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// In the container's cgroup, where v1 has this controller.
    V1(&'static str),
    /// In the container's cgroup, where v2 has this controller ("" is there with any).
    V2(&'static str),
    /// Below `/proc`, for the root cgroup alone: what its cgroup files do not tell. Listed after them.
    Host,
}

/// One kernel file and how it becomes facts.
pub struct Source<Raw> {
    pub home: Home,
    /// The first that exists is read.
    pub files: &'static [&'static str],
    pub parse: fn(&[u8], &mut Raw) -> Sound,
}

/// What a collector makes of its table.
pub trait Subject: Send + 'static {
    const COLLECTOR: Collector;
    /// One container's facts as the files tell them.
    type Raw: Default + Send;
    /// What is kept of a container from collection to collection.
    type Kept: Send;

    fn sources() -> &'static [Source<Self::Raw>];

    /// Empties `raw` for the next container, keeping the memory of lists.
    fn reset(raw: &mut Self::Raw);

    /// A collection begins.
    fn begin(&mut self, _raw: &mut Self::Raw, _ctx: &mut Context<'_>) {}

    /// A container was opened.
    fn opened(&mut self, container: &Container, ctx: &mut Context<'_>) -> Self::Kept;

    /// Puts what was read into the snapshot, and derives what no file tells.
    fn finish(&mut self, raw: &mut Self::Raw, kept: &mut Self::Kept, facts: &mut ContainerFacts, ctx: &mut Context<'_>);
}

struct Open<S: Subject> {
    container: Arc<Container>,
    /// With their place in the table. Files that were not there are not asked for again.
    files: Vec<(u8, KernelFile)>,
    kept: S::Kept,
}

pub struct TableReader<S: Subject> {
    subject: S,
    raw: S::Raw,
    slots: Slots<Open<S>>,
}

impl<S: Subject> TableReader<S> {
    pub fn new(subject: S) -> Self {
        Self { subject, raw: S::Raw::default(), slots: Slots::default() }
    }
}

fn open_files<Raw>(sources: &[Source<Raw>], container: &Container, ctx: &Context<'_>) -> Vec<(u8, KernelFile)> {
    let folder = |home: Home| match home {
        Home::V1(c) => ctx.cgroups.folder(Version::V1, c, &container.cgroup),
        Home::V2(c) => match ctx.cgroups.version(c) {
            Some(Version::V2) => ctx.cgroups.folder(Version::V2, c, &container.cgroup),
            _ => None,
        },
        Home::Host => (container.identity.id == "/").then(|| ctx.root.procfs.clone()),
    };
    let mut files: Vec<(u8, KernelFile)> = Vec::with_capacity(sources.len());
    for (place, source) in sources.iter().enumerate() {
        let Some(folder) = folder(source.home) else { continue };
        let file = source.files.iter().find_map(|name| KernelFile::open(&folder.join(name), ctx.budget).ok());
        files.extend(file.map(|f| (place as u8, f)));
    }
    files.shrink_to_fit();
    files
}

impl<S: Subject> Open<S> {
    fn new(subject: &mut S, container: &Arc<Container>, ctx: &mut Context<'_>) -> Self {
        let files = open_files(S::sources(), container, ctx);
        Self { container: container.clone(), files, kept: subject.opened(container, ctx) }
    }

    /// Reads all files. A failure costs its file alone; only [`ReadError::Gone`] ends the container.
    fn read(&self, raw: &mut S::Raw, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        S::reset(raw);
        for (place, file) in &self.files {
            let Some(source) = S::sources().get(usize::from(*place)) else { continue };
            // Files of `/proc` may be of many records, those of cgroups are of one.
            let read = if source.home == Home::Host { file.read_records(ctx.buf) } else { file.read(ctx.buf) };
            let error = match read {
                Ok(bytes) => match (source.parse)(bytes, raw) {
                    Ok(()) => continue,
                    Err(Malformed) => ReadError::Malformed,
                },
                Err(ReadError::Gone) => return Err(ReadError::Gone),
                Err(e) => e,
            };
            ctx.failed(S::COLLECTOR, error);
        }
        Ok(())
    }
}

impl<S: Subject> Reader for TableReader<S> {
    fn open(&mut self, slot: usize, container: &Arc<Container>, ctx: &mut Context<'_>) {
        self.slots.set(slot, Open::new(&mut self.subject, container, ctx));
    }

    fn close(&mut self, slot: usize) {
        self.slots.clear(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        let Self { subject, raw, slots: states } = self;
        subject.begin(raw, ctx);
        for (facts, slot) in snapshot.containers.iter_mut().zip(slots) {
            let Some(open) = states.get(*slot).filter(|_| !facts.gone) else { continue };
            if open.read(raw, ctx).is_err() {
                // Restarted under the same path before its event arrived? Then new files are there already.
                let container = open.container.clone();
                *open = Open::new(subject, &container, ctx);
                if open.files.is_empty() || open.read(raw, ctx).is_err() {
                    facts.gone = true;
                    continue;
                }
            }
            subject.finish(raw, &mut open.kept, facts, ctx);
        }
    }
}
