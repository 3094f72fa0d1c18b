//! Which format and coding a request wants: `Accept` and `Accept-Encoding` as RFC 9110 and the Prometheus content
//! negotiation have them.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};

use super::{Encoding, Format};

/// Picks the answer's format and coding. Anything can be answered: without a match it is text 0.0.4, without a coding
/// that is plainly asked for it is none.
pub fn negotiate(headers: &HeaderMap) -> (Format, Encoding) {
    let accept = best(items(headers, ACCEPT).filter_map(|item| Some((format(&item)?, item.quality))));
    (accept.unwrap_or(Format::Text), coding(headers))
}

/// One member of an accept header: what, its parameters in lower case, and how much it is wanted.
#[derive(Debug)]
struct Item<'a> {
    what: String,
    parameters: Vec<(String, &'a str)>,
    /// In thousandths; 0 means "not this".
    quality: u32,
}

impl Item<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

fn items(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = Item<'_>> {
    headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| split(v, ',')).filter_map(item)
}

fn item(text: &str) -> Option<Item<'_>> {
    let mut parts = split(text, ';');
    let what = parts.next()?.to_ascii_lowercase();
    if what.is_empty() {
        return None;
    }
    let mut item = Item { what, parameters: Vec::new(), quality: 1000 };
    for part in parts.filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        if name == "q" {
            item.quality = quality(value)?;
        } else {
            item.parameters.push((name, value));
        }
    }
    Some(item)
}

/// `1`, `0.5`, `0.123`: a number outside 0–1 makes the member void.
fn quality(text: &str) -> Option<u32> {
    let q: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&q).then_some((q * 1000.0).round() as u32)
}

/// Splits outside quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
    .map(str::trim)
}

/// The format that a media range stands for, None for what is not ours.
fn format(item: &Item) -> Option<Format> {
    let version = item.parameter("version");
    match (item.what.as_str(), version) {
        ("*/*" | "text/*", _) | ("text/plain", None | Some("0.0.4")) => Some(Format::Text),
        ("text/plain", Some("1.0.0")) => Some(Format::Text1),
        ("application/openmetrics-text", Some("0.0.1")) => Some(Format::OpenMetricsDraft),
        ("application/*", _) | ("application/openmetrics-text", None | Some("1.0.0")) => Some(Format::OpenMetrics),
        ("application/vnd.google.protobuf", _) => {
            let family = item.parameter("proto") == Some("io.prometheus.client.MetricFamily");
            (family && item.parameter("encoding") == Some("delimited")).then_some(Format::Protobuf)
        }
        _ => None,
    }
}

/// The most wanted; of equals, the first named.
fn best<T>(choices: impl Iterator<Item = (T, u32)>) -> Option<T> {
    let wanted = choices.filter(|(_, q)| *q > 0);
    wanted.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(what, _)| what)
}

fn coding(headers: &HeaderMap) -> Encoding {
    let [mut identity, mut gzip, mut zstd, mut any] = [None; 4];
    for item in items(headers, ACCEPT_ENCODING) {
        let slot = match item.what.as_str() {
            "identity" => &mut identity,
            "gzip" | "x-gzip" => &mut gzip,
            "zstd" => &mut zstd,
            "*" => &mut any,
            _ => continue,
        };
        *slot = Some(item.quality);
    }
    // zstd costs less than gzip, but only who names it is sure to read it.
    let choices = [
        (Encoding::Zstd, zstd.unwrap_or(0)),
        (Encoding::Gzip, gzip.or(any).unwrap_or(0)),
        // Always welcome unless refused, but less than what is asked for.
        (Encoding::Identity, identity.or(any).unwrap_or(1)),
    ];
    best(choices.into_iter()).unwrap_or(Encoding::Identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: &[&str], encoding: &[&str]) -> (Format, Encoding) {
        let mut headers = HeaderMap::new();
        for v in accept {
            headers.append(ACCEPT, v.parse().unwrap());
        }
        for v in encoding {
            headers.append(ACCEPT_ENCODING, v.parse().unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn formats() {
        use Format::*;
        // As Prometheus 2.42, 3.x, and 3.x with native histograms send them.
        let v2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                  text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let v3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                  application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                  text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
                      escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2";
        for (accept, want) in [
            (&[][..], Text),
            (&[""], Text),
            (&["*/*"], Text),
            (&["text/*;q=0.3"], Text),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Text),
            (&[v2], OpenMetrics),
            (&[v3], OpenMetrics),
            (&[native], Protobuf),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text; version=0.0.1"], OpenMetricsDraft),
            (&["application/openmetrics-text; version=2.0.0"], Text),
            (&["text/plain;version=1.0.0;escaping=underscores"], Text1),
            (&["text/plain;version=0.0.4;q=0.3", "text/plain;version=1.0.0;q=0.4"], Text1),
            (&["text/plain;version=9"], Text),
            (&["TEXT/PLAIN;Version=\"1.0.0\""], Text1),
            (&["application/vnd.google.protobuf"], Text),
            (&["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text"], Text),
            (&["application/openmetrics-text;q=0,text/plain;q=0.1"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["application/openmetrics-text;q=7,text/plain"], Text),
            (&["application/openmetrics-text;q=nan"], Text),
            (&[";;;,,q=1,application/json;\"a,b\";=,"], Text),
            (&["application/openmetrics-text;q=0.5,text/plain;q=0.5"], OpenMetrics),
        ] {
            assert_eq!(negotiated(accept, &[]).0, want, "{accept:?}");
        }
    }

    #[test]
    fn codings() {
        use Encoding::*;
        for (accept, want) in [
            (&[][..], Identity),
            (&[""], Identity),
            (&["gzip"], Gzip),
            (&["GZIP"], Gzip),
            (&["x-gzip"], Gzip),
            (&["gzip;q=0"], Identity),
            (&["gzip;q=0.5, identity"], Identity),
            (&["gzip;q=0.001"], Gzip),
            (&["gzip, deflate, br, zstd"], Zstd),
            (&["gzip, zstd;q=0.9"], Gzip),
            (&["gzip", "zstd"], Zstd),
            (&["*"], Gzip),
            (&["*;q=0"], Identity),
            (&["gzip;q=0, *"], Identity),
            (&["identity;q=0"], Identity),
            (&["identity;q=0, gzip;q=0.1"], Gzip),
            (&["br"], Identity),
            (&["gzip;q=2"], Identity),
            (&["", "gzip; ;q=1"], Gzip),
        ] {
            assert_eq!(negotiated(&[], accept).1, want, "{accept:?}");
        }
    }
}
