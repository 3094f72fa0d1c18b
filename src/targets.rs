//! Targets, baselines and thresholds, once.
