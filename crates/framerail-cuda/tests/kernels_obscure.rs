//! Hiding kernels, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::{BBox, FillPlan, HidePlan, MaskCover, MaskPlan, MosaicPlan, Outline, PixelFormat, Region};
use framerail_cuda::kernels::{RawObscureJob, obscure_raw};
use kernels_cases::{Noise, obscure as cases};

#[test]
fn hides_as_the_host_does() {
    cases::hides_as_the_host_does(&Emulator::default());
}

#[test]
fn many_regions_of_many_frames_take_several_launches() {
    cases::many_regions_of_many_frames_take_several_launches(&Emulator::default());
}

#[test]
fn regions_that_do_not_fit_are_refused() {
    let (mut noise, emulator) = (Noise(1), Emulator::default());
    let image = emulator.image(&noise.image(PixelFormat::Nv12, 32, 32));
    let region = Region { x: 8, y: 8, width: 8, height: 8 };
    let outline = Outline::Rectangle { half_width: 4.0, half_height: 4.0 };
    let cover = MaskCover::Outline { center: (12.0, 12.0), outline, feather: 0.0 };
    let mask = || MaskPlan { region, bounds: BBox::from_xyxy(8.0, 8.0, 16.0, 16.0), cover: cover.clone() };
    let mosaic = |source, cell| FillPlan::Mosaic(MosaicPlan { source, origin_x: 0, origin_y: 0, cell });
    let beyond = MaskPlan { region: Region { x: 30, ..region }, ..mask() };
    let short = MaskPlan { cover: MaskCover::Raster(vec![255; 63].into()), ..mask() };
    let half = Region { x: 4, y: 4, width: 4, height: 4 };
    let refused = [
        HidePlan { mask: beyond, fills: vec![FillPlan::Solid(0); 3] },
        HidePlan { mask: short, fills: vec![FillPlan::Solid(0); 3] },
        HidePlan { mask: mask(), fills: vec![FillPlan::Solid(0); 2] },
        HidePlan { mask: mask(), fills: vec![mosaic(region, 0), mosaic(half, 0), mosaic(half, 0)] },
        HidePlan { mask: mask(), fills: vec![mosaic(half, 4); 3] },
        HidePlan { mask: mask(), fills: vec![FillPlan::Solid(0), mosaic(half, 4), mosaic(half, 4)] },
    ];
    for region in refused {
        let regions = [region];
        let job = RawObscureJob { image, regions: &regions };
        // SAFETY: rejected before memory is accessed.
        assert!(unsafe { obscure_raw(&emulator, &[job], 4096, 8192) }.is_err(), "{regions:?}");
    }
}
