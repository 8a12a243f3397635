//! Small frames in any format, for this crate's tests.

use std::sync::Arc;

use framerail_core::{BBox, ColorDescription, Detection, Frame, FramePool, HostSurface, Label, PixelFormat};

use crate::color::{RgbFromSamples, samples_from_rgb};

/// A face with these edges.
pub fn face(x1: f32, y1: f32, x2: f32, y2: f32) -> Detection {
    Detection::new(BBox::from_xyxy(x1, y1, x2, y2), 0.9, Label { id: 0, name: Arc::from("face") })
}

/// Sets every sample to `code(component, x, y)`, in the component's own grid.
pub fn image(format: PixelFormat, width: u32, height: u32, code: impl Fn(usize, u32, u32) -> u16) -> HostSurface {
    let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
    let mut planes = surface.planes_mut().expect("fresh memory is writable");
    for (index, component) in format.components().iter().enumerate() {
        let (columns, rows) = format.component_size(index, width, height);
        for y in 0..rows {
            for x in 0..columns {
                let bytes = (code(index, x, y) << component.shift).to_le_bytes();
                let at = x as usize * component.step_bytes + component.offset_bytes;
                planes.row(component.plane, y as usize)[at..at + format.sample_bytes()].copy_from_slice(&bytes[..format.sample_bytes()]);
            }
        }
    }
    surface
}

/// A frame of one colour, with the default tags' BT.601; alpha is half.
pub fn flat(format: PixelFormat, width: u32, height: u32, rgb: [f32; 3]) -> HostSurface {
    let codes = samples_from_rgb(format, &ColorDescription::default(), rgb);
    let colors = format.color_components().len();
    image(format, width, height, |component, _, _| if component < colors { codes[component] } else { (format.max_value() / 2) as u16 })
}

/// Noise over a gradient, the same on every run. No colour comes near the limits of RGB, in any matrix and range.
pub fn noisy(format: PixelFormat, width: u32, height: u32) -> HostSurface {
    let max = format.max_value();
    image(format, width, height, |component, x, y| {
        let mut hash =
            (x + 1).wrapping_mul(0x9e37_79b1) ^ (y + 1).wrapping_mul(0x85eb_ca77) ^ (component as u32 + 1).wrapping_mul(0xc2b2_ae3d);
        hash ^= hash >> 15;
        hash = hash.wrapping_mul(0x2c1b_3c6d);
        hash ^= hash >> 13;
        let gradient = x * 3 + y * 5 + component as u32 * 40;
        let level = if format.is_chroma(component) { 108 + gradient % 20 + hash % 20 } else { 60 + gradient % 92 + hash % 48 };
        (level * (max + 1) / 256) as u16
    })
}

/// A component's code value.
pub fn code_at(surface: &HostSurface, component: usize, x: usize, y: usize) -> u16 {
    let format = surface.format();
    let place = format.components()[component];
    let at = x * place.step_bytes + place.offset_bytes;
    let row = surface.row(place.plane, y);
    if format.sample_bytes() == 1 { u16::from(row[at]) } else { u16::from_le_bytes([row[at], row[at + 1]]) >> place.shift }
}

/// Full-range RGB of a pixel; chroma samples are repeated.
pub fn rgb_at(surface: &HostSurface, color: &ColorDescription, x: usize, y: usize) -> [f32; 3] {
    let format = surface.format();
    let conversion = RgbFromSamples::new(format, color);
    let mut samples = [0.0; 3];
    for (component, sample) in samples.iter_mut().enumerate().take(format.color_components().len()) {
        let (sx, sy) = if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) };
        *sample = f32::from(code_at(surface, component, x >> sx, y >> sy) << format.components()[component].shift);
    }
    let dot = |row: [f32; 3], bias: f32| row[0] * samples[0] + row[1] * samples[1] + row[2] * samples[2] + bias;
    [0, 1, 2].map(|i| dot(conversion.gain[i], conversion.bias[i]).clamp(0.0, 255.0))
}

/// A frame around a surface.
pub fn frame(surface: HostSurface, color: ColorDescription) -> Frame {
    let (_width, _height) = (surface.width(), surface.height());
    Frame { color, ..Frame::of(surface) }
}
