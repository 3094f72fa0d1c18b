//! `tls_server_config` → rustls.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, version,
};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::WebError;
use crate::root::Root;

/// A valid `tls_server_config` section.
pub(super) struct Tls {
    pub cert: Source,
    pub key: Source,
    /// None: the machine's own list of authorities, as Go has it.
    pub client_ca: Option<Source>,
    pub client_auth: ClientAuth,
    pub client_allowed_sans: Option<Vec<String>>,
    pub tls12: bool,
    pub tls13: bool,
    /// None: all that are offered.
    pub cipher_suites: Option<Vec<SupportedCipherSuite>>,
    pub prefer_server_order: bool,
    /// None: all that are offered.
    pub curves: Option<Vec<&'static dyn SupportedKxGroup>>,
}

impl Tls {
    /// Files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().filter_map(|s| match s {
            Source::File { path, .. } => Some(path),
            Source::Inline { .. } => None,
        })
    }
}

/// Where PEM text comes from, with the line of the configuration file that says so.
#[derive(Clone)]
pub(super) enum Source {
    Inline { pem: String, line: u64 },
    File { path: PathBuf, line: u64 },
}

/// What is asked of clients, in Go's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuth {
    No,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl ClientAuth {
    pub fn mandatory(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// Cipher suites by the names that Go, and so the file, gives them.
pub(super) fn cipher_suites() -> Vec<(&'static str, SupportedCipherSuite)> {
    let go_name = |suite: &SupportedCipherSuite| {
        let name = suite.suite().as_str()?;
        Some(match name {
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            other => other,
        })
    };
    ring::ALL_CIPHER_SUITES.iter().filter_map(|suite| Some((go_name(suite)?, *suite))).collect()
}

/// Suites that a file written for Go's library may name, and rustls does not have: with CBC, or without forward secrecy.
pub(super) const SUITES_OF_GO_ALONE: [&str; 9] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
];

pub(super) const CURVES_OF_GO_ALONE: [&str; 1] = ["CurveP521"];

/// Curves by the names that the file gives them.
pub(super) fn curves() -> Vec<(&'static str, &'static dyn SupportedKxGroup)> {
    vec![
        ("CurveP256", ring::kx_group::SECP256R1),
        ("CurveP384", ring::kx_group::SECP384R1),
        ("X25519", ring::kx_group::X25519),
    ]
}

struct Reading<'a> {
    root: &'a Root,
    file: &'a Path,
}

impl Reading<'_> {
    fn error(&self, line: Option<u64>, message: String) -> WebError {
        WebError { file: self.file.to_owned(), line, message: format!("tls_server_config: {message}") }
    }

    fn whole(&self, message: impl fmt::Display) -> WebError {
        self.error(None, message.to_string())
    }

    /// PEM text, what to call it in an error, and the line that names it.
    fn pem(&self, key: &str, source: &Source) -> Result<(Vec<u8>, String, u64), WebError> {
        match source {
            Source::Inline { pem, line } => Ok((pem.clone().into_bytes(), key.to_owned(), *line)),
            Source::File { path, line } => {
                let what = format!("{key}_file {}", path.display());
                match self.root.read_bytes(path) {
                    Ok(pem) => Ok((pem, what, *line)),
                    Err(e) => Err(self.error(Some(*line), format!("{what} cannot be read: {e}"))),
                }
            }
        }
    }

    fn certificates(&self, key: &str, source: &Source) -> Result<Vec<CertificateDer<'static>>, WebError> {
        let (pem, what, line) = self.pem(key, source)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(self.error(Some(line), format!("{what} has no certificate (-----BEGIN CERTIFICATE-----)"))),
            Err(e) => Err(self.error(Some(line), format!("{what} is not PEM: {e}"))),
        }
    }

    fn key(&self, source: &Source) -> Result<PrivateKeyDer<'static>, WebError> {
        let (pem, what, line) = self.pem("key", source)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            self.error(
                Some(line),
                format!("{what} has no private key (PKCS #8, PKCS #1 or SEC 1, in PEM, without a password)"),
            )
        })
    }
}

/// Everything of the section, its files read, as rustls takes it.
pub(super) fn server_config(root: &Root, file: &Path, tls: &Tls, http2: bool) -> Result<Arc<ServerConfig>, WebError> {
    let reading = Reading { root, file };
    let provider = Arc::new(provider(tls));
    let verifier = match tls.client_auth {
        ClientAuth::No => WebPkiClientVerifier::no_client_auth(),
        _ => Arc::new(ClientVerifier::new(&reading, tls, provider.clone())?),
    };
    let mut versions = Vec::new();
    versions.extend(tls.tls13.then_some(&version::TLS13));
    versions.extend(tls.tls12.then_some(&version::TLS12));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|e| reading.whole(format!("min_version, max_version and cipher_suites leave nothing to offer: {e}")))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(reading.certificates("cert", &tls.cert)?, reading.key(&tls.key)?)
        .map_err(|e| reading.whole(format!("cert and key do not work together: {e}")))?;
    config.ignore_client_order = tls.prefer_server_order;
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

/// The file's choice of suites concerns TLS 1.2 alone, as Go has it: those of TLS 1.3 are always offered.
fn provider(tls: &Tls) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if let Some(chosen) = &tls.cipher_suites {
        provider.cipher_suites.retain(|s| s.tls13().is_some());
        provider.cipher_suites.extend(chosen.iter().filter(|s| s.tls13().is_none()));
    }
    if let Some(curves) = &tls.curves {
        provider.kx_groups.clone_from(curves);
    }
    provider
}

/// Go's client authentication types: any certificate, or one that a given CA issued; and its names.
#[derive(Debug)]
struct ClientVerifier {
    /// None: any certificate will do, as long as the client has its key.
    issued: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    allowed_sans: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl ClientVerifier {
    fn new(reading: &Reading<'_>, tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Self, WebError> {
        // Read whatever the type is: a CA that can't be read is an error at once, not when the type is changed.
        let mut roots = RootCertStore::empty();
        if let Some(source) = &tls.client_ca {
            for cert in reading.certificates("client_ca", source)? {
                roots.add(cert).map_err(|e| reading.whole(format!("client_ca: {e}")))?;
            }
        } else if tls.client_auth.verifies() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(reading.whole(
                    "this client_auth_type verifies certificates, and this machine has no list of authorities; \
                     set client_ca or client_ca_file",
                ));
            }
        }
        let issued = if tls.client_auth.verifies() {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build();
            Some(verifier.map_err(|e| reading.whole(format!("client_ca: {e}")))?)
        } else {
            None
        };
        Ok(Self {
            issued,
            mandatory: tls.client_auth.mandatory(),
            allowed_sans: tls.client_allowed_sans.clone(),
            provider,
        })
    }
}

/// DNS names, e-mail addresses, IP addresses and URIs of a certificate, as text: rustls tells only DNS names. None if it
/// can't be read.
fn subject_names(certificate: &[u8]) -> Option<Vec<String>> {
    let extensions = Certificate::from_der(certificate).ok()?;
    let Some((_, names)) = extensions.tbs_certificate().get_extension::<SubjectAltName>().ok()? else {
        return Some(Vec::new());
    };
    let text = |name: GeneralName| match name {
        GeneralName::DnsName(name) | GeneralName::Rfc822Name(name) | GeneralName::UniformResourceIdentifier(name) => {
            Some(name.to_string())
        }
        GeneralName::IpAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(bytes.as_bytes()).map(IpAddr::from);
            v4.or(v6).ok().map(|a| a.to_string())
        }
        _ => None,
    };
    Some(names.0.into_iter().filter_map(text).collect())
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.as_ref().map_or(&[], |v| v.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(issued) = &self.issued {
            issued.verify_client_cert(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.allowed_sans {
            let names = subject_names(end_entity).ok_or(CertificateError::BadEncoding)?;
            if !names.iter().any(|n| allowed.contains(n)) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_of_every_kind() {
        let der = certificate(vec![
            SanType::DnsName("host.example".try_into().unwrap()),
            SanType::Rfc822Name("al@example.org".try_into().unwrap()),
            SanType::URI("spiffe://example/ns".try_into().unwrap()),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ]);
        let expected = ["host.example", "al@example.org", "spiffe://example/ns", "192.0.2.7", "2001:db8::7"];
        assert_eq!(subject_names(&der).unwrap(), expected);
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert_eq!(subject_names(&certificate(vec![])).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn anything_else_is_refused_without_a_panic() {
        let der = certificate(vec![SanType::DnsName("host.example".try_into().unwrap())]);
        for cut in 0..der.len() {
            assert_eq!(subject_names(&der[..cut]), None, "cut at {cut}");
        }
        for i in 0..der.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = der.clone();
                bad[i] ^= flip;
                let _ = subject_names(&bad);
            }
        }
    }
}
