//! The canvas of a mosaic: paints cells and writes labels.

use framerail_core::{BBox, ColorDescription, ColorMatrix, ColorRange, Frame, FramePool, HostSurface, PixelFormat, Region};
use framerail_media::{Converter, ScaleOptions, ScaleQuality};
use framerail_pipeline::StageError;
use framerail_vision::{Canvas, Sketch, fill};

use super::grid::Grid;
use crate::{
    convert::{core_error, input_error, vision_error},
    typeface::Typeface,
};

/// Colour of labels, and of words in empty cells.
const INK: [u8; 3] = [255; 3];
/// Opacity of the box behind a label, of 255.
const LABEL_BOX: u8 = 140;
/// Darkening of a frame that is not current, of 255.
const DARKENED: u8 = 170;
/// Buffers kept: output frames in flight, and one per cell size.
const KEPT_BUFFERS: usize = 12;

/// Content of a cell.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown<'a> {
    Image(&'a Frame),
    /// The last frame, darkened, with a word; black if there was none.
    Word(&'static str, Option<&'a Frame>),
}

pub(super) struct Board {
    surface: HostSurface,
    color: ColorDescription,
    background: [u8; 3],
    /// Height of labels in pixels; `None` without labels.
    label_pixels: Option<f32>,
    face: Typeface,
    pool: FramePool,
    /// One per cell: its tables depend on the stream's size.
    converters: Vec<Converter>,
}

impl Board {
    pub(super) fn new((width, height): (u32, u32), background: [u8; 3], label: Option<f32>, face: Typeface) -> Result<Self, StageError> {
        let pool = FramePool::new(KEPT_BUFFERS);
        let surface = pool.surface(PixelFormat::Yuv420p, width, height).map_err(core_error)?;
        let matrix = if height >= 720 { ColorMatrix::Bt709 } else { ColorMatrix::Bt601 };
        let color = ColorDescription { matrix, range: ColorRange::Limited, ..ColorDescription::default() };
        let label_pixels = label.map(|part| (part * height as f32).round().max(8.0));
        let mut board = Self { surface, color, background, label_pixels, face, pool, converters: Vec::new() };
        board.clear()?;
        Ok(board)
    }

    pub(super) fn color(&self) -> ColorDescription {
        self.color
    }

    /// Background everywhere.
    pub(super) fn clear(&mut self) -> Result<(), StageError> {
        fill(&mut self.surface, &self.color, self.background).map_err(vision_error)
    }

    /// A copy of the canvas.
    pub(super) fn image(&self) -> Result<HostSurface, StageError> {
        self.surface.copied(&self.pool).map_err(core_error)
    }

    /// Paints one cell, with `label` at its lower left.
    pub(super) fn paint(&mut self, grid: &Grid, number: usize, shown: Shown<'_>, label: &str) -> Result<(), StageError> {
        let Some(cell) = grid.cell(number) else { return Ok(()) };
        let frame = match shown {
            Shown::Image(frame) | Shown::Word(_, Some(frame)) => Some(frame),
            Shown::Word(_, None) => None,
        };
        let mut tile = match frame {
            Some(frame) => self.scaled(frame, number, cell)?,
            None => {
                let mut tile = self.pool.surface(PixelFormat::Yuv420p, cell.width, cell.height).map_err(core_error)?;
                fill(&mut tile, &self.color, [0; 3]).map_err(vision_error)?;
                tile
            }
        };
        let mut sketch = Sketch::new((tile.width(), tile.height()), PixelFormat::Yuv420p, &self.color);
        if let Shown::Word(word, _) = shown {
            sketch.fill(&BBox::from_xyxy(0.0, 0.0, tile.width() as f32, tile.height() as f32), [0; 3], DARKENED);
            self.word(&mut sketch, word, (tile.width(), tile.height()));
        }
        self.label(&mut sketch, label, tile.height());
        Canvas::new(&mut tile, &self.color).paint(&sketch).map_err(vision_error)?;
        let even = |free: u32| (free / 2) & !1;
        self.place(&tile, cell.x + even(cell.width - tile.width()), cell.y + even(cell.height - tile.height()));
        Ok(())
    }

    /// The frame as large as fits into the cell, with its aspect ratio.
    fn scaled(&mut self, frame: &Frame, number: usize, cell: Region) -> Result<HostSurface, StageError> {
        let (width, height) = frame.pixel_aspect().square_size(frame.width, frame.height);
        let scale = (f64::from(cell.width) / f64::from(width)).min(f64::from(cell.height) / f64::from(height));
        let side = |length: u32, most: u32| {
            let side = (f64::from(length) * scale).round() as u32;
            // A pixel less than the cell would show as a line of background.
            if side + 2 > most { most } else { side.max(1) }
        };
        let size = (side(width, cell.width), side(height, cell.height));
        while self.converters.len() <= number {
            self.converters.push(Converter::new(ScaleOptions { quality: ScaleQuality::Bilinear, ..ScaleOptions::default() }));
        }
        let surface = frame.surface.host().map_err(core_error)?;
        let Some(converter) = self.converters.get_mut(number) else { return surface.copied(&self.pool).map_err(core_error) };
        converter.convert_to(surface, &frame.color, PixelFormat::Yuv420p, size, &self.color, &self.pool).map_err(input_error)
    }

    fn label(&self, sketch: &mut Sketch, label: &str, tile_height: u32) {
        let Some(pixels) = self.label_pixels.filter(|_| !label.is_empty()) else { return };
        let setting = self.face.set(label, pixels, 0.0);
        let block = &setting.letters;
        let top = i64::from(tile_height) - i64::from(block.height);
        sketch.fill(&BBox::from_xyxy(0.0, top as f32, block.width as f32, tile_height as f32), [0; 3], LABEL_BOX);
        sketch.text_block(0, top, block, INK);
    }

    fn word(&self, sketch: &mut Sketch, word: &str, (width, height): (u32, u32)) {
        let setting = self.face.set(word, (height as f32 / 8.0).max(8.0), 0.0);
        let block = &setting.letters;
        let middle = |side: u32, block: u32| (i64::from(side) - i64::from(block)) / 2;
        sketch.text_block(middle(width, block.width), middle(height, block.height), block, INK);
    }

    /// Copies a frame to an even position on the canvas.
    fn place(&mut self, tile: &HostSurface, x: u32, y: u32) {
        // The canvas has no other holder, so it is writable.
        let Some(mut planes) = self.surface.planes_mut() else { return };
        for plane in 0..3 {
            let shift = u32::from(plane > 0);
            let (left, top) = ((x >> shift) as usize, (y >> shift) as usize);
            let rows = ((tile.height() + shift) >> shift) as usize;
            let width = ((tile.width() + shift) >> shift) as usize;
            for row in 0..rows {
                let target = planes.row(plane, top + row);
                let width = width.min(target.len().saturating_sub(left));
                if let (Some(to), Some(from)) = (target.get_mut(left..left + width), tile.row(plane, row).get(..width)) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}
