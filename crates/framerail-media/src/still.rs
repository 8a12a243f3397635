//! Detects from a file's first bytes whether it holds a single image: animations and videos are read as video.

use std::{fs::File, io::Read as _, path::Path};

/// Number of bytes inspected. A PNG's animation header precedes its first image.
const LOOK_BYTES: u64 = 64 * 1024;
/// Brands of ISO files with a still image.
const STILL_BRANDS: &[&[u8]] = &[b"avif", b"mif1", b"miaf", b"heic", b"heix", b"heim", b"heis", b"jxl ", b"jp2 ", b"jpx "];
/// Brands of image sequences.
const SEQUENCE_BRANDS: &[&[u8]] = &[b"avis", b"msf1", b"hevc", b"hevx"];

/// The kind of a file that is not a still image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// Animated WebP, which FFmpeg does not read.
    Webp,
    /// Animated PNG.
    Apng,
    /// Any other format that FFmpeg detects.
    Video,
}

impl Moving {
    /// Detects the kind of a file; `None` for a still image, and for files that cannot be read.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(LOOK_BYTES).read_to_end(&mut bytes).ok()?;
        Self::of(&bytes)
    }

    /// Detects the kind from a file's first bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            let image = find(bytes, b"IDAT").unwrap_or(bytes.len());
            return find(bytes, b"acTL").filter(|at| *at < image).map(|_| Moving::Apng);
        }
        if bytes.starts_with(b"RIFF") {
            return match bytes.get(8..16)? {
                b"WEBPVP8X" => (bytes.get(20)? & 2 != 0).then_some(Moving::Webp),
                [b'W', b'E', b'B', b'P', ..] => None,
                _ => Some(Moving::Video),
            };
        }
        if bytes.get(4..8) == Some(b"ftyp") {
            let length = usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
            let brands = bytes.get(8..length.min(bytes.len()))?;
            // The version follows the first brand.
            let is_sequence = brands.chunks_exact(4).any(|brand| SEQUENCE_BRANDS.contains(&brand));
            let is_still = brands.get(..4).is_some_and(|brand| STILL_BRANDS.contains(&brand));
            return (is_sequence || !is_still).then_some(Moving::Video);
        }
        let is_video = [&b"GIF8"[..], b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS"].iter().any(|start| bytes.starts_with(start));
        is_video.then_some(Moving::Video)
    }
}

fn find(bytes: &[u8], name: &[u8; 4]) -> Option<usize> {
    bytes.windows(4).position(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_known_by_its_first_bytes() {
        assert_eq!(Moving::of(b"\x89PNG\r\n\x1a\n....IHDR....acTL....IDAT"), Some(Moving::Apng));
        assert_eq!(Moving::of(b"\x89PNG\r\n\x1a\n....IHDR....IDAT..acTL"), None);
        assert_eq!(Moving::of(b"RIFF....WEBPVP8X\x0a\0\0\0\x02..."), Some(Moving::Webp));
        assert_eq!(Moving::of(b"RIFF....WEBPVP8X\x0a\0\0\0\x10..."), None);
        assert_eq!(Moving::of(b"RIFF....WEBPVP8 ...."), None);
        assert_eq!(Moving::of(b"RIFF....AVI LIST...."), Some(Moving::Video));
        assert_eq!(Moving::of(b"\0\0\0\x14ftypavif\0\0\0\0mif1"), None);
        assert_eq!(Moving::of(b"\0\0\0\x18ftypavif\0\0\0\0mif1avis"), Some(Moving::Video));
        assert_eq!(Moving::of(b"\0\0\0\x14ftypisom\0\0\0\0mp42"), Some(Moving::Video));
        assert_eq!(Moving::of(b"\xff\xd8\xff\xe0"), None);
        assert_eq!(Moving::of(b""), None);
    }
}
