//! HTTP: metrics, status page, API, health, TLS and authentication.
