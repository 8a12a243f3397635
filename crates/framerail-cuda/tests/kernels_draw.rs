//! Drawing and repacking kernels, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::{PixelFormat, Region, Stroke, StrokeShape};
use framerail_cuda::kernels::{RawDrawJob, RawImage, draw_commands, repack_raw};
use kernels_cases::{Noise, draw as cases};

#[test]
fn detections_are_drawn_as_on_the_host() {
    cases::detections_are_drawn_as_on_the_host(&Emulator::default());
}

#[test]
fn repacked_surfaces_hold_the_same_samples() {
    cases::repacked_surfaces_hold_the_same_samples(&Emulator::default());
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut noise, emulator) = (Noise(1), Emulator::default());
    let image = emulator.image(&noise.image(PixelFormat::Nv12, 32, 32));
    let region = Region { x: 8, y: 8, width: 8, height: 8 };
    let text = |x, scale| StrokeShape::Text { x, y: 0, scale, glyphs: vec![[255; 8]] };
    let refused = [
        Stroke { region: Region { x: 30, ..region }, shape: StrokeShape::Flat(255), codes: [0; 3] },
        Stroke { region: Region { width: 0, ..region }, shape: StrokeShape::Flat(255), codes: [0; 3] },
        Stroke { region, shape: StrokeShape::Raster(vec![255; 65].into()), codes: [0; 3] },
        Stroke { region, shape: text(9, 1), codes: [0; 3] },
        Stroke { region, shape: text(0, 0), codes: [0; 3] },
        Stroke { region, shape: text(i64::MIN, 1), codes: [0; 3] },
    ];
    for stroke in refused {
        assert!(draw_commands(&[RawDrawJob { image, strokes: std::slice::from_ref(&stroke) }]).is_err(), "{stroke:?}");
    }
    for other in [RawImage { format: PixelFormat::P010, ..image }, RawImage { width: 30, ..image }] {
        // SAFETY: rejected before memory is accessed.
        assert!(unsafe { repack_raw(&emulator, &image, &other) }.is_err());
    }
}
