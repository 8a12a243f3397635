//! The first bytes of a source that cannot seek back.

use std::io::{self, Read};

/// Magic bytes of a GIF. FFmpeg's demuxer reads a GIF to its end and seeks back before it returns a frame.
const GIF: &[u8] = b"GIF8";
/// Largest GIF that is buffered in memory for that.
const MAX_GIF_BYTES: u64 = 512 << 20;

/// Bytes read ahead from a source.
pub(crate) enum Head {
    /// The first bytes; the rest is still to be read.
    Start(Vec<u8>),
    /// The whole source.
    Whole(Vec<u8>),
}

impl Head {
    /// Reads enough to decide whether the source must be buffered in memory, and all of it if so.
    ///
    /// # Errors
    /// The source's own; `FileTooLarge` for a GIF beyond the limit.
    pub(crate) fn read(source: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        source.take(GIF.len() as u64).read_to_end(&mut bytes)?;
        if bytes != GIF {
            return Ok(Self::Start(bytes));
        }
        source.take(MAX_GIF_BYTES).read_to_end(&mut bytes)?;
        if bytes.len() as u64 >= MAX_GIF_BYTES {
            let reason = format!("a GIF of more than {} MB from a source that cannot seek; save it to a file first", MAX_GIF_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        Ok(Self::Whole(bytes))
    }

    /// Copies buffered bytes to `to`; returns their number.
    pub(crate) fn serve(head: &mut Vec<u8>, to: &mut [u8]) -> usize {
        let count = head.len().min(to.len());
        for (to, from) in to.iter_mut().zip(head.drain(..count)) {
            *to = from;
        }
        count
    }
}
