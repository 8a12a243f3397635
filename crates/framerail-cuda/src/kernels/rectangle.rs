//! Whole samples or pixels of a picture.

/// Whole samples or pixels from (`x`, `y`) on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rectangle {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Rectangle {
    /// Whether it is not empty and lies within so many columns and rows.
    pub(super) fn fits(&self, columns: u32, rows: u32) -> bool {
        let within = |first: u32, count: u32, end: u32| count > 0 && first.checked_add(count).is_some_and(|last| last <= end);
        within(self.x, self.width, columns) && within(self.y, self.height, rows)
    }

    pub(super) fn holds(&self, other: &Rectangle) -> bool {
        let within = |first: u32, count: u32, other: u32, others: u32| first <= other && other + others <= first + count;
        within(self.x, self.width, other.x, other.width) && within(self.y, self.height, other.y, other.height)
    }

    pub(super) fn meets(&self, other: &Rectangle) -> bool {
        let apart = |first: u32, count: u32, other: u32, others: u32| first + count <= other || other + others <= first;
        !apart(self.x, self.width, other.x, other.width) && !apart(self.y, self.height, other.y, other.height)
    }

    /// The samples of a component that touch these pixels.
    pub(super) fn of_component(&self, (shift_x, shift_y): (u32, u32)) -> Rectangle {
        let span = |from: u32, len: u32, shift: u32| (from >> shift, (from + len).div_ceil(1 << shift) - (from >> shift));
        let ((x, width), (y, height)) = (span(self.x, self.width, shift_x), span(self.y, self.height, shift_y));
        Rectangle { x, y, width, height }
    }

    /// The pixels that share these samples.
    pub(super) fn pixels(&self, (shift_x, shift_y): (u32, u32)) -> Rectangle {
        Rectangle { x: self.x << shift_x, y: self.y << shift_y, width: self.width << shift_x, height: self.height << shift_y }
    }

    pub(super) fn joined(&self, other: &Rectangle) -> Rectangle {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Rectangle { x, y, width: right - x, height: bottom - y }
    }
}
