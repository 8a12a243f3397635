//! Test cases shared by the GPU and its host emulation.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod augment;
pub mod boxes;
pub mod convert;
pub mod draw;
pub mod obscure;
pub mod scene;
pub mod turn;

use framerail_core::{
    AugmentParams, AugmentSpec, ColorDescription, DType, Frame, FramePool, HidePlan, Histogram, HostSurface, PixelFormat, Rotation, Stroke,
    ToneCurves,
};
use framerail_cuda::kernels::{BoxDecoder, Conversion, FrameBoxes, TensorSpec};

/// Runs kernels on host memory, by copying or emulation.
pub trait KernelRunner {
    /// Converts a batch; the tensors follow one another.
    fn convert(&self, images: &[HostSurface], conversions: &[Conversion], tensor: &TensorSpec) -> Vec<u8> {
        self.convert_with(images, conversions, None, tensor)
    }

    /// Like `convert`, with tone-mapping curves.
    fn convert_with(&self, images: &[HostSurface], conversions: &[Conversion], tone: Option<&ToneCurves>, tensor: &TensorSpec) -> Vec<u8>;

    /// The boxes of a batch of model outputs; empty tensors count as absent.
    fn boxes(&self, decoder: &BoxDecoder, tensors: [&[u8]; 4], dtype: DType, batch: u32) -> Vec<FrameBoxes>;

    /// Draws strokes, one list per frame.
    fn draw(&self, images: &mut [HostSurface], strokes: &[Vec<Stroke>]);

    /// Splits or joins the chroma of a frame.
    fn repacked(&self, image: &HostSurface) -> HostSurface;

    /// Rotates a frame clockwise.
    fn turned(&self, image: &HostSurface, rotation: Rotation) -> HostSurface;

    /// Hides regions, one list per frame.
    fn obscure(&self, images: &mut [HostSurface], regions: &[Vec<HidePlan>]);

    /// Brightness histograms with framerail-vision's plan.
    fn histograms(&self, images: &[HostSurface]) -> Vec<Histogram>;

    /// Augments a batch.
    fn augment(&self, spec: &AugmentSpec, params: &[AugmentParams], input: &[u8]) -> Vec<u8>;
}

/// A copy that shares no memory.
pub fn copied(surface: &HostSurface) -> HostSurface {
    surface.copied(&FramePool::new(1)).expect("a size that is in use")
}

/// Code values of a component, row by row.
pub fn codes(surface: &HostSurface, component: usize) -> Vec<u16> {
    let format = surface.format();
    let place = format.components()[component];
    let (_, rows) = format.component_size(component, surface.width(), surface.height());
    let rows = (0..rows as usize).flat_map(|y| surface.row(place.plane, y).chunks_exact(place.step_bytes));
    let code = |sample: &[u8]| match format.sample_bytes() {
        1 => u16::from(sample[place.offset_bytes]),
        _ => u16::from_le_bytes([sample[place.offset_bytes], sample[place.offset_bytes + 1]]) >> place.shift,
    };
    rows.map(code).collect()
}

/// Wraps a surface in a frame.
pub fn frame(surface: HostSurface, color: ColorDescription) -> Frame {
    let (_width, _height) = (surface.width(), surface.height());
    Frame { color, ..Frame::of(surface) }
}

/// Pseudo-random numbers, the same on every run.
pub struct Noise(pub u64);

impl Noise {
    /// The next number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end)) as u32
    }

    /// The next number from `low` to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.below(1 << 20) as f32 / (1 << 20) as f32)
    }

    /// A random element.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    /// A frame of smooth shapes and noise over all code values.
    pub fn image(&mut self, format: PixelFormat, width: u32, height: u32) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
        let mut planes = surface.planes_mut().expect("fresh memory");
        let max = format.max_value();
        for (index, component) in format.components().iter().enumerate() {
            let (columns, rows) = format.component_size(index, width, height);
            let slope = (self.below(9), self.below(9));
            for y in 0..rows {
                for x in 0..columns {
                    let code =
                        (x * slope.0 + y * slope.1 + self.below(64) + index as u32 * 70) % 256 * (max + 1) / 256 + self.below(max / 255);
                    let bytes = ((code.min(max) as u16) << component.shift).to_le_bytes();
                    let at = x as usize * component.step_bytes + component.offset_bytes;
                    let size = format.sample_bytes();
                    planes.row(component.plane, y as usize)[at..at + size].copy_from_slice(&bytes[..size]);
                }
            }
        }
        surface
    }

    /// Random colour tags.
    pub fn color(&mut self) -> ColorDescription {
        use framerail_core::{ColorMatrix, ColorRange};
        let matrix = self.pick(&[ColorMatrix::Unspecified, ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020]);
        let range = self.pick(&[ColorRange::Unspecified, ColorRange::Limited, ColorRange::Full]);
        ColorDescription { matrix, range, ..Default::default() }
    }
}

/// The same frame with separate chroma planes: NV12 as yuv420p, P010 as yuv420p10.
pub fn planar(surface: &HostSurface) -> HostSurface {
    let (format, shift) = match surface.format() {
        PixelFormat::Nv12 => (PixelFormat::Yuv420p, 0),
        PixelFormat::P010 => (PixelFormat::Yuv420p10, 6),
        other => panic!("{other} is planar or packed"),
    };
    let size = format.sample_bytes();
    let mut out = FramePool::new(1).surface(format, surface.width(), surface.height()).expect("size in range");
    let mut planes = out.planes_mut().expect("fresh memory");
    for (from, to) in surface.format().components().iter().zip(format.components()) {
        for y in 0..surface.layout(from.plane).rows {
            let source = surface.row(from.plane, y).chunks_exact(from.step_bytes);
            for (target, sample) in planes.row(to.plane, y).chunks_exact_mut(size).zip(source) {
                let sample = &sample[from.offset_bytes..from.offset_bytes + size];
                match size {
                    1 => target.copy_from_slice(sample),
                    _ => target.copy_from_slice(&(u16::from_le_bytes([sample[0], sample[1]]) >> shift).to_le_bytes()),
                }
            }
        }
    }
    out
}
