//! The task that sends one signal: what comes in is queued, and sent as soon as the receiver lets it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::Instrument;

use super::exchange::{Outcome, exchange};
use super::queue::{Packed, Queue};
use super::settings::{Endpoint, Signal};
use super::transport::Transport;
use crate::engine::Shared;
use crate::root::{Nanos, SECOND};
use crate::{WORK, catalog};

/// First and longest wait between attempts; doubled in between, each with jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A receiver that says "again in 0 s" is not asked without a pause, and one that says "in a year" means something else.
const SHORTEST_TOLD: Duration = Duration::from_millis(100);
const LONGEST_TOLD: Duration = Duration::from_secs(3600);

/// Failed attempts in a row after which a process that ends gives up: it must not wait for a receiver that is away.
const LAST_ATTEMPTS: u32 = 3;

pub struct Pusher {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    transport: Transport,
    queue: Queue,
    /// Failed attempts in a row.
    attempts: u32,
    /// On the boot clock: no attempt before.
    not_before: Nanos,
}

impl Pusher {
    pub fn new(shared: Arc<Shared>, endpoint: Endpoint, transport: Transport, queue_bytes: usize) -> Self {
        Self { shared, endpoint, transport, queue: Queue::new(queue_bytes), attempts: 0, not_before: 0 }
    }

    /// Runs until nothing more can come in, then sends what is left: for at most `last`, while the receiver answers.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Packed>, last: Duration) {
        loop {
            let wait = self.wait();
            if wait == Duration::ZERO && !self.queue.is_empty() {
                self.attempt().await;
                continue;
            }
            tokio::select! {
                packed = inbox.recv() => match packed {
                    Some(packed) => self.take(packed),
                    None => break,
                },
                () = tokio::time::sleep(wait), if !self.queue.is_empty() => {}
            }
        }
        // At once, whatever wait was left: there is no later.
        (self.attempts, self.not_before) = (0, 0);
        let flushed = tokio::time::timeout(last, async {
            while !self.queue.is_empty() && self.attempts < LAST_ATTEMPTS {
                tokio::time::sleep(self.wait()).await;
                self.attempt().await;
            }
        });
        // What did not go in time is counted below.
        let _ = flushed.await;
        let left = self.queue.items();
        if left > 0 {
            self.drop_items("shutdown", left);
        }
    }

    fn wait(&self) -> Duration {
        let left = self.not_before - self.shared.root.clock.boot();
        Duration::from_nanos(left.max(0) as u64)
    }

    fn signal(&self) -> &'static str {
        match self.endpoint.signal {
            Signal::Metrics => "metrics",
            Signal::Traces => "traces",
        }
    }

    fn take(&mut self, packed: Packed) {
        let dropped = self.queue.push(packed);
        if dropped > 0 {
            self.drop_items("queue_full", dropped);
        }
        self.show_queue();
    }

    fn drop_items(&self, reason: &str, items: u64) {
        self.shared.held.add(catalog::OTLP_DROPPED, &[self.signal(), reason], items);
        tracing::warn!(signal = self.signal(), reason, items, "OTLP: dropped before it was sent");
    }

    fn show_queue(&self) {
        self.shared.held.set(catalog::OTLP_QUEUE, &[self.signal()], self.queue.len() as f64);
    }

    /// Sends the oldest request once. It leaves the queue unless it is to be tried again.
    async fn attempt(&mut self) {
        let Some(packed) = self.queue.front().cloned() else { return };
        let clock = &self.shared.root.clock;
        let (begin, now) = (clock.boot(), clock.wall());
        let span = match self.endpoint.signal {
            Signal::Metrics => tracing::info_span!(
                target: WORK,
                "export metrics",
                otel.kind = "client",
                server.address = self.endpoint.uri.host().unwrap_or_default(),
                kina.items = packed.items as i64,
                kina.bytes = packed.body.len() as i64,
                otel.status_code = tracing::field::Empty,
                otel.status_description = tracing::field::Empty,
            ),
            // It would tell of itself with the next one, without end.
            Signal::Traces => tracing::Span::none(),
        };
        let outcome = exchange(&mut self.transport, &self.endpoint, packed.body, now).instrument(span.clone()).await;
        if let Outcome::Refused { why } | Outcome::Later { why, .. } = &outcome {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", why.as_str());
        }
        let _within = span.entered();
        let took = (self.shared.root.clock.boot() - begin) as f64 / SECOND as f64;
        self.shared.held.observe(catalog::OTLP_DURATION, &[self.signal()], took, None);
        match outcome {
            Outcome::Taken { rejected, message } => self.taken(packed.items, rejected, &message),
            Outcome::Refused { why } => {
                self.shared.held.add(catalog::OTLP_FAILED, &[self.signal(), "refused"], packed.items);
                tracing::warn!(signal = self.signal(), uri = %self.endpoint.uri, items = packed.items, %why, "OTLP: refused");
            }
            Outcome::Later { after, why } => return self.later(after, &why),
        }
        self.attempts = 0;
        self.not_before = 0;
        self.queue.pop();
        self.show_queue();
    }

    fn taken(&self, items: u64, rejected: u64, message: &str) {
        let rejected = rejected.min(items);
        self.shared.held.add(catalog::OTLP_SENT, &[self.signal()], items - rejected);
        if rejected > 0 {
            self.shared.held.add(catalog::OTLP_FAILED, &[self.signal(), "rejected"], rejected);
        }
        if rejected > 0 || !message.is_empty() {
            tracing::warn!(signal = self.signal(), rejected, message, "OTLP: the receiver has a word on what it took");
        }
    }

    fn later(&mut self, after: Option<Duration>, why: &str) {
        let wait = wait_after(after, self.attempts);
        if self.attempts == 0 {
            tracing::warn!(signal = self.signal(), uri = %self.endpoint.uri, ?wait, why, "OTLP: will try again");
        } else {
            tracing::debug!(signal = self.signal(), ?wait, why, "OTLP: will try again");
        }
        self.attempts += 1;
        let wait = i64::try_from(wait.as_nanos()).unwrap_or(Nanos::MAX);
        self.not_before = self.shared.root.clock.boot().saturating_add(wait);
    }
}

/// How long to wait after so many failures in a row: as the receiver told, else longer each time.
fn wait_after(told: Option<Duration>, attempts: u32) -> Duration {
    told.map_or_else(|| back_off(attempts), |told| told.clamp(SHORTEST_TOLD, LONGEST_TOLD))
}

/// Between half and all of a wait that doubles with each failure: receivers come back to a crowd that is spread.
fn back_off(attempts: u32) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << attempts.min(10)).min(LONGEST_WAIT);
    let noise = RandomState::new().hash_one(attempts) % 1000;
    whole / 2 + (whole / 2).mul_f64(noise as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_says_when_within_bounds() {
        let told = |seconds| wait_after(Some(Duration::from_secs(seconds)), 0).as_millis();
        assert_eq!([0, 1, 120, 3600, 1_000_000_000].map(told), [100, 1_000, 120_000, 3_600_000, 3_600_000]);
    }

    #[test]
    fn without_its_word_waits_double_and_differ() {
        let longest = [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs);
        for (attempts, longest) in longest.into_iter().enumerate() {
            let waits: std::collections::HashSet<_> = (0..20).map(|_| wait_after(None, attempts as u32)).collect();
            assert!(waits.iter().all(|w| *w >= longest / 2 && *w <= longest), "{waits:?}");
            assert!(waits.len() > 10, "they have no jitter: {waits:?}");
        }
        assert!(wait_after(None, u32::MAX) <= LONGEST_WAIT);
    }
}
