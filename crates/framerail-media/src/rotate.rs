//! Rotates and mirrors frames, plane by plane.

use framerail_core::{FramePool, HostSurface, PixelFormat, Rotation};

use crate::MediaError;

/// Size of the blocks that are rotated at once, so that source and target stay in the cache.
const BLOCK: usize = 32;

/// The format in which a frame can be rotated: for a quarter turn, chroma must be subsampled equally in both directions.
pub fn turnable_format(format: PixelFormat, rotation: Rotation) -> PixelFormat {
    let (columns, rows) = format.chroma_shift();
    if !rotation.swaps_sides() || columns == rows {
        return format;
    }
    match format.bits() {
        ..=8 => PixelFormat::Yuv444p,
        9..=10 => PixelFormat::Yuv444p10,
        _ => PixelFormat::Yuv444p12,
    }
}

/// Rotates a frame for display. Its format must be [`turnable_format`].
///
/// # Errors
/// `Core` when the size is out of range.
pub fn rotated(source: &HostSurface, rotation: Rotation, pool: &FramePool) -> Result<HostSurface, MediaError> {
    let (width, height) = if rotation.swaps_sides() { (source.height(), source.width()) } else { (source.width(), source.height()) };
    let mut target = pool.surface(source.format(), width, height)?;
    if let Some(mut planes) = target.planes_mut() {
        for plane in 0..source.format().planes() {
            let layout = source.layout(plane);
            let to_pitch = planes.layout(plane).pitch_bytes;
            let step = source.format().components().iter().find(|component| component.plane == plane).map_or(1, |c| c.step_bytes);
            let from = Plane { bytes: source.plane(plane), pitch: layout.pitch_bytes, columns: layout.row_bytes / step, rows: layout.rows };
            let to = planes.plane(plane);
            match step {
                1 => turn::<1>(&from, to, to_pitch, rotation),
                2 => turn::<2>(&from, to, to_pitch, rotation),
                3 => turn::<3>(&from, to, to_pitch, rotation),
                4 => turn::<4>(&from, to, to_pitch, rotation),
                6 => turn::<6>(&from, to, to_pitch, rotation),
                _ => turn::<8>(&from, to, to_pitch, rotation),
            }
        }
    }
    Ok(target)
}

struct Plane<'a> {
    bytes: &'a [u8],
    pitch: usize,
    columns: usize,
    rows: usize,
}

/// Rotates a plane with elements of `STEP` bytes, block by block.
fn turn<const STEP: usize>(from: &Plane<'_>, to: &mut [u8], to_pitch: usize, rotation: Rotation) {
    let (last_column, last_row) = (from.columns.saturating_sub(1), from.rows.saturating_sub(1));
    for block_row in (0..from.rows).step_by(BLOCK) {
        for block_column in (0..from.columns).step_by(BLOCK) {
            for row in block_row..(block_row + BLOCK).min(from.rows) {
                let start = row * from.pitch;
                for column in block_column..(block_column + BLOCK).min(from.columns) {
                    let (to_row, to_column) = match rotation {
                        Rotation::None => (row, column),
                        Rotation::Clockwise90 => (column, last_row - row),
                        Rotation::Half => (last_row - row, last_column - column),
                        Rotation::Clockwise270 => (last_column - column, row),
                        Rotation::FlipHorizontal => (row, last_column - column),
                        Rotation::FlipVertical => (last_row - row, column),
                        Rotation::Transpose => (column, row),
                        Rotation::Transverse => (last_column - column, last_row - row),
                    };
                    let (source, target) = (start + column * STEP, to_row * to_pitch + to_column * STEP);
                    to[target..target + STEP].copy_from_slice(&from.bytes[source..source + STEP]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(format: PixelFormat, width: u32, height: u32) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
        let mut planes = surface.planes_mut().expect("fresh");
        for plane in 0..format.planes() {
            for row in 0..planes.layout(plane).rows {
                for (column, byte) in planes.row(plane, row).iter_mut().enumerate() {
                    *byte = (row * 31 + column * 7 + plane) as u8;
                }
            }
        }
        surface
    }

    #[test]
    fn four_quarter_turns_give_the_frame_back_in_every_format() {
        let pool = FramePool::new(2);
        for format in PixelFormat::ALL {
            if turnable_format(*format, Rotation::Clockwise90) != *format {
                continue;
            }
            let source = numbered(*format, 37, 45);
            let mut turned = source.clone();
            for _ in 0..4 {
                turned = rotated(&turned, Rotation::Clockwise90, &pool).expect("size in range");
            }
            let half = rotated(&rotated(&source, Rotation::Half, &pool).expect("in range"), Rotation::Half, &pool).expect("in range");
            let back = rotated(&source, Rotation::Clockwise90, &pool).expect("in range");
            assert_eq!((back.width(), back.height()), (45, 37));
            let back = rotated(&back, Rotation::Clockwise270, &pool).expect("in range");
            for plane in 0..format.planes() {
                for row in 0..source.layout(plane).rows {
                    assert_eq!(source.row(plane, row), turned.row(plane, row), "{format}");
                    assert_eq!(source.row(plane, row), half.row(plane, row), "{format}");
                    assert_eq!(source.row(plane, row), back.row(plane, row), "{format}");
                }
            }
        }
    }

    #[test]
    fn mirrored_frames_are_mirrored_first_and_then_turned() {
        let pool = FramePool::new(2);
        let source = numbered(PixelFormat::Yuv420p, 8, 6);
        for rotation in Rotation::ALL.into_iter().filter(|rotation| rotation.is_mirrored()) {
            let flipped = rotated(&source, Rotation::FlipHorizontal, &pool).expect("in range");
            let turn = Rotation::from_degrees_clockwise(rotation.degrees().into());
            let (expected, shown) =
                (rotated(&flipped, turn, &pool).expect("in range"), rotated(&source, rotation, &pool).expect("in range"));
            for (plane, row) in (0..3).flat_map(|plane| (0..expected.layout(plane).rows).map(move |row| (plane, row))) {
                assert_eq!(expected.row(plane, row), shown.row(plane, row), "{rotation:?}");
            }
        }
    }

    #[test]
    fn clockwise_puts_the_left_edge_on_top() {
        let pool = FramePool::new(2);
        let mut source = pool.surface(PixelFormat::Gray8, 3, 2).expect("size in range");
        let mut planes = source.planes_mut().expect("fresh");
        planes.row(0, 0).copy_from_slice(&[1, 2, 3]);
        planes.row(0, 1).copy_from_slice(&[4, 5, 6]);
        let turned = rotated(&source, Rotation::Clockwise90, &pool).expect("size in range");
        assert_eq!([turned.row(0, 0), turned.row(0, 1), turned.row(0, 2)], [[4, 1], [5, 2], [6, 3]]);
    }
}
