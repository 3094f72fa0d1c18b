//! The exporter's parts, put together.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::config::Config;
use crate::engine::{Engine, Shared};
use crate::runtime::{Context, Sources};
use crate::startup::follow;

/// A runtime that never answers holds nothing up for longer than this.
pub const SYNCED_WITHIN: Duration = Duration::from_secs(5);

/// Few threads with small stacks: there is little to do between scrapes, and memory is part of the promise.
pub fn tokio() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_stack_size(512 << 10)
        .thread_name("kina")
        .enable_all()
        .build()
}

/// What runs, whether it is served or asked once.
pub struct Exporter {
    pub shared: Arc<Shared>,
    pub engine: Engine,
    runtimes: tokio::sync::Mutex<Option<Sources>>,
}

impl Exporter {
    /// Starts everything that finds containers and collects. Within a tokio runtime.
    pub fn start(config: Config) -> std::io::Result<Arc<Self>> {
        let shared = Shared::new(config.root(), config);
        let engine = Engine::start(shared.clone())?;
        tokio::spawn(follow::follow(starts(&shared)));
        let runtimes = tokio::sync::Mutex::new(Some(Sources::start(&context(&shared))));
        Ok(Arc::new(Self { shared, engine, runtimes }))
    }

    /// Asks the runtimes anew, with the configuration now in force.
    pub async fn restart_runtimes(&self) {
        let mut runtimes = self.runtimes.lock().await;
        if let Some(old) = runtimes.take() {
            *runtimes = Some(old.restart(&context(&self.shared)).await);
        }
    }

    /// Waits until every runtime has been asked for its containers.
    pub async fn synced(&self, limit: Duration) {
        self.shared.directory.settled(limit).await;
    }
}

fn starts(shared: &Arc<Shared>) -> follow::Context {
    let current = shared.clone();
    follow::Context {
        root: shared.root.clone(),
        directory: shared.directory.clone(),
        held: shared.held.clone(),
        ledger: shared.startups.clone(),
        config: Box::new(move || current.config()),
    }
}

fn context(shared: &Shared) -> Context {
    Context {
        root: shared.root.clone(),
        config: shared.config(),
        directory: shared.directory.clone(),
        capabilities: shared.capabilities.clone(),
        held: shared.held.clone(),
    }
}
