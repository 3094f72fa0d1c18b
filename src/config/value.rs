//! Text ↔ value: how each type of setting is written, and what is allowed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;

/// A regular expression over the whole text, anchored as Prometheus anchors its own.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    pub fn new(source: &str) -> Result<Self, String> {
        let regex = Regex::new(&format!("^(?s:{source})$")).map_err(|e| syntax(&e))?;
        Ok(Self { source: source.to_owned(), regex })
    }

    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// The last line of the parser's message: the lines before it draw the pattern with a marker below.
fn syntax(e: &regex::Error) -> String {
    let text = e.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("not a regular expression: {}", last.trim_start_matches("error: "))
}

/// A type that settings have.
pub trait Value: Sized {
    /// What may be written, for error messages and the reference.
    fn allowed() -> &'static str;
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

impl Value for bool {
    fn allowed() -> &'static str {
        "true or false"
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("not a switch".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    fn allowed() -> &'static str {
        "a whole number"
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "not a whole number".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for f64 {
    fn allowed() -> &'static str {
        "a number"
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| "not a number".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn allowed() -> &'static str {
        "text"
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn allowed() -> &'static str {
        "a path"
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("empty".into()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Pattern {
    fn allowed() -> &'static str {
        "a regular expression over the whole text"
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text)
    }

    fn show(&self) -> String {
        self.source.clone()
    }
}

/// `None` is written as empty text.
impl<T: Value> Value for Option<T> {
    fn allowed() -> &'static str {
        T::allowed()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// Units of a duration and their milliseconds, largest first, as Prometheus writes them.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Value for Duration {
    fn allowed() -> &'static str {
        "a duration such as 1500ms, 10s, 1m30s or 2h"
    }

    fn parse(text: &str) -> Result<Self, String> {
        let bad = || "not a duration".to_owned();
        let (mut rest, mut total, mut below) = (text, 0u64, u64::MAX);
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let (_, millis) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
            // Units descend, each at most once: `5s1h` and `1s1s` are slips.
            if millis >= below {
                return Err(bad());
            }
            below = millis;
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)).ok_or_else(bad)?;
            total = total.checked_add(part).ok_or_else(bad)?;
            rest = tail;
        }
        if text.is_empty() { Err(bad()) } else { Ok(Duration::from_millis(total)) }
    }

    fn show(&self) -> String {
        let mut rest = self.as_millis() as u64;
        let mut text = String::new();
        for (name, millis) in DURATION_UNITS {
            if rest >= millis {
                text.push_str(&format!("{}{name}", rest / millis));
                rest %= millis;
            }
        }
        if text.is_empty() { "0s".into() } else { text }
    }
}

/// A duration as settings write it, for flags that are no settings.
pub fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).map_err(|why| format!("{why}; allowed: {}", Duration::allowed()))
}

/// Units of a speed and their bytes a second, as a numerator and a denominator.
const SPEED_UNITS: [(&str, u64, u64); 7] = [
    ("kbit", 1000, 8),
    ("Mbit", 1_000_000, 8),
    ("Gbit", 1_000_000_000, 8),
    ("kB", 1000, 1),
    ("MB", 1_000_000, 1),
    ("GB", 1_000_000_000, 1),
    ("", 1, 1),
];

/// Bytes a second. Links are sold in bits, counted in bytes: both can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed(pub u64);

impl Value for Speed {
    fn allowed() -> &'static str {
        "a speed such as 1Gbit, 100Mbit or 125MB, or a number of bytes a second"
    }

    fn parse(text: &str) -> Result<Self, String> {
        let bad = || "not a speed".to_owned();
        let text = text.strip_suffix("/s").unwrap_or(text);
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let (_, times, per) = SPEED_UNITS.into_iter().find(|(name, ..)| *name == unit.trim()).ok_or_else(bad)?;
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(times)).ok_or_else(bad)? / per;
        if bytes == 0 { Err(bad()) } else { Ok(Self(bytes)) }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// `KEY=VALUE` entries.
pub fn parse_map<T: Value>(entries: &[String]) -> Result<BTreeMap<String, T>, String> {
    let mut map = BTreeMap::new();
    for entry in entries {
        let (key, value) = entry
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("{entry:?}: not of the form KEY=VALUE"))?;
        let value = T::parse(value).map_err(|why| format!("{key:?}: {value:?}: {why}"))?;
        map.insert(key.to_owned(), value);
    }
    Ok(map)
}

pub fn show_map<T: Value>(map: &BTreeMap<String, T>) -> Vec<String> {
    map.iter().map(|(key, value)| format!("{key}={}", value.show())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show_themselves() {
        for (text, millis) in [("1500ms", 1500), ("10s", 10_000), ("1m30s", 90_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(Duration::from_millis(1500).show(), "1s500ms");
        assert_eq!(Duration::ZERO.show(), "0s");
        for text in ["", "10", "s", "1.5s", "-1s", "5s1h", "1s1s", "10 s", "99999999999999999999s", "1w"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn speeds_are_bits_or_bytes() {
        for (text, bytes) in [("1Gbit", 125_000_000), ("100Mbit/s", 12_500_000), ("125MB", 125_000_000), ("7", 7)] {
            assert_eq!(Speed::parse(text), Ok(Speed(bytes)), "{text}");
        }
        for text in ["", "0", "fast", "1Gb", "-1", "1.5Gbit", "7bit"] {
            assert!(Speed::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_the_whole_text() {
        let p = Pattern::new("web|api-.*").unwrap();
        assert!(p.matches("web") && p.matches("api-1"));
        assert!(!p.matches("webs") && !p.matches("my-web"));
        assert_eq!(Pattern::new("(").unwrap_err(), "not a regular expression: unclosed group");
    }
}
