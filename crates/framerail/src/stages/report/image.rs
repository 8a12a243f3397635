//! Thumbnails of doubtful frames.

use framerail_core::{BBox, ColorDescription, Detection, Frame, FramePool, HostSurface, Region};
use framerail_media::{ImageFormat, encode_image};
use framerail_pipeline::{ErrorKind, StageError};
use framerail_vision::{Canvas, DrawOptions, size_within, thumbnail, thumbnail_of};

use crate::{
    convert::{cuda_error, vision_error},
    devices::host_image,
};

/// Maximum pixels of the whole frame's thumbnail.
const WHOLE_SIZE: (u32, u32) = (384, 288);
/// Maximum pixels of the detail's thumbnail.
const DETAIL_SIZE: (u32, u32) = (192, 192);
/// Size of the detail, as a multiple of the box.
const DETAIL_SCALE: f32 = 2.2;
const JPEG: ImageFormat = ImageFormat::Jpeg { quality: 75 };
/// Muted colour of the other boxes, and bright colour of the doubtful one.
const OTHER_RGB: [u8; 3] = [190, 200, 210];
const DOUBT_RGB: [u8; 3] = [255, 170, 0];

/// A JPEG file and its size.
#[derive(Clone, Debug)]
pub(in crate::stages) struct Jpeg {
    pub(in crate::stages) bytes: Vec<u8>,
    pub(in crate::stages) width: u32,
    pub(in crate::stages) height: u32,
}

impl Jpeg {
    /// A frame in host memory, reduced to a maximum size, without drawing.
    ///
    /// # Errors
    /// When FFmpeg lacks the encoder.
    pub(in crate::stages) fn of_frame(surface: &HostSurface, color: &ColorDescription, most: (u32, u32)) -> Result<Self, StageError> {
        let (width, height) = size_within(surface.width(), surface.height(), most.0, most.1);
        jpeg(&thumbnail(surface, color, width, height, &FramePool::new(0)).map_err(vision_error)?)
    }

    /// The square around a box; `None` if it lies outside the frame.
    ///
    /// # Errors
    /// When FFmpeg lacks the encoder.
    pub(in crate::stages) fn around(
        surface: &HostSurface,
        color: &ColorDescription,
        bbox: &BBox,
        most: (u32, u32),
    ) -> Result<Option<Self>, StageError> {
        let Some(part) = Region::around(&square_around(bbox), surface.width(), surface.height()) else { return Ok(None) };
        let (width, height) = enlarged(part, most);
        let image = thumbnail_of(surface, color, part, width, height, &FramePool::new(0)).map_err(vision_error)?;
        jpeg(&image).map(Some)
    }
}

/// The whole frame with its boxes, and the detail without them.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) whole: Jpeg,
    /// `None` if the box lies outside the frame.
    pub(super) detail: Option<Jpeg>,
}

impl Image {
    /// Makes both thumbnails; for a frame on a GPU from a copy, which is waited for.
    ///
    /// # Errors
    /// If the GPU fails, or FFmpeg lacks the encoder.
    pub(super) fn take(frame: &Frame, detections: &[Detection], of: &Detection) -> Result<Self, StageError> {
        let surface = &host_image(frame).map_err(cuda_error)?;
        let pool = FramePool::new(0);
        let (width, height) = size_within(surface.width(), surface.height(), WHOLE_SIZE.0, WHOLE_SIZE.1);
        let mut whole = thumbnail(surface, &frame.color, width, height, &pool).map_err(vision_error)?;
        let scale = (width as f32 / surface.width() as f32, height as f32 / surface.height() as f32);
        draw(&mut whole, detections, of, scale)?;
        let detail = Jpeg::around(surface, &frame.color, &of.bbox, DETAIL_SIZE)?;
        Ok(Self { whole: jpeg(&whole)?, detail })
    }
}

/// The detail's aspect ratio is fixed, so that details line up.
fn square_around(bbox: &BBox) -> BBox {
    let (center, side) = (bbox.center(), bbox.width().max(bbox.height()) * DETAIL_SCALE);
    BBox::from_cxcywh(center.x, center.y, side, side)
}

/// Small faces are enlarged, up to four times.
fn enlarged(part: Region, most: (u32, u32)) -> (u32, u32) {
    let factor = (f64::from(most.0) / f64::from(part.width)).min(f64::from(most.1) / f64::from(part.height)).min(4.0);
    let side = |length: u32, most: u32| ((f64::from(length) * factor).round() as u32).clamp(1, most);
    (side(part.width, most.0), side(part.height, most.1))
}

fn draw(image: &mut HostSurface, detections: &[Detection], of: &Detection, (across, down): (f32, f32)) -> Result<(), StageError> {
    let scaled = |found: &Detection| {
        let BBox { x1, y1, x2, y2 } = found.bbox;
        let mut scaled = Detection::new(BBox::from_xyxy(x1 * across, y1 * down, x2 * across, y2 * down), found.score, found.label.clone());
        scaled.origin = found.origin;
        scaled
    };
    let options = DrawOptions { labels: false, scores: false, landmarks: false, ..DrawOptions::default() };
    let others: Vec<Detection> = detections.iter().filter(|found| *found != of).map(scaled).collect();
    let color = ColorDescription::default();
    let mut canvas = Canvas::new(image, &color);
    let quiet = DrawOptions { line_width: Some(1), rgb: Some(OTHER_RGB), ..options };
    canvas.detections(&others, &quiet).map_err(vision_error)?;
    canvas.outline(&scaled(of).bbox, DOUBT_RGB, 2).map_err(vision_error)
}

fn jpeg(surface: &HostSurface) -> Result<Jpeg, StageError> {
    let bytes = encode_image(surface, &ColorDescription::default(), JPEG)
        .map_err(|error| StageError::new(ErrorKind::Output, format!("an image for the page: {error}")))?;
    Ok(Jpeg { bytes, width: surface.width(), height: surface.height() })
}

/// Base64 with padding, for data URLs. Source: RFC 4648, section 4.
pub(in crate::stages) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > chunk.len() { '=' } else { letter.into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn details_are_enlarged_but_not_without_end() {
        let part = |width, height| Region { x: 0, y: 0, width, height };
        assert_eq!(enlarged(part(10, 10), (192, 192)), (40, 40));
        assert_eq!(enlarged(part(100, 50), (192, 192)), (192, 96));
        assert_eq!(enlarged(part(1000, 500), (192, 192)), (192, 96));
    }
}
