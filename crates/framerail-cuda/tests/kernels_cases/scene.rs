//! Compares brightness histograms with framerail-vision.

use framerail_core::{HostSurface, PixelFormat};
use framerail_vision::histogram;

use super::{Card, Noise};

pub fn histograms_are_those_of_the_host_in_every_format(card: &dyn Card) {
    let mut noise = Noise(71);
    for &format in PixelFormat::ALL {
        let sizes = [(64, 48), (33, 21), (1, 1), (530, 7), (129, 257), (4, 5)];
        let pictures: Vec<HostSurface> = sizes.iter().map(|(width, height)| noise.picture(format, *width, *height)).collect();
        for (found, picture) in card.histograms(&pictures).into_iter().zip(&pictures) {
            assert_eq!(found, histogram(picture), "{picture:?}");
            assert_eq!(found.iter().sum::<u32>(), picture.width().div_ceil(4) * picture.height().div_ceil(4), "{picture:?}");
        }
    }
}

pub fn many_frames_take_several_launches(card: &dyn Card) {
    let mut noise = Noise(72);
    let formats = [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv444p];
    let pictures: Vec<HostSurface> = (0..150)
        .map(|_| {
            let (format, width, height) = (noise.pick(&formats), 1 + noise.below(200), 1 + noise.below(90));
            noise.picture(format, width, height)
        })
        .collect();
    let expected: Vec<_> = pictures.iter().map(histogram).collect();
    assert!(card.histograms(&pictures) == expected);
    assert!(card.histograms(&[]).is_empty());
}
