//! Active measurements: the exporter's own cost, and runtimes against the baselines.
