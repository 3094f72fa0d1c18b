//! Web configuration files, one a row: those that are good, and what is said of those that are not.

use kina_exporter::root::Root;
use kina_exporter::serve::web;

use super::tls::Authority;
use crate::common::fixture;

/// File in `tests/fixtures/web`, and what its error must name; nothing for good ones. The folder has `cert.pem`, `key.pem`
/// and `ca.pem` while it is tried.
const FILES: &[(&str, &[&str])] = &[
    ("empty.good.yml", &[]),
    ("tls.good.yml", &[]),
    ("tls_all_keys.good.yml", &[]),
    ("tls_client_any_sans.good.yml", &[]),
    ("tls_client_verify.good.yml", &[]),
    ("users.good.yml", &[]),
    ("headers.good.yml", &[]),
    ("rate_limit.good.yml", &[]),
    ("rate_limit_zero.good.yml", &[]),
    ("not_yaml.bad.yml", &[":2"]),
    ("unknown_key.bad.yml", &[":3", "tls_config", "tls_server_config"]),
    ("unknown_tls_key.bad.yml", &[":4", "cert_path", "cert_file"]),
    ("duplicate_key.bad.yml", &[":3", "duplicate"]),
    ("cert_missing.bad.yml", &["tls_server_config", "cert or cert_file"]),
    ("key_missing.bad.yml", &["tls_server_config", "key or key_file"]),
    ("cert_twice.bad.yml", &[":5", "cert and cert_file", "keep one"]),
    ("cert_not_there.bad.yml", &[":2", "cert_file", "nowhere.pem"]),
    ("cert_inline_nonsense.bad.yml", &[":2", "cert", "BEGIN CERTIFICATE"]),
    ("key_is_a_certificate.bad.yml", &[":3", "key_file", "private key"]),
    ("client_ca_without_policy.bad.yml", &["client_ca", "client_auth_type", "RequireAndVerifyClientCert"]),
    ("client_ca_is_a_key.bad.yml", &[":5", "client_ca_file"]),
    ("client_policy_unknown.bad.yml", &[":4", "client_auth_type", "VerifyClientCertIfGiven"]),
    ("client_policy_without_ca.bad.yml", &["client_auth_type", "client_ca_file"]),
    ("client_sans_optional.bad.yml", &[":6", "client_allowed_sans", "RequireAndVerifyClientCert"]),
    ("version_too_old.bad.yml", &[":4", "min_version", "TLS10", "TLS12, TLS13"]),
    ("versions_crossed.bad.yml", &["min_version", "max_version"]),
    (
        "cipher_unknown.bad.yml",
        &[":6", "cipher_suites", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    ),
    ("curve_unknown.bad.yml", &[":4", "curve_preferences", "CurveP521", "X25519"]),
    ("http2_not_a_boolean.bad.yml", &[":2"]),
    ("header_unknown.bad.yml", &[":3", "Server", "X-Frame-Options"]),
    ("header_value.bad.yml", &[":4", "X-Content-Type-Options", "nosniff"]),
    ("header_control.bad.yml", &[":3", "Content-Security-Policy", "character"]),
    ("user_plain_password.bad.yml", &[":3", "bob", "bcrypt", "htpasswd"]),
    ("rate_limit_interval.bad.yml", &[":2", "interval", "1m30s"]),
    ("rate_limit_burst.bad.yml", &[":3", "burst"]),
    ("rate_limit_no_burst.bad.yml", &[":2", "burst"]),
];

#[test]
fn good_files_are_taken_and_bad_ones_named() {
    let authority = Authority::new();
    for (name, parts) in FILES {
        let text = std::fs::read_to_string(fixture("web").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let path = authority.write(name, &text);
        let result = web::check(&Root::default(), &path);
        assert_eq!(result.is_ok(), name.contains(".good."), "{name}: {result:?}");
        if let Err(error) = result {
            let error = error.to_string();
            for part in [&[*name], *parts].concat() {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
        }
    }
}

#[test]
fn every_file_has_its_row() {
    let mut files: Vec<_> =
        std::fs::read_dir(fixture("web")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut rows: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    rows.sort();
    assert_eq!(files, rows);
}
