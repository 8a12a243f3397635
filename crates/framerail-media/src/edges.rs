//! The first and the last bytes of a source that cannot seek back, to check its end.

/// Bytes kept of the start and of the end.
const FIRST_BYTES: usize = 64 * 1024;
const LAST_BYTES: usize = 256 * 1024;

/// What was read of such a source.
#[derive(Default)]
pub(crate) struct Edges {
    first: Vec<u8>,
    /// Up to twice `LAST_BYTES`, so that old bytes are removed rarely.
    last: Vec<u8>,
    total: u64,
}

impl Edges {
    /// Adds bytes that were read.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let room = FIRST_BYTES.saturating_sub(self.first.len()).min(bytes.len());
        self.first.extend(bytes.iter().take(room));
        self.last.extend_from_slice(bytes);
        if self.last.len() > 2 * LAST_BYTES {
            self.last.drain(..self.last.len() - LAST_BYTES);
        }
        self.total += bytes.len() as u64;
    }

    /// Number of bytes read.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Up to `length` bytes at a position; `None` if they were not kept.
    pub(crate) fn at(&self, position: u64, length: usize) -> Option<&[u8]> {
        let start = self.total - self.last.len() as u64;
        let (kept, offset) = position.checked_sub(start).map_or((&self.first, position), |offset| (&self.last, offset));
        let rest = kept.get(usize::try_from(offset).ok()?..)?;
        rest.get(..rest.len().min(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_edges_are_kept() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let mut edges = Edges::default();
        bytes.chunks(7_001).for_each(|part| edges.add(part));
        assert_eq!(edges.total(), 3_000_000);
        assert_eq!(edges.at(0, 9), Some(&bytes[..9]));
        assert_eq!(edges.at(2_999_990, 99), Some(&bytes[2_999_990..]));
        assert_eq!((edges.at(1_500_000, 9), edges.at(3_000_000, 9)), (None, Some(&[][..])));
    }
}
