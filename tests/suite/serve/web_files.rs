//! Web configuration files, one a row: those that are good, and what is said of those that are not.

use kina_exporter::root::Root;
use kina_exporter::serve::web;

use super::tls::Authority;
use crate::common::fixture;

/// File in `tests/fixtures/web`, and what its error or, of a good one, its warning must name. The folder has `cert.pem`, `key.pem`
/// and `ca.pem` while it is tried.
const FILES: &[(&str, &[&str])] = &[
    ("empty.good.yml", &[]),
    ("version_old.good.yml", &[":4", "min_version", "TLS 1.2"]),
    ("ciphers_of_go.good.yml", &[":6", "cipher_suites", "TLS_RSA_WITH_AES_128_CBC_SHA"]),
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
    ("cert_twice.good.yml", &[":3", "cert is passed over", "cert_file", "keep one"]),
    ("version_without_cert.good.yml", &[":2", "cert or cert_file", "in the clear"]),
    ("cert_not_there.bad.yml", &[":2", "cert_file", "nowhere.pem"]),
    ("cert_inline_nonsense.bad.yml", &[":2", "cert", "BEGIN CERTIFICATE"]),
    ("key_is_a_certificate.bad.yml", &[":3", "key_file", "private key"]),
    ("client_ca_without_policy.bad.yml", &["client_ca", "client_auth_type", "RequireAndVerifyClientCert"]),
    ("client_ca_is_a_key.bad.yml", &[":5", "client_ca_file"]),
    ("client_policy_unknown.bad.yml", &[":4", "client_auth_type", "VerifyClientCertIfGiven"]),
    ("client_sans_optional.bad.yml", &[":6", "client_allowed_sans", "RequireAndVerifyClientCert"]),
    ("version_too_old.bad.yml", &[":5", "max_version", "TLS12, TLS13"]),
    ("version_unknown.bad.yml", &[":4", "min_version", "TLS14", "TLS12, TLS13"]),
    ("versions_crossed.bad.yml", &["min_version", "max_version"]),
    (
        "cipher_unknown.bad.yml",
        &[":6", "cipher_suites", "TLS_ECDHE_WITH_LUCK", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    ),
    ("ciphers_none.bad.yml", &[":5", "cipher_suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
    ("curve_unknown.bad.yml", &[":4", "curve_preferences", "X448", "X25519"]),
    ("curves_none.bad.yml", &[":4", "curve_preferences", "X25519"]),
    ("http2_not_a_boolean.bad.yml", &[":2"]),
    ("header_unknown.bad.yml", &[":3", "Server", "X-Frame-Options"]),
    ("header_value.bad.yml", &[":4", "X-Content-Type-Options", "nosniff"]),
    ("header_control.bad.yml", &[":3", "Content-Security-Policy", "character"]),
    ("user_plain_password.bad.yml", &[":3", "bob", "bcrypt", "htpasswd"]),
    ("rate_limit_interval.bad.yml", &[":2", "interval", "1m30s"]),
    ("rate_limit_burst.bad.yml", &[":3", "burst"]),
    ("rate_limit_no_burst.good.yml", &[":2", "burst", "no request passes"]),
    ("rate_limit_no_interval.good.yml", &[":2", "burst", "limits nothing"]),
];

#[test]
fn good_files_are_taken_and_bad_ones_named() {
    let authority = Authority::new();
    for (name, parts) in FILES {
        let text = std::fs::read_to_string(fixture("web").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let path = authority.write(name, &text);
        let result = web::check(&Root::default(), &path);
        assert_eq!(result.is_ok(), name.contains(".good."), "{name}: {result:?}");
        let said = result.map_or_else(|error| error.to_string(), |warnings| warnings.join("\n"));
        assert_eq!(said.is_empty(), parts.is_empty(), "{name}: {said}");
        for part in [&[*name], *parts].concat().iter().filter(|_| !said.is_empty()) {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
}

/// A certificate may be asked for without saying whose: then the machine's own authorities are meant.
#[test]
fn without_an_authority_the_machines_own_are_asked() {
    let authority = Authority::new();
    let text = std::fs::read_to_string(fixture("web").join(BY_MACHINE)).unwrap();
    let flag = format!("--web.config.file={}", authority.write("web.yml", &text).display());
    let nobody = authority.write("nobody.pem", "");
    for (trusted, good) in [(authority.dir.path().join("ca.pem"), true), (nobody, false)] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            .args(["check", &flag, "--no-runtime.docker", "--no-runtime.podman", "--no-runtime.containerd"])
            .env("SSL_CERT_FILE", trusted)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.success(), good, "{said}");
        assert_eq!(said.contains("client_ca_file"), !good, "{said}");
    }
}

const BY_MACHINE: &str = "client_policy_without_ca.by_machine.yml";

#[test]
fn every_file_has_its_row() {
    let mut files: Vec<_> =
        std::fs::read_dir(fixture("web")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut rows: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).chain([BY_MACHINE.to_owned()]).collect();
    rows.sort();
    assert_eq!(files, rows);
}
