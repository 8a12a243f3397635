//! VP8 (RFC 6386, 9.1) and VP9 (bitstream specification, 6.2 and annex B).
//!
//! No packet is reported as unreferenced: even a frame that refreshes no buffer may change probabilities, segmentation and
//! motion vectors for the next one.

use super::{Leading, PacketFacts, RandomAccess};
use crate::nal::Bits;

fn facts(is_keyframe: bool, is_shown: bool) -> PacketFacts {
    PacketFacts {
        random_access: if is_keyframe { RandomAccess::Clean } else { RandomAccess::None },
        leading: Leading::No,
        is_reference: true,
        has_headers: false,
        is_shown,
    }
}

pub(super) fn read_vp8(bytes: &[u8]) -> Option<PacketFacts> {
    let tag = bytes.first()?;
    Some(facts(tag & 1 == 0, tag >> 4 & 1 == 1))
}

pub(super) fn read_vp9(bytes: &[u8]) -> Option<PacketFacts> {
    let mut whole: Option<PacketFacts> = None;
    for frame in superframe(bytes)? {
        let (is_keyframe, is_shown) = vp9_frame(frame)?;
        let before = *whole.get_or_insert_with(|| facts(is_keyframe, is_shown));
        whole = Some(PacketFacts { is_shown: before.is_shown | is_shown, ..before });
    }
    whole
}

/// Whether a frame is a keyframe and whether it is shown.
fn vp9_frame(bytes: &[u8]) -> Option<(bool, bool)> {
    let mut bits = Bits::new(bytes.iter().copied());
    if bits.number(2)? != 2 {
        return None;
    }
    let profile = u32::from(bits.flag()?) | u32::from(bits.flag()?) << 1;
    if profile == 3 {
        bits.flag()?;
    }
    let shows_existing = bits.flag()?;
    if shows_existing {
        return Some((false, true));
    }
    let is_keyframe = !bits.flag()?;
    Some((is_keyframe, bits.flag()?))
}

/// The frames of a packet: one, or several with an index at the end (superframe).
fn superframe(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let marker = *bytes.last()?;
    let count = usize::from(marker & 7) + 1;
    let size_bytes = usize::from(marker >> 3 & 3) + 1;
    let index_bytes = 2 + size_bytes * count;
    let is_index = marker & 0xe0 == 0xc0 && bytes.len() >= index_bytes && bytes.get(bytes.len() - index_bytes) == Some(&marker);
    if !is_index {
        return Some(vec![bytes]);
    }
    let (mut rest, index) = bytes.split_at_checked(bytes.len() - index_bytes)?;
    let sizes = index.get(1..index.len() - 1)?.chunks(size_bytes);
    let mut frames = Vec::with_capacity(count);
    for size in sizes.map(|size| size.iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))) {
        let (frame, after) = rest.split_at_checked(size)?;
        if !frame.is_empty() {
            frames.push(frame);
        }
        rest = after;
    }
    Some(frames)
}
