//! The first bytes of a source that cannot be gone back in.

use std::io::{self, Read};

/// What a GIF begins with. FFmpeg's demuxer reads one to its end and goes back before it gives a frame.
const GIF: &[u8] = b"GIF8";
/// Longest GIF that is kept in memory for that.
const MAX_GIF_BYTES: u64 = 512 << 20;

/// What was read of a source.
pub(crate) enum Head {
    /// The first bytes; the others follow.
    Start(Vec<u8>),
    /// Everything.
    Whole(Vec<u8>),
}

impl Head {
    /// Reads what tells whether the source has to be kept in memory, and all of it if so.
    ///
    /// # Errors
    /// The source's own; `FileTooLarge` for a GIF beyond what is kept.
    pub(crate) fn read(source: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        source.take(GIF.len() as u64).read_to_end(&mut bytes)?;
        if bytes != GIF {
            return Ok(Self::Start(bytes));
        }
        source.take(MAX_GIF_BYTES).read_to_end(&mut bytes)?;
        if bytes.len() as u64 >= MAX_GIF_BYTES {
            let reason =
                format!("a GIF of more than {} MB from where nothing can be gone back to; save it as a file first", MAX_GIF_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        Ok(Self::Whole(bytes))
    }

    /// Serves bytes that were read before; how many.
    pub(crate) fn serve(head: &mut Vec<u8>, to: &mut [u8]) -> usize {
        let count = head.len().min(to.len());
        for (to, from) in to.iter_mut().zip(head.drain(..count)) {
            *to = from;
        }
        count
    }
}
