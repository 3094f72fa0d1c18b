//! The body of an answer: encoded, compressed and sent piece by piece, as fast as the client reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::compress::{Compressor, Encoding};
use super::{Cursor, Format};
use crate::engine::Collection;

/// Plain bytes made at a time.
const PLAIN_CHUNK: usize = 64 << 10;
/// Compressed bytes sent at a time.
const SENT_CHUNK: usize = 16 << 10;

/// A collection on its way to a client. Holds the collection and at most about one piece of it in bytes.
#[derive(Debug)]
pub struct ScrapeBody {
    collection: Arc<Collection>,
    cursor: Cursor,
    compressor: Compressor,
    plain: Vec<u8>,
    more: bool,
}

/// Starts an answer. A small one is encoded at once, so that its length is known.
pub fn body(collection: Arc<Collection>, format: Format, encoding: Encoding) -> io::Result<ScrapeBody> {
    let mut body = ScrapeBody {
        collection,
        cursor: Cursor::new(format),
        compressor: Compressor::new(encoding)?,
        plain: Vec::new(),
        more: true,
    };
    body.advance()?;
    Ok(body)
}

impl ScrapeBody {
    /// Fills the output with a piece worth sending, or all that is left.
    fn advance(&mut self) -> io::Result<()> {
        while self.more && self.compressor.output().len() < SENT_CHUNK {
            self.plain.reserve(PLAIN_CHUNK + PLAIN_CHUNK / 16);
            self.more = self.cursor.fill(&self.collection.samples, &mut self.plain, PLAIN_CHUNK);
            self.compressor.take(&mut self.plain)?;
            if !self.more {
                self.compressor.finish()?;
            }
        }
        Ok(())
    }
}

impl Body for ScrapeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Err(e) = self.advance() {
            self.more = false;
            return Poll::Ready(Some(Err(e)));
        }
        let out = self.compressor.output();
        if out.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(std::mem::take(out))))))
    }

    fn is_end_stream(&self) -> bool {
        !self.more && self.compressor.ready() == 0
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.compressor.ready() as u64;
        if self.more {
            let mut hint = SizeHint::new();
            hint.set_lower(ready);
            return hint;
        }
        SizeHint::with_exact(ready)
    }
}
