//! Text in outline fonts, rendered as pixel coverage by resvg, which shapes every script that a font has.

use std::{
    collections::HashMap,
    fmt::Write,
    fs, io,
    path::Path,
    sync::{Arc, OnceLock},
};

use framerail_pipeline::{ErrorKind, StageError, drawing::REGULAR_FONT};
use framerail_vision::{Letters, TextBlock};
use parking_lot::Mutex;
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{
        self, Node, Tree,
        fontdb::{self, Database},
    },
};

/// Cached texts: those of all streams, and labels that stay the same.
const KEPT: usize = 64;
/// Line distance, and height of a single line, in font sizes.
const LINE_STEP: f32 = 1.2;
/// From the top of a line to its baseline.
const BASELINE: f32 = 0.95;
/// Maximum width of a text in pixels.
const MAX_WIDTH: f32 = 16384.0;

/// A font, with the included one and the system's as fallback.
#[derive(Clone)]
pub(crate) struct Typeface(Arc<Shared>);

struct Shared {
    /// Family of the first font.
    family: String,
    own: Arc<Database>,
    /// The same with the system's fonts, which are searched once a text needs them.
    with_system: OnceLock<Arc<Database>>,
    /// Cache of characters and whether a font has them.
    found: Mutex<HashMap<char, Found>>,
    /// The most recent first.
    kept: Mutex<Vec<(Wanted, Arc<Setting>)>>,
}

/// The fonts that have a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Own,
    System,
    Nowhere,
}

/// A text, its font size and the width of its outline in pixels.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    text: String,
    pixels: f32,
    outline: f32,
}

/// Text as pixels: coverage of letters and of the outline, of the same size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Setting {
    pub(crate) letters: TextBlock,
    /// Including letters; empty without an outline.
    pub(crate) outline: TextBlock,
    /// Margin around the text for the outline and slanted letters, in pixels.
    pub(crate) border: u32,
}

impl std::fmt::Debug for Typeface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Typeface({})", self.0.family)
    }
}

impl Typeface {
    /// The included font, or that of a TrueType or OpenType file.
    ///
    /// # Errors
    /// `Input` when the file cannot be read or is not a font.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self, StageError> {
        let mut own = Database::new();
        if let Some(path) = file {
            let wrong = |why: &dyn std::fmt::Display| StageError::new(ErrorKind::Input, format!("{}: {why}", path.display()));
            let bytes = fs::read(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => wrong(&"no such font file; check the name"),
                _ => wrong(&error),
            })?;
            own.load_font_data(bytes);
            if own.is_empty() {
                return Err(wrong(&"not a TrueType or OpenType font"));
            }
        }
        own.load_font_data(REGULAR_FONT.to_vec());
        let family = own.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone()).unwrap_or_default();
        Ok(Self(Arc::new(Shared {
            family,
            own: Arc::new(own),
            with_system: OnceLock::new(),
            found: Mutex::default(),
            kept: Mutex::default(),
        })))
    }

    /// The first character that no font has; it is shown as a question mark.
    pub(crate) fn missing(&self, text: &str) -> Option<char> {
        text.chars().find(|character| self.find(*character) == Found::Nowhere)
    }

    fn find(&self, character: char) -> Found {
        if !is_printed(character) {
            return Found::Own;
        }
        let known = self.0.found.lock().get(&character).copied();
        known.unwrap_or_else(|| {
            let found = match character {
                _ if has(&self.0.own, character) => Found::Own,
                _ if has(self.with_system(), character) => Found::System,
                _ => Found::Nowhere,
            };
            self.0.found.lock().insert(character, found);
            found
        })
    }

    fn with_system(&self) -> &Arc<Database> {
        let Shared { own, with_system, .. } = &*self.0;
        with_system.get_or_init(|| {
            let mut fonts = (**own).clone();
            fonts.load_system_fonts();
            Arc::new(fonts)
        })
    }

    fn fonts_for(&self, text: &str) -> &Arc<Database> {
        if text.chars().any(|character| self.find(character) == Found::System) { self.with_system() } else { &self.0.own }
    }

    /// Renders lines of text, left-aligned, with a font size and an outline width in pixels.
    pub(crate) fn set(&self, text: &str, pixels: f32, outline: f32) -> Arc<Setting> {
        let wanted = Wanted { text: text.to_owned(), pixels, outline };
        let mut kept = self.0.kept.lock();
        if let Some(place) = kept.iter().position(|(known, _)| *known == wanted) {
            kept[..=place].rotate_right(1);
        } else {
            let setting = Arc::new(self.render(&wanted).unwrap_or_default());
            kept.insert(0, (wanted, setting));
            kept.truncate(KEPT);
        }
        kept.first().map(|(_, setting)| Arc::clone(setting)).unwrap_or_default()
    }

    /// `None` for a text without visible characters.
    fn render(&self, wanted: &Wanted) -> Option<Setting> {
        let Wanted { text, pixels, outline } = wanted;
        // A character that no font has would be searched for in all of them, every time.
        let shown = |character| if self.find(character) == Found::Nowhere { '?' } else { character };
        let text = &text.chars().map(shown).collect::<String>();
        let options = usvg::Options { fontdb: Arc::clone(self.fonts_for(text)), ..usvg::Options::default() };
        let tree = Tree::from_str(&self.svg(text, *pixels, *outline), &options).ok()?;
        let lines = tree.root().children();
        let texts = lines.iter().filter_map(|node| if let Node::Text(text) = node { Some(text) } else { None });
        let right = texts.map(|text| text.bounding_box().right()).fold(0.0, f32::max).min(MAX_WIDTH);
        let border = (outline + pixels / 12.0).ceil();
        let height = LINE_STEP * pixels * text.lines().count() as f32;
        let (width, height) = ((right + 2.0 * border).ceil() as u32, (height + 2.0 * border).ceil() as u32);
        let mut canvas = Pixmap::new(width, height).filter(|_| right > 0.0)?;
        resvg::render(&tree, Transform::from_translate(border, border), &mut canvas.as_mut());
        let block =
            |coverage: &dyn Fn(&[u8]) -> u8| TextBlock { width, height, coverage: canvas.data().chunks_exact(4).map(coverage).collect() };
        // Letters are green, the outline below them is red.
        let letters = block(&|pixel| pixel.get(1).copied().unwrap_or(0));
        let outline = if *outline > 0.0 { block(&|pixel| pixel.get(3).copied().unwrap_or(0)) } else { TextBlock::default() };
        Some(Setting { letters, outline, border: border as u32 })
    }

    fn svg(&self, text: &str, pixels: f32, outline: f32) -> String {
        let family = escaped(&self.0.family.replace('\'', ""));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\" font-family=\"'{family}'\" font-size=\"{pixels}\" \
             fill=\"#0f0\" stroke=\"#f00\" stroke-width=\"{}\" stroke-linejoin=\"round\">",
            2.0 * outline
        );
        for (number, line) in text.lines().enumerate() {
            let baseline = pixels * (LINE_STEP * number as f32 + BASELINE);
            // Writing to a string does not fail.
            let _ = write!(svg, "<text y=\"{baseline}\" paint-order=\"stroke\" xml:space=\"preserve\">{}</text>", escaped(line));
        }
        svg + "</svg>"
    }
}

impl Letters for Typeface {
    fn line(&self, text: &str, pixels: u32) -> TextBlock {
        let setting = self.set(text, pixels as f32 / LINE_STEP, 0.0);
        trimmed(&setting.letters, setting.border)
    }
}

/// Without its margin.
fn trimmed(block: &TextBlock, border: u32) -> TextBlock {
    let (width, height) = (block.width.saturating_sub(2 * border), block.height.saturating_sub(2 * border));
    if width == 0 {
        return TextBlock::default();
    }
    let rows = block.coverage.chunks_exact(block.width as usize).skip(border as usize).take(height as usize);
    let coverage = rows.flat_map(|row| row.iter().skip(border as usize).take(width as usize).copied()).collect();
    TextBlock { width, height, coverage }
}

/// Whether fonts have a glyph for a character.
fn is_printed(character: char) -> bool {
    !character.is_control() && !character.is_whitespace() && !('\u{200b}'..='\u{200f}').contains(&character)
        // Variation selectors modify the previous character.
        && !('\u{fe00}'..='\u{fe0f}').contains(&character)
}

fn has(fonts: &Database, character: char) -> bool {
    let in_face = |face: &fontdb::FaceInfo| {
        let glyph = |data: &[u8], index| fontdb_face(data, index).is_some_and(|face| face.glyph_index(character).is_some());
        fonts.with_face_data(face.id, glyph).unwrap_or(false)
    };
    fonts.faces().any(in_face)
}

fn fontdb_face(data: &[u8], index: u32) -> Option<ttf_parser::Face<'_>> {
    ttf_parser::Face::parse(data, index).ok()
}

/// As XML; characters that XML does not support are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' => escaped.push_str("    "),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {}
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(block: &TextBlock) -> u64 {
        block.coverage.iter().map(|value| u64::from(*value)).sum::<u64>() / 255
    }

    #[test]
    fn letters_grow_with_their_size_and_lie_within_their_outline() {
        let face = Typeface::new(None).expect("the included font");
        let (small, large) = (face.set("Gate 7", 20.0, 0.0), face.set("Gate 7", 40.0, 2.0));
        assert!(small.outline.coverage.is_empty() && ink(&small.letters) > 50, "{small:?}");
        assert!(ink(&large.letters) > 3 * ink(&small.letters));
        assert!(ink(&large.outline) > ink(&large.letters));
        assert!(large.letters.coverage.iter().zip(large.outline.coverage.iter()).all(|(letter, all)| letter <= all));
        // Digits have equal widths, so a clock does not move.
        assert_eq!(face.set("11:11:11", 20.0, 0.0).letters.width, face.set("00:48:59", 20.0, 0.0).letters.width);
        assert_eq!(face.set("a\nb", 20.0, 0.0).letters.height, face.set("a", 20.0, 0.0).letters.height + 24);
        assert_eq!(face.set("  ", 20.0, 0.0).letters, TextBlock::default());
    }

    #[test]
    fn a_line_has_the_height_that_was_asked_for() {
        let face = Typeface::new(None).expect("the included font");
        let line = face.line("<b> & \"caf\u{e9}\" \u{1}", 13);
        assert_eq!(line.height, 13);
        assert_eq!(line.coverage.len(), (line.width * line.height) as usize);
        assert_eq!(face.line("", 13), TextBlock::default());
    }

    #[test]
    fn what_is_not_a_font_is_refused_with_its_name() {
        let wrong = Typeface::new(Some(Path::new("/dev/null"))).expect_err("empty");
        assert!(wrong.message.contains("/dev/null: not a TrueType"), "{}", wrong.message);
        assert!(Typeface::new(Some(Path::new("no.ttf"))).expect_err("missing").message.contains("no such font"));
    }
}
