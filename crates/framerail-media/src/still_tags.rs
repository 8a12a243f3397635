//! Reads tags of still images that FFmpeg 5.1 does not: the rotation of PNG, WebP, HEIF and AVIF, the colour profile of the latter two,
//! and whether there is EXIF data.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use framerail_core::Rotation;

use crate::{
    av::AvPacket,
    mp4_boxes::{Fields, Mp4Box, boxes, find, read_top_level},
};

/// Maximum number of bytes read of EXIF data, or of a HEIF file's metadata.
const MAX_BYTES: u64 = 4 << 20;
/// Maximum number of chunks or segments inspected.
const MAX_CHUNKS: usize = 10_000;

/// Tags of a still image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StillTags {
    pub(crate) turn: Rotation,
    pub(crate) has_exif: bool,
    /// For HEIF and AVIF; other decoders return the profile themselves.
    pub(crate) icc_profile: Option<Vec<u8>>,
}

impl StillTags {
    /// Reads a file's tags; empty for other kinds of files, or if the file cannot be read.
    pub(crate) fn of_file(path: &Path) -> Self {
        File::open(path).and_then(|mut file| Self::of(&mut file)).ok().flatten().unwrap_or_default()
    }

    /// Reads the tags of an image in memory, or of its beginning.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(&mut io::Cursor::new(bytes)).ok().flatten().unwrap_or_default()
    }

    /// Attaches the tags to the image's packet, for its decoder. A JPEG's decoder reads its tags itself.
    pub(crate) fn attach(&self, packet: &mut AvPacket) {
        if packet.data().starts_with(b"\xff\xd8") {
            return;
        }
        if self.turn != Rotation::None {
            packet.set_turn(self.turn);
        }
        packet.set_still_tags(self.has_exif, self.icc_profile.as_deref());
    }

    fn of(file: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let head = bytes(file, 12)?;
        let of_exif = |exif: &[u8]| Self { turn: turn_of_exif(exif).unwrap_or_default(), has_exif: true, icc_profile: None };
        Ok(match head.as_slice() {
            [0xff, 0xd8, ..] => jpeg_exif(file)?.and_then(|exif| exif.strip_prefix(b"Exif\0\0").map(of_exif)),
            [0x89, b'P', b'N', b'G', ..] => chunk(file, 8, *b"eXIf", true)?.map(|exif| of_exif(&exif)),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => {
                chunk(file, 12, *b"EXIF", false)?.map(|exif| of_exif(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif)))
            }
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => read_top_level(file, b"meta", MAX_BYTES).and_then(|meta| of_heif(&meta)),
            _ => None,
        })
    }
}

fn bytes(file: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(count.min(MAX_BYTES)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The body of a JPEG's first EXIF segment before the image data.
fn jpeg_exif(file: &mut (impl Read + Seek)) -> io::Result<Option<Vec<u8>>> {
    file.seek(SeekFrom::Start(2))?;
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 4];
        file.read_exact(&mut head)?;
        let [0xff, marker, high, low] = head else { break };
        let length = u64::from(u16::from_be_bytes([high, low])).saturating_sub(2);
        match marker {
            // Padding before a marker.
            0xff => drop(file.seek(SeekFrom::Current(-3))?),
            0xe1 => {
                let body = bytes(file, length)?;
                if body.starts_with(b"Exif\0\0") {
                    return Ok(Some(body));
                }
            }
            0xda | 0xd9 => break,
            _ => drop(file.seek(SeekFrom::Current(length as i64))?),
        }
    }
    Ok(None)
}

/// The body of the first chunk with this name, in a PNG (big-endian with checksums) or RIFF file.
fn chunk(file: &mut (impl Read + Seek), start: u64, wanted: [u8; 4], is_png: bool) -> io::Result<Option<Vec<u8>>> {
    file.seek(SeekFrom::Start(start))?;
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 8];
        if file.read_exact(&mut head).is_err() {
            break;
        }
        let [a, b, c, d, e, f, g, h] = head;
        let (name, length) =
            if is_png { ([e, f, g, h], u32::from_be_bytes([a, b, c, d])) } else { ([a, b, c, d], u32::from_le_bytes([e, f, g, h])) };
        if name == wanted {
            return bytes(file, length.into()).map(Some);
        }
        let behind = if is_png { 4 } else { length & 1 };
        file.seek(SeekFrom::Current(i64::from(length) + i64::from(behind)))?;
    }
    Ok(None)
}

/// Orientation from the TIFF structure of EXIF data.
fn turn_of_exif(tiff: &[u8]) -> Option<Rotation> {
    let is_little = tiff.starts_with(b"II");
    let number = |at: usize, count: usize| -> Option<usize> {
        let bytes = tiff.get(at..at.checked_add(count)?)?;
        let fold = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Some(if is_little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    let directory = number(4, 4)?;
    let entries = number(directory, 2)?;
    let entry = (0..entries).map(|index| directory + 2 + index * 12).find(|at| number(*at, 2) == Some(0x0112))?;
    Some(match number(entry + 8, 2)? {
        2 => Rotation::FlipHorizontal,
        3 => Rotation::Half,
        4 => Rotation::FlipVertical,
        5 => Rotation::Transpose,
        6 => Rotation::Clockwise90,
        7 => Rotation::Transverse,
        8 => Rotation::Clockwise270,
        _ => Rotation::None,
    })
}

/// Tags of the primary item: `irot`, then `imir`, and `colr` (ISO/IEC 23008-12).
fn of_heif(meta: &[u8]) -> Option<StillTags> {
    let meta = meta.get(4..)?;
    let primary = find(meta, &[b"pitm"])?;
    let is_long = primary.first() != Some(&0);
    let primary = Fields(primary.get(4..)?).number(if is_long { 4 } else { 2 })?;
    let properties = find(meta, &[b"iprp"])?;
    let known: Vec<Mp4Box<'_>> = boxes(find(properties, &[b"ipco"])?).collect();
    let associations = find(properties, &[b"ipma"])?;
    let (version, has_long_index) = (*associations.first()?, associations.get(3)? & 1 != 0);
    let mut numbers = Fields(associations.get(4..)?);
    let (mut turn, mut mirror, mut icc_profile) = (0, None, None);
    for _ in 0..numbers.number(4)? {
        let item = numbers.number(if version == 0 { 2 } else { 4 })?;
        for _ in 0..numbers.number(1)? {
            let index = if has_long_index { numbers.number(2)? & 0x7fff } else { numbers.number(1)? & 0x7f };
            let property = usize::try_from(index).ok().and_then(|index| known.get(index.checked_sub(1)?));
            match property.filter(|_| item == primary).map(|found| (&found.kind, found.body)) {
                Some((b"irot", [value, ..])) => turn = value & 3,
                Some((b"imir", [value, ..])) => mirror = Some(value & 1),
                Some((b"colr", [b'p', b'r', b'o', b'f', profile @ ..] | [b'r', b'I', b'C', b'C', profile @ ..])) => {
                    icc_profile = Some(profile.to_vec());
                }
                _ => {}
            }
        }
    }
    Some(StillTags { turn: heif_turn(turn, mirror), has_exif: has_exif_item(meta).unwrap_or(false), icc_profile })
}

/// Whether an item of a HEIF file is EXIF data.
fn has_exif_item(meta: &[u8]) -> Option<bool> {
    let items = find(meta, &[b"iinf"])?;
    let entries = boxes(items.get(if items.first() == Some(&0) { 6 } else { 8 }..)?);
    // Version 2 has 16-bit item numbers, version 3 has 32-bit ones; two bytes and the type follow the number.
    Some(entries.filter(|found| &found.kind == b"infe").any(|found| {
        let at = if found.body.first() == Some(&2) { 8 } else { 10 };
        found.body.get(at..at + 4) == Some(b"Exif")
    }))
}

fn heif_turn(turn: u8, mirror: Option<u8>) -> Rotation {
    // `turn`: quarter turns counter-clockwise; `mirror`: 0 exchanges top and bottom, 1 left and right.
    match (turn, mirror) {
        (0, None) => Rotation::None,
        (1, None) => Rotation::Clockwise270,
        (2, None) => Rotation::Half,
        (3, None) => Rotation::Clockwise90,
        (0, Some(0)) | (2, Some(1)) => Rotation::FlipVertical,
        (0, Some(_)) | (2, Some(_)) => Rotation::FlipHorizontal,
        (1, Some(0)) | (3, Some(1)) => Rotation::Transpose,
        _ => Rotation::Transverse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with only an orientation, in either byte order.
    fn exif(orientation: u8, is_little: bool) -> Vec<u8> {
        let mut tiff = if is_little {
            b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec()
        } else {
            b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec()
        };
        tiff.extend(if is_little { [orientation, 0, 0, 0] } else { [0, orientation, 0, 0] });
        tiff
    }

    fn png(exif: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        for (name, body) in [(b"IHDR", &[0; 13][..]), (b"IDAT", &[7; 50]), (b"eXIf", exif)] {
            bytes.extend((body.len() as u32).to_be_bytes());
            bytes.extend(name);
            bytes.extend(body);
            bytes.extend([0; 4]);
        }
        bytes
    }

    fn webp(exif: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WEBP".to_vec();
        for (name, body) in [(b"VP8X", &[8; 10][..]), (b"VP8 ", &[7; 51]), (b"EXIF", exif)] {
            bytes.extend(name);
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(body);
            bytes.extend(vec![0; body.len() % 2]);
        }
        bytes
    }

    fn mp4_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    fn avif(properties: &[(&[u8; 4], u8)]) -> Vec<u8> {
        let known: Vec<u8> = properties.iter().flat_map(|(kind, value)| mp4_box(kind, &[*value])).collect();
        let indices: Vec<u8> = (1..=properties.len() as u8).collect();
        let of_item = |item: u8, indices: &[u8]| [&[0, item, indices.len() as u8][..], indices].concat();
        let map = [&[0, 0, 0, 0, 0, 0, 0, 2][..], &of_item(1, &[]), &of_item(2, &indices)].concat();
        let iprp = [mp4_box(b"ipco", &known), mp4_box(b"ipma", &map)].concat();
        let meta = [vec![0; 4], mp4_box(b"pitm", &[0, 0, 0, 0, 0, 2]), mp4_box(b"iprp", &iprp)].concat();
        [mp4_box(b"ftyp", b"avif\0\0\0\0avif"), mp4_box(b"meta", &meta)].concat()
    }

    fn rotation(bytes: Vec<u8>) -> Rotation {
        StillTags::of_bytes(&bytes).turn
    }

    #[test]
    fn all_orientations_are_found_in_each_kind_of_image() {
        let by_exif = [
            Rotation::None,
            Rotation::FlipHorizontal,
            Rotation::Half,
            Rotation::FlipVertical,
            Rotation::Transpose,
            Rotation::Clockwise90,
            Rotation::Transverse,
            Rotation::Clockwise270,
        ];
        // As libavif writes the eight EXIF orientations.
        let by_heif: [&[(&[u8; 4], u8)]; 8] = [
            &[],
            &[(b"imir", 1)],
            &[(b"irot", 2)],
            &[(b"imir", 0)],
            &[(b"irot", 1), (b"imir", 0)],
            &[(b"irot", 3)],
            &[(b"irot", 3), (b"imir", 0)],
            &[(b"irot", 1)],
        ];
        for (number, expected) in (1..).zip(by_exif) {
            for is_little in [false, true] {
                let exif = exif(number, is_little);
                assert_eq!(rotation(png(&exif)), expected, "PNG {number}");
                assert_eq!(rotation(webp(&exif)), expected, "WebP {number}");
                let body = [b"Exif\0\0", exif.as_slice()].concat();
                let segment = [&b"\xff\xd8\xff\xe0\0\x04ab\xff\xe1"[..], &(body.len() as u16 + 2).to_be_bytes(), &body].concat();
                assert_eq!(rotation(segment), expected, "JPEG {number}");
            }
            assert_eq!(rotation(avif(by_heif[usize::from(number) - 1])), expected, "AVIF {number}");
        }
    }

    #[test]
    fn exif_data_of_avif_are_found() {
        assert!(!StillTags::of_bytes(&avif(&[])).has_exif);
        for version in [2, 3] {
            let number = &[0; 4][..if version == 2 { 2 } else { 4 }];
            let item = |kind: &[u8; 4]| mp4_box(b"infe", &[&[version, 0, 0, 0], number, &[0, 0], kind, b"\0"].concat());
            let items = mp4_box(b"iinf", &[&[0, 0, 0, 0, 0, 2][..], &item(b"av01"), &item(b"Exif")].concat());
            let pitm = mp4_box(b"pitm", &[0, 0, 0, 0, 0, 1]);
            let iprp = mp4_box(b"iprp", &[mp4_box(b"ipco", &[]), mp4_box(b"ipma", &[0; 8])].concat());
            let meta = [vec![0; 4], pitm, items, iprp].concat();
            let file = [mp4_box(b"ftyp", b"avif\0\0\0\0avif"), mp4_box(b"meta", &meta)].concat();
            assert!(StillTags::of_bytes(&file).has_exif, "version {version}");
        }
    }

    #[test]
    fn damaged_and_foreign_files_have_none() {
        for whole in [png(&exif(6, true)), webp(&exif(6, false)), avif(&[(b"irot", 3)])] {
            for end in 0..whole.len() {
                // Must neither panic nor hang; truncated tags are not found.
                drop(StillTags::of_bytes(&whole[..end]));
            }
        }
        assert_eq!(rotation(b"GIF89a and so on".to_vec()), Rotation::None);
    }
}
