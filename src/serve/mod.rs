//! HTTP: metrics, status page, API, health, TLS and authentication.
//!
//! | question | file |
//! |---|---|
//! | where it listens | [`listen`] |
//! | what a client may do, and for how long | [`connection`] |
//! | which path answers what | [`route`] |
//! | `--web.config.file`: TLS, users, headers, rate limit | [`web`] |
//! | `/metrics` | [`metrics`] |
//! | which containers are shown, with what rates | [`containers`] |
//! | `/api/v1/…` | [`api`], [`startups`] |
//! | `/` | [`page`] |

mod api;
mod connection;
mod containers;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guest;
mod listen;
mod metrics;
mod page;
mod query;
mod recommendations;
mod respond;
mod route;
mod startups;
pub mod web;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::Engine;

pub use connection::Limits;
pub use listen::ListenError;
pub use respond::Body;
pub use web::WebError;

/// What `POST /-/reload` does; the error is shown to the caller.
pub type Reload = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the server needs of whoever starts it.
#[derive(Clone)]
pub struct Hooks {
    pub reload: Reload,
    /// Turns true once every runtime has been asked for its containers.
    pub ready: watch::Receiver<bool>,
}

impl Default for Hooks {
    /// Nothing to reload, ready at once.
    fn default() -> Self {
        Self { reload: Arc::new(|| Box::pin(async { Ok(()) })), ready: watch::Sender::new(true).subscribe() }
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Web(#[from] WebError),
}

/// A server that listens, and answers once it runs.
pub struct Server {
    listeners: Vec<listen::Listener>,
    app: Arc<App>,
    limits: Limits,
}

/// What every request may use.
struct App {
    engine: Engine,
    hooks: Hooks,
    web: web::Web,
    scrapes: metrics::Scrapes,
    last_collection: containers::LastCollection,
    /// Boot clock, nanoseconds.
    started: crate::root::Nanos,
}

/// A runtime that never answers does not keep the exporter from being ready for longer than this.
const READY_WITHIN: Duration = Duration::from_secs(5);

impl App {
    fn ready(&self) -> bool {
        let up = self.engine.shared().root.clock.boot() - self.started;
        *self.hooks.ready.borrow() || up >= READY_WITHIN.as_nanos() as i64
    }
}

impl Server {
    /// Reads the web configuration file and opens the listeners that the configuration names.
    pub async fn bind(engine: Engine, hooks: Hooks) -> Result<Self, ServeError> {
        let shared = engine.shared().clone();
        let config = shared.config();
        let web = web::Web::load(config.web.config_file.clone(), shared.clone())?;
        let listeners = listen::open(&shared.root, &config.web)?;
        for listener in &listeners {
            tracing::info!(address = %listener.address(), tls = web.tls(), "listening");
        }
        let started = shared.root.clock.boot();
        let app = Arc::new(App {
            engine,
            hooks,
            web,
            scrapes: metrics::Scrapes::default(),
            last_collection: containers::LastCollection::default(),
            started,
        });
        Ok(Self { listeners, app, limits: Limits::default() })
    }

    /// Other limits than the usual.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it listens on TCP, ports chosen by the system included.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(listen::Listener::tcp_address).collect()
    }

    /// Answers until `shutdown` is done, then finishes what is in flight.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        connection::serve(self.listeners, self.app, self.limits, shutdown).await;
    }
}

/// Listens and answers until `shutdown` is done.
pub async fn run(engine: Engine, hooks: Hooks, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    Server::bind(engine, hooks).await?.run(shutdown).await;
    Ok(())
}
