//! A rectangle of whole pixels or samples.

use crate::{BBox, PixelFormat};

/// A rectangle of pixels of a frame, or of samples of a component. [`Region::around`] never returns an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Region {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Region {
    /// Every pixel that the box touches within the frame; `None` if there is none or the box is not finite.
    pub fn around(bbox: &BBox, frame_width: u32, frame_height: u32) -> Option<Self> {
        if !bbox.is_finite() {
            return None;
        }
        let span = |from: f32, to: f32, side: u32| {
            let (first, end) = (from.floor().clamp(0.0, side as f32) as u32, to.ceil().clamp(0.0, side as f32) as u32);
            (end > first).then(|| (first, end - first))
        };
        let (x, width) = span(bbox.x1, bbox.x2, frame_width)?;
        let (y, height) = span(bbox.y1, bbox.y2, frame_height)?;
        Some(Self { x, y, width, height })
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// The samples of a component that touch this region.
    pub fn of_component(&self, format: PixelFormat, component: usize) -> Region {
        if format.is_chroma(component) { self.subsampled(format.chroma_shift()) } else { *self }
    }

    /// The samples, each `1 << shift` pixels wide and high, that touch these pixels.
    pub fn subsampled(&self, (shift_x, shift_y): (u32, u32)) -> Region {
        let span = |from: u32, len: u32, shift: u32| (from >> shift, (from + len).div_ceil(1 << shift) - (from >> shift));
        let ((x, width), (y, height)) = (span(self.x, self.width, shift_x), span(self.y, self.height, shift_y));
        Region { x, y, width, height }
    }

    /// Grows the region by `across` and `down` on each side, clamped to `columns` × `rows`.
    pub fn grown(&self, across: u32, down: u32, columns: u32, rows: u32) -> Region {
        let (x, y) = (self.x.saturating_sub(across), self.y.saturating_sub(down));
        let right = (self.x + self.width).saturating_add(across).min(columns);
        let bottom = (self.y + self.height).saturating_add(down).min(rows);
        Region { x, y, width: right.saturating_sub(x), height: bottom.saturating_sub(y) }
    }

    /// The pixels that share these samples, each `1 << shift` pixels wide and high.
    pub fn upsampled(&self, (shift_x, shift_y): (u32, u32)) -> Region {
        Region { x: self.x << shift_x, y: self.y << shift_y, width: self.width << shift_x, height: self.height << shift_y }
    }

    /// Whether the region is not empty and lies within `columns` × `rows`.
    pub fn fits(&self, columns: u32, rows: u32) -> bool {
        let within = |first: u32, count: u32, end: u32| count > 0 && first.checked_add(count).is_some_and(|last| last <= end);
        within(self.x, self.width, columns) && within(self.y, self.height, rows)
    }

    /// Whether `other` lies inside this region.
    pub fn holds(&self, other: &Region) -> bool {
        let within = |first: u32, count: u32, other: u32, others: u32| first <= other && other + others <= first + count;
        within(self.x, self.width, other.x, other.width) && within(self.y, self.height, other.y, other.height)
    }

    /// Whether the regions overlap.
    pub fn meets(&self, other: &Region) -> bool {
        let apart = |first: u32, count: u32, other: u32, others: u32| first + count <= other || other + others <= first;
        !apart(self.x, self.width, other.x, other.width) && !apart(self.y, self.height, other.y, other.height)
    }

    /// The smallest region that contains both.
    pub fn joined(&self, other: &Region) -> Region {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Region { x, y, width: right - x, height: bottom - y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_stay_inside_whatever_the_box() {
        let around = |x1, y1, x2, y2| Region::around(&BBox::from_xyxy(x1, y1, x2, y2), 100, 50);
        assert_eq!(around(-5.5, 10.2, 3.1, 12.0), Some(Region { x: 0, y: 10, width: 4, height: 2 }));
        assert_eq!(around(-1e30, -1e30, 1e30, 1e30), Some(Region { x: 0, y: 0, width: 100, height: 50 }));
        assert_eq!(around(100.0, 0.0, 120.0, 10.0), None);
        assert_eq!(around(10.0, 10.0, 10.0, 10.0), None);
        assert_eq!(around(f32::NAN, 0.0, 5.0, 5.0), None);
    }

    #[test]
    fn chroma_regions_touch_every_covered_luma_pixel() {
        let region = Region { x: 3, y: 5, width: 2, height: 1 };
        assert_eq!(region.of_component(PixelFormat::Yuv420p, 1), Region { x: 1, y: 2, width: 2, height: 1 });
        assert_eq!(region.of_component(PixelFormat::Yuv422p, 2), Region { x: 1, y: 5, width: 2, height: 1 });
        assert_eq!(region.of_component(PixelFormat::Yuv420p, 0), region);
    }
}
