//! Samples → bytes: classic text, OpenMetrics, protobuf, OTLP.
