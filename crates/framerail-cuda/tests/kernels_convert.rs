//! Conversion kernels, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::{DType, PixelFormat, Resize, TensorLayout};
use framerail_cuda::kernels::{
    ChannelMix, ChannelOrder, Conversion, CropWindow, FastYuv, Placement, RawConvertJob, RawImage, RawTables, Sampling, TensorSpec,
    convert_raw,
};
use kernels_cases::{Noise, convert as cases};

#[test]
fn equals_the_host_for_every_format_size_crop_and_type() {
    cases::equals_the_host_for_every_format_size_crop_and_type(&Emulator::default());
}

#[test]
fn nv12_at_its_own_size_takes_the_kernel_for_it_and_equals_the_other() {
    cases::nv12_at_its_own_size_takes_the_kernel_for_it_and_equals_the_other(&Emulator::default());
}

#[test]
fn ten_bits_in_the_high_bits_equal_the_codes_of_the_planar_format() {
    cases::ten_bits_in_the_high_bits_equal_the_codes_of_the_planar_format(&Emulator::default());
}

#[test]
fn hsv_follows_opencv() {
    cases::hsv_follows_opencv(&Emulator::default());
}

#[test]
fn batches_of_many_formats_and_sizes_land_where_they_should() {
    cases::batches_of_many_formats_and_sizes_land_where_they_should(&Emulator::default());
}

#[test]
fn filters_equal_the_host_for_every_format_size_and_type() {
    cases::filters_equal_the_host_for_every_format_size_and_type(&Emulator::default());
}

#[test]
fn high_range_is_mapped_as_on_the_host() {
    cases::high_range_is_mapped_as_on_the_host(&Emulator::default());
}

#[test]
fn jobs_that_do_not_fit_are_refused() {
    let (mut noise, emulator) = (Noise(1), Emulator::default());
    let image = noise.image(PixelFormat::Nv12, 32, 32);
    let conversion = Conversion {
        window: CropWindow { x: 0.0, y: 0.0, width: 32.0, height: 32.0 },
        placement: Placement { left: 0, top: 0, width: 16, height: 16 },
        resized: (16, 16),
        cut: (0, 0),
        sampling: Sampling::Bilinear,
        mixes: [ChannelMix::default(); 3],
        padding: [0.0; 3],
        fast: None,
        in_bytes: false,
        value_shift: 0,
    };
    let tensor = TensorSpec { width: 16, height: 16, layout: TensorLayout::Tchw, dtype: DType::F32, channel_order: ChannelOrder::Rgb };
    let good = RawConvertJob { image: emulator.image(&image), conversion, tables: RawTables::default(), out: 4096 };
    let wide = |mut job: RawConvertJob| {
        job.conversion.placement.left = u32::MAX;
        job
    };
    let refused = [
        RawConvertJob { out: 4098, ..good },
        RawConvertJob { conversion: Conversion { window: CropWindow { x: f32::NAN, ..conversion.window }, ..conversion }, ..good },
        RawConvertJob { conversion: Conversion { window: CropWindow { width: 0.0, ..conversion.window }, ..conversion }, ..good },
        RawConvertJob { conversion: Conversion { fast: Some(FastYuv::default()), ..conversion }, ..good },
        RawConvertJob { image: RawImage { width: 100_000, ..good.image }, ..good },
        RawConvertJob { image: RawImage { pitches_bytes: [31; 4], ..good.image }, ..good },
        wide(good),
        // A filter without its tables.
        RawConvertJob { conversion: Conversion { sampling: Sampling::Filter(Resize::default()), ..conversion }, ..good },
    ];
    for job in refused {
        // SAFETY: rejected before memory is accessed.
        assert!(unsafe { convert_raw(&emulator, &tensor, &[job]) }.is_err(), "{job:?}");
    }
}
