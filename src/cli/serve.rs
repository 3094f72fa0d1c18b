//! `serve`: what runs when no command is named.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::reload::Reloader;
use super::start::{Exporter, SYNCED_WITHIN};
use super::{failed, log, start};
use crate::config::{Config, Given};
use crate::push;
use crate::serve::{self, Hooks};

/// Serves until SIGTERM or SIGINT; finishes what is in flight.
pub fn run(config: Config, given: Given) -> ExitCode {
    let own = push::own_work(&config.otlp, &given.env);
    let level = log::init(&config.log, own.as_ref().map(|own| own.tracer.clone()));
    let ended = start::tokio().map_err(|e| format!("cannot start threads: {e}")).and_then(|tokio| {
        tokio.block_on(async {
            let exporter = Exporter::start(config).map_err(|e| format!("cannot start: {e}"))?;
            tracing::info!(version = env!("CARGO_PKG_VERSION"), "kina-exporter starts");
            let push =
                push::start(&exporter.engine, &given.env, own).map_err(|e| format!("cannot push over OTLP: {e}"))?;
            let reloader = Arc::new(Reloader::new(exporter.clone(), given, level));
            let hooks = Hooks { reload: hook(reloader.clone()), ready: ready(exporter.clone()) };
            let mut signals = Signals::new().map_err(|e| format!("cannot handle signals: {e}"))?;
            let hangups = tokio::spawn(async move {
                while signals.hangup.recv().await.is_some() {
                    // Said in the log; there is no one to answer.
                    let _ = reloader.reload().await;
                }
            });
            let shutdown = async move {
                let name = tokio::select! {
                    _ = signals.terminate.recv() => "SIGTERM",
                    _ = signals.interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, "ending: what is in flight is finished");
            };
            let served = serve::run(exporter.engine.clone(), hooks, shutdown).await.map_err(|e| e.to_string());
            hangups.abort();
            push.shutdown().await;
            served
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why),
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

fn hook(reloader: Arc<Reloader>) -> serve::Reload {
    Arc::new(move || {
        let reloader = reloader.clone();
        Box::pin(async move { reloader.reload().await })
    })
}

fn ready(exporter: Arc<Exporter>) -> watch::Receiver<bool> {
    let (tell, ready) = watch::channel(false);
    tokio::spawn(async move {
        exporter.synced(SYNCED_WITHIN).await;
        let _ = tell.send(true);
    });
    ready
}
