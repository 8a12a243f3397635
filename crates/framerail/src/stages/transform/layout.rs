//! Crop, scale and placement of a frame, from its size and aspect ratio.

use framerail_core::{BBox, FrameMapping, PixelAspect, PixelFormat, Rational, Region, Rotation, surface::MAX_SIDE};

use crate::stages::areas::Area;

/// One or both sides in pixels, or a percentage of the frame's size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    Sides(Option<u32>, Option<u32>),
    Share(f64),
}

impl Target {
    /// `1280x720`, `1280x`, `x720` or `50%`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: write 1280x720, 1280x, x720 or 50%");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| wrong())?;
            return if (1.0..=1000.0).contains(&percent) {
                Ok(Self::Share(percent / 100.0))
            } else {
                Err("a share is from 1% to 1000%".into())
            };
        }
        let (width, height) = text.split_once(['x', 'X', '×']).ok_or_else(wrong)?;
        let side = |text: &str| match text.trim() {
            "" => Ok(None),
            text => text.parse::<u32>().ok().filter(|side| (1..=MAX_SIDE).contains(side)).map(Some).ok_or_else(wrong),
        };
        match (side(width)?, side(height)?) {
            (None, None) => Err(wrong()),
            (width, height) => Ok(Self::Sides(width, height)),
        }
    }
}

/// How a frame of another aspect ratio is fitted into a size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fit {
    /// As large as fits; one side may be smaller.
    #[default]
    Inside,
    /// As large as fits, padded.
    Pad,
    /// Fills the size; the excess is cropped on both sides.
    Fill,
    /// Stretched to the size; the pixel aspect ratio changes with it.
    Stretch,
}

/// Position of a frame on a larger one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    Center,
    /// Pixels from the left and from the top.
    Pixels(u32, u32),
}

/// What happens to the position of pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Placing {
    Keep,
    Scale(Target, Fit),
    /// At least this size.
    Pad((u32, u32), At),
    Cut(Area),
    /// The largest centred part with this displayed aspect ratio.
    CutTo(f64),
}

/// A frame to be placed, after rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Image {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) aspect: PixelAspect,
    /// If unknown, that of most videos.
    pub(super) format: Option<PixelFormat>,
}

/// Change of the pixel aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pixels {
    Kept,
    Square,
    /// Wider or narrower than before, as a fraction.
    Stretched(i64, i64),
}

/// A part of a frame, its scaled size, and its position on the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) window: Region,
    pub(super) size: (u32, u32),
    pub(super) canvas: (u32, u32),
    pub(super) at: (u32, u32),
    pixels: Pixels,
}

impl Layout {
    /// # Errors
    /// Why the values do not fit.
    pub(super) fn of(placing: &Placing, image: &Image) -> Result<Self, String> {
        let &Image { width, height, .. } = image;
        let whole = Region { x: 0, y: 0, width, height };
        let keep = Self { window: whole, size: (width, height), canvas: (width, height), at: (0, 0), pixels: Pixels::Kept };
        match placing {
            Placing::Keep => Ok(keep),
            Placing::Scale(target, fit) => Self::scaled(*target, *fit, image),
            Placing::Pad((least_width, least_height), at) => {
                let canvas = ((*least_width).max(width), (*least_height).max(height));
                if width > *least_width || height > *least_height {
                    let help = "use `scale SIZE fit=pad` to shrink it as well, or a larger size";
                    return Err(format!("a frame of {width}x{height} is larger than {least_width}x{least_height}; {help}"));
                }
                let at = match *at {
                    At::Center => ((canvas.0 - width) / 2, (canvas.1 - height) / 2),
                    At::Pixels(x, y) => (x, y),
                };
                let at = image.aligned(at);
                if at.0 + width > canvas.0 || at.1 + height > canvas.1 {
                    let place = format!("a frame of {width}x{height} at {},{}", at.0, at.1);
                    return Err(format!("{place} does not fit into {}x{}", canvas.0, canvas.1));
                }
                Ok(Self { canvas, at, ..keep })
            }
            Placing::Cut(area) => {
                let bbox = area.in_frame(width, height).ok_or_else(|| format!("the area lies outside of a frame of {width}x{height}"))?;
                Ok(keep.cut(image, &bbox))
            }
            Placing::CutTo(shape) => Ok(keep.cut(image, &image.middle(*shape))),
        }
    }

    fn cut(self, image: &Image, bbox: &BBox) -> Self {
        let window = image.window(bbox);
        Self { window, size: (window.width, window.height), canvas: (window.width, window.height), ..self }
    }

    fn scaled(target: Target, fit: Fit, image: &Image) -> Result<Self, String> {
        let (across, down) = image.shown();
        // Sides in square pixels for each factor.
        let by = |factor: f64| (image.even(across * factor, 0), image.even(down * factor, 1));
        let whole = Region { x: 0, y: 0, width: image.width, height: image.height };
        let square = |window: Region, size: (u32, u32)| Self { window, size, canvas: size, at: (0, 0), pixels: Pixels::Square };
        let (width, height) = match target {
            Target::Share(factor) => return checked(square(whole, by(factor))),
            Target::Sides(Some(width), None) => return checked(square(whole, (width, by(f64::from(width) / across).1))),
            Target::Sides(None, Some(height)) => return checked(square(whole, (by(f64::from(height) / down).0, height))),
            Target::Sides(width, height) => (width.unwrap_or(1), height.unwrap_or(1)),
        };
        let factor = (f64::from(width) / across).min(f64::from(height) / down);
        let inside = (by(factor).0.min(width), by(factor).1.min(height));
        Ok(match fit {
            Fit::Inside => square(whole, inside),
            Fit::Pad => {
                let at = image.aligned(((width - inside.0) / 2, (height - inside.1) / 2));
                Self { canvas: (width, height), at, ..square(whole, inside) }
            }
            Fit::Fill => square(image.window(&image.middle(f64::from(width) / f64::from(height))), (width, height)),
            Fit::Stretch => {
                let pixels = Pixels::Stretched(i64::from(image.width) * i64::from(height), i64::from(image.height) * i64::from(width));
                Self { pixels, ..square(whole, (width, height)) }
            }
        })
    }

    /// Position of the rotated frame's pixels.
    pub(super) fn mapping(&self) -> FrameMapping {
        let scale = |to: u32, from: u32| to as f32 / from as f32;
        FrameMapping::moved(-(self.window.x as f32), -(self.window.y as f32))
            .then(FrameMapping::scaled(scale(self.size.0, self.window.width), scale(self.size.1, self.window.height)))
            .then(FrameMapping::moved(self.at.0 as f32, self.at.1 as f32))
    }

    /// Pixel aspect ratio of the result, from that of the frame.
    pub(super) fn sample_aspect_ratio(&self, ratio: Option<Rational>) -> Option<Rational> {
        match self.pixels {
            Pixels::Kept => ratio,
            Pixels::Square => ratio.map(|_| Rational { num: 1, den: 1 }),
            Pixels::Stretched(num, den) => {
                let ratio = ratio.filter(|ratio| ratio.is_positive()).unwrap_or(Rational { num: 1, den: 1 });
                let (num, den) = (num.saturating_mul(ratio.num), den.saturating_mul(ratio.den));
                let common = common_divisor(num, den).max(1);
                Some(Rational { num: num / common, den: den / common }).filter(|ratio| ratio.num.max(ratio.den) <= i64::from(i32::MAX))
            }
        }
    }

    /// The same while only its value is known.
    pub(super) fn pixel_aspect(&self, aspect: PixelAspect) -> PixelAspect {
        const PARTS: i64 = 1_000_000;
        let ratio = Rational { num: (f64::from(aspect.ratio()) * PARTS as f64).round() as i64, den: PARTS };
        PixelAspect::of(self.sample_aspect_ratio(Some(ratio)))
    }

    /// Whether rows of different fields are mixed.
    pub(super) fn mixes_rows(&self) -> bool {
        self.size.1 != self.window.height
    }
}

fn checked(layout: Layout) -> Result<Layout, String> {
    let (width, height) = layout.canvas;
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(format!("frames of {width}x{height} are too large; a side is at most {MAX_SIDE}"));
    }
    Ok(layout)
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl Image {
    /// Displayed width and height, in square pixels of the frame's height.
    fn shown(&self) -> (f64, f64) {
        (f64::from(self.width) * f64::from(self.aspect.ratio()), f64::from(self.height))
    }

    /// Pixels per chroma sample, horizontally and vertically.
    fn steps(&self) -> (u32, u32) {
        let (x, y) = self.format.unwrap_or(PixelFormat::Yuv420p).chroma_shift();
        (1 << x, 1 << y)
    }

    /// A side in whole chroma samples: rows (1) or columns (0).
    fn even(&self, side: f64, axis: usize) -> u32 {
        let (across, down) = self.steps();
        let step = f64::from(if axis == 0 { across } else { down });
        ((side / step).round().max(1.0) * step).min(f64::from(2 * MAX_SIDE)) as u32
    }

    /// A position on whole chroma samples, at or before this one.
    fn aligned(&self, (x, y): (u32, u32)) -> (u32, u32) {
        let (across, down) = self.steps();
        (x / across * across, y / down * down)
    }

    /// A box in whole pixels, aligned to a chroma sample.
    fn window(&self, bbox: &BBox) -> Region {
        let whole = |side: f32| side.round().max(0.0) as u32;
        let (x, y) = self.aligned((whole(bbox.x1).min(self.width - 1), whole(bbox.y1).min(self.height - 1)));
        let (width, height) = (whole(bbox.width()).max(1).min(self.width - x), whole(bbox.height()).max(1).min(self.height - y));
        Region { x, y, width, height }
    }

    /// The largest centred box with this displayed aspect ratio, in whole chroma samples if cropped.
    fn middle(&self, shape: f64) -> BBox {
        let (across, down) = self.shown();
        let (mut width, mut height) = (f64::from(self.width), f64::from(self.height));
        if across / down > shape {
            width = f64::from(self.even(down * shape / f64::from(self.aspect.ratio()), 0)).min(width);
        } else {
            height = f64::from(self.even(across / shape, 1)).min(height);
        }
        let (x, y) = ((f64::from(self.width) - width) / 2.0, (f64::from(self.height) - height) / 2.0);
        BBox::from_xyxy(x as f32, y as f32, (x + width) as f32, (y + height) as f32)
    }
}

/// Two rotations combined.
pub(super) fn turned_twice(first: Rotation, second: Rotation) -> Rotation {
    FrameMapping::turned(first, 1, 1).then(FrameMapping::turned(second, 1, 1)).rotation()
}

#[cfg(test)]
mod tests {
    use framerail_core::{Point, SplitMix64};

    use super::*;

    fn image(width: u32, height: u32, aspect: (i64, i64)) -> Image {
        let aspect = PixelAspect::of(Rational::new(aspect.0, aspect.1));
        Image { width, height, aspect, format: Some(PixelFormat::Yuv420p) }
    }

    fn scaled(target: &str, fit: Fit, image: &Image) -> Layout {
        Layout::of(&Placing::Scale(Target::parse(target).expect("a size"), fit), image).expect("fits")
    }

    #[test]
    fn sizes_are_written_in_four_ways() {
        assert_eq!(Target::parse("1280x720"), Ok(Target::Sides(Some(1280), Some(720))));
        assert_eq!(Target::parse("1280x"), Ok(Target::Sides(Some(1280), None)));
        assert_eq!(Target::parse("x720"), Ok(Target::Sides(None, Some(720))));
        assert_eq!(Target::parse("50%"), Ok(Target::Share(0.5)));
        for wrong in ["", "x", "720", "0x0", "-1x5", "axb", "40000x2", "0%", "x%"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shape_is_kept_unless_it_is_to_be_stretched() {
        let wide = image(1920, 1080, (1, 1));
        assert_eq!(scaled("640x640", Fit::Inside, &wide).canvas, (640, 360));
        assert_eq!(scaled("640x", Fit::Inside, &wide).canvas, (640, 360));
        assert_eq!(scaled("x270", Fit::Inside, &wide).canvas, (480, 270));
        assert_eq!(scaled("50%", Fit::Inside, &wide).canvas, (960, 540));
        let padded = scaled("640x640", Fit::Pad, &wide);
        assert_eq!((padded.canvas, padded.size, padded.at), ((640, 640), (640, 360), (0, 140)));
        let filled = scaled("640x640", Fit::Fill, &wide);
        assert_eq!((filled.canvas, filled.window), ((640, 640), Region { x: 420, y: 0, width: 1080, height: 1080 }));
        let stretched = scaled("640x640", Fit::Stretch, &wide);
        assert_eq!((stretched.canvas, stretched.sample_aspect_ratio(None)), ((640, 640), Rational::new(16, 9)));
    }

    #[test]
    fn pixels_that_are_not_square_become_square() {
        let half = image(352, 576, (24, 11));
        let layout = scaled("768x576", Fit::Inside, &half);
        assert_eq!((layout.canvas, layout.sample_aspect_ratio(Rational::new(24, 11))), ((768, 576), Rational::new(1, 1)));
        assert_eq!(layout.pixel_aspect(half.aspect), PixelAspect::SQUARE);
        let stretched = scaled("704x576", Fit::Stretch, &half);
        assert_eq!(stretched.sample_aspect_ratio(Rational::new(24, 11)), Rational::new(12, 11));
    }

    #[test]
    fn parts_begin_on_whole_chroma_samples() {
        let odd = image(101, 77, (1, 1));
        let cut = |text: &str| Layout::of(&Placing::Cut(Area::parse(text, 1).expect("an area")), &odd);
        assert_eq!(cut("11,9,20,10").expect("inside").window, Region { x: 10, y: 8, width: 20, height: 10 });
        assert_eq!(cut("50%,50%,50%,50%").expect("inside").window, Region { x: 50, y: 38, width: 51, height: 39 });
        assert!(cut("200,0,9,9").expect_err("outside").contains("lies outside"));
        let tall = Layout::of(&Placing::CutTo(9.0 / 16.0), &image(1920, 1080, (1, 1))).expect("fits");
        assert_eq!(tall.window, Region { x: 656, y: 0, width: 608, height: 1080 });
        assert!(Layout::of(&Placing::Pad((50, 50), At::Center), &odd).expect_err("too small").contains("fit=pad"));
    }

    /// For all sizes, parts lie within the frame and the result, and corners map to corners.
    #[test]
    fn layouts_stay_inside() {
        let mut random = SplitMix64::new(7);
        let mut side = |most: u64| random.below(most) as u32 + 1;
        for round in 0..4000 {
            let (width, height, w, h, sar) = (side(400), side(400), side(400), side(400), side(40));
            let fit = [Fit::Inside, Fit::Pad, Fit::Fill, Fit::Stretch][round % 4];
            let image = image(width, height, (sar.into(), 10));
            let layout = Layout::of(&Placing::Scale(Target::Sides(Some(w), Some(h)), fit), &image).expect("fits");
            let case = format!("{image:?} to {w}x{h} {fit:?}: {layout:?}");
            assert!(layout.window.fits(width, height), "{case}");
            assert!(layout.at.0 + layout.size.0 <= layout.canvas.0 && layout.at.1 + layout.size.1 <= layout.canvas.1, "{case}");
            assert!(layout.canvas.0 <= w && layout.canvas.1 <= h, "{case}");
            let corner = layout.mapping().point(Point { x: (layout.window.x + layout.window.width) as f32, y: layout.window.y as f32 });
            assert!(
                (corner.x - (layout.at.0 + layout.size.0) as f32).abs() < 0.01 && (corner.y - layout.at.1 as f32).abs() < 0.01,
                "{case}"
            );
        }
    }
}
