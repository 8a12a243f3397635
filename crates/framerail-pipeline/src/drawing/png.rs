//! Writes the graph as PNG, rendered from the SVG.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use super::GraphDrawing;

/// PNG pixels per SVG pixel.
const SCALE: f32 = 2.0;

/// Maximum side of a PNG in pixels; larger drawings are scaled down.
const MAX_SIDE: f32 = 8192.0;

/// Latin letters, digits and symbols of DejaVu Sans as a TrueType font, so that text is rendered on hosts without fonts.
pub const REGULAR_FONT: &[u8] = include_bytes!("../../fonts/framerail-sans.ttf");
const BOLD: &[u8] = include_bytes!("../../fonts/framerail-sans-bold.ttf");

/// Why the graph cannot be drawn as PNG.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot draw the graph as PNG: {0}; write it as .svg")]
pub struct DrawingError(String);

impl GraphDrawing {
    /// A PNG in light colours, twice the size of the SVG. Non-Latin text uses the system's fonts.
    ///
    /// # Errors
    /// When memory for the pixels cannot be allocated.
    pub fn png(&self) -> Result<Vec<u8>, DrawingError> {
        let failed = |error: &dyn std::fmt::Display| DrawingError(error.to_string());
        let svg = self.svg().replace("DejaVu Sans, Verdana, system-ui, sans-serif", "Framerail Sans");
        let mut options = usvg::Options::default();
        let fonts = Arc::make_mut(&mut options.fontdb);
        fonts.load_font_data(REGULAR_FONT.to_vec());
        fonts.load_font_data(BOLD.to_vec());
        if !svg.is_ascii() {
            fonts.load_system_fonts();
        }
        let tree = usvg::Tree::from_str(&svg, &options).map_err(|error| failed(&error))?;
        let size = tree.size();
        let scale = SCALE.min(MAX_SIDE / size.width().max(size.height()));
        let (width, height) = ((size.width() * scale).ceil() as u32, (size.height() * scale).ceil() as u32);
        let mut pixels = tiny_skia::Pixmap::new(width, height).ok_or_else(|| failed(&"the image is too large"))?;
        resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| failed(&error))
    }
}
