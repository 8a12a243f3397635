//! Augmentation parameters as plain numbers: drawn in one place, applied on the CPU or the GPU.
//!
//! # Order and formulas
//! Values are RGB in 0..=1 as 32-bit floats; intermediate results are not rounded. Each image is
//! 1. cropped to `crop` and resized to the output size (bilinear, pixel centres at halves, edge pixels of the crop repeated);
//! 2. flipped;
//! 3. adjusted by the steps of `color`, in their order;
//! 4. converted to grey in three equal channels, if requested;
//! 5. blurred;
//! 6. normalised: an element is `(255 · value · scale - mean[c]) / std[c]`;
//! 7. erased inside `erase`; the fill value is in output elements.
//!
//! `U8` elements are rounded to nearest (ties to even) and clamped to 0..=255.
//!
//! The formulas are those of `torchvision.transforms.v2.functional` on float images (`resized_crop`, `adjust_brightness`,
//! `adjust_contrast`, `adjust_saturation`, `adjust_hue`, `rgb_to_grayscale`, `gaussian_blur`, `normalize`, `erase`).
//! Grey is `0.2989 R + 0.587 G + 0.114 B`.

use crate::{DType, Region, TensorLayout, surface::MAX_SIDE};

/// Maximum side of a [`GaussianBlur`] kernel.
pub const MAX_BLUR_KERNEL: u32 = 127;

/// One colour adjustment. The first three clamp their results to 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ColorStep {
    /// Leaves the image unchanged.
    #[default]
    None,
    /// Multiplies every value; 0 yields black, 1 changes nothing.
    Brightness(f32),
    /// Blends with the mean grey of the image at this step: `value · f + mean · (1 - f)`. At most once per image.
    Contrast(f32),
    /// Blends each pixel with its grey: `value · f + grey · (1 - f)`.
    Saturation(f32),
    /// Rotates the hue, in turns from -0.5 to 0.5. HSV saturation and value are kept.
    Hue(f32),
}

impl ColorStep {
    /// The factor or shift of this step.
    fn amount(self) -> Option<f32> {
        match self {
            ColorStep::None => None,
            ColorStep::Brightness(amount) | ColorStep::Contrast(amount) | ColorStep::Saturation(amount) | ColorStep::Hue(amount) => {
                Some(amount)
            }
        }
    }
}

/// A separable Gaussian blur. Borders are mirrored without repeating the edge pixel (reflect padding).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianBlur {
    /// Kernel width and height: odd, at most [`MAX_BLUR_KERNEL`]; half of each must be smaller than the output side.
    pub kernel: [u32; 2],
    /// Horizontal and vertical standard deviation in output pixels; above 0. Weights are `exp(-d² / 2σ²)`, normalised to sum 1.
    pub sigma: [f32; 2],
}

/// A rectangle of the output that is overwritten with a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Erasure {
    /// The rectangle, in output pixels.
    pub region: Region,
    /// Fill element for each channel, applied after normalisation; 0 is then the mean colour.
    pub fill: [f32; 3],
}

/// The augmentation of one image, applied in the order given in the [module docs](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentParams {
    /// Part of the input that becomes the output, in input pixels.
    pub crop: Region,
    /// When downscaling, widens the triangle filter to all covered pixels instead of the nearest four.
    pub antialias: bool,
    /// Mirrors left to right.
    pub flip_horizontal: bool,
    /// Mirrors top to bottom.
    pub flip_vertical: bool,
    /// Colour adjustments, applied in order.
    pub color: [ColorStep; 4],
    /// Converts to grey.
    pub grayscale: bool,
    /// Gaussian blur.
    pub blur: Option<GaussianBlur>,
    /// Rectangle to overwrite.
    pub erase: Option<Erasure>,
}

impl AugmentParams {
    /// Resizes the whole image, with no other change.
    pub fn whole(width: u32, height: u32) -> Self {
        Self {
            crop: Region { x: 0, y: 0, width, height },
            antialias: false,
            flip_horizontal: false,
            flip_vertical: false,
            color: [ColorStep::None; 4],
            grayscale: false,
            blur: None,
            erase: None,
        }
    }

    /// Index of the contrast step in [`AugmentParams::color`], if there is one.
    pub fn contrast_step(&self) -> Option<usize> {
        self.color.iter().position(|step| matches!(step, ColorStep::Contrast(_)))
    }
}

/// Input and output batch: dense RGB images, one after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentSpec {
    /// Input batch. Elements are `U8`, or `F32` in 0..=1.
    pub input: BatchSpec,
    /// Output batch, of any element type.
    pub output: BatchSpec,
    /// Multiplies the values in 0..=255 before normalisation: usually 1 or 1/255.
    pub scale: f32,
    /// Subtracted from each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel last; never 0.
    pub std: [f32; 3],
}

/// A batch of three-channel images in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Planar or interleaved channels.
    pub layout: TensorLayout,
    /// Element type, native endian.
    pub dtype: DType,
}

impl BatchSpec {
    /// Number of elements in one channel of one image.
    pub fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Size of one image in bytes.
    pub fn image_bytes(&self) -> usize {
        self.pixels() * 3 * self.dtype.size_bytes()
    }

    /// Elements from one pixel to the next, and from one channel to the next.
    pub fn steps(&self) -> (usize, usize) {
        match self.layout {
            TensorLayout::Tchw => (1, self.pixels()),
            TensorLayout::Thwc => (3, 1),
        }
    }

    fn fault(&self) -> Option<String> {
        let sides = 1..=MAX_SIDE;
        let is_fine = sides.contains(&self.width) && sides.contains(&self.height);
        (!is_fine).then(|| format!("images of {}x{}: width and height must be from 1 to {MAX_SIDE}", self.width, self.height))
    }
}

impl AugmentSpec {
    /// Gain and shift for each channel: a value in 0..=1 becomes the element `value · gain + shift`.
    pub fn normalisation(&self) -> [(f32, f32); 3] {
        [0, 1, 2].map(|c| ((255.0 * f64::from(self.scale) / f64::from(self.std[c])) as f32, -self.mean[c] / self.std[c]))
    }

    /// Describes the first invalid setting, if any.
    pub fn fault(&self) -> Option<String> {
        if let Some(fault) = self.input.fault().or_else(|| self.output.fault()) {
            return Some(fault);
        }
        if !matches!(self.input.dtype, DType::U8 | DType::F32) {
            return Some(format!("input images must be U8 or F32, not {:?}", self.input.dtype));
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&[self.scale]) || !finite(&self.mean) {
            return Some(format!("scale is {} and mean is {:?}; give finite numbers", self.scale, self.mean));
        }
        self.std.iter().any(|std| !std.is_normal()).then(|| format!("std is {:?}; give finite numbers other than 0", self.std))
    }

    /// Describes why `params` do not fit these batches, if they do not.
    pub fn misfit(&self, params: &AugmentParams) -> Option<String> {
        let (input, output) = (&self.input, &self.output);
        let inside = |region: &Region, batch: &BatchSpec| {
            let fits = |first: u32, count: u32, side: u32| count > 0 && first.checked_add(count).is_some_and(|end| end <= side);
            fits(region.x, region.width, batch.width) && fits(region.y, region.height, batch.height)
        };
        if !inside(&params.crop, input) {
            return Some(format!("{:?} is outside of an image of {}x{}", params.crop, input.width, input.height));
        }
        if let Some(erase) = params.erase.filter(|erase| !inside(&erase.region, output) || erase.fill.iter().any(|fill| fill.is_nan())) {
            return Some(format!("{erase:?} does not fit an output of {}x{}", output.width, output.height));
        }
        let blur_fits = |blur: &GaussianBlur| {
            let axis = |kernel: u32, sigma: f32, side: u32| {
                kernel % 2 == 1 && kernel <= MAX_BLUR_KERNEL && kernel / 2 < side && sigma.is_normal() && sigma > 0.0
            };
            axis(blur.kernel[0], blur.sigma[0], output.width) && axis(blur.kernel[1], blur.sigma[1], output.height)
        };
        if let Some(blur) = params.blur.filter(|blur| !blur_fits(blur)) {
            let (width, height) = (output.width, output.height);
            return Some(format!(
                "{blur:?} for an output of {width}x{height}: kernels must be odd, at most {MAX_BLUR_KERNEL} and below twice the side; \
                 sigma must be above 0"
            ));
        }
        let range = |step: &ColorStep| match step {
            ColorStep::Hue(turns) => turns.abs() <= 0.5,
            step => step.amount().is_none_or(|amount| amount.is_finite() && amount >= 0.0),
        };
        if let Some(step) = params.color.iter().find(|step| !range(step)) {
            return Some(format!("{step:?}: hue must be from -0.5 to 0.5, other factors 0 or more"));
        }
        let contrasts = params.color.iter().filter(|step| matches!(step, ColorStep::Contrast(_))).count();
        (contrasts > 1).then(|| format!("contrast is adjusted {contrasts} times; once is the maximum"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> AugmentSpec {
        let batch = |width, height| BatchSpec { width, height, layout: TensorLayout::Tchw, dtype: DType::U8 };
        AugmentSpec { input: batch(40, 30), output: batch(16, 12), scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
    }

    #[test]
    fn a_whole_image_fits() {
        assert_eq!(spec().fault(), None);
        assert_eq!(spec().misfit(&AugmentParams::whole(40, 30)), None);
        assert_eq!(spec().normalisation(), [(255.0, 0.0); 3]);
        assert_eq!((spec().output.image_bytes(), spec().output.steps()), (576, (1, 192)));
    }

    #[test]
    fn what_is_wrong_with_batches_is_reported() {
        let fault = |change: &dyn Fn(&mut AugmentSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.fault().expect("wrong")
        };
        assert_eq!(fault(&|spec| spec.input.width = 0), "images of 0x30: width and height must be from 1 to 32768");
        assert_eq!(fault(&|spec| spec.output.height = 40_000), "images of 16x40000: width and height must be from 1 to 32768");
        assert_eq!(fault(&|spec| spec.input.dtype = DType::F16), "input images must be U8 or F32, not F16");
        assert!(fault(&|spec| spec.scale = f32::NAN).starts_with("scale is NaN"));
        assert_eq!(fault(&|spec| spec.std[1] = 0.0), "std is [1.0, 0.0, 1.0]; give finite numbers other than 0");
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let misfit = |change: &dyn Fn(&mut AugmentParams)| {
            let mut params = AugmentParams::whole(40, 30);
            change(&mut params);
            spec().misfit(&params).expect("does not fit")
        };
        let region = |x, width| Region { x, y: 0, width, height: 5 };
        assert!(misfit(&|params| params.crop = region(1, 40)).contains("is outside of an image of 40x30"));
        assert!(misfit(&|params| params.crop = region(u32::MAX, 2)).contains("is outside of"));
        assert!(misfit(&|params| params.crop = region(0, 0)).contains("is outside of"));
        assert!(misfit(&|params| params.erase = Some(Erasure { region: region(10, 7), fill: [0.0; 3] })).contains("an output of 16x12"));
        for (kernel, sigma) in [([4, 3], 1.0), ([3, 25], 1.0), ([3, 3], 0.0), ([129, 3], 1.0), ([3, 3], f32::NAN)] {
            assert!(misfit(&|params| params.blur = Some(GaussianBlur { kernel, sigma: [sigma; 2] })).contains("kernels must be odd"));
        }
        assert!(misfit(&|params| params.color[2] = ColorStep::Hue(0.6)).starts_with("Hue(0.6)"));
        assert!(misfit(&|params| params.color[0] = ColorStep::Brightness(-0.1)).starts_with("Brightness(-0.1)"));
        assert!(misfit(&|params| params.color = [ColorStep::Contrast(1.0); 4]).starts_with("contrast is adjusted 4 times"));
    }
}
