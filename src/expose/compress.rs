//! Compression of an answer as it is written.

use std::io::{self, Write};

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The `Content-Encoding` of an answer, None for a plain one.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// The fastest level of each: Prometheus is near, and asks every few seconds. Of zstd that is 3, which sees far enough
/// back to find a container's labels again in the next family.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 3;

/// Takes plain bytes, gives compressed ones.
pub enum Compressor {
    Identity(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    pub fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Identity => Self::Identity(Vec::new()),
            Encoding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
            Encoding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }

    /// Takes what is in `plain` and leaves it empty; a plain answer takes the buffer itself.
    pub fn take(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Identity(out) if out.is_empty() => *out = std::mem::take(plain),
            Self::Identity(out) => out.append(plain),
            Self::Gzip(encoder) => encoder.write_all(plain)?,
            Self::Zstd(encoder) => encoder.write_all(plain)?,
        }
        plain.clear();
        Ok(())
    }

    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(encoder) => encoder.try_finish(),
            Self::Zstd(encoder) => encoder.do_finish(),
        }
    }

    /// What has come out so far, to be sent on and cleared.
    pub fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Identity(out) => out,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    /// Bytes that [`Compressor::output`] holds.
    pub fn ready(&self) -> usize {
        match self {
            Self::Identity(out) => out.len(),
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Zstd(encoder) => encoder.get_ref().len(),
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identity(_) => "Identity",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}
