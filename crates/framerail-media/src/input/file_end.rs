//! The end of a file's structure, found in its bytes: demuxers do not report a cut inside a unit of a stream that is not read, inside a
//! unit's header, or between a packet and its continuation.

use super::Progress;
use crate::container::Container;

/// Number of bytes inspected at a file's start and end.
pub(super) const EDGE_BYTES: usize = 64 * 1024;
/// Bytes of a unit's header that are read, and units between the last packet and the end.
const HEADER_BYTES: usize = 32;
const MAX_UNITS: usize = 10_000;
/// Length of a unit whose header is cut.
const CUT: u64 = u64::MAX;

/// Sizes of the packets of transport streams, and the position of the synchronisation byte in them: broadcast, disc, and with checksums.
const TS_PACKETS: [(usize, usize); 3] = [(188, 0), (192, 4), (204, 0)];
const TS_SYNC: u8 = 0x47;
/// Packets whose synchronisation bytes must fit.
const TS_PACKETS_CHECKED: usize = 6;
/// The byte that ends a GIF.
const GIF_TRAILER: u8 = b';';
/// First bytes of most images of a GIF.
const GIF_CONTROL: [u8; 3] = [0x21, 0xf9, 4];
/// Flag of the last page of an Ogg stream.
const OGG_END_OF_STREAM: u8 = 4;
/// Size in the header of an SWF whose size was not known.
const SWF_UNKNOWN: u64 = 100 << 20;
/// Bytes between the start of a GXF packet and its media.
const GXF_HEADERS: u64 = 32;

/// Result of checking the end of a file's structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The end is there.
    Found,
    /// The end is missing, for this reason.
    Missing(String),
    /// The format has no end mark.
    Unknown,
}

impl Ending {
    fn cut_if(is_cut: bool) -> Self {
        if is_cut { Self::Missing("its end is missing".to_owned()) } else { Self::Unknown }
    }
}

/// Looks for the end of a file's structure. `position` is where the demuxer stopped.
pub(super) fn look(container: &mut Container, progress: &Progress, position: u64) -> Ending {
    find_end(container, progress, position).unwrap_or(Ending::Unknown)
}

fn find_end(container: &mut Container, progress: &Progress, position: u64) -> Option<Ending> {
    let name = container.format_name();
    if name == "gif" {
        // An image ends with an empty block. A trailer in the middle is damage.
        let rest = container.bytes_at(progress.last_end?.saturating_sub(1), EDGE_BYTES)?;
        let is_there = rest.starts_with(&[0, GIF_TRAILER]) && !rest.windows(3).any(|bytes| bytes == GIF_CONTROL);
        return Some(if is_there { Ending::Found } else { Ending::cut_if(true) });
    }
    let size = container.end_bytes()?;
    let mut tail = || container.bytes_at(size.saturating_sub(2 * EDGE_BYTES as u64), 2 * EDGE_BYTES);
    let is_cut = match name.as_str() {
        "apng" => !tail()?.windows(4).any(|name| name == b"IEND"),
        // FFmpeg completes a frame that is cut off with the one before.
        "dv" => progress.last_end? > size,
        "yuv4mpegpipe" => container.bytes_at(progress.last_end?, 5)? == b"FRAME",
        "ogg" => is_ogg_cut(&tail()?),
        "mpegts" => is_ts_cut(&tail()?),
        "avi" | "asf" | "swf" => {
            let head = container.bytes_at(0, EDGE_BYTES)?;
            match stated_size(&head) {
                Some(stated) if stated > size => return Some(Ending::Missing(format!("only {size} of {stated} bytes are present"))),
                None if head.get(8..12) == Some(b"AVI ") => is_cut_inside(container, progress.last_packet.end, 2, size, avi_chunk),
                None if head.get(8..12) == Some(b"AMV ") => is_cut_inside(container, progress.last_packet.end, 1, size, avi_chunk),
                _ => false,
            }
        }
        "flv" | "live_flv" => is_cut_inside(container, progress.last_packet.start.saturating_sub(4), 1, size, flv_tag),
        "mpeg" => is_cut_inside(container, progress.last_packet.start, 1, size, program_packet),
        "mxf" => is_cut_inside(container, progress.last_packet.start, 1, size, mxf_packet),
        "gxf" => is_cut_inside(container, progress.last_packet.start.checked_sub(GXF_HEADERS)?, 1, size, gxf_packet),
        name if name.starts_with("mov") && progress.fragments.as_ref().is_some_and(|check| check.is_end_broken) => {
            return Some(Ending::Missing("its last fragment is broken".to_owned()));
        }
        // Their indexes state what should be there, and other tools leave wrong lengths in them.
        name if name.starts_with("mov") || name.starts_with("matroska") => false,
        // The demuxer skipped a unit of a stream that is not read.
        _ => position > size,
    };
    Some(Ending::cut_if(is_cut))
}

/// File size according to the header: AVI's first RIFF chunk, ASF's file properties, SWF. `None` if a recorder left it open.
fn stated_size(bytes: &[u8]) -> Option<u64> {
    if bytes.starts_with(b"FWS") {
        let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        return Some(u64::from(length)).filter(|length| *length != SWF_UNKNOWN);
    }
    if bytes.starts_with(b"RIFF") {
        let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        return (length > 0 && length < u32::MAX - 0xff).then(|| u64::from(length) + 8);
    }
    const FILE_PROPERTIES: &[u8] = &[0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];
    let at = bytes.windows(FILE_PROPERTIES.len()).position(|window| window == FILE_PROPERTIES)?;
    // The fields follow the object's size and the file's identifier; a flag at 88 marks live recordings.
    let number = |offset: usize| Some(u64::from_le_bytes(bytes.get(at + offset..at + offset + 8)?.try_into().ok()?));
    let is_live = bytes.get(at + 88)? & 1 != 0;
    number(40).filter(|size| *size > 0 && !is_live)
}

/// Whether a file ends inside a unit. Units, which start at multiples of `align`, are followed from `start`; what is not one ends the
/// check, such as padding.
fn is_cut_inside(container: &mut Container, start: u64, align: u64, size: u64, length: impl Fn(&[u8]) -> Option<u64>) -> bool {
    let mut at = start;
    for _ in 0..MAX_UNITS {
        at = at.next_multiple_of(align);
        if at >= size {
            return false;
        }
        match container.bytes_at(at, HEADER_BYTES).and_then(|header| length(&header)) {
            Some(length) if length > size - at => return true,
            Some(length) => at += length.max(1),
            None => return false,
        }
    }
    false
}

/// Whether these bytes, of which there may be fewer than expected, begin like this.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().zip(with).all(|(byte, expected)| byte == expected)
}

/// A number of the header, most significant byte first; [`CUT`] if the header ends before.
fn number(header: &[u8], at: std::ops::Range<usize>) -> u64 {
    header.get(at).map_or(CUT, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The size of the tag before, and a tag. After the last tag there is only its size.
fn flv_tag(header: &[u8]) -> Option<u64> {
    let kind = match header {
        [_, _, _, _, kind, ..] => kind & 0x1f,
        [_, _, _, _] => return None,
        _ => return Some(CUT),
    };
    let is_tag = matches!(kind, 8 | 9 | 18) && header.get(12..15).is_none_or(|stream| stream == [0; 3]);
    is_tag.then(|| number(header, 5..8).saturating_add(15))
}

/// A pack, a system header or a packet of a program stream.
fn program_packet(header: &[u8]) -> Option<u64> {
    if !begins(header, &[0, 0, 1]) {
        return None;
    }
    match header.get(3) {
        None => Some(CUT),
        Some(0xb9) => Some(4),
        // MPEG-2's has a number of stuffing bytes.
        Some(0xba) if header.get(4).is_some_and(|byte| byte >> 6 == 1) => {
            Some(header.get(13).map_or(CUT, |stuffing| 14 + u64::from(stuffing & 7)))
        }
        Some(0xba) => Some(12),
        Some(0xbb..) => Some(number(header, 4..6).saturating_add(6)),
        _ => None,
    }
}

/// A key, a length and a value.
fn mxf_packet(header: &[u8]) -> Option<u64> {
    if !begins(header, &[0x06, 0x0e, 0x2b, 0x34]) {
        return None;
    }
    let Some(first) = header.get(16) else { return Some(CUT) };
    let bytes = usize::from(first & 0x7f);
    match first {
        0x80.. => (bytes <= 8).then(|| number(header, 17..17 + bytes).saturating_add(17 + bytes as u64)),
        _ => Some(17 + u64::from(*first)),
    }
}

fn gxf_packet(header: &[u8]) -> Option<u64> {
    let is_packet = begins(header, &[0, 0, 0, 0, 1]) && header.get(14..16).is_none_or(|end| end == [0xe1, 0xe2]);
    is_packet.then(|| if header.len() < 16 { CUT } else { number(header, 6..10) })
}

fn avi_chunk(header: &[u8]) -> Option<u64> {
    let is_media =
        |name: &[u8]| matches!(name, [b'0'..=b'9', b'0'..=b'9', b'a'..=b'z', b'a'..=b'z'] | [b'i', b'x', b'0'..=b'9', b'0'..=b'9']);
    let name = header.get(..4)?;
    match header.get(4..8) {
        None => is_media(name).then_some(CUT),
        // The chunks inside it follow.
        Some(_) if name == b"LIST" => Some(12),
        Some(length) if is_media(name) || matches!(name, b"idx1" | b"JUNK") => {
            let length = length.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
            Some(8 + length)
        }
        Some(_) => None,
    }
}

/// Whether a transport stream ends inside a packet.
fn is_ts_cut(tail: &[u8]) -> bool {
    let is_aligned = |end: usize, size: usize, sync: usize| {
        end >= size * TS_PACKETS_CHECKED && (1..=TS_PACKETS_CHECKED).all(|back| tail[end - back * size + sync] == TS_SYNC)
    };
    let ends = TS_PACKETS.iter().flat_map(|(size, sync)| {
        (0..*size)
            .filter(move |rest| tail.len().checked_sub(*rest).is_some_and(|end| is_aligned(end, *size, *sync)))
            .map(|rest| (rest, *sync))
    });
    // What follows the last packet must be the beginning of one, not what a recorder appended.
    ends.min().is_some_and(|(rest, sync)| rest > 0 && tail[tail.len() - rest..].get(sync).is_none_or(|byte| *byte == TS_SYNC))
}

/// Whether the last page of an Ogg file is cut, or does not end its stream.
fn is_ogg_cut(tail: &[u8]) -> bool {
    let Some(mut at) = tail.windows(6).position(|page| page.starts_with(b"OggS\0")) else { return false };
    let mut is_open = false;
    while let Some(page) = tail.get(at..).filter(|page| begins(page, b"OggS\0")) {
        let Some(segments) = page.get(26).and_then(|count| page.get(27..27 + usize::from(*count))) else { return true };
        let length = 27 + segments.len() + segments.iter().map(|segment| usize::from(*segment)).sum::<usize>();
        if length > page.len() {
            return true;
        }
        is_open = page[5] & OGG_END_OF_STREAM == 0;
        at += length;
    }
    is_open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_unless_left_open() {
        assert_eq!(stated_size(b"RIFF\x10\0\0\0AVI "), Some(24));
        assert_eq!(stated_size(b"RIFF\xff\xff\xff\xffAVI "), None);
        assert_eq!(stated_size(b"RIFF\0\0\0\0AVI "), None);
        assert_eq!(stated_size(b"something else"), None);
    }

    #[test]
    fn units_state_their_length_and_cut_headers_are_noticed() {
        let tag = [0, 0, 0, 9, 9, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0x17];
        assert_eq!((flv_tag(&tag), flv_tag(&tag[..6]), flv_tag(&tag[..3])), (Some(0x102 + 15), Some(CUT), Some(CUT)));
        assert_eq!((flv_tag(&tag[..4]), flv_tag(&[7; 16])), (None, None));
        assert_eq!((program_packet(&[0, 0, 1, 0xe0, 1, 0]), program_packet(&[0, 0, 1, 0xe0, 1])), (Some(0x106), Some(CUT)));
        assert_eq!((program_packet(&[0; 9]), program_packet(&[0, 0, 1, 0xb9])), (None, Some(4)));
        let key = [6, 0xe, 0x2b, 0x34, 1, 2, 1, 1, 0xd, 1, 3, 1, 0x15, 1, 5, 0];
        assert_eq!(mxf_packet(&[&key[..], &[0x83, 0, 1, 0]].concat()), Some(20 + 256));
        assert_eq!((mxf_packet(&key), mxf_packet(&[&key[..], &[9]].concat())), (Some(CUT), Some(26)));
        assert_eq!(avi_chunk(b"00dc\x09\0\0\0"), Some(17));
        assert_eq!((avi_chunk(b"01wb\x09"), avi_chunk(b"hello\0\0\0\0")), (Some(CUT), None));
    }

    #[test]
    fn packets_of_transport_streams_are_whole_at_the_end_or_cut() {
        for (size, sync) in TS_PACKETS {
            let packet: Vec<u8> = (0..size).map(|at| if at == sync { TS_SYNC } else { (at * 7 % 64) as u8 }).collect();
            // Starts inside a packet too.
            let whole = packet.repeat(20)[33..].to_vec();
            assert!(!is_ts_cut(&whole), "{size}");
            for missing in 1..size {
                assert!(is_ts_cut(&whole[..whole.len() - missing]), "{size} without {missing}");
            }
            assert!(!is_ts_cut(&[&whole[..], &[0; 100]].concat()), "{size}, padded");
        }
        assert!(!is_ts_cut(&[TS_SYNC; 5]));
    }

    #[test]
    fn ogg_ends_with_the_last_page_of_a_stream() {
        let page =
            |serial: u8, flags: u8| [b"OggS\0".as_slice(), &[flags], &[0; 8], &[serial, 0, 0, 0], &[0; 8], &[2, 5, 6], &[7; 11]].concat();
        let whole = [page(1, 0), page(2, 0), page(2, 4), page(1, 4)].concat();
        assert!(!is_ogg_cut(&whole));
        assert!((1..page(1, 0).len()).all(|missing| is_ogg_cut(&whole[..whole.len() - missing])));
        assert!(is_ogg_cut(&[page(1, 0), page(2, 0)].concat()) && !is_ogg_cut(b"no pages"));
    }
}
