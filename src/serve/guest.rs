//! `/api/v1/guest`: for the exporter on the machine outside, where this one runs in a virtual machine: the guest's kernel
//! files, and what no file tells. See `docs/apple.md`.

use http::{Response, StatusCode};

use super::App;
use super::containers::machine;
use super::metrics::collect;
use super::respond::{Body, with_type};
use crate::catalog::Collector;
use crate::runtime::apple::Guest;
use crate::runtime::apple::guest::{Agent, Observed};

pub(super) async fn answer(app: &App) -> Response<Body> {
    let collection = match collect(app, [Collector::Socket, Collector::Process].into_iter().collect()).await {
        Ok(collection) => collection,
        Err(response) => return response,
    };
    let agent = machine(&collection.snapshot).map_or_else(Agent::default, |facts| Agent {
        rtt: facts.sockets.rtt.as_ref().map(Observed::of),
        rtt_median: facts.sockets.rtt_median,
        context_switches: facts.process.switches_all,
        // Where its processes are not known the figure is that of all the guest.
        file_descriptors: facts.process.file_descriptors.filter(|_| facts.process.processes.is_some()),
        logical_read_bytes: facts.storage.logical_read_bytes,
    });
    let printed = Guest::print(&app.engine.shared().root, &agent);
    with_type(StatusCode::OK, "text/plain; charset=utf-8", printed)
}
