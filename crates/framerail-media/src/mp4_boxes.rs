//! Boxes of MP4, MOV, HEIF and AVIF files (ISO/IEC 14496-12).

use std::io::{Read, Seek, SeekFrom};

/// Maximum number of top-level boxes skipped while searching for one.
const MAX_BOXES: usize = 10_000;

/// A box within a byte slice.
pub(crate) struct Mp4Box<'a> {
    pub(crate) kind: [u8; 4],
    /// The box including its header.
    pub(crate) whole: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// A box header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoxHeader {
    pub(crate) kind: [u8; 4],
    /// Size of the whole box in bytes; 0 for a box that extends to the file's end.
    pub(crate) size: u64,
    /// Size of the header in bytes, 8 or 16.
    pub(crate) length: usize,
}

impl BoxHeader {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let size = fields.u32()?;
        let kind = fields.u32()?.to_be_bytes();
        if size == 1 { Some(Self { kind, size: fields.u64()?, length: 16 }) } else { Some(Self { kind, size: size.into(), length: 8 }) }
    }
}

/// The boxes in these bytes, up to the first invalid one.
pub(crate) fn boxes(bytes: &[u8]) -> Boxes<'_> {
    Boxes(bytes)
}

/// Iterates over boxes; holds the remaining bytes.
pub(crate) struct Boxes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = Mp4Box<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = BoxHeader::read(self.0)?;
        let whole = self.0.get(..usize::try_from(header.size).ok()?)?;
        let body = whole.get(header.length..)?;
        self.0 = self.0.get(whole.len()..)?;
        Some(Mp4Box { kind: header.kind, whole, body })
    }
}

/// The body of the box at a path of kinds.
pub(crate) fn find<'a>(parent: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(parent, |body, wanted| Some(boxes(body).find(|found| found.kind == **wanted)?.body))
}

/// The body of the first top-level box of this kind; `None` if there is none, or it is longer than `limit`, or truncated.
pub(crate) fn read_top_level(mut file: impl Read + Seek, wanted: &[u8; 4], limit: u64) -> Option<Vec<u8>> {
    let mut at = 0_u64;
    for _ in 0..MAX_BOXES {
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(16).read_to_end(&mut head).ok()?;
        let header = BoxHeader::read(&head)?;
        let length = header.size.checked_sub(header.length as u64)?;
        if header.kind == *wanted {
            file.seek(SeekFrom::Start(at + header.length as u64)).ok()?;
            // Grows with the actual data, whatever size the header claims.
            let mut body = Vec::new();
            file.take(length.min(limit)).read_to_end(&mut body).ok()?;
            return (body.len() as u64 == length).then_some(body);
        }
        at = at.checked_add(header.size)?;
    }
    None
}

/// Reads big-endian numbers from bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    /// A number of `bytes` bytes, up to 8.
    pub(crate) fn number(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.number(4)?).ok()
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.number(8)
    }
}

/// The `track_ID` of a track, after two times of 4 or 8 bytes.
pub(crate) fn track_id(trak: &[u8]) -> Option<u32> {
    let header = find(trak, &[b"tkhd"])?;
    Fields(header.get(if header.first() == Some(&1) { 20 } else { 12 }..)?).u32()
}
