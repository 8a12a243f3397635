//! A decoded frame with its timestamp.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ColorDescription, CoreError, FramePool, HdrMetadata, HostSurface, PixelAspect, Pts, Rational, StreamId, Surface, TimeBase};

/// The orientation to apply for display: a rotation by quarter turns, optionally mirrored. Covers the eight orientations of EXIF and of
/// display matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rotation {
    /// Upright. EXIF orientation 1.
    #[default]
    None,
    /// A quarter turn clockwise. EXIF orientation 6.
    Clockwise90,
    /// Upside down. EXIF orientation 3.
    Half,
    /// A quarter turn counter-clockwise. EXIF orientation 8.
    Clockwise270,
    /// Mirrored left to right. EXIF orientation 2.
    FlipHorizontal,
    /// Mirrored top to bottom. EXIF orientation 4.
    FlipVertical,
    /// Mirrored along the main diagonal: rows become columns. EXIF orientation 5.
    Transpose,
    /// Mirrored along the other diagonal. EXIF orientation 7.
    Transverse,
}

impl Rotation {
    /// All eight orientations.
    pub const ALL: [Rotation; 8] = [
        Rotation::None,
        Rotation::Clockwise90,
        Rotation::Half,
        Rotation::Clockwise270,
        Rotation::FlipHorizontal,
        Rotation::FlipVertical,
        Rotation::Transpose,
        Rotation::Transverse,
    ];

    /// The rotation nearest to an angle in degrees clockwise.
    pub fn from_degrees_clockwise(degrees: f64) -> Self {
        match (degrees / 90.0).round().rem_euclid(4.0) as u8 {
            1 => Rotation::Clockwise90,
            2 => Rotation::Half,
            3 => Rotation::Clockwise270,
            _ => Rotation::None,
        }
    }

    /// The orientation nearest to a display matrix, which shows the point (x, y), y pointing down, at (a x + c y, b x + d y).
    pub fn from_matrix(a: i32, b: i32, c: i32, d: i32) -> Self {
        let size = |number: i32| i64::from(number).abs();
        if size(a) + size(d) >= size(b) + size(c) {
            return match (a < 0, d < 0) {
                (false, false) => Rotation::None,
                (true, true) => Rotation::Half,
                (true, false) => Rotation::FlipHorizontal,
                (false, true) => Rotation::FlipVertical,
            };
        }
        match (b < 0, c < 0) {
            (false, true) => Rotation::Clockwise90,
            (true, false) => Rotation::Clockwise270,
            (false, false) => Rotation::Transpose,
            (true, true) => Rotation::Transverse,
        }
    }

    /// Degrees clockwise: 0, 90, 180 or 270. Mirrored orientations are mirrored left to right first, then rotated.
    pub fn degrees(self) -> u32 {
        match self {
            Rotation::None | Rotation::FlipHorizontal => 0,
            Rotation::Clockwise90 | Rotation::Transverse => 90,
            Rotation::Half | Rotation::FlipVertical => 180,
            Rotation::Clockwise270 | Rotation::Transpose => 270,
        }
    }

    /// Whether the frame is mirrored, as by a front camera.
    pub fn is_mirrored(self) -> bool {
        matches!(self, Rotation::FlipHorizontal | Rotation::FlipVertical | Rotation::Transpose | Rotation::Transverse)
    }

    /// Whether width and height are swapped.
    pub fn swaps_sides(self) -> bool {
        matches!(self, Rotation::Clockwise90 | Rotation::Clockwise270 | Rotation::Transpose | Rotation::Transverse)
    }
}

/// Which field of an interlaced frame comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FieldOrder {
    /// Not interlaced.
    #[default]
    Progressive,
    /// The top field is first.
    TopFirst,
    /// The bottom field is first.
    BottomFirst,
}

/// Whether a frame was decoded without errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FrameStatus {
    /// Decoded without errors.
    #[default]
    Ok,
    /// The decoder concealed errors, or a missing timestamp was reconstructed.
    Repaired,
}

/// Metadata of a still image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StillMetadata {
    /// ICC colour profile; also written to output images.
    pub icc_profile: Option<Vec<u8>>,
    /// Whether the image has EXIF data. It is not kept: it may contain the location, and a preview of the original image.
    pub has_exif: bool,
}

/// A decoded frame: surface, timestamp, colour. Cloning shares the memory; dropping the last clone returns it to its pool.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Planes on the host or a device.
    pub surface: Surface,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The video stream it belongs to.
    pub stream: StreamId,
    /// Index in presentation order within its stream, from 0, counted as decoded (a selection leaves gaps).
    pub index: u64,
    /// Presentation time in ticks of `time_base`; reconstructed if the stream has none (see `status`).
    pub pts: Pts,
    /// Ticks until the next frame, when known.
    pub duration: Option<i64>,
    /// Seconds per tick.
    pub time_base: TimeBase,
    /// Colour tags.
    pub color: ColorDescription,
    /// Shape of one pixel, width over height; `None` when square or unknown.
    pub sample_aspect_ratio: Option<Rational>,
    /// Orientation still to be applied for display.
    pub rotation: Rotation,
    /// Interlacing.
    pub field_order: FieldOrder,
    /// HDR10 metadata; in HEVC only on frames at which decoding can start.
    pub hdr: Option<Arc<HdrMetadata>>,
    /// Metadata of a still image; `None` for video frames.
    pub still: Option<Arc<StillMetadata>>,
    /// Whether decoding can start here.
    pub is_keyframe: bool,
    /// Decoded without errors, or repaired.
    pub status: FrameStatus,
}

impl Frame {
    /// Wraps a surface in a frame: index 0 of stream 0, PTS 0 in microseconds, upright, square pixels, unspecified colour.
    pub fn of(surface: HostSurface) -> Self {
        Self {
            width: surface.width(),
            height: surface.height(),
            surface: Surface::Host(surface),
            stream: StreamId(0),
            index: 0,
            pts: Pts(0),
            duration: None,
            time_base: TimeBase::MICROS,
            color: ColorDescription::default(),
            sample_aspect_ratio: None,
            rotation: Rotation::None,
            field_order: FieldOrder::default(),
            hdr: None,
            still: None,
            is_keyframe: true,
            status: FrameStatus::Ok,
        }
    }

    /// Pixel aspect ratio.
    pub fn pixel_aspect(&self) -> PixelAspect {
        PixelAspect::of(self.sample_aspect_ratio)
    }

    /// Presentation time in seconds.
    pub fn seconds(&self) -> f64 {
        self.pts.seconds(self.time_base)
    }

    /// Makes the host surface writable: in place if it is not shared, else by copying it to memory from `pool`.
    /// Returns the number of copied bytes.
    ///
    /// # Errors
    /// `NotOnHost` for a device surface.
    pub fn make_writable(&mut self, pool: &FramePool) -> Result<usize, CoreError> {
        let surface = self.surface.host_mut()?;
        if surface.planes_mut().is_some() {
            return Ok(0);
        }
        let copied_bytes = surface.sample_bytes_total();
        *surface = surface.copied(pool)?;
        Ok(copied_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PixelFormat;

    fn gray_frame(pool: &FramePool) -> Frame {
        let surface = pool.surface(PixelFormat::Gray8, 8, 4).expect("size in range");
        Frame::of(surface)
    }

    #[test]
    fn writing_to_a_shared_frame_leaves_the_other_alone() {
        let pool = FramePool::new(4);
        let mut frame = gray_frame(&pool);
        assert_eq!(frame.make_writable(&pool).expect("on host"), 0);
        frame.surface.host_mut().expect("on host").planes_mut().expect("sole holder").row(0, 0).fill(7);
        let other = frame.clone();
        assert_eq!(frame.make_writable(&pool).expect("on host"), 32);
        frame.surface.host_mut().expect("on host").planes_mut().expect("a copy").row(0, 0).fill(9);
        assert_eq!(other.surface.host().expect("on host").row(0, 0), [7; 8]);
        assert_eq!(frame.surface.host().expect("on host").row(0, 0), [9; 8]);
    }

    #[test]
    fn a_display_matrix_gives_one_of_eight_orientations() {
        let one = 1 << 16;
        assert_eq!(Rotation::from_matrix(one, 0, 0, one), Rotation::None);
        assert_eq!(Rotation::from_matrix(0, one, -one, 0), Rotation::Clockwise90);
        assert_eq!(Rotation::from_matrix(-one, 0, 0, -one), Rotation::Half);
        assert_eq!(Rotation::from_matrix(0, -one, one, 0), Rotation::Clockwise270);
        assert_eq!(Rotation::from_matrix(-one, 0, 0, one), Rotation::FlipHorizontal);
        assert_eq!(Rotation::from_matrix(one, 0, 0, -one), Rotation::FlipVertical);
        assert_eq!(Rotation::from_matrix(0, one, one, 0), Rotation::Transpose);
        assert_eq!(Rotation::from_matrix(0, -one, -one, 0), Rotation::Transverse);
        assert_eq!(Rotation::from_matrix(i32::MIN, 1, -1, i32::MIN), Rotation::Half);
    }

    #[test]
    fn rotation_takes_the_nearest_quarter_turn() {
        assert_eq!(Rotation::from_degrees_clockwise(-90.0), Rotation::Clockwise270);
        assert_eq!(Rotation::from_degrees_clockwise(450.0), Rotation::Clockwise90);
        assert_eq!(Rotation::from_degrees_clockwise(179.0), Rotation::Half);
        assert_eq!(Rotation::from_degrees_clockwise(359.9), Rotation::None);
    }
}
