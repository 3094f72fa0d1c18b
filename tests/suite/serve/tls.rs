//! TLS, client certificates, users, headers, rate limit: `--web.config.file` over the wire.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Reply, Setup, Site, exchange};

/// An authority, and a folder for what it issues.
pub struct Authority {
    pub dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, both as PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Authority {
    /// With `cert.pem`, `key.pem` for localhost and `ca.pem` in its folder.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem };
        authority.write("ca.pem", &authority.pem);
        authority.write_server(&authority.issue(&["localhost"]));
        authority
    }

    pub fn issue(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params(names).signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn write_server(&self, pair: &Pair) {
        self.write("key.pem", &pair.key);
        self.write("cert.pem", &pair.cert);
    }

    fn trusting(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn self_signed(names: &[&str]) -> Pair {
    let key = KeyPair::generate().unwrap();
    Pair { cert: params(names).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn setup(file: &Path) -> Setup {
    let mut setup = Setup::default();
    setup.config.web.config_file = Some(file.to_owned());
    setup
}

const SERVER: &str = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";

struct Client {
    config: ClientConfig,
}

impl Client {
    fn new(authority: &Authority, own: Option<&Pair>, versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(authority.trusting());
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        Self { config }
    }

    fn plain(authority: &Authority) -> Self {
        Self::new(authority, None, rustls::ALL_VERSIONS)
    }

    async fn connect(&self, site: &Site) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(self.config.clone())).connect(name, site.connect().await).await
    }

    /// None when the server refuses: with TLS 1.3 the client learns of that only when it reads.
    async fn get(&self, site: &Site, headers: &[(&str, &str)]) -> Option<Reply> {
        exchange(self.connect(site).await.ok()?, "GET", "/-/healthy", headers).await
    }

    async fn server_certificate(&self, site: &Site) -> Vec<u8> {
        let stream = self.connect(site).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn https_with_every_version_and_nothing_in_the_clear() {
    let authority = Authority::new();
    let site = setup(&authority.write("web.yml", SERVER)).start().await;
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let reply = Client::new(&authority, None, versions).get(&site, &[]).await.unwrap();
        assert_eq!(reply.status, 200);
    }
    assert!(exchange(site.connect().await, "GET", "/-/healthy", &[]).await.is_none());

    let strict = format!("{SERVER}  min_version: TLS13\n");
    let site = setup(&authority.write("strict.yml", &strict)).start().await;
    assert!(Client::new(&authority, None, &[&rustls::version::TLS12]).get(&site, &[]).await.is_none());
    assert_eq!(Client::plain(&authority).get(&site, &[]).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cipher_suites_and_curves_are_those_of_the_file() {
    let authority = Authority::new();
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let text = format!("{SERVER}  max_version: TLS12\n  cipher_suites: [{suite}]\n  curve_preferences: [CurveP384]\n");
    let site = setup(&authority.write("web.yml", &text)).start().await;
    let stream = Client::plain(&authority).connect(&site).await.unwrap();
    let connection = stream.get_ref().1;
    assert_eq!(connection.negotiated_cipher_suite().unwrap().suite().as_str(), Some(suite));
    assert_eq!(connection.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::secp384r1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_unless_switched_off() {
    let authority = Authority::new();
    for (text, expected) in [
        (SERVER.to_owned(), Some(&b"h2"[..])),
        (format!("{SERVER}http_server_config: {{http2: false}}\n"), Some(&b"http/1.1"[..])),
    ] {
        let site = setup(&authority.write("web.yml", &text)).start().await;
        let mut client = Client::plain(&authority);
        client.config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = client.connect(&site).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected);
        if expected != Some(b"h2") {
            assert_eq!(exchange(stream, "GET", "/-/healthy", &[]).await.unwrap().status, 200);
            continue;
        }
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        // Several at once over one connection.
        let asks: Vec<_> = ["/metrics", "/-/healthy", "/nope", "/metrics"]
            .into_iter()
            .map(|path| {
                let request = http::Request::get(format!("https://localhost{path}")).body(Empty::<bytes::Bytes>::new());
                send.send_request(request.unwrap())
            })
            .collect();
        let mut codes = Vec::new();
        for reply in futures_util::future::join_all(asks).await {
            let reply = reply.unwrap();
            codes.push(reply.status().as_u16());
            assert!(!reply.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
        assert_eq!(codes, [200, 200, 404, 200]);
    }
}

/// Who gets in with each policy: nobody's certificate, one of the authority, one of one's own.
#[tokio::test(flavor = "multi_thread")]
async fn client_certificates() {
    let authority = Authority::new();
    let issued = authority.issue(&["client.example"]);
    let own = self_signed(&["client.example"]);
    let other = authority.issue(&["other.example"]);
    let ca = "  client_ca_file: ca.pem\n";
    let sans = "  client_allowed_sans: [client.example, 192.0.2.1]\n";
    for (policy, more, none, with_issued, with_own, with_other) in [
        ("NoClientCert", String::new(), true, true, true, true),
        ("RequestClientCert", String::new(), true, true, true, true),
        ("RequireAnyClientCert", String::new(), false, true, true, true),
        ("RequireClientCert", String::new(), false, true, true, true),
        ("VerifyClientCertIfGiven", ca.to_owned(), true, true, false, true),
        ("RequireAndVerifyClientCert", ca.to_owned(), false, true, false, true),
        ("RequireAnyClientCert", sans.to_owned(), false, true, true, false),
        ("RequireAndVerifyClientCert", format!("{ca}{sans}"), false, true, false, false),
    ] {
        let text = format!("{SERVER}  client_auth_type: {policy}\n{more}");
        let site = setup(&authority.write("web.yml", &text)).start().await;
        let cases = [(None, none), (Some(&issued), with_issued), (Some(&own), with_own), (Some(&other), with_other)];
        for (i, (pair, expected)) in cases.into_iter().enumerate() {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let client = Client::new(&authority, pair, &[version]);
                let got_in = client.get(&site, &[]).await.is_some();
                assert_eq!(got_in, expected, "{policy} {more:?}, client {i}, {version:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_read_again_and_a_bad_one_is_not_taken() {
    let authority = Authority::new();
    let first = authority.issue(&["localhost"]);
    authority.write_server(&first);
    let site = setup(&authority.write("web.yml", SERVER)).start().await;
    let client = Client::plain(&authority);
    assert_eq!(client.server_certificate(&site).await, der(&first));

    let second = authority.issue(&["localhost"]);
    authority.write_server(&second);
    assert_eq!(client.server_certificate(&site).await, der(&second));

    for bad in
        ["", "-----BEGIN CERTIFICATE-----\nnonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        authority.write("cert.pem", bad);
        assert_eq!(client.server_certificate(&site).await, der(&second), "{bad:?}");
    }
    // The key of another certificate.
    authority.write("cert.pem", &authority.issue(&["localhost"]).cert);
    assert_eq!(client.server_certificate(&site).await, der(&second));
    std::fs::remove_file(authority.dir.path().join("cert.pem")).unwrap();
    assert_eq!(client.server_certificate(&site).await, der(&second));
    // Switching TLS off would send what was secret in the clear.
    authority.write("web.yml", "rate_limit:\n");
    assert_eq!(client.server_certificate(&site).await, der(&second));
    let counted = site.shared.held.openmetrics();
    let name = kina_exporter::catalog::WEB_CONFIG_FAILURES.name();
    assert!(counted.contains(&format!("{name}{{}} 6\n")), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_with_their_password_get_in() {
    use base64::Engine;
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let users = |password: &str| format!("basic_auth_users:\n  al: {}\n", bcrypt::hash(password, 4).unwrap());
    let authority = Authority::new();
    let site = setup(&authority.write("web.yml", &users("first"))).start().await;
    let ask = async |text: Option<&str>| {
        let value = text.map(basic).unwrap_or_default();
        let headers: Vec<_> = text.map(|_| ("authorization", value.as_str())).into_iter().collect();
        site.ask("GET", "/metrics", &headers).await
    };
    let refused = ask(None).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("basic")));
    for (who, status) in [("al:first", 200), ("al:wrong", 401), ("bo:first", 401), ("al:first", 200)] {
        assert_eq!(ask(Some(who)).await.status, status, "{who}");
    }
    for path in ["/", "/-/healthy", "/api/v1/containers", "/nope"] {
        assert_eq!(site.get(path).await.status, 401, "{path} is for users as well");
    }
    authority.write("web.yml", &users("second"));
    assert_eq!(ask(Some("al:first")).await.status, 401, "a changed password is in force at once");
    assert_eq!(ask(Some("al:second")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_and_headers_of_the_file() {
    let authority = Authority::new();
    let text = "rate_limit: {interval: 1h, burst: 3}\n\
                http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    Strict-Transport-Security: max-age=1\n";
    let site = setup(&authority.write("web.yml", text)).start().await;
    let mut codes = Vec::new();
    for _ in 0..5 {
        let reply = site.get("/-/healthy").await;
        assert_eq!(reply.header("x-frame-options"), Some("sameorigin"));
        assert_eq!(reply.header("strict-transport-security"), Some("max-age=1"));
        codes.push(reply.status);
    }
    assert_eq!(codes, [200, 200, 200, 429, 429]);
    // Without a burst nobody passes, here as with every exporter.
    let site = setup(&authority.write("none.yml", "rate_limit: {interval: 1ms}\n")).start().await;
    for _ in 0..3 {
        assert_eq!(site.get("/-/healthy").await.status, 429);
    }
}
