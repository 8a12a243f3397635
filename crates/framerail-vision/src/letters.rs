//! Text as coverage of pixels, and who sets it: what a sketch writes with in place of its bitmap font.

use std::{fmt, sync::Arc};

/// Lines of text as pixels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextBlock {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 0 to 255 for each pixel, row by row.
    pub coverage: Arc<[u8]>,
}

/// Sets lines of text in a font.
pub trait Letters: fmt::Debug + Send + Sync {
    /// One line of text, left-aligned, in a block `pixels` high.
    fn line(&self, text: &str, pixels: u32) -> TextBlock;
}
