//! Clips with a real face on known paths, for tests of detection, hold and tracking.

use framerail_core::{BBox, PixelFormat};

use crate::{
    clip::{Clip, ClipSpec, Content},
    compare::{ReferenceOptions, reference_planes_with},
    real_clip,
};

/// The head in the first frame of `carphone_pristine.mp4` (176x144).
const CROP: (u32, u32, u32, u32) = (44, 4, 84, 112);
/// The face in that crop, as detected by CenterFace (mean over several positions, score 0.9 at 1.5 times the size).
const FACE: BBox = BBox { x1: 19.0, y1: 31.0, x2: 69.0, y2: 93.0 };
/// Grey background, the value of all three components.
const BACKGROUND: u8 = 110;

/// The path of one face.
#[derive(Clone, Debug, PartialEq)]
pub struct FacePath {
    /// Left and top of the pasted image on frame 0, in pixels.
    pub start: (f32, f32),
    /// Pixels to the right and down per frame.
    pub velocity: (f32, f32),
    /// Scale of the pasted image (84x112 pixels at 1).
    pub scale: f32,
    /// Frames on which the face is not shown.
    pub hidden: Vec<u32>,
}

/// Faces on a grey background.
#[derive(Clone, Debug, PartialEq)]
pub struct FacesSpec {
    /// The faces; later ones cover earlier ones.
    pub faces: Vec<FacePath>,
}

impl FacesSpec {
    /// One face that crosses a 640x360 frame from left to right in about 50 frames, hidden on the given frames.
    pub fn crossing(hidden: &[u32]) -> Self {
        Self { faces: vec![FacePath { start: (20.0, 60.0), velocity: (8.0, 1.0), scale: 1.5, hidden: hidden.to_vec() }] }
    }

    /// Boxes of the visible faces on a frame, in pixels.
    ///
    /// Each box spans forehead to chin, as in CenterFace; its detections differ from these boxes by up to 3 pixels per
    /// unit of `scale`.
    pub fn boxes(&self, frame: u32) -> Vec<BBox> {
        self.faces.iter().filter(|face| !face.hidden.contains(&frame)).map(|face| face.bbox(frame)).collect()
    }
}

impl FacePath {
    /// The face's box on a frame, hidden or not.
    pub fn bbox(&self, frame: u32) -> BBox {
        let (left, top) = self.corner(frame);
        let (left, top) = (left as f32, top as f32);
        let scale = self.scale;
        BBox::from_xyxy(left + FACE.x1 * scale, top + FACE.y1 * scale, left + FACE.x2 * scale, top + FACE.y2 * scale)
    }

    fn corner(&self, frame: u32) -> (i64, i64) {
        let at = |start: f32, velocity: f32| (start + velocity * frame as f32).round() as i64;
        (at(self.start.0, self.velocity.0), at(self.start.1, self.velocity.1))
    }
}

/// A 640x360 clip with the given faces, H.264 in MP4, with `frames` frames at 25 frames/s.
pub fn faces_clip(spec: &FacesSpec, frames: u32) -> Clip {
    ClipSpec::default().size(640, 360).frames(frames).content(Content::Faces(spec.clone())).make()
}

/// The pasted image.
pub(crate) struct Face {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Face {
    pub(crate) fn load() -> Self {
        let (x, y, width, height) = CROP;
        let options =
            ReferenceOptions { filter: Some(format!("crop={width}:{height}:{x}:{y}")), size: Some((width, height)), ..Default::default() };
        let first = reference_planes_with(&real_clip("carphone_pristine.mp4"), PixelFormat::Rgb24, &options).next();
        let surface = first.expect("the clip has a first frame");
        let rgb = (0..height as usize).flat_map(|row| surface.row(0, row).to_vec()).collect();
        Self { width: width as usize, height: height as usize, rgb }
    }

    pub(crate) fn draw(&self, out: &mut Vec<u8>, spec: &FacesSpec, width: u32, height: u32, frame: u32) {
        out.clear();
        out.resize(width as usize * height as usize * 3, BACKGROUND);
        for face in spec.faces.iter().filter(|face| !face.hidden.contains(&frame)) {
            self.paste(out, (width as i64, height as i64), face.corner(frame), f64::from(face.scale));
        }
    }

    fn paste(&self, out: &mut [u8], (width, height): (i64, i64), (left, top): (i64, i64), scale: f64) {
        let (wide, high) = ((self.width as f64 * scale) as i64, (self.height as f64 * scale) as i64);
        for y in top.max(0)..(top + high).min(height) {
            for x in left.max(0)..(left + wide).min(width) {
                let pixel = self.sample(((x - left) as f64 + 0.5) / scale - 0.5, ((y - top) as f64 + 0.5) / scale - 0.5);
                let at = (y * width + x) as usize * 3;
                out[at..at + 3].copy_from_slice(&pixel);
            }
        }
    }

    /// Interpolates bilinearly, clamped to the edge.
    fn sample(&self, x: f64, y: f64) -> [u8; 3] {
        let (x, y) = (x.clamp(0.0, self.width as f64 - 1.0), y.clamp(0.0, self.height as f64 - 1.0));
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let (fx, fy) = (x.fract(), y.fract());
        std::array::from_fn(|component| {
            let at = |x: usize, y: usize| f64::from(self.rgb[(y * self.width + x) * 3 + component]);
            let top = at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx;
            let bottom = at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx;
            (top * (1.0 - fy) + bottom * fy).round() as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_face_is_where_the_boxes_say_and_gone_when_hidden() {
        let spec = FacesSpec::crossing(&[3, 4]);
        let clip = faces_clip(&spec, 6);
        for (frame, surface) in reference_planes_with(clip.path(), PixelFormat::Gray8, &ReferenceOptions::default()).enumerate() {
            let bbox = spec.faces[0].bbox(frame as u32);
            let hidden = spec.boxes(frame as u32).is_empty();
            assert_eq!(hidden, frame == 3 || frame == 4);
            let row = surface.row(0, bbox.center().y as usize);
            let inside = &row[bbox.x1 as usize..bbox.x2 as usize];
            let spread = inside.iter().max().expect("not empty") - inside.iter().min().expect("not empty");
            assert_eq!(spread < 20, hidden, "frame {frame}: values inside the box differ by {spread}");
        }
    }
}
