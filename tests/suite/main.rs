//! The whole suite, one binary.
#![allow(clippy::unwrap_used)]

mod alerting;
mod apple;
mod apple_advice;
mod apple_agent;
mod apple_faults;
mod apple_golden;
mod apple_live;
mod apple_verify;
mod cadvisor;
mod cli;
#[cfg(target_os = "linux")]
mod collected;
#[allow(dead_code)]
mod common;
mod config;
mod cost;
mod dashboards;
mod deploy;
mod e2e;
mod expose;
mod golden;
#[cfg(target_os = "linux")]
mod host;
mod house;
mod kernel;
#[allow(dead_code)]
mod live;
#[cfg(target_os = "linux")]
mod mac;
#[cfg(target_os = "linux")]
mod network;
mod otlp;
mod otlp_live;
mod prometheus;
mod receiver;
mod runtime;
mod serve;
mod startup;
mod targets;
mod v2;
#[allow(dead_code)]
mod vm;
