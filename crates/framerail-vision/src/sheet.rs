//! Contact sheets: thumbnails in a grid, with captions.

use framerail_core::{BBox, ColorDescription, FramePool, HostSurface, PixelFormat};

use crate::{
    VisionError,
    draw::{Canvas, text_height},
};

const BACKGROUND: [u8; 3] = [24, 26, 30];
const INK: [u8; 3] = [225, 228, 232];
const GAP: u32 = 8;

/// A thumbnail and its caption (ASCII or Latin-1; cut at the cell's width).
#[derive(Clone, Debug)]
pub struct SheetImage {
    /// An `Rgb24` surface.
    pub image: HostSurface,
    /// The caption, one line.
    pub caption: String,
}

/// Arranges thumbnails row by row in `columns` columns, in cells of the largest thumbnail's size, as an `Rgb24` surface.
/// For a before/after sheet, alternate both with an even number of columns.
///
/// # Errors
/// `OptionOutOfRange` without thumbnails or columns; `SurfacesDiffer` for a thumbnail that is not `Rgb24`; `Core` when the sheet
/// is too large.
pub fn contact_sheet(images: &[SheetImage], columns: u32, pool: &FramePool) -> Result<HostSurface, VisionError> {
    if images.is_empty() || columns == 0 {
        let given = format!("{} images in {columns} columns", images.len());
        return Err(VisionError::option("contact sheet", given, "at least one image and one column"));
    }
    if let Some(other) = images.iter().find(|entry| entry.image.format() != PixelFormat::Rgb24) {
        return Err(VisionError::SurfacesDiffer { left: "an rgb24 sheet".to_owned(), right: format!("{:?}", other.image) });
    }
    let cell_width = images.iter().map(|entry| entry.image.width()).max().unwrap_or(1);
    let cell_height = images.iter().map(|entry| entry.image.height()).max().unwrap_or(1);
    let scale = cell_width.div_ceil(400).max(1);
    let caption_height = text_height(scale) + GAP;
    let rows = (images.len() as u32).div_ceil(columns);
    let columns = columns.min(images.len() as u32);
    let width = columns.saturating_mul(cell_width + GAP).saturating_add(GAP);
    let height = rows.saturating_mul(cell_height + caption_height + GAP).saturating_add(GAP);
    let mut sheet = pool.surface(PixelFormat::Rgb24, width, height)?;
    let color = ColorDescription::default();
    Canvas::new(&mut sheet, &color).fill(&BBox::from_xyxy(0.0, 0.0, width as f32, height as f32), BACKGROUND, 255)?;
    for (index, entry) in (0u32..).zip(images) {
        let (left, top) = (GAP + index % columns * (cell_width + GAP), GAP + index / columns * (cell_height + caption_height + GAP));
        let (inset_x, inset_y) = ((cell_width - entry.image.width()) / 2, (cell_height - entry.image.height()) / 2);
        paste(&mut sheet, &entry.image, left + inset_x, top + inset_y)?;
        let letters = (cell_width / text_height(scale)) as usize;
        let caption: String = entry.caption.chars().take(letters).collect();
        Canvas::new(&mut sheet, &color).text(left.into(), (top + cell_height + GAP / 2).into(), &caption, INK, scale)?;
    }
    Ok(sheet)
}

fn paste(sheet: &mut HostSurface, image: &HostSurface, x: u32, y: u32) -> Result<(), VisionError> {
    let mut planes = sheet.planes_mut().ok_or(VisionError::NotWritable { format: PixelFormat::Rgb24 })?;
    for row in 0..image.height() as usize {
        let source = image.row(0, row);
        let target = planes.row(0, y as usize + row);
        target[x as usize * 3..x as usize * 3 + source.len()].copy_from_slice(source);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_images::{code_at, flat};

    fn entry(width: u32, height: u32, rgb: [f32; 3]) -> SheetImage {
        SheetImage { image: flat(PixelFormat::Rgb24, width, height, rgb), caption: "frame 7".to_owned() }
    }

    #[test]
    fn images_are_in_their_cells_with_captions_below() {
        let images = [entry(100, 60, [250.0, 0.0, 0.0]), entry(100, 60, [0.0, 250.0, 0.0]), entry(50, 60, [0.0, 0.0, 250.0])];
        let sheet = contact_sheet(&images, 2, &FramePool::new(1)).expect("small");
        assert_eq!((sheet.width(), sheet.height()), (2 * 108 + 8, 2 * (60 + 16 + 8) + 8));
        assert_eq!(code_at(&sheet, 0, 8, 8), 250);
        assert_eq!(code_at(&sheet, 1, 116, 8), 250);
        assert_eq!(code_at(&sheet, 2, 8 + 25, 92), 250);
        assert_eq!(code_at(&sheet, 2, 8, 92), u16::from(BACKGROUND[2]), "centred in its cell");
        let ink =
            (72..80).flat_map(|y| (8..108).map(move |x| (x, y))).filter(|&(x, y)| code_at(&sheet, 0, x, y) == u16::from(INK[0])).count();
        assert!(ink > 40, "the caption has {ink} pixels");
    }

    #[test]
    fn wrong_input_is_refused() {
        let pool = FramePool::new(1);
        assert!(contact_sheet(&[], 2, &pool).is_err());
        assert!(contact_sheet(&[entry(4, 4, [0.0; 3])], 0, &pool).is_err());
        let yuv = SheetImage { image: flat(PixelFormat::Yuv420p, 4, 4, [0.0; 3]), caption: String::new() };
        assert!(contact_sheet(&[yuv], 1, &pool).is_err());
    }
}
