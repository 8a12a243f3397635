//! Compares brightness histograms with framerail-vision.

use framerail_core::{HostSurface, PixelFormat};
use framerail_vision::histogram;

use super::{KernelRunner, Noise};

pub fn histograms_are_those_of_the_host_in_every_format(gpu: &dyn KernelRunner) {
    let mut noise = Noise(71);
    for &format in PixelFormat::ALL {
        let sizes = [(64, 48), (33, 21), (1, 1), (530, 7), (129, 257), (4, 5)];
        let images: Vec<HostSurface> = sizes.iter().map(|(width, height)| noise.image(format, *width, *height)).collect();
        for (found, image) in gpu.histograms(&images).into_iter().zip(&images) {
            assert_eq!(found, histogram(image), "{image:?}");
            assert_eq!(found.iter().sum::<u32>(), image.width().div_ceil(4) * image.height().div_ceil(4), "{image:?}");
        }
    }
}

pub fn many_frames_take_several_launches(gpu: &dyn KernelRunner) {
    let mut noise = Noise(72);
    let formats = [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv444p];
    let images: Vec<HostSurface> = (0..150)
        .map(|_| {
            let (format, width, height) = (noise.pick(&formats), 1 + noise.below(200), 1 + noise.below(90));
            noise.image(format, width, height)
        })
        .collect();
    let expected: Vec<_> = images.iter().map(histogram).collect();
    assert!(gpu.histograms(&images) == expected);
    assert!(gpu.histograms(&[]).is_empty());
}
