//! Which augmentations are applied to frames, and how likely each is.

use framerail_core::{augment::MAX_BLUR_KERNEL, surface::MAX_SIDE};

use crate::VisionError;

/// Ranges and probabilities of an augmentation. The default leaves frames unchanged.
///
/// Probabilities are 0 to 1. Values are drawn uniformly from their range, aspect ratios log-uniformly. Names, ranges and defaults of
/// the parts are those of `torchvision.transforms.v2`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augment {
    /// The part of each frame that is kept.
    pub crop: RandomCrop,
    /// Width and height of the output in pixels. Default: the size of the crop. Required with [`RandomCrop::Resized`].
    pub size: Option<(u32, u32)>,
    /// Weights all pixels when scaling down, instead of the nearest four: torchvision's `antialias=True`.
    pub antialias: bool,
    /// Probability of a horizontal flip.
    pub flip_horizontal: f64,
    /// Probability of a vertical flip.
    pub flip_vertical: f64,
    /// Colour adjustments.
    pub color_jitter: Option<ColorJitter>,
    /// Probability of conversion to grey.
    pub grayscale: f64,
    /// Gaussian blur.
    pub blur: Option<RandomBlur>,
    /// A rectangle that is overwritten: random erasing, or cutout.
    pub erase: Option<RandomErase>,
    /// Whether all frames of a clip share one draw.
    pub scope: AugmentScope,
}

/// How often numbers are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AugmentScope {
    /// Once for all frames of a clip, which preserves motion.
    #[default]
    Clip,
    /// For each frame.
    Frame,
}

/// How the kept part of a frame is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RandomCrop {
    /// The whole frame.
    #[default]
    Whole,
    /// A window of this size at a random position. Frames smaller than the window are an error.
    Window {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A window of random area and aspect ratio at a random position: torchvision's `RandomResizedCrop`. When ten draws do not fit,
    /// the largest centred window with an allowed aspect ratio.
    Resized {
        /// Minimum and maximum area as a fraction of the frame's; above 0, usually 0.08 to 1.
        area: [f64; 2],
        /// Minimum and maximum width / height; above 0, usually 3/4 to 4/3.
        aspect_ratio: [f64; 2],
    },
}

/// Colour adjustments in random order: torchvision's `ColorJitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorJitter {
    /// Probability that the adjustments are applied.
    pub probability: f64,
    /// Minimum and maximum brightness factor, 0 or more; `None` leaves brightness unchanged. torchvision's `b` is `[max(0, 1 - b), 1 + b]`.
    pub brightness: Option<[f64; 2]>,
    /// Minimum and maximum contrast factor, likewise.
    pub contrast: Option<[f64; 2]>,
    /// Minimum and maximum saturation factor, likewise.
    pub saturation: Option<[f64; 2]>,
    /// Minimum and maximum hue shift in turns, within -0.5 to 0.5.
    pub hue: Option<[f64; 2]>,
}

/// A Gaussian blur of random strength, with the same standard deviation across and down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomBlur {
    /// Probability that the blur is applied.
    pub probability: f64,
    /// Width and height of the kernel: odd, at most 127, and half of each must be smaller than the output's side.
    pub kernel: (u32, u32),
    /// Minimum and maximum standard deviation in pixels of the output; above 0, usually 0.1 to 2.
    pub sigma: [f64; 2],
}

/// Overwrites a rectangle at a random position: torchvision's `RandomErasing`. When ten draws do not fit, nothing is overwritten.
///
/// For cutout, use a square: an `area` of one value and an `aspect_ratio` of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomErase {
    /// Probability that a rectangle is overwritten.
    pub probability: f64,
    /// Minimum and maximum area as a fraction of the output's; above 0, usually 0.02 to 0.33.
    pub area: [f64; 2],
    /// Minimum and maximum height / width; above 0, usually 0.3 to 3.3.
    pub aspect_ratio: [f64; 2],
    /// Value of the rectangle's elements in each channel, after normalisation.
    pub fill: [f32; 3],
}

impl Augment {
    /// Returns width and height of the output for frames of this size.
    ///
    /// # Errors
    /// `OptionOutOfRange` when crops of random size have no `size` to be resized to.
    pub fn output_size(&self, width: u32, height: u32) -> Result<(u32, u32), VisionError> {
        match (self.size, self.crop) {
            (Some(size), _) => Ok(size),
            (None, RandomCrop::Whole) => Ok((width, height)),
            (None, RandomCrop::Window { width, height }) => Ok((width, height)),
            (None, RandomCrop::Resized { .. }) => {
                Err(VisionError::option("size", "not given", "width and height, because crops differ in size"))
            }
        }
    }

    /// Checks the probabilities and ranges that do not depend on the frames.
    ///
    /// # Errors
    /// `OptionOutOfRange` for the first value out of range.
    pub fn check(&self) -> Result<(), VisionError> {
        let sides = 1..=MAX_SIDE;
        if let Some((width, height)) = self.size.filter(|(width, height)| !sides.contains(width) || !sides.contains(height)) {
            return Err(VisionError::option("size", format!("{width}x{height}"), "sides from 1 to 32768"));
        }
        probability("flip_horizontal", self.flip_horizontal)?;
        probability("flip_vertical", self.flip_vertical)?;
        probability("grayscale", self.grayscale)?;
        if let RandomCrop::Resized { area, aspect_ratio } = self.crop {
            range("crop area", area, (f64::MIN_POSITIVE, 1.0), "two increasing numbers above 0 and up to 1")?;
            range("crop aspect_ratio", aspect_ratio, ASPECT_RATIOS, "two increasing numbers from 0.001 to 1000")?;
        }
        self.color_jitter.map_or(Ok(()), |jitter| jitter.check())?;
        self.blur.map_or(Ok(()), |blur| blur.check())?;
        self.erase.map_or(Ok(()), |erase| erase.check())
    }
}

const ASPECT_RATIOS: (f64, f64) = (1e-3, 1e3);

impl ColorJitter {
    fn check(&self) -> Result<(), VisionError> {
        probability("color_jitter probability", self.probability)?;
        for (name, factors) in [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)] {
            factors.map_or(Ok(()), |factors| range(name, factors, (0.0, 1e6), "two increasing numbers from 0 to 1000000"))?;
        }
        self.hue.map_or(Ok(()), |turns| range("hue", turns, (-0.5, 0.5), "two increasing numbers from -0.5 to 0.5"))
    }
}

impl RandomBlur {
    fn check(&self) -> Result<(), VisionError> {
        probability("blur probability", self.probability)?;
        let (across, down) = self.kernel;
        if [across, down].iter().any(|side| side % 2 == 0 || *side > MAX_BLUR_KERNEL) {
            return Err(VisionError::option("blur kernel", format!("{across}x{down}"), "odd numbers from 1 to 127"));
        }
        range("blur sigma", self.sigma, (1e-6, 1e6), "two increasing numbers from 0.000001 to 1000000")
    }
}

impl RandomErase {
    fn check(&self) -> Result<(), VisionError> {
        probability("erase probability", self.probability)?;
        range("erase area", self.area, (f64::MIN_POSITIVE, 1.0), "two increasing numbers above 0 and up to 1")?;
        range("erase aspect_ratio", self.aspect_ratio, ASPECT_RATIOS, "two increasing numbers from 0.001 to 1000")?;
        if self.fill.iter().any(|fill| !fill.is_finite()) {
            return Err(VisionError::option("erase fill", format!("{:?}", self.fill), "finite numbers"));
        }
        Ok(())
    }
}

fn probability(name: &'static str, given: f64) -> Result<(), VisionError> {
    if (0.0..=1.0).contains(&given) { Ok(()) } else { Err(VisionError::option(name, given, "a probability from 0 to 1")) }
}

fn range(name: &'static str, [low, high]: [f64; 2], (least, most): (f64, f64), expected: &'static str) -> Result<(), VisionError> {
    // Written so that NaN fails.
    let is_fine = low >= least && low <= high && high <= most;
    if is_fine { Ok(()) } else { Err(VisionError::option(name, format!("{low} to {high}"), expected)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Augment)) -> String {
        let mut augment = Augment::default();
        change(&mut augment);
        augment.check().expect_err("out of range").to_string()
    }

    #[test]
    fn the_output_has_the_size_that_was_asked_for_or_that_of_the_crop() {
        let mut augment = Augment::default();
        assert_eq!(augment.output_size(64, 48).expect("whole"), (64, 48));
        augment.crop = RandomCrop::Window { width: 10, height: 20 };
        assert_eq!(augment.output_size(64, 48).expect("a window"), (10, 20));
        augment.crop = RandomCrop::Resized { area: [0.08, 1.0], aspect_ratio: [0.75, 4.0 / 3.0] };
        assert!(augment.output_size(64, 48).is_err());
        augment.size = Some((32, 16));
        assert_eq!(augment.output_size(64, 48).expect("given"), (32, 16));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let jitter = ColorJitter { probability: 1.0, brightness: None, contrast: None, saturation: None, hue: None };
        let blur = RandomBlur { probability: 1.0, kernel: (3, 3), sigma: [0.1, 2.0] };
        let erase = RandomErase { probability: 1.0, area: [0.1, 0.2], aspect_ratio: [1.0, 1.0], fill: [0.0; 3] };
        assert_eq!(refusal(|a| a.flip_vertical = 1.1), "flip_vertical is 1.1; give a probability from 0 to 1");
        assert_eq!(refusal(|a| a.size = Some((0, 4))), "size is 0x4; give sides from 1 to 32768");
        assert!(refusal(|a| a.grayscale = f64::NAN).starts_with("grayscale is NaN"));
        assert!(
            refusal(|a| a.crop = RandomCrop::Resized { area: [0.0, 1.0], aspect_ratio: [1.0, 1.0] }).starts_with("crop area is 0 to 1")
        );
        assert!(refusal(|a| a.color_jitter = Some(ColorJitter { hue: Some([-0.6, 0.1]), ..jitter })).starts_with("hue is -0.6 to 0.1"));
        assert!(refusal(|a| a.color_jitter = Some(ColorJitter { contrast: Some([1.2, 0.8]), ..jitter })).starts_with("contrast is 1.2 to"));
        assert_eq!(refusal(|a| a.blur = Some(RandomBlur { kernel: (3, 4), ..blur })), "blur kernel is 3x4; give odd numbers from 1 to 127");
        assert!(refusal(|a| a.blur = Some(RandomBlur { sigma: [0.0, 1.0], ..blur })).starts_with("blur sigma is 0 to 1"));
        assert!(refusal(|a| a.erase = Some(RandomErase { fill: [f32::NAN; 3], ..erase })).starts_with("erase fill is"));
        assert!(refusal(|a| a.erase = Some(RandomErase { area: [0.5, 1.5], ..erase })).starts_with("erase area is 0.5 to 1.5"));
    }
}
