//! The file's form: exporter-toolkit's `docs/web-configuration.md`, key for key. Unknown keys and bad values are errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bcrypt::HashParts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::WebError;
use super::rate::Rate;
use super::tls::{ClientAuth, Source, Tls};
use crate::root::Root;

/// A valid file.
pub(super) struct WebFile {
    pub tls: Option<Tls>,
    pub http2: bool,
    pub headers: HeaderMap,
    /// Name → bcrypt hash.
    pub users: BTreeMap<String, String>,
    pub rate: Option<Rate>,
    /// What of it is not done, though it is no error.
    pub notes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<TlsSection>,
    http_server_config: Option<HttpSection>,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<RateSection>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsSection {
    cert: Option<Spanned<String>>,
    cert_file: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
    client_ca: Option<Spanned<String>>,
    client_ca_file: Option<Spanned<String>>,
    client_auth_type: Option<Spanned<String>>,
    client_allowed_sans: Option<Spanned<Vec<String>>>,
    min_version: Option<Spanned<String>>,
    max_version: Option<Spanned<String>>,
    cipher_suites: Option<Vec<Spanned<String>>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpSection {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateSection {
    interval: Option<Spanned<String>>,
    burst: Option<Spanned<u32>>,
}

/// Says where in the file something is wrong.
struct Place<'a>(&'a Path);

impl Place<'_> {
    fn at<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> WebError {
        WebError { file: self.0.to_owned(), line: Some(value.referenced.line()), message: message.into() }
    }

    fn whole(&self, message: impl Into<String>) -> WebError {
        WebError { file: self.0.to_owned(), line: None, message: message.into() }
    }

    fn note<T>(&self, notes: &mut Vec<String>, value: &Spanned<T>, message: String) {
        notes.push(self.at(value, message).to_string());
    }
}

pub(super) fn read(root: &Root, path: &Path) -> Result<WebFile, WebError> {
    let place = Place(path);
    let text = root.read_to_string(path).map_err(|e| place.whole(format!("cannot be read: {e}")))?;
    parse(&text, path)
}

pub(super) fn parse(text: &str, path: &Path) -> Result<WebFile, WebError> {
    let place = Place(path);
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|e| {
        // The snippet would show keys and hashes in a log.
        let e = e.without_snippet();
        let line = e.location().map(|l| l.line());
        WebError { file: path.to_owned(), line, message: e.to_string() }
    })?;
    let File { tls_server_config, http_server_config, basic_auth_users, rate_limit } = file.unwrap_or_default();
    let http = http_server_config.unwrap_or_default();
    let mut notes = Vec::new();
    Ok(WebFile {
        tls: tls_server_config.map(|s| tls(s, &place, &mut notes)).transpose()?.flatten(),
        http2: http.http2.unwrap_or(true),
        headers: headers(http.headers.unwrap_or_default(), &place)?,
        users: users(basic_auth_users.unwrap_or_default(), &place)?,
        rate: rate(rate_limit.unwrap_or_default(), &place, &mut notes)?,
        notes,
    })
}

fn tls(section: TlsSection, place: &Place<'_>, notes: &mut Vec<String>) -> Result<Option<Tls>, WebError> {
    let client_auth = client_auth(section.client_auth_type.as_ref(), place)?;
    let cert = source("cert", section.cert, section.cert_file, place, notes);
    let key = source("key", section.key, section.key_file, place, notes);
    let client_ca = source("client_ca", section.client_ca, section.client_ca_file, place, notes);
    let (Some(cert), Some(key)) = (cert.clone(), key.clone()) else {
        let asked = cert.is_some() || key.is_some() || client_ca.is_some() || section.client_auth_type.is_some();
        let missing = if cert.is_none() { "cert or cert_file" } else { "key or key_file" };
        if asked || section.client_allowed_sans.is_some() {
            return Err(place.whole(format!("tls_server_config: {missing} is missing")));
        }
        let of_tls = [section.min_version.as_ref(), section.max_version.as_ref()];
        for value in of_tls.into_iter().flatten() {
            place.note(notes, value, format!("tls_server_config: {missing} is missing: all is served in the clear"));
        }
        return Ok(None);
    };
    if client_ca.is_some() && client_auth == ClientAuth::No {
        return Err(place.whole(
            "tls_server_config: client_ca is set, but client_auth_type is NoClientCert, which asks for no certificate; \
             set RequireAndVerifyClientCert",
        ));
    }
    if let Some(sans) = &section.client_allowed_sans
        && !client_auth.mandatory()
    {
        return Err(place.at(
            sans,
            "tls_server_config: client_allowed_sans needs client_auth_type RequireAndVerifyClientCert or RequireAnyClientCert: \
             with others a client may come without a certificate",
        ));
    }
    let min = version("min_version", section.min_version.as_ref(), Version::Tls12, place)?;
    let max = version("max_version", section.max_version.as_ref(), Version::Tls13, place)?;
    if min > max {
        return Err(place.whole("tls_server_config: min_version is above max_version"));
    }
    if let Some(value) = section.max_version.as_ref().filter(|_| max < Version::Tls12) {
        return Err(
            place.at(value, "tls_server_config: max_version: TLS 1.2 is the oldest offered; allowed: TLS12, TLS13")
        );
    }
    if let Some(value) = section.min_version.as_ref().filter(|_| min < Version::Tls12) {
        place.note(notes, value, "tls_server_config: min_version: nothing older than TLS 1.2 is offered".into());
    }
    Ok(Some(Tls {
        cert,
        key,
        client_ca,
        client_auth,
        client_allowed_sans: section.client_allowed_sans.map(|s| s.value),
        tls12: min <= Version::Tls12,
        tls13: max == Version::Tls13,
        cipher_suites: chosen(
            "cipher_suites",
            section.cipher_suites,
            super::tls::cipher_suites(),
            &super::tls::SUITES_OF_GO_ALONE,
            place,
            notes,
        )?,
        prefer_server_order: section.prefer_server_cipher_suites.unwrap_or(true),
        curves: chosen(
            "curve_preferences",
            section.curve_preferences,
            super::tls::curves(),
            &super::tls::CURVES_OF_GO_ALONE,
            place,
            notes,
        )?,
    }))
}

/// Inline or from a file; of both the file, as with the toolkit.
fn source(
    key: &str,
    inline: Option<Spanned<String>>,
    file: Option<Spanned<String>>,
    place: &Place<'_>,
    notes: &mut Vec<String>,
) -> Option<Source> {
    // Empty is unset, as it is with the toolkit.
    let inline = inline.filter(|s| !s.value.is_empty());
    let file = file.filter(|s| !s.value.is_empty());
    if let (Some(inline), Some(_)) = (&inline, &file) {
        place.note(notes, inline, format!("tls_server_config: {key} is passed over: {key}_file is set, too; keep one"));
    }
    match (inline, file) {
        (_, Some(file)) => {
            let line = file.referenced.line();
            // From the folder of the configuration file, not of whoever started the exporter.
            let path = place.0.parent().unwrap_or(Path::new("")).join(PathBuf::from(file.value));
            Some(Source::File { path, line })
        }
        (Some(inline), None) => Some(Source::Inline { pem: inline.value, line: inline.referenced.line() }),
        (None, None) => None,
    }
}

fn client_auth(value: Option<&Spanned<String>>, place: &Place<'_>) -> Result<ClientAuth, WebError> {
    let Some(value) = value else { return Ok(ClientAuth::No) };
    Ok(match value.value.as_str() {
        "" | "NoClientCert" => ClientAuth::No,
        "RequestClientCert" => ClientAuth::Request,
        // The second is the first's old name.
        "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
        "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
        "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
        other => {
            return Err(place.at(
                value,
                format!(
                    "tls_server_config: client_auth_type {other:?} is unknown; allowed: NoClientCert, RequestClientCert, \
                     RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"
                ),
            ));
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

fn version(
    key: &str,
    value: Option<&Spanned<String>>,
    default: Version,
    place: &Place<'_>,
) -> Result<Version, WebError> {
    let Some(value) = value else { return Ok(default) };
    match value.value.as_str() {
        "TLS10" => Ok(Version::Tls10),
        "TLS11" => Ok(Version::Tls11),
        "TLS12" => Ok(Version::Tls12),
        "TLS13" => Ok(Version::Tls13),
        other => Err(place.at(value, format!("tls_server_config: {key} {other:?} is unknown; allowed: TLS12, TLS13"))),
    }
}

/// Picks by name out of what is offered, in the order of the file; passes over what Go alone offers, as long as something
/// is left. None where the key is not set.
fn chosen<T: Copy>(
    key: &str,
    names: Option<Vec<Spanned<String>>>,
    offered: Vec<(&'static str, T)>,
    only_go: &[&str],
    place: &Place<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<T>>, WebError> {
    let Some(names) = names.filter(|n| !n.is_empty()) else { return Ok(None) };
    let allowed = || offered.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    let mut picked = Vec::new();
    for name in &names {
        let value = &name.value;
        match offered.iter().find(|(n, _)| n == value) {
            Some((_, item)) => picked.push(*item),
            None if only_go.contains(&value.as_str()) => {
                place.note(notes, name, format!("tls_server_config: {key}: {value} is not offered and passed over"));
            }
            None => {
                let message = format!("tls_server_config: {key}: {value:?} is unknown; allowed: {}", allowed());
                return Err(place.at(name, message));
            }
        }
    }
    match names.first() {
        Some(name) if picked.is_empty() => {
            Err(place.at(name, format!("tls_server_config: {key}: none of these is offered; allowed: {}", allowed())))
        }
        _ => Ok(Some(picked)),
    }
}

/// Headers that may be set, and their allowed values where these are few.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

fn headers(section: BTreeMap<String, Spanned<String>>, place: &Place<'_>) -> Result<HeaderMap, WebError> {
    let mut headers = HeaderMap::new();
    for (name, value) in section {
        let Some((_, allowed)) = HEADERS.iter().find(|(n, _)| *n == name) else {
            let names = HEADERS.map(|(n, _)| n).join(", ");
            return Err(place.at(&value, format!("http_server_config: header {name:?} can't be set; allowed: {names}")));
        };
        if !allowed.is_empty() && !allowed.contains(&value.value.as_str()) {
            let allowed = allowed.join(", ");
            return Err(
                place.at(&value, format!("http_server_config: {name} can't be {:?}; allowed: {allowed}", value.value))
            );
        }
        if value.value.is_empty() {
            continue;
        }
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value.value)) {
            (Ok(name), Ok(value)) => headers.insert(name, value),
            _ => {
                return Err(
                    place.at(&value, format!("http_server_config: {name} has a character that no header may have"))
                );
            }
        };
    }
    Ok(headers)
}

fn users(section: BTreeMap<String, Spanned<String>>, place: &Place<'_>) -> Result<BTreeMap<String, String>, WebError> {
    let mut users = BTreeMap::new();
    for (name, hash) in section {
        if hash.value.parse::<HashParts>().is_err() {
            return Err(place.at(
                &hash,
                format!(
                    "basic_auth_users: the password of {name:?} is not a bcrypt hash; make one with: htpasswd -nBC 10 {name}"
                ),
            ));
        }
        users.insert(name, hash.value);
    }
    Ok(users)
}

fn rate(section: RateSection, place: &Place<'_>, notes: &mut Vec<String>) -> Result<Option<Rate>, WebError> {
    let Some(interval) = section.interval else {
        if let Some(burst) = &section.burst {
            place.note(notes, burst, "rate_limit: burst without interval limits nothing; set interval, e.g. 1s".into());
        }
        return Ok(None);
    };
    let Some(duration) = go_duration(&interval.value) else {
        return Err(place.at(
            &interval,
            format!(
                "rate_limit: interval {:?} is not a duration; allowed: e.g. 1s, 250ms, 1m30s; 0 for no limit",
                interval.value
            ),
        ));
    };
    if duration.is_zero() {
        return Ok(None);
    }
    let burst = section.burst.map_or(0, |b| b.value);
    if burst == 0 {
        place.note(notes, &interval, "rate_limit: burst is 0, so that no request passes; set 1 or more".into());
    }
    Ok(Some(Rate { interval: duration, burst }))
}

/// A duration as Go writes it: numbers with units, `1m30s`, `1.5h`; `0` needs none.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Some(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("web.yml")).err().unwrap_or_else(|| panic!("taken: {text}")).to_string()
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        for text in ["", "# only a comment\n", "{}", "tls_server_config:\nrate_limit:\n", "tls_server_config: {}"] {
            let file = parse(text, Path::new("web.yml")).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert!(file.tls.is_none() && file.http2 && file.users.is_empty() && file.rate.is_none(), "{text:?}");
        }
    }

    #[test]
    fn errors_name_file_line_key_and_what_is_allowed() {
        for (text, parts) in [
            ("tls_server_config:\n  cert_fil: x\n", &["web.yml:2", "cert_fil", "cert_file"][..]),
            (
                "tls_server_config:\n  client_auth_type: Yes please\n",
                &["web.yml:2", "client_auth_type", "NoClientCert"],
            ),
            ("http_server_config:\n  headers:\n    Server: x\n", &["web.yml:3", "Server", "X-Frame-Options"]),
            ("http_server_config:\n  headers:\n    X-Frame-Options: x\n", &["web.yml:3", "deny, sameorigin"]),
            ("basic_auth_users:\n  al: secret\n", &["web.yml:2", "al", "htpasswd"]),
            ("rate_limit:\n  interval: soon\n", &["web.yml:2", "interval", "1m30s"]),
        ] {
            let error = error(text);
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn errors_show_no_secret() {
        let error = error("basic_auth_users:\n  al: tops3cret\n");
        assert!(!error.contains("tops3cret"), "{error}");
        let error = self::error("tls_server_config:\n  key: tops3cret\n  key: again\n");
        assert!(!error.contains("tops3cret"), "{error}");
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in
            [("1s", 1000), ("250ms", 250), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0", 0), ("0s", 0)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1", "1d", "-1s", "1 s", "1e400s", "..s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
