//! Editing frames as RGB or HSV: one conversion there and one back, for stages and functions that do not work on planes.

use std::sync::Arc;

use framerail_core::{ColorDescription, Frame, FramePool, HostSurface, PixelFormat, Surface, TensorLayout};
use framerail_media::{Converter, ScaleOptions};
use framerail_pipeline::StageError;
use framerail_vision::{ChannelOrder, PixelArray, TensorConverter, TensorOptions, ToYuv, rgb_from_hsv};
use parking_lot::Mutex;

use crate::{
    arrays::{array_color, array_surface},
    convert::{core_error, input_error, vision_error},
};

/// Buffers kept for results and pixels.
const KEPT_BUFFERS: usize = 8;

/// Pixel layout for a function: 8 bits, rows by columns by channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelSpace {
    /// Full-range red, green, blue.
    Rgb,
    /// Hue in half degrees (0 to 179), saturation and value (0 to 255), as OpenCV's `COLOR_RGB2HSV` gives them.
    Hsv,
}

/// Converts frames to pixels and back; keeps its memory between frames. Clones share it.
///
/// ```
/// use framerail::{core::Frame, pipeline::StageError, pixels::{PixelEdits, PixelSpace}};
///
/// fn without_colour(edits: &PixelEdits, frame: &mut Frame) -> Result<(), StageError> {
///     edits.edit(frame, PixelSpace::Hsv, |pixels| pixels.as_chunks_mut::<3>().0.iter_mut().for_each(|[_, saturation, _]| *saturation = 0))
/// }
/// ```
#[derive(Clone)]
pub struct PixelEdits {
    surfaces: FramePool,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    pixels: Vec<Vec<u8>>,
    to_pixels: Option<(PixelSpace, TensorConverter)>,
    back: Option<(BackKey, ToYuv)>,
}

/// The key of a converter back to a frame's format.
type BackKey = (u32, u32, PixelFormat, ColorDescription);

impl Default for PixelEdits {
    fn default() -> Self {
        Self { surfaces: FramePool::new(KEPT_BUFFERS), kept: Arc::default() }
    }
}

impl PixelEdits {
    /// The pixels of a frame on the host.
    ///
    /// # Errors
    /// `Internal` for a frame on a device.
    pub fn take(&self, frame: &Frame, space: PixelSpace) -> Result<Vec<u8>, StageError> {
        let (known, bytes) = {
            let mut kept = self.kept.lock();
            (kept.to_pixels.take_if(|(known, _)| *known == space), kept.pixels.pop())
        };
        let order = if space == PixelSpace::Rgb { ChannelOrder::Rgb } else { ChannelOrder::Hsv };
        let options = TensorOptions { channel_order: order, layout: TensorLayout::Thwc, ..TensorOptions::default() };
        let mut converter = match known {
            Some((_, converter)) => converter,
            None => TensorConverter::new(options).map_err(vision_error)?,
        };
        let mut bytes = bytes.unwrap_or_default();
        bytes.resize(options.image_bytes(frame.width, frame.height), 0);
        converter.convert(frame, &mut bytes).map_err(vision_error)?;
        self.kept.lock().to_pixels = Some((space, converter));
        Ok(bytes)
    }

    /// Replaces a frame's content with these pixels, converted to its own format.
    ///
    /// # Errors
    /// `Internal` for a frame on a device, `Resource`.
    pub fn put_back(&self, frame: &mut Frame, space: PixelSpace, mut pixels: Vec<u8>) -> Result<(), StageError> {
        if space == PixelSpace::Hsv {
            rgb_from_hsv(&mut pixels);
        }
        let format = frame.surface.host().map_err(core_error)?.format();
        frame.surface = Surface::Host(self.converted(frame, format, &pixels)?);
        let mut kept = self.kept.lock();
        if kept.pixels.len() < KEPT_BUFFERS {
            kept.pixels.push(pixels);
        }
        Ok(())
    }

    /// Edits a frame on the host.
    ///
    /// # Errors
    /// As [`PixelEdits::take`] and [`PixelEdits::put_back`].
    pub fn edit(&self, frame: &mut Frame, space: PixelSpace, change: impl FnOnce(&mut [u8])) -> Result<(), StageError> {
        let mut pixels = self.take(frame, space)?;
        change(&mut pixels);
        self.put_back(frame, space, pixels)
    }

    fn converted(&self, frame: &Frame, format: PixelFormat, pixels: &[u8]) -> Result<HostSurface, StageError> {
        let (width, height) = (frame.width, frame.height);
        let array = PixelArray { width, height, channels: 3, sample_bytes: 1, is_planar: false };
        if !ToYuv::FORMATS.contains(&format) {
            let rgb = array_surface(&self.surfaces, array, pixels).map_err(core_error)?;
            if format == PixelFormat::Rgb24 {
                return Ok(rgb);
            }
            let from = array_color(array, &frame.color);
            let mut converter = Converter::new(ScaleOptions { accurate: true, ..ScaleOptions::default() });
            return converter.convert_to(&rgb, &from, format, (width, height), &frame.color, &self.surfaces).map_err(input_error);
        }
        let key = (width, height, format, frame.color);
        let known = self.kept.lock().back.take_if(|(known, _)| *known == key);
        let mut back = match known {
            Some((_, back)) => back,
            None => ToYuv::new(array, format, &frame.color, self.surfaces.clone()).map_err(vision_error)?,
        };
        let surface = back.convert(pixels).map_err(vision_error)?;
        self.kept.lock().back = Some((key, back));
        Ok(surface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(format: PixelFormat) -> Frame {
        let mut surface = FramePool::new(1).surface(format, 64, 48).expect("size in range");
        let mut planes = surface.planes_mut().expect("own");
        let scale = 1 << (format.bits() - 8);
        for (index, component) in format.components().iter().enumerate() {
            let rows = format.component_size(index, 64, 48).1 as usize;
            for y in 0..rows {
                for (x, sample) in planes.row(component.plane, y).chunks_exact_mut(component.step_bytes).enumerate() {
                    let code = if format.is_chroma(index) { 100 + (x as u32 / 8) * 6 } else { 60 + x as u32 } * scale;
                    let bytes = (code << component.shift).to_le_bytes();
                    let length = format.sample_bytes();
                    sample[component.offset_bytes..component.offset_bytes + length].copy_from_slice(&bytes[..length]);
                }
            }
        }
        Frame::of(surface)
    }

    #[test]
    fn there_and_back_keeps_the_frame_in_every_format() {
        for format in [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::Yuv444p, PixelFormat::Yuv420p10, PixelFormat::Rgb24] {
            for space in [PixelSpace::Rgb, PixelSpace::Hsv] {
                let (edits, before) = (PixelEdits::default(), frame(format));
                let mut after = before.clone();
                edits.edit(&mut after, space, |_| {}).expect("converted");
                let (before, after) = (before.surface.host().expect("on the host"), after.surface.host().expect("on the host"));
                assert_eq!(after.format(), format);
                let largest = |difference: framerail_testkit::Difference| difference.mean;
                assert!(largest(framerail_testkit::difference(before, after)) < 2.5, "{format} {space:?}");
            }
        }
    }

    #[test]
    fn a_change_is_seen_and_others_keep_their_frame() {
        let (edits, mut changed) = (PixelEdits::default(), frame(PixelFormat::Yuv420p));
        let other = changed.clone();
        edits
            .edit(&mut changed, PixelSpace::Hsv, |pixels| pixels.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel[1] = 0))
            .expect("grey");
        let grey = changed.surface.host().expect("on the host");
        assert!(grey.row(1, 5)[..32].iter().all(|chroma| chroma.abs_diff(128) <= 1));
        assert_eq!(other.surface.host().expect("on the host").row(1, 5)[0], 100);
    }
}
