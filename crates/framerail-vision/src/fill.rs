//! Fills surfaces with one colour.

use framerail_core::{ColorDescription, HostSurface, Region};

use crate::{
    VisionError,
    color::samples_from_rgb,
    patch::{ChromaCoverage, paint},
};

/// Fills a writable surface with a full-range RGB colour. Alpha is unchanged.
///
/// # Errors
/// `NotWritable` when the surface is shared or read-only.
pub fn fill(surface: &mut HostSurface, color: &ColorDescription, rgb: [u8; 3]) -> Result<(), VisionError> {
    let codes = samples_from_rgb(surface.format(), color, rgb.map(f32::from));
    let (width, height) = (surface.width(), surface.height());
    let row = vec![255; width as usize * 4];
    // A few rows at a time: the coverage of a whole frame would be as large as the frame.
    for y in (0..height).step_by(4) {
        let region = Region { x: 0, y, width, height: 4.min(height - y) };
        paint(surface, region, row.get(..region.pixels()).unwrap_or_default(), codes, ChromaCoverage::Most)?;
    }
    Ok(())
}
