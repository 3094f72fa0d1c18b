//! kina-exporter: container performance as Prometheus and OpenTelemetry metrics. The map of this house.
//!
//! Facts come in at the bottom, become samples in the middle, leave at the top; nothing calls back down:
//!
//! | layer | modules |
//! |---|---|
//! | the outside, injected | [`root`] |
//! | what can be said at all | [`catalog`], [`sample`], [`targets`] |
//! | what is set | [`config`] |
//! | what is kept | [`probe`] (what this host has), [`held`] (what the exporter counts itself) |
//! | facts | [`runtime`] (who the containers are), [`snapshot`], [`kernel`] and [`macos`] (bytes → facts), [`startup`] |
//! | conclusions | [`advise`], [`collect`] (facts → samples) |
//! | one collection | [`engine`] |
//! | what leaves | [`expose`] (samples → bytes), [`push`] (OTLP), [`generate`] (rules, dashboards, reference), [`serve`] (HTTP) |
//! | what is run | [`bench`], [`cli`] |
//!
//! A module uses those above it in this table and never those below; a test holds that.

/// Target of the spans of the exporter's own work. Each is a child of what asked for it; off unless `otlp.self-traces` asks
/// for them.
pub const WORK: &str = concat!(env!("CARGO_CRATE_NAME"), "::work");

pub mod advise;
pub mod bench;
pub mod catalog;
pub mod cli;
pub mod collect;
pub mod config;
pub mod engine;
pub mod expose;
pub mod generate;
pub mod held;
pub mod kernel;
pub mod macos;
pub mod probe;
pub mod push;
pub mod root;
pub mod runtime;
pub mod sample;
pub mod serve;
pub mod snapshot;
pub mod startup;
pub mod targets;
