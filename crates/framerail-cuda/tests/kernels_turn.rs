//! Rotation kernel, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::{PixelFormat, Rotation};
use framerail_cuda::kernels::{RawImage, turn_raw};
use kernels_cases::{Noise, turn as cases};

#[test]
fn turned_frames_hold_each_sample_in_its_new_place() {
    cases::turned_frames_hold_each_sample_in_its_new_place(&Emulator::default());
}

#[test]
fn what_cannot_be_turned_is_refused() {
    let (mut noise, emulator) = (Noise(1), Emulator::default());
    let image = |noise: &mut Noise, format| emulator.image(&noise.image(format, 32, 16));
    let nv12 = image(&mut noise, PixelFormat::Nv12);
    let wide = image(&mut noise, PixelFormat::Yuv422p);
    let rgb = image(&mut noise, PixelFormat::Rgb24);
    let sides = |image: RawImage| RawImage { width: 16, height: 32, ..image };
    let refused = [
        (nv12, Rotation::None, nv12),
        (nv12, Rotation::Clockwise90, nv12),
        (nv12, Rotation::Half, sides(nv12)),
        (wide, Rotation::Clockwise90, sides(wide)),
        (rgb, Rotation::Half, rgb),
        (nv12, Rotation::Half, wide),
    ];
    for (from, rotation, to) in refused {
        // SAFETY: rejected before memory is accessed.
        assert!(unsafe { turn_raw(&emulator, &from, rotation, &to) }.is_err(), "{from:?} {rotation:?} {to:?}");
    }
}
