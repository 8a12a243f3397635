//! The frame number that every generated frame shows, as black and white cells.
//!
//! A grid of 7 by 4 cells in the middle of the frame (x from 1/8 to 7/8, y from 3/16 to 13/16 of its size).
//! The corner cells are anchors, top left white and the other three black; they define the two levels and the rotation.
//! The other 24 cells hold, row by row and high bit first, a 16-bit number and its CRC-8 (polynomial 0x07).

use framerail_core::{HostSurface, PixelFamily, Rotation};

const COLUMNS: usize = 7;
const ROWS: usize = 4;
const CELLS: usize = COLUMNS * ROWS;
const ANCHORS: [usize; 4] = [0, COLUMNS - 1, CELLS - COLUMNS, CELLS - 1];
const LEFT: f64 = 1.0 / 8.0;
const TOP: f64 = 3.0 / 16.0;
const CELL_WIDTH: f64 = (1.0 - 2.0 * LEFT) / COLUMNS as f64;
const CELL_HEIGHT: f64 = (1.0 - 2.0 * TOP) / ROWS as f64;
/// Minimum contrast of a code: white anchor minus black anchors, as a share of the full range.
const MIN_CONTRAST: f64 = 0.25;
/// Cells with a share of white in this range are undecided, which makes the code invalid.
const UNDECIDED: std::ops::RangeInclusive<f64> = 0.4..=0.6;

/// A code found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCode {
    /// The frame number modulo 65,536.
    pub number: u64,
    /// Clockwise rotation of the frame since it was drawn.
    pub turned: Rotation,
}

/// Reads the number in an upright frame, modulo 65,536; `None` if there is none or its CRC does not match.
///
/// Reads luma (or green, for RGB) of any pixel format, at any size from about 32x24 up.
pub fn read_frame_number(surface: &HostSurface) -> Option<u64> {
    read_turned(surface, Rotation::None)
}

/// Reads the number in a frame with any rotation.
pub fn read_frame_code(surface: &HostSurface) -> Option<FrameCode> {
    [Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::Clockwise270]
        .into_iter()
        .find_map(|turned| read_turned(surface, turned).map(|number| FrameCode { number, turned }))
}

/// Whether the point, in shares of width and height, is white; `None` outside the code.
pub(crate) fn is_white(number: u64, x: f64, y: f64) -> Option<bool> {
    let (column, row) = ((x - LEFT) / CELL_WIDTH, (y - TOP) / CELL_HEIGHT);
    if column < 0.0 || row < 0.0 || column >= COLUMNS as f64 || row >= ROWS as f64 {
        return None;
    }
    let cell = row as usize * COLUMNS + column as usize;
    if let Some(anchor) = ANCHORS.iter().position(|anchor| *anchor == cell) {
        return Some(anchor == 0);
    }
    let bit = cell - ANCHORS.iter().filter(|anchor| **anchor < cell).count();
    Some(coded(number) >> (23 - bit) & 1 == 1)
}

/// Number and CRC in the low 24 bits.
fn coded(number: u64) -> u32 {
    let number = (number & 0xffff) as u16;
    u32::from(number) << 8 | u32::from(crc8(number))
}

fn crc8(number: u16) -> u8 {
    number
        .to_be_bytes()
        .iter()
        .fold(0xff, |crc, byte| (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 != 0 { crc << 1 ^ 0x07 } else { crc << 1 }))
}

fn read_turned(surface: &HostSurface, turned: Rotation) -> Option<u64> {
    let mut levels = [0.0; CELLS];
    for (cell, level) in levels.iter_mut().enumerate() {
        *level = cell_level(surface, turned, cell);
    }
    let white = levels[ANCHORS[0]];
    let black = ANCHORS[1..].iter().map(|anchor| levels[*anchor]).sum::<f64>() / 3.0;
    if white - black < MIN_CONTRAST {
        return None;
    }
    let mut bits = 0u32;
    for (cell, level) in levels.iter().enumerate() {
        let share = (level - black) / (white - black);
        if UNDECIDED.contains(&share) {
            return None;
        }
        if ANCHORS.contains(&cell) {
            if (share > 0.5) != (cell == ANCHORS[0]) {
                return None;
            }
        } else {
            bits = bits << 1 | u32::from(share > 0.5);
        }
    }
    let number = u64::from(bits >> 8);
    (coded(number) == bits).then_some(number)
}

/// Mean of 5 by 5 points in the inner half of a cell, as a share of the format's range.
fn cell_level(surface: &HostSurface, turned: Rotation, cell: usize) -> f64 {
    let mut sum = 0.0;
    for point in 0..25 {
        let inner = |step: usize| 0.25 + 0.125 * step as f64;
        let x = LEFT + CELL_WIDTH * ((cell % COLUMNS) as f64 + inner(point % 5));
        let y = TOP + CELL_HEIGHT * ((cell / COLUMNS) as f64 + inner(point / 5));
        let (x, y) = match turned {
            Rotation::None => (x, y),
            Rotation::Clockwise90 => (1.0 - y, x),
            Rotation::Half => (1.0 - x, 1.0 - y),
            Rotation::Clockwise270 => (y, 1.0 - x),
            Rotation::FlipHorizontal => (1.0 - x, y),
            Rotation::FlipVertical => (x, 1.0 - y),
            Rotation::Transpose => (y, x),
            Rotation::Transverse => (1.0 - y, 1.0 - x),
        };
        sum += luma(surface, (x * f64::from(surface.width())) as usize, (y * f64::from(surface.height())) as usize);
    }
    sum / 25.0
}

/// Luma or green of a pixel, as a share of the format's range.
fn luma(surface: &HostSurface, x: usize, y: usize) -> f64 {
    let format = surface.format();
    let component = format.components()[usize::from(format.family() == PixelFamily::Rgb)];
    let row = surface.row(component.plane, y);
    f64::from(crate::compare::sample(row, component, format.sample_bytes(), x)) / f64::from(format.max_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use framerail_core::{FramePool, PixelFormat};

    /// The code without background, in every component of a format.
    fn drawn(format: PixelFormat, width: u32, height: u32, number: u64) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
        let mut planes = surface.planes_mut().expect("sole holder");
        for component in format.components() {
            for y in 0..planes.layout(component.plane).rows {
                let scale = f64::from(height) / planes.layout(component.plane).rows as f64;
                let row = planes.row(component.plane, y);
                let columns = row.len() / component.step_bytes;
                for x in 0..columns {
                    let (u, v) = ((x as f64 + 0.5) / columns as f64, (y as f64 + 0.5) * scale / f64::from(height));
                    let white = is_white(number, u, v).unwrap_or(false);
                    let value = if white { format.max_value() } else { 0 } << component.shift;
                    let at = x * component.step_bytes + component.offset_bytes;
                    row[at..at + format.sample_bytes()].copy_from_slice(&value.to_le_bytes()[..format.sample_bytes()]);
                }
            }
        }
        surface
    }

    #[test]
    fn every_pixel_format_gives_its_number_back() {
        for format in PixelFormat::ALL {
            for number in [0, 1, 255, 256, 0x5aa5, 65_535] {
                assert_eq!(read_frame_number(&drawn(*format, 96, 64, number)), Some(number), "{format}");
            }
        }
    }

    #[test]
    fn small_and_odd_sizes_work_and_numbers_wrap() {
        for (width, height) in [(32, 24), (64, 48), (65, 49), (127, 31), (33, 200)] {
            assert_eq!(read_frame_number(&drawn(PixelFormat::Gray8, width, height, 65_536 + 77)), Some(77), "{width}x{height}");
        }
    }

    #[test]
    fn a_frame_without_code_gives_none() {
        let mut surface = FramePool::new(1).surface(PixelFormat::Gray8, 64, 48).expect("size in range");
        for level in [0, 128, 255] {
            surface.planes_mut().expect("sole holder").plane(0).fill(level);
            assert_eq!(read_frame_number(&surface), None);
            assert_eq!(read_frame_code(&surface), None);
        }
    }

    #[test]
    fn a_wrong_cell_is_noticed() {
        let mut surface = drawn(PixelFormat::Gray8, 70, 64, 1234);
        let mut planes = surface.planes_mut().expect("sole holder");
        let x = ((LEFT + CELL_WIDTH * 3.0) * 70.0) as usize;
        for y in 12..22 {
            for sample in &mut planes.row(0, y)[x..x + 8] {
                *sample = 255 - *sample;
            }
        }
        assert_eq!(read_frame_number(&surface), None);
    }

    #[test]
    fn turned_frames_are_distinguished_from_upright_ones() {
        let upright = drawn(PixelFormat::Gray8, 64, 48, 4321);
        let mut turned = FramePool::new(1).surface(PixelFormat::Gray8, 48, 64).expect("size in range");
        let mut planes = turned.planes_mut().expect("sole holder");
        for y in 0..64 {
            for x in 0..48 {
                planes.row(0, y)[x] = upright.row(0, 47 - x)[y];
            }
        }
        assert_eq!(read_frame_number(&turned), None);
        assert_eq!(read_frame_code(&turned), Some(FrameCode { number: 4321, turned: Rotation::Clockwise90 }));
    }
}
