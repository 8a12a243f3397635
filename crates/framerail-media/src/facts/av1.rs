//! AV1: open bitstream units and frame types (AV1 bitstream specification, 5.3 to 5.9).
//!
//! No packet is reported as unreferenced: the buffers that a frame refreshes are listed deep in its header, and contexts carry over.

use super::{Leading, PacketFacts, RandomAccess};
use crate::nal::Bits;

const SEQUENCE_HEADER: u8 = 1;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
/// Bytes of an `av1C` record before its OBUs.
const AV1C_BYTES: usize = 4;

/// Contents of the last sequence header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    is_known: bool,
    /// Every frame is a shown keyframe with a short header.
    is_still: bool,
}

impl Sequence {
    pub(super) fn of_extradata(extradata: &[u8]) -> Self {
        let mut sequence = Self::default();
        let skipped = if extradata.first().is_some_and(|first| first & 0x80 != 0) { AV1C_BYTES } else { 0 };
        let units = Units(extradata.get(skipped..).unwrap_or_default());
        units.flatten().filter(|unit| unit.kind == SEQUENCE_HEADER).for_each(|unit| sequence.note(unit.payload));
        sequence
    }

    fn note(&mut self, payload: &[u8]) {
        // seq_profile (3), still_picture, reduced_still_picture_header.
        if let Some(first) = payload.first() {
            *self = Self { is_known: true, is_still: first >> 3 & 1 == 1 };
        }
    }
}

pub(super) fn read(bytes: &[u8], sequence: &mut Sequence) -> Option<PacketFacts> {
    let mut facts: Option<PacketFacts> = None;
    let mut has_headers = false;
    for unit in Units(bytes) {
        let unit = unit?;
        match unit.kind {
            SEQUENCE_HEADER => {
                sequence.note(unit.payload);
                has_headers = true;
            }
            FRAME_HEADER | FRAME => {
                let frame = frame_facts(unit.payload, *sequence)?;
                facts = Some(match facts {
                    Some(before) => PacketFacts { is_shown: before.is_shown | frame.is_shown, ..before },
                    None => frame,
                });
            }
            _ => {}
        }
    }
    facts.map(|facts| PacketFacts { has_headers, ..facts })
}

fn frame_facts(payload: &[u8], sequence: Sequence) -> Option<PacketFacts> {
    let mut bits = Bits::new(payload.iter().copied());
    let shows_existing = !sequence.is_still && bits.flag()?;
    let (is_keyframe, is_shown) = match (sequence.is_still, shows_existing) {
        (true, _) => (true, true),
        (false, true) => (false, true),
        (false, false) => (bits.number(2)? == 0, bits.flag()?),
    };
    let random_access = match (is_keyframe && sequence.is_known, is_shown) {
        (true, true) => RandomAccess::Clean,
        // Shown later: frames shown before it may refer to earlier frames.
        (true, false) => RandomAccess::OpenGop,
        (false, _) => RandomAccess::None,
    };
    Some(PacketFacts { random_access, leading: Leading::Unmarked, is_reference: true, has_headers: false, is_shown })
}

struct Unit<'a> {
    kind: u8,
    payload: &'a [u8],
}

/// Open bitstream units; an invalid one is `None` and ends the iteration.
struct Units<'a>(&'a [u8]);

impl<'a> Iterator for Units<'a> {
    type Item = Option<Unit<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parts = split_unit(self.0);
        self.0 = parts.as_ref().map_or(&[], |(_, rest)| *rest);
        Some(parts.map(|(unit, _)| unit))
    }
}

fn split_unit(bytes: &[u8]) -> Option<(Unit<'_>, &[u8])> {
    let (header, mut rest) = bytes.split_first()?;
    let (kind, has_extension, has_size) = (header >> 3 & 15, header >> 2 & 1 == 1, header >> 1 & 1 == 1);
    if has_extension {
        rest = rest.split_first()?.1;
    }
    if !has_size {
        return Some((Unit { kind, payload: rest }, &[]));
    }
    let (size, rest) = leb128(rest)?;
    let (payload, rest) = rest.split_at_checked(size)?;
    Some((Unit { kind, payload }, rest))
}

/// A little-endian number with 7 bits per byte, and the bytes after it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(number).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}
