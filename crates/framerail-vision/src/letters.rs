//! Text rendered as pixel coverage, which sketches can use instead of the bitmap font.

use std::{fmt, sync::Arc};

/// Rendered lines of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextBlock {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// 0 to 255 for each pixel, row by row.
    pub coverage: Arc<[u8]>,
}

/// Renders text in a font.
pub trait Letters: fmt::Debug + Send + Sync {
    /// Renders one line of text, left-aligned, in a block `pixels` high.
    fn line(&self, text: &str, pixels: u32) -> TextBlock;
}
