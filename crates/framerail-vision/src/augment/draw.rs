//! Draws the parameters of an augmentation from a seed.
//!
//! Each part draws from a separate sequence: [`SplitMix64::of`] seed, clip, frame (0 when a clip's frames share one draw) and part
//! number. So switching one part on or off does not change the others. Within a part, numbers are drawn in the order of the code;
//! that order is part of the interface.

use framerail_core::{AugmentParams, ColorStep, Erasure, GaussianBlur, Region, SplitMix64};

use super::{Augment, AugmentScope, ColorJitter, RandomBlur, RandomCrop, RandomErase};
use crate::VisionError;

/// Attempts to draw a window that fits, before falling back.
const TRIES: usize = 10;

/// Part numbers.
const CROP: u64 = 0;
const FLIPS: u64 = 1;
const COLOR: u64 = 2;
const GRAYSCALE: u64 = 3;
const BLUR: u64 = 4;
const ERASE: u64 = 5;

impl Augment {
    /// Draws the parameters of each frame of a clip whose frames are `width` by `height`.
    ///
    /// The same seed and clip give the same numbers on every machine and in every version. For a data set, mix epoch and file into
    /// the seed: [`SplitMix64::of`].
    ///
    /// # Errors
    /// `OptionOutOfRange` for invalid ranges, and for crops and blurs that do not fit the frames.
    pub fn draw(&self, seed: u64, clip: u64, frames: usize, width: u32, height: u32) -> Result<Vec<AugmentParams>, VisionError> {
        self.check()?;
        let output = self.output_size(width, height)?;
        self.check_images(width, height, output)?;
        let one = |frame: u64| {
            let part = |number| SplitMix64::of(seed, &[clip, frame, number]);
            self.draw_one(part, width, height, output)
        };
        Ok(match self.scope {
            AugmentScope::Clip => vec![one(0); frames],
            AugmentScope::Frame => (0..frames as u64).map(one).collect(),
        })
    }

    fn check_images(&self, width: u32, height: u32, output: (u32, u32)) -> Result<(), VisionError> {
        if width == 0 || height == 0 {
            return Err(VisionError::option("image size", format!("{width}x{height}"), "sides above 0"));
        }
        if let RandomCrop::Window { width: columns, height: rows } = self.crop
            && (columns == 0 || rows == 0 || columns > width || rows > height)
        {
            let given = format!("{columns}x{rows} for an image of {width}x{height}");
            return Err(VisionError::option("crop", given, "a window that fits into the images"));
        }
        if let Some(RandomBlur { kernel: (across, down), .. }) = self.blur
            && (across / 2 >= output.0 || down / 2 >= output.1)
        {
            let given = format!("{across}x{down} for an output of {}x{}", output.0, output.1);
            return Err(VisionError::option("blur kernel", given, "sides whose half is smaller than the output's"));
        }
        Ok(())
    }

    fn draw_one(&self, part: impl Fn(u64) -> SplitMix64, width: u32, height: u32, output: (u32, u32)) -> AugmentParams {
        let mut flips = part(FLIPS);
        AugmentParams {
            crop: self.crop.draw(part(CROP), width, height),
            antialias: self.antialias,
            flip_horizontal: flips.chance(self.flip_horizontal),
            flip_vertical: flips.chance(self.flip_vertical),
            color: self.color_jitter.map_or([ColorStep::None; 4], |jitter| jitter.draw(part(COLOR))),
            grayscale: part(GRAYSCALE).chance(self.grayscale),
            blur: self.blur.and_then(|blur| blur.draw(part(BLUR))),
            erase: self.erase.and_then(|erase| erase.draw(part(ERASE), output)),
        }
    }
}

/// Draws a position for `width` by `height` pixels within `columns` by `rows`: row first, as in torchvision.
fn place(random: &mut SplitMix64, width: u32, height: u32, columns: u32, rows: u32) -> Region {
    let y = random.below(u64::from(rows - height) + 1) as u32;
    let x = random.below(u64::from(columns - width) + 1) as u32;
    Region { x, y, width, height }
}

/// Draws an area and a ratio. Returns the sides of a rectangle of that area; the ratio is first side / second side.
fn sides(random: &mut SplitMix64, pixels: f64, area: [f64; 2], ratio: [f64; 2]) -> (f64, f64) {
    let area = pixels * random.between(area[0], area[1]);
    let ratio = random.between(ratio[0].ln(), ratio[1].ln()).exp();
    ((area * ratio).sqrt().round(), (area / ratio).sqrt().round())
}

impl RandomCrop {
    fn draw(&self, mut random: SplitMix64, columns: u32, rows: u32) -> Region {
        match *self {
            RandomCrop::Whole => Region { x: 0, y: 0, width: columns, height: rows },
            RandomCrop::Window { width, height } => place(&mut random, width, height, columns, rows),
            RandomCrop::Resized { area, aspect_ratio } => {
                let pixels = f64::from(columns) * f64::from(rows);
                for _ in 0..TRIES {
                    let (width, height) = sides(&mut random, pixels, area, aspect_ratio);
                    if (1.0..=f64::from(columns)).contains(&width) && (1.0..=f64::from(rows)).contains(&height) {
                        return place(&mut random, width as u32, height as u32, columns, rows);
                    }
                }
                middle(columns, rows, aspect_ratio)
            }
        }
    }
}

/// The largest centred window with an allowed aspect ratio.
fn middle(columns: u32, rows: u32, [least, most]: [f64; 2]) -> Region {
    let shape = f64::from(columns) / f64::from(rows);
    let side = |length: f64, limit: u32| (length.round() as u32).clamp(1, limit);
    let (width, height) = if shape < least {
        (columns, side(f64::from(columns) / least, rows))
    } else if shape > most {
        (side(f64::from(rows) * most, columns), rows)
    } else {
        (columns, rows)
    };
    Region { x: (columns - width) / 2, y: (rows - height) / 2, width, height }
}

impl ColorJitter {
    /// Draws whether to apply the jitter, the four factors (even unused ones), and the order: a Fisher-Yates shuffle from the last place.
    fn draw(&self, mut random: SplitMix64) -> [ColorStep; 4] {
        let is_used = random.chance(self.probability);
        let mut factor = |range: Option<[f64; 2]>, step: fn(f32) -> ColorStep| {
            let [low, high] = range.unwrap_or_default();
            let drawn = random.between(low, high) as f32;
            range.map_or(ColorStep::None, |_| step(drawn))
        };
        let mut steps = [
            factor(self.brightness, ColorStep::Brightness),
            factor(self.contrast, ColorStep::Contrast),
            factor(self.saturation, ColorStep::Saturation),
            factor(self.hue, ColorStep::Hue),
        ];
        for last in (1..steps.len()).rev() {
            steps.swap(last, random.below(last as u64 + 1) as usize);
        }
        if is_used { steps } else { [ColorStep::None; 4] }
    }
}

impl RandomBlur {
    fn draw(&self, mut random: SplitMix64) -> Option<GaussianBlur> {
        let is_used = random.chance(self.probability);
        let sigma = random.between(self.sigma[0], self.sigma[1]) as f32;
        is_used.then_some(GaussianBlur { kernel: [self.kernel.0, self.kernel.1], sigma: [sigma; 2] })
    }
}

impl RandomErase {
    fn draw(&self, mut random: SplitMix64, (columns, rows): (u32, u32)) -> Option<Erasure> {
        if !random.chance(self.probability) {
            return None;
        }
        let pixels = f64::from(columns) * f64::from(rows);
        (0..TRIES).find_map(|_| {
            let (height, width) = sides(&mut random, pixels, self.area, self.aspect_ratio);
            // A rectangle as wide or as high as the output is rejected, as in torchvision.
            let fits = width >= 1.0 && height >= 1.0 && width < f64::from(columns) && height < f64::from(rows);
            fits.then(|| Erasure { region: place(&mut random, width as u32, height as u32, columns, rows), fill: self.fill })
        })
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{AugmentSpec, BatchSpec, DType, TensorLayout};
    use proptest::prelude::*;

    use super::*;

    fn everything(scope: AugmentScope) -> Augment {
        Augment {
            crop: RandomCrop::Resized { area: [0.08, 1.0], aspect_ratio: [0.75, 4.0 / 3.0] },
            size: Some((24, 16)),
            antialias: true,
            flip_horizontal: 0.5,
            flip_vertical: 0.5,
            color_jitter: Some(ColorJitter {
                probability: 0.8,
                brightness: Some([0.6, 1.4]),
                contrast: Some([0.5, 1.5]),
                saturation: Some([0.7, 1.3]),
                hue: Some([-0.1, 0.1]),
            }),
            grayscale: 0.2,
            blur: Some(RandomBlur { probability: 0.5, kernel: (5, 3), sigma: [0.1, 2.0] }),
            erase: Some(RandomErase { probability: 0.5, area: [0.02, 0.33], aspect_ratio: [0.3, 3.3], fill: [0.0; 3] }),
            scope,
        }
    }

    fn draw(augment: &Augment, seed: u64, clip: u64) -> Vec<AugmentParams> {
        augment.draw(seed, clip, 64, 64, 48).expect("fitting")
    }

    #[test]
    fn what_is_drawn_from_a_seed_stays_the_same() {
        let drawn = everything(AugmentScope::Clip).draw(7, 3, 1, 320, 240).expect("fitting").remove(0);
        // Part of the interface: these numbers must not change.
        let expected = AugmentParams {
            crop: Region { x: 77, y: 47, width: 185, height: 157 },
            antialias: true,
            flip_horizontal: true,
            flip_vertical: false,
            color: [
                ColorStep::Brightness(1.050_795_6),
                ColorStep::Hue(0.016_344_458),
                ColorStep::Contrast(1.441_096_8),
                ColorStep::Saturation(0.931_626_8),
            ],
            grayscale: false,
            blur: Some(GaussianBlur { kernel: [5, 3], sigma: [0.306_653_2; 2] }),
            erase: Some(Erasure { region: Region { x: 1, y: 2, width: 17, height: 7 }, fill: [0.0; 3] }),
        };
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_clip_shares_one_draw_unless_frames_have_their_own() {
        let (clip, frame) = (draw(&everything(AugmentScope::Clip), 1, 0), draw(&everything(AugmentScope::Frame), 1, 0));
        assert!(clip.iter().all(|params| *params == clip[0]));
        assert_eq!(frame[0], clip[0]);
        assert!(frame[1..].iter().all(|params| params.crop != clip[0].crop));
        assert_ne!(draw(&everything(AugmentScope::Clip), 1, 1), clip);
        assert_ne!(draw(&everything(AugmentScope::Clip), 2, 0), clip);
    }

    #[test]
    fn a_part_does_not_change_the_others() {
        let full = draw(&everything(AugmentScope::Frame), 5, 9);
        let fewer = Augment { crop: RandomCrop::Whole, color_jitter: None, blur: None, ..everything(AugmentScope::Frame) };
        for (full, fewer) in full.iter().zip(draw(&fewer, 5, 9)) {
            assert_eq!(
                (full.flip_horizontal, full.flip_vertical, full.grayscale),
                (fewer.flip_horizontal, fewer.flip_vertical, fewer.grayscale)
            );
            assert_eq!(full.erase, fewer.erase);
        }
    }

    #[test]
    fn probabilities_and_orders_are_met() {
        let drawn = everything(AugmentScope::Frame).draw(0, 0, 4000, 64, 48).expect("fitting");
        let part = |holds: &dyn Fn(&AugmentParams) -> bool| drawn.iter().filter(|params| holds(params)).count() as f64 / 4000.0;
        let near = |part: f64, expected: f64| assert!((part - expected).abs() < 0.03, "{part} instead of {expected}");
        near(part(&|params| params.flip_horizontal), 0.5);
        near(part(&|params| params.flip_horizontal && params.flip_vertical), 0.25);
        near(part(&|params| params.grayscale), 0.2);
        near(part(&|params| params.blur.is_some()), 0.5);
        near(part(&|params| params.contrast_step().is_some()), 0.8);
        for place in 0..4 {
            near(part(&|params| params.contrast_step() == Some(place)), 0.2);
        }
    }

    #[test]
    fn frames_that_are_too_small_are_refused() {
        let window = Augment { crop: RandomCrop::Window { width: 65, height: 8 }, ..Augment::default() };
        let words = window.draw(0, 0, 1, 64, 48).expect_err("too small").to_string();
        assert_eq!(words, "crop is 65x8 for an image of 64x48; give a window that fits into the images");
        let blur = Augment { blur: Some(RandomBlur { probability: 0.0, kernel: (9, 9), sigma: [1.0, 1.0] }), ..Augment::default() };
        let words = blur.draw(0, 0, 1, 64, 4).expect_err("too small").to_string();
        assert_eq!(words, "blur kernel is 9x9 for an output of 64x4; give sides whose half is smaller than the output's");
        assert!(Augment::default().draw(0, 0, 1, 0, 4).is_err());
        assert_eq!(Augment::default().draw(0, 0, 0, 4, 4).expect("fitting"), []);
    }

    #[test]
    fn a_crop_that_never_fits_is_the_largest_in_the_middle() {
        let wide = RandomCrop::Resized { area: [1.0, 1.0], aspect_ratio: [0.5, 2.0] };
        assert_eq!(wide.draw(SplitMix64::new(1), 100, 10), Region { x: 40, y: 0, width: 20, height: 10 });
        assert_eq!(wide.draw(SplitMix64::new(1), 10, 100), Region { x: 0, y: 40, width: 10, height: 20 });
    }

    proptest! {
        #[test]
        fn every_draw_fits(seed: u64, clip: u64, width in 1_u32..200, height in 1_u32..200, out in (3_u32..80, 2_u32..80)) {
            let augment = Augment { size: Some(out), ..everything(AugmentScope::Frame) };
            let batch = |width, height| BatchSpec { width, height, layout: TensorLayout::Tchw, dtype: DType::U8 };
            let spec = AugmentSpec { input: batch(width, height), output: batch(out.0, out.1), scale: 1.0, mean: [0.0; 3], std: [1.0; 3] };
            for params in augment.draw(seed, clip, 4, width, height).expect("fitting") {
                prop_assert_eq!(spec.misfit(&params), None);
                for step in params.color {
                    match step {
                        ColorStep::Brightness(factor) => prop_assert!((0.6..=1.4).contains(&factor)),
                        ColorStep::Hue(turns) => prop_assert!((-0.1..=0.1).contains(&turns)),
                        _ => {}
                    }
                }
            }
        }
    }
}
