//! kina-exporter: container performance as Prometheus and OpenTelemetry metrics. The map of this house.
//!
//! Facts come in at the bottom, become samples in the middle, leave at the top; nothing calls back down:
//!
//! | layer | modules |
//! |---|---|
//! | the outside, injected | [`root`] |
//! | what can be said at all | [`catalog`], [`sample`], [`snapshot`] |
//! | what is set | [`config`] |
//! | facts | [`runtime`] (who the containers are), [`kernel`] (bytes → facts), [`probe`] (what this host has) |
//! | samples | [`collect`], [`held`] |
//! | one collection | [`engine`] |

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
