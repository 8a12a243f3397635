//! Arrays of pixels as frames in memory, to be converted later or not at all.

use framerail_core::{
    ColorDescription, ColorMatrix, ColorRange, CoreError, FieldOrder, FramePool, HdrMetadata, HostSurface, PixelFormat, Rational,
    SourceUrl, StreamId, StreamInfo, TimeBase, frame::Rotation,
};
use framerail_vision::PixelArray;

/// The pixel format in which an unchanged array is a frame.
pub(crate) fn array_format(array: PixelArray) -> PixelFormat {
    match (array.channels, array.sample_bytes, array.is_planar) {
        (1, 1, _) => PixelFormat::Gray8,
        (1, ..) => PixelFormat::Gray16,
        (_, 1, true) => PixelFormat::Gbrp,
        (_, 1, false) => PixelFormat::Rgb24,
        _ => PixelFormat::Rgb48,
    }
}

/// The colour of such a frame; everything else is in `color`.
pub(crate) fn array_color(array: PixelArray, color: &ColorDescription) -> ColorDescription {
    let matrix = if array.channels == 1 { color.matrix } else { ColorMatrix::Rgb };
    ColorDescription { matrix, range: ColorRange::Full, ..*color }
}

/// A copy of an array in [`array_format`].
///
/// # Errors
/// Sizes out of range, or when memory runs out.
pub(crate) fn array_surface(pool: &FramePool, array: PixelArray, image: &[u8]) -> Result<HostSurface, CoreError> {
    let format = array_format(array);
    let mut surface = pool.surface(format, array.width, array.height)?;
    let row_bytes = array.width as usize * array.sample_bytes as usize;
    // A surface that was just made has one holder.
    let Some(mut planes) = surface.planes_mut() else { return Ok(surface) };
    let rows = array.height as usize;
    let row_of = |plane: usize, row: usize| image.get((plane * rows + row) * row_bytes..(plane * rows + row + 1) * row_bytes);
    for row in 0..rows {
        match (format, array.is_planar) {
            (PixelFormat::Gbrp, _) => {
                for (plane, channel) in [(0, 1), (1, 2), (2, 0)] {
                    planes.row(plane, row)[..row_bytes].copy_from_slice(row_of(channel, row).unwrap_or_default());
                }
            }
            (PixelFormat::Rgb48, true) => {
                let out = planes.row(0, row);
                for channel in 0..3 {
                    let words = row_of(channel, row).unwrap_or_default().as_chunks::<2>().0;
                    for (out, word) in out.as_chunks_mut::<6>().0.iter_mut().zip(words) {
                        out[2 * channel..2 * channel + 2].copy_from_slice(word);
                    }
                }
            }
            _ => {
                let bytes = row_bytes * array.channels as usize;
                planes.row(0, row)[..bytes].copy_from_slice(image.get(row * bytes..(row + 1) * bytes).unwrap_or_default());
            }
        }
    }
    Ok(surface)
}

/// The stream of such frames, or of what was converted from them.
pub(crate) fn array_stream(
    (width, height): (u32, u32),
    pixel_format: PixelFormat,
    color: ColorDescription,
    time_base: TimeBase,
    frame_rate: Option<Rational>,
) -> StreamInfo {
    StreamInfo {
        id: StreamId(0),
        source: SourceUrl::new(""),
        name: String::new(),
        codec: "rawvideo".into(),
        container: String::new(),
        width,
        height,
        pixel_format,
        sample_aspect_ratio: None,
        color,
        hdr: HdrMetadata::default(),
        field_order: FieldOrder::Progressive,
        rotation: Rotation::None,
        time_base,
        frame_rate,
        start_offset_micros: 0,
        duration_secs: None,
        frames_estimate: None,
        bit_rate: None,
        metadata: Vec::new(),
        not_delivered: Vec::new(),
        side_streams: Vec::new(),
    }
}
