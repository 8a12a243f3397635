//! MPEG-1 and MPEG-2: start codes, picture types and closed groups (ISO/IEC 13818-2, 6.2).

use super::{Leading, PacketFacts, RandomAccess};
use crate::nal::{Framing, units};

const PICTURE: u8 = 0x00;
const SEQUENCE_HEADER: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;
const SEQUENCE_END: u8 = 0xb7;
const GROUP: u8 = 0xb8;

const INTRA: u8 = 1;
const BIDIRECTIONAL: u8 = 3;

/// `has_global_headers`: the container holds a sequence header.
pub(super) fn read(bytes: &[u8], has_global_headers: bool) -> Option<PacketFacts> {
    let (mut first_type, mut is_reference, mut has_sequence, mut has_headers, mut is_closed) = (None, false, false, false, false);
    for unit in units(bytes, Framing::StartCodes) {
        // The byte after the start code prefix is the code.
        match unit.ok()? {
            [PICTURE, rest @ ..] => {
                // temporal_reference (10), picture_coding_type (3).
                let kind = rest.get(1)? >> 3 & 7;
                first_type = first_type.or(Some(kind));
                is_reference |= kind != BIDIRECTIONAL;
            }
            [SEQUENCE_HEADER, ..] => (has_sequence, has_headers) = (true, true),
            // Sequence, sequence display, quantiser matrices, scalability.
            [EXTENSION, id, ..] => has_headers |= matches!(id >> 4, 1 | 2 | 3 | 5),
            [SEQUENCE_END, ..] => has_headers = true,
            // time_code (25), closed_gop.
            [GROUP, rest @ ..] => (is_closed, has_headers) = (rest.get(3)? >> 6 & 1 == 1, true),
            _ => {}
        }
    }
    let random_access = match first_type? {
        INTRA if !has_sequence && !has_global_headers => RandomAccess::None,
        INTRA if is_closed => RandomAccess::Clean,
        INTRA => RandomAccess::OpenGop,
        _ => RandomAccess::None,
    };
    Some(PacketFacts { random_access, leading: Leading::Unmarked, is_reference, has_headers, is_shown: true })
}
