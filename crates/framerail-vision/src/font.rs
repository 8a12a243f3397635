//! A small bitmap font for ASCII and Latin-1, scaled by integer factors.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};

/// Side of a glyph in font pixels.
pub(crate) const GLYPH_SIDE: u32 = 8;

/// Rows of a glyph from the top; the lowest bit is the leftmost pixel. Characters without a glyph become a hollow box.
fn glyph(character: char) -> [u8; 8] {
    const MISSING: [u8; 8] = [0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0x00];
    match character {
        // The two Latin-1 characters that the font lacks.
        '³' => return [0x1e, 0x30, 0x1c, 0x30, 0x1e, 0x00, 0x00, 0x00],
        '´' => return [0x30, 0x18, 0x0c, 0x00, 0x00, 0x00, 0x00, 0x00],
        _ => {}
    }
    BASIC_FONTS.get(character).or_else(|| LATIN_FONTS.get(character)).unwrap_or(MISSING)
}

/// Size of one line of text in pixels, as (width, height), at a scale.
pub(crate) fn text_size(text: &str, scale: u32) -> (u32, u32) {
    (text.chars().count() as u32 * GLYPH_SIDE * scale, GLYPH_SIDE * scale)
}

/// The glyphs of a line of text.
pub(crate) fn glyphs(text: &str) -> Vec<[u8; 8]> {
    text.chars().map(glyph).collect()
}

/// Coverage (0 or 255) of one line of glyphs, row by row; see [`text_size`].
pub(crate) fn rasterise_glyphs(glyphs: &[[u8; 8]], scale: u32) -> Vec<u8> {
    let side = GLYPH_SIDE * scale;
    let mut coverage = Vec::with_capacity(glyphs.len() * (side * side) as usize);
    for y in 0..side {
        for glyph in glyphs {
            let bits = glyph[(y / scale) as usize];
            coverage.extend((0..side).map(|x| if bits >> (x / scale) & 1 == 1 { 255 } else { 0 }));
        }
    }
    coverage
}

/// Like [`rasterise_glyphs`], for text.
#[cfg(test)]
pub(crate) fn rasterise(text: &str, scale: u32) -> Vec<u8> {
    rasterise_glyphs(&glyphs(text), scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_and_latin_1_have_glyphs() {
        let missing = glyph('\u{4e2d}');
        let present = |code: &u32| char::from_u32(*code).is_some_and(|character| glyph(character) != missing);
        let absent: String = (0x21..0x7f).chain(0xa1..=0xff).filter(|code| !present(code)).filter_map(char::from_u32).collect();
        assert_eq!(absent, "");
        assert_eq!(glyph(' '), [0; 8]);
    }

    #[test]
    fn scaling_repeats_pixels() {
        let (small, large) = (rasterise("Aé", 1), rasterise("Aé", 3));
        for y in 0..24 {
            for x in 0..48 {
                assert_eq!(large[y * 48 + x], small[y / 3 * 16 + x / 3]);
            }
        }
        assert!(rasterise("", 2).is_empty());
    }
}
