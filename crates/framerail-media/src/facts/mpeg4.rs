//! MPEG-4 part 2: start codes, VOP types and closed groups (ISO/IEC 14496-2, 6.2).

use super::{Leading, PacketFacts, RandomAccess};
use crate::nal::{Framing, units};

const SEQUENCE_END: u8 = 0xb1;
const USER_DATA: u8 = 0xb2;
const GROUP: u8 = 0xb3;
const VOP: u8 = 0xb6;

const INTRA: u8 = 0;
const BIDIRECTIONAL: u8 = 2;

/// `has_global_headers`: the container holds the video object layer.
pub(super) fn read(bytes: &[u8], has_global_headers: bool) -> Option<PacketFacts> {
    let (mut first_type, mut is_reference, mut has_layer, mut has_headers, mut is_closed) = (None, false, false, false, false);
    for unit in units(bytes, Framing::StartCodes) {
        match unit.ok()? {
            [VOP, rest @ ..] => {
                let kind = rest.first()? >> 6;
                first_type = first_type.or(Some(kind));
                is_reference |= kind != BIDIRECTIONAL;
            }
            // time_code (18), closed_gov.
            [GROUP, rest @ ..] => (is_closed, has_headers) = (rest.get(2)? >> 5 & 1 == 1, true),
            [0x20..=0x2f, ..] => (has_layer, has_headers) = (true, true),
            [USER_DATA, ..] => {}
            // Video objects, visual objects and sequences.
            [0x00..=0x1f | 0xb0 | SEQUENCE_END | 0xb5, ..] => has_headers = true,
            _ => {}
        }
    }
    let random_access = match first_type? {
        INTRA if !has_layer && !has_global_headers => RandomAccess::None,
        INTRA if is_closed => RandomAccess::Clean,
        INTRA => RandomAccess::OpenGop,
        _ => RandomAccess::None,
    };
    Some(PacketFacts { random_access, leading: Leading::Unmarked, is_reference, has_headers, is_shown: true })
}
