//! Samples → bytes: classic text, OpenMetrics, protobuf, JSON; chosen by the request, compressed when asked.
//!
//! Everything is written straight from [`Samples`], piece by piece: a scrape of thousands of containers is never whole in
//! memory. A name stands in no other form than its own here, all of ours being valid without UTF-8 escaping.

mod body;
pub mod client;
mod compress;
mod cursor;
mod json;
mod negotiate;
mod number;
mod protobuf;
mod text;
pub mod wire;

use crate::sample::Samples;

pub use body::{ScrapeBody, body};
pub use compress::Encoding;
pub use cursor::Cursor;
pub use json::json;
pub use negotiate::negotiate;

/// A format of the exposition, as the Prometheus content negotiation knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text 0.0.4, what anything gets that does not ask for more.
    Text,
    /// Text 1.0.0: for names like ours the same bytes under another content type.
    Text1,
    /// OpenMetrics 0.0.1, the draft that older Prometheus servers ask for; the same bytes as 1.0.0.
    OpenMetricsDraft,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages, native histograms included.
    Protobuf,
}

impl Format {
    pub const ALL: [Format; 5] = [Self::Text, Self::Text1, Self::OpenMetricsDraft, Self::OpenMetrics, Self::Protobuf];

    /// The `Content-Type` of an answer. Formats from version 1.0.0 on name an escaping scheme: with names that need no
    /// escaping, `underscores` is true for any scraper and understood by every one.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Text1 => "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
            Self::OpenMetricsDraft => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=underscores"
            }
        }
    }
}

/// Appends a whole collection in a format. For what goes to a terminal or a test; a scrape streams with [`body`].
pub fn write(samples: &Samples, format: Format, out: &mut Vec<u8>) {
    Cursor::new(format).fill(samples, out, usize::MAX);
}
