//! Subject alternative names of a certificate: just enough DER (X.690) to find them in an X.509 certificate (RFC 5280,
//! 4.1 and 4.2.1.6). rustls checks certificates, but tells only DNS names.

use std::net::IpAddr;

const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[3] EXPLICIT Extensions` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// DNS names, e-mail addresses, IP addresses and URIs, as text. None if this is no certificate; empty if it has no names.
pub(super) fn names(certificate: &[u8]) -> Option<Vec<String>> {
    let mut outer = Der(Der(certificate).expect(SEQUENCE)?);
    let mut tbs = Der(outer.expect(SEQUENCE)?);
    let mut names = Vec::new();
    while let Some((tag, content)) = tbs.next()? {
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = Der(Der(content).expect(SEQUENCE)?);
        while let Some((_, extension)) = extensions.next()? {
            let mut extension = Der(extension);
            if extension.expect(OBJECT_ID)? != SUBJECT_ALT_NAME {
                continue;
            }
            // `critical` may stand before the value.
            while let Some((tag, value)) = extension.next()? {
                if tag == OCTET_STRING {
                    collect(value, &mut names)?;
                }
            }
        }
    }
    Some(names)
}

fn collect(value: &[u8], names: &mut Vec<String>) -> Option<()> {
    let mut general_names = Der(Der(value).expect(SEQUENCE)?);
    while let Some((tag, content)) = general_names.next()? {
        match tag {
            DNS | EMAIL | URI => names.push(String::from_utf8(content.to_vec()).ok()?),
            IP => {
                let v4 = <[u8; 4]>::try_from(content).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(content).map(IpAddr::from);
                names.push(v4.or(v6).ok()?.to_string());
            }
            _ => {}
        }
    }
    Some(())
}

/// What is left of a run of tag–length–value elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content; `Some(None)` at the end, None if it is cut or longer than allowed.
    #[allow(clippy::option_option)]
    fn next(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        let Some((&tag, rest)) = self.0.split_first() else { return Some(None) };
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Four bytes of length are more than any certificate has; 0x80, the indefinite form, is
            // no DER.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Some((tag, content)))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()??;
        (found == tag).then_some(content)
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
        assert_eq!(names(&der).unwrap(), expected);
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert_eq!(names(&certificate(vec![])).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn anything_else_is_refused_without_a_panic() {
        let der = certificate(vec![SanType::DnsName("host.example".try_into().unwrap())]);
        for cut in 0..der.len() {
            assert_eq!(names(&der[..cut]), None, "cut at {cut}");
        }
        for i in 0..der.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = der.clone();
                bad[i] ^= flip;
                let _ = names(&bad);
            }
        }
    }
}
