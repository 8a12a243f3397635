//! NumPy's file format, version 1.0.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use framerail_core::HostSurface;

/// Alignment of the data in bytes.
const ALIGN_BYTES: usize = 64;
/// Length of magic text, version and header length.
const PREAMBLE_BYTES: usize = 10;

/// An array of uint8 with the shape (height, width, 3), in C order, from an `Rgb24` surface.
pub(super) fn encode_rgb(surface: &HostSurface) -> Vec<u8> {
    let (width, height) = (surface.width(), surface.height());
    let mut bytes = header(&format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, 3), }}"));
    bytes.reserve(width as usize * height as usize * 3);
    for row in 0..height as usize {
        bytes.extend_from_slice(surface.row(0, row));
    }
    bytes
}

fn header(dictionary: &str) -> Vec<u8> {
    // The header ends with a line feed and is padded with spaces.
    let padded = (PREAMBLE_BYTES + dictionary.len() + 1).next_multiple_of(ALIGN_BYTES) - PREAMBLE_BYTES;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(padded).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(dictionary.as_bytes());
    bytes.resize(PREAMBLE_BYTES + padded - 1, b' ');
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use framerail_core::{FramePool, PixelFormat};

    use super::*;

    #[test]
    fn the_header_is_aligned_and_the_rows_have_no_padding() {
        let mut surface = FramePool::new(1).surface(PixelFormat::Rgb24, 5, 3).expect("size in range");
        let mut planes = surface.planes_mut().expect("own");
        for row in 0..3u8 {
            planes.row(0, row.into()).fill(row + 1);
        }
        let bytes = encode_rgb(&surface);
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), 118);
        assert!(bytes[10..127].starts_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 5, 3), }"));
        assert_eq!(bytes[127], b'\n');
        let data: Vec<u8> = [[1u8; 15], [2; 15], [3; 15]].concat();
        assert_eq!(bytes[128..], data);
    }
}
