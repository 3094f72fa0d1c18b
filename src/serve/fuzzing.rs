//! What the fuzz target `requests` tries: all that a client can write into a request.

use http::header::{ACCEPT, ACCEPT_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::query;
use crate::expose;

pub fn parse(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|b| *b == b'\n').take(64) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(ACCEPT, value.clone());
            headers.append(ACCEPT_ENCODING, value);
        }
    }
    let _ = expose::negotiate(&headers);

    let text = String::from_utf8_lossy(bytes);
    let pairs: Vec<_> = query::pairs(&text).collect();
    for (name, value) in &pairs {
        let written = format!("{}={}", query::encode(name), query::encode(value));
        assert_eq!(query::get(&written, name).as_deref(), Some(&**value), "what is encoded comes back");
    }
}
