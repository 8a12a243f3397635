//! The kernels that hide faces, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::PixelFormat;
use framerail_cuda::kernels::{Fill, HideRegion, MaskShape, Outline, RawObscureJob, Rectangle, obscure_raw};
use kernels_cases::{Noise, obscure as cases};

#[test]
fn hides_as_the_host_does() {
    cases::hides_as_the_host_does(&Emulator::default());
}

#[test]
fn many_regions_of_many_pictures_take_several_launches() {
    cases::many_regions_of_many_pictures_take_several_launches(&Emulator::default());
}

#[test]
fn regions_that_do_not_fit_are_refused() {
    let (mut noise, emulator) = (Noise(1), Emulator::default());
    let picture = emulator.picture(&noise.picture(PixelFormat::Nv12, 32, 32));
    let region = Rectangle { x: 8, y: 8, width: 8, height: 8 };
    let outline = Outline::Rectangle { half_width: 4.0, half_height: 4.0 };
    let mask = MaskShape { region, center: (12.0, 12.0), outline, inverse_squares: [(0.0, 0.0); 2], feather: 0.0 };
    let mosaic = |source, cell| Fill::Mosaic { source, origin_x: 0, origin_y: 0, cell };
    let beyond = MaskShape { region: Rectangle { x: 30, ..region }, ..mask };
    let half = Rectangle { x: 4, y: 4, width: 4, height: 4 };
    let refused = [
        HideRegion { mask: beyond, fills: vec![Fill::Solid(0); 3] },
        HideRegion { mask, fills: vec![Fill::Solid(0); 2] },
        HideRegion { mask, fills: vec![mosaic(region, 0), mosaic(half, 0), mosaic(half, 0)] },
        HideRegion { mask, fills: vec![mosaic(half, 4); 3] },
        HideRegion { mask, fills: vec![Fill::Solid(0), mosaic(half, 4), mosaic(half, 4)] },
    ];
    for region in refused {
        let regions = [region];
        let job = RawObscureJob { picture, regions: &regions };
        // SAFETY: refused before anything is touched.
        assert!(unsafe { obscure_raw(&emulator, &[job], 4096) }.is_err(), "{regions:?}");
    }
}
