//! Snapshot → recommendations, one file a subject.
