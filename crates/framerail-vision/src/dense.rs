//! Depth and motion as images.

use framerail_core::DenseMap;

/// Knots of the colour map "inferno" of matplotlib (S. van der Walt, N. Smith, E. Firing; CC0), at equal distances.
const INFERNO: [[u8; 3]; 17] = [
    [0, 0, 4],
    [11, 7, 36],
    [33, 12, 74],
    [61, 9, 101],
    [87, 16, 110],
    [113, 25, 110],
    [138, 34, 106],
    [163, 44, 97],
    [188, 55, 84],
    [208, 69, 69],
    [227, 89, 51],
    [241, 113, 31],
    [249, 140, 10],
    [252, 170, 15],
    [249, 201, 50],
    [242, 232, 101],
    [252, 255, 164],
];

/// Colours of the flow wheel between red, yellow, green, cyan, blue and magenta.
const WHEEL: [usize; 6] = [15, 6, 4, 11, 13, 6];

/// Cells from which a range is estimated, at most.
const RANGE_CELLS: usize = 4096;

/// Share of cells beyond each end of an estimated range: outliers would darken everything else.
const OUTLIERS: f64 = 0.02;

/// RGB of a brightness from 0 to 1: dark violet over red to light yellow.
pub fn heat_color(brightness: f32) -> [u8; 3] {
    let brightness = if brightness.is_nan() { 0.0 } else { brightness.clamp(0.0, 1.0) };
    let place = brightness * (INFERNO.len() - 1) as f32;
    let before = (place as usize).min(INFERNO.len() - 2);
    let share = place - before as f32;
    let (from, to) = (INFERNO[before], INFERNO[before + 1]);
    [0, 1, 2].map(|channel| (f32::from(from[channel]) + (f32::from(to[channel]) - f32::from(from[channel])) * share).round() as u8)
}

/// RGB of a motion: the direction as hue, the length as saturation, white for none; `longest` is the length at full saturation.
///
/// Source: S. Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011, as in the Middlebury benchmark.
pub fn flow_color([x, y]: [f32; 2], longest: f32) -> [u8; 3] {
    let longest = longest.max(f32::MIN_POSITIVE);
    let (x, y) = (x / longest, y / longest);
    let length = x.hypot(y);
    let count = WHEEL.iter().sum::<usize>();
    let place = ((-y).atan2(-x) / std::f32::consts::PI + 1.0) / 2.0 * (count - 1) as f32;
    let (before, share) = (place.floor(), place - place.floor());
    let (from, to) = (wheel_color(before as usize % count), wheel_color((before as usize + 1) % count));
    [0, 1, 2].map(|channel| {
        let hue = from[channel] + (to[channel] - from[channel]) * share;
        let color = if length <= 1.0 { 1.0 - length * (1.0 - hue) } else { hue * 0.75 };
        (color * 255.0) as u8
    })
}

/// A colour of the wheel, 0 to 1.
fn wheel_color(mut place: usize) -> [f32; 3] {
    for (part, length) in WHEEL.iter().enumerate() {
        if place < *length {
            // Every other part raises a channel, the others lower one.
            let share = (255.0 * place as f32 / *length as f32).floor() / 255.0;
            let (full, changing) = ([0, 1, 1, 2, 2, 0][part], [1, 0, 2, 1, 0, 2][part]);
            let mut color = [0.0; 3];
            color[full] = 1.0;
            color[changing] = if part % 2 == 0 { share } else { 1.0 - share };
            return color;
        }
        place -= length;
    }
    [1.0, 0.0, 0.0]
}

/// The values between which nearly all of the cells lie, without the outliers.
pub fn usual_range(cells: &[f32]) -> (f32, f32) {
    let step = cells.len().div_ceil(RANGE_CELLS).max(1);
    let mut values: Vec<f32> = cells.iter().step_by(step).copied().collect();
    let Some(last) = values.len().checked_sub(1) else { return (0.0, 0.0) };
    let mut at = |share: f64| *values.select_nth_unstable_by((last as f64 * share).round() as usize, f32::total_cmp).1;
    (at(OUTLIERS), at(1.0 - OUTLIERS))
}

/// Values at the pixels of a frame, row by row: bilinear between the centres of cells. Rows are made in order.
pub struct DenseRows<'a, T> {
    map: &'a DenseMap<T>,
    /// For each pixel column, the cell before it and the share of the next one; `None` outside of the map.
    across: Vec<Option<(usize, f32)>>,
}

/// Cells that can be interpolated.
pub trait Blend: Copy {
    /// This value and a share of another one, 0 to 1.
    #[must_use]
    fn blend(self, other: Self, share: f32) -> Self;
}

impl Blend for f32 {
    fn blend(self, other: Self, share: f32) -> Self {
        self + (other - self) * share
    }
}

impl Blend for [f32; 2] {
    fn blend(self, other: Self, share: f32) -> Self {
        [self[0].blend(other[0], share), self[1].blend(other[1], share)]
    }
}

fn place_of(pixel: usize, from: f32, to: f32, cells: usize) -> Option<(usize, f32)> {
    let position = pixel as f32 + 0.5;
    if position < from || position > to {
        return None;
    }
    let place = ((position - from) / (to - from) * cells as f32 - 0.5).clamp(0.0, (cells - 1) as f32);
    Some((place as usize, place.fract()))
}

impl<'a, T: Blend> DenseRows<'a, T> {
    /// For frames of this width.
    pub fn new(map: &'a DenseMap<T>, width: usize) -> Self {
        let bbox = map.bbox();
        let across = (0..width).map(|column| place_of(column, bbox.x1, bbox.x2, map.columns() as usize)).collect();
        Self { map, across }
    }

    /// The values of a row of pixels; `None` outside of the map.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Option<T>> + '_ {
        let (bbox, columns) = (self.map.bbox(), self.map.columns() as usize);
        let down = place_of(row, bbox.y1, bbox.y2, self.map.rows() as usize);
        self.across.iter().map(move |across| {
            let ((column, right), (row, below)) = (*across.as_ref()?, down?);
            let cells = self.map.cells();
            let cell = |row: usize, column: usize| cells.get(row * columns + column).copied();
            let in_row = |row: usize| {
                let left = cell(row, column)?;
                Some(if right > 0.0 { left.blend(cell(row, column + 1)?, right) } else { left })
            };
            let above = in_row(row)?;
            Some(if below > 0.0 { above.blend(in_row(row + 1)?, below) } else { above })
        })
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::BBox;

    use super::*;

    #[test]
    fn motions_have_the_colours_of_middlebury() {
        // As torchvision's flow_to_image paints them, the longest of which has length 5.385165.
        let cases =
            [([3.0, 0.0], [255, 112, 112]), ([0.0, 4.0], [255, 236, 65]), ([0.0, -1.0], [223, 207, 255]), ([-2.0, 5.0], [179, 255, 0])];
        let longest = 29.0_f32.sqrt();
        // Its values are rounded twice.
        for (motion, expected) in cases {
            let found = flow_color(motion, longest);
            let off = found.iter().zip(expected).map(|(found, expected): (&u8, u8)| found.abs_diff(expected)).max();
            assert!(off <= Some(1), "{motion:?}: {found:?}");
        }
        assert_eq!(flow_color([0.0, 0.0], 1.0), [255, 255, 255]);
        assert_eq!(flow_color([0.0, 0.0], 0.0), [255, 255, 255]);
        let beyond = flow_color([2.0, 0.0], 1.0);
        assert_eq!(beyond, [191, 0, 0], "darker beyond the end of the scale");
    }

    #[test]
    fn heat_grows_from_dark_to_light() {
        let luma = |[r, g, b]: [u8; 3]| 2 * u32::from(r) + 7 * u32::from(g) + u32::from(b);
        let lumas: Vec<u32> = (0..=64).map(|step| luma(heat_color(step as f32 / 64.0))).collect();
        assert!(lumas.is_sorted(), "{lumas:?}");
        assert_eq!((heat_color(-1.0), heat_color(2.0), heat_color(f32::NAN)), ([0, 0, 4], [252, 255, 164], [0, 0, 4]));
    }

    #[test]
    fn cells_are_interpolated_between_their_centres() {
        let map = DenseMap::new(BBox::from_xyxy(0.0, 0.0, 4.0, 4.0), 2, 2, vec![0.0, 4.0, 8.0, 12.0]).expect("a map");
        let rows = DenseRows::new(&map, 5);
        let row = |row| rows.row(row).collect::<Vec<_>>();
        assert_eq!(row(0), [Some(0.0), Some(1.0), Some(3.0), Some(4.0), None], "and nothing beyond the map");
        assert_eq!(row(1), [Some(2.0), Some(3.0), Some(5.0), Some(6.0), None]);
        assert_eq!(row(4), [None; 5]);
    }

    #[test]
    fn outliers_do_not_widen_the_range() {
        let mut cells: Vec<f32> = (0..100).map(|cell| cell as f32).collect();
        cells[7] = 1e9;
        assert_eq!(usual_range(&cells), (2.0, 98.0));
        assert_eq!(usual_range(&[]), (0.0, 0.0));
        assert_eq!(usual_range(&[3.0]), (3.0, 3.0));
    }
}
