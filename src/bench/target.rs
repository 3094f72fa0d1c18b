//! The exporter under measurement, as a process of its own: the real engine and server over a given fleet.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{alloc, fleet};
use crate::config::{CollectorSet, Config};
use crate::engine::{Engine, Shared};
use crate::root::{self, Root};
use crate::serve::{self, Hooks};

/// What the process tells of itself when asked.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Counts {
    /// System calls through the injected root.
    pub calls: u64,
    /// Kernel files asked, by reading them or by their status.
    pub files: u64,
    pub allocations: u64,
}

/// Serves a fleet until standard input ends. A line on standard input collects once and answers with [`Counts`].
pub async fn run(cgroup: PathBuf, parent: &str, size: usize, port: u16) -> Result<(), String> {
    let mut config = Config::default();
    config.path.cgroup = cgroup;
    config.web.listen = vec![format!("127.0.0.1:{port}")];
    let root = Root { cgroup: config.path.cgroup.clone(), ..Root::default() };
    let shared = Shared::new(root.clone(), config);
    shared.directory.replace(|_| true, fleet::containers(&root, parent, size));
    let engine = Engine::start(shared).map_err(|e| e.to_string())?;
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let answering = engine.clone();
    let handle = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            let counts = handle.block_on(counts(&answering));
            let mut out = std::io::stdout().lock();
            if serde_json::to_writer(&mut out, &counts).is_err()
                || out.write_all(b"\n").and_then(|()| out.flush()).is_err()
            {
                break;
            }
        }
        drop(ended);
    });
    let shutdown = async {
        let _ = end.await;
    };
    serve::run(engine, Hooks::default(), shutdown).await.map_err(|e| e.to_string())
}

/// What one collection costs, encoding left out.
async fn counts(engine: &Engine) -> Counts {
    alloc::count();
    let before = Counts { calls: root::calls(), files: root::files(), allocations: alloc::allocations() };
    let collection = engine.collect(CollectorSet::ALL).await;
    drop(collection);
    Counts {
        calls: root::calls() - before.calls,
        files: root::files() - before.files,
        allocations: alloc::allocations() - before.allocations,
    }
}

/// The engine over a fleet, within this process.
pub fn engine(root: &Root, parent: &str, size: usize) -> std::io::Result<Engine> {
    let shared = Shared::new(root.clone(), Config::default());
    shared.directory.replace(|_| true, fleet::containers(root, parent, size));
    Engine::start(shared)
}
