//! Histogram kernel, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::{HistogramPlan, PixelFormat};
use framerail_cuda::kernels::{HISTOGRAM_BYTES, RawHistogramJob, RawImage, count_histograms_raw, read_histograms};
use kernels_cases::{Noise, scene as cases};

#[test]
fn histograms_are_those_of_the_host_in_every_format() {
    cases::histograms_are_those_of_the_host_in_every_format(&Emulator::default());
}

#[test]
fn many_frames_take_several_launches() {
    cases::many_frames_take_several_launches(&Emulator::default());
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut noise, emulator) = (Noise(1), Emulator::default());
    let image = emulator.image(&noise.image(PixelFormat::Nv12, 32, 32));
    let plan = HistogramPlan { component: 0, spacing: 4, shift: 3 };
    let refused = [
        RawHistogramJob { image, plan: HistogramPlan { component: 3, ..plan } },
        RawHistogramJob { image, plan: HistogramPlan { spacing: 0, ..plan } },
        RawHistogramJob { image, plan: HistogramPlan { spacing: u32::MAX, ..plan } },
        RawHistogramJob { image, plan: HistogramPlan { shift: 32, ..plan } },
        RawHistogramJob { image: RawImage { pitches_bytes: [31; 4], ..image }, plan },
    ];
    for job in refused {
        // SAFETY: rejected before memory is accessed.
        assert!(unsafe { count_histograms_raw(&emulator, &[job], 4096) }.is_err(), "{job:?}");
    }
    assert!(read_histograms(2, &[0; 2 * HISTOGRAM_BYTES - 1]).is_err());
    assert_eq!(read_histograms(2, &[1; 2 * HISTOGRAM_BYTES + 9]).expect("enough"), [[0x0101_0101; 32]; 2]);
}
