//! The model's input size for a frame size.

use std::{fmt, str::FromStr};

use crate::{InferError, card::InputCard};

/// Maximum pixels of a model input: somewhat more than an 8K frame. Activations take many times that in memory.
pub const MAX_INPUT_PIXELS: u64 = 36_000_000;

/// Width and height of a model input in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InputSize {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// The requested size of the model input. Rounded up to a size that the model supports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SizeRequest {
    /// The card's size.
    #[default]
    Auto,
    /// The frame's own size.
    Full,
    /// This size, independent of the frame's aspect ratio.
    Exact(InputSize),
    /// The frame's size times this factor, above 0.
    Scale(f32),
    /// The frame's size, reduced until the longer side is at most this many pixels.
    MaxSide(u32),
}

impl fmt::Display for SizeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeRequest::Auto => f.write_str("auto"),
            SizeRequest::Full => f.write_str("full"),
            SizeRequest::Exact(size) => size.fmt(f),
            SizeRequest::Scale(factor) => write!(f, "{}%", factor * 100.0),
            SizeRequest::MaxSide(side) => write!(f, "{side}"),
        }
    }
}

impl FromStr for SizeRequest {
    type Err = InferError;

    /// Parses `auto`, `full`, `640x384`, `50%` (of the frame's size) or `960` (maximum of the longer side).
    fn from_str(text: &str) -> Result<Self, InferError> {
        let wrong = || InferError::Option {
            option: "size",
            given: text.to_owned(),
            reason: "use auto, full, WIDTHxHEIGHT, N% or a longer side".into(),
        };
        let side = |digits: &str| digits.parse::<u32>().ok().filter(|side| (1..=32_768).contains(side)).ok_or_else(wrong);
        match text {
            "auto" => Ok(SizeRequest::Auto),
            "full" => Ok(SizeRequest::Full),
            _ if text.ends_with('%') => {
                let percent: f32 = text.trim_end_matches('%').parse().map_err(|_| wrong())?;
                if percent > 0.0 && percent <= 400.0 { Ok(SizeRequest::Scale(percent / 100.0)) } else { Err(wrong()) }
            }
            _ => match text.split_once('x') {
                Some((width, height)) => Ok(SizeRequest::Exact(InputSize { width: side(width)?, height: side(height)? })),
                None => side(text).map(SizeRequest::MaxSide),
            },
        }
    }
}

/// The input size for a frame, by the card and the user's request.
///
/// # Errors
/// `Option` if the model has a fixed size and another is requested, or the input would exceed [`MAX_INPUT_PIXELS`].
pub fn input_size(card: &InputCard, request: SizeRequest, frame: InputSize) -> Result<InputSize, InferError> {
    let wrong = |reason: String| InferError::Option { option: "size", given: request.to_string(), reason };
    let wanted = match (request, card.default_size()) {
        (SizeRequest::Auto, Some(size)) => size,
        (SizeRequest::Auto, None) => shrink_to(frame, card.max_side.unwrap_or(u32::MAX)),
        (SizeRequest::Full, _) => frame,
        (SizeRequest::Exact(size), _) => size,
        (SizeRequest::Scale(factor), _) => scale(frame, f64::from(factor)),
        (SizeRequest::MaxSide(side), _) => shrink_to(frame, side),
    };
    if let (Some(only), None) = (card.default_size(), card.multiple_of) {
        return if wanted == only { Ok(only) } else { Err(wrong(format!("this model only supports {only}; leave size out"))) };
    }
    let multiple = card.multiple_of.unwrap_or(1).max(1);
    let size = InputSize { width: round_up(wanted.width, multiple), height: round_up(wanted.height, multiple) };
    let pixels = u64::from(size.width) * u64::from(size.height);
    if pixels > MAX_INPUT_PIXELS {
        return Err(wrong(format!("a model input of {size} is beyond {MAX_INPUT_PIXELS} pixels; give a smaller size, such as size=1920")));
    }
    Ok(size)
}

/// Whether all frames have the same input size.
pub(crate) fn is_fixed(card: &InputCard, request: SizeRequest) -> bool {
    match request {
        SizeRequest::Exact(_) => true,
        SizeRequest::Auto => card.default_size().is_some(),
        // Other requests are refused by models of one size.
        _ => false,
    }
}

fn round_up(side: u32, multiple: u32) -> u32 {
    side.max(1).checked_next_multiple_of(multiple).unwrap_or(u32::MAX)
}

fn shrink_to(frame: InputSize, max_side: u32) -> InputSize {
    let longest = frame.width.max(frame.height);
    if longest <= max_side { frame } else { scale(frame, f64::from(max_side) / f64::from(longest)) }
}

fn scale(frame: InputSize, factor: f64) -> InputSize {
    let side = |side: u32| (f64::from(side) * factor).round().max(1.0) as u32;
    InputSize { width: side(frame.width), height: side(frame.height) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelCard;

    const HD: InputSize = InputSize { width: 1280, height: 720 };

    fn card(input: &str) -> InputCard {
        let text = format!("name=\"t\"\nfile=\"t\"\nlicence=\"MIT\"\nclasses=1\n[input]\n{input}\n[output.boxes]\nboxes=\"b\"\n");
        ModelCard::parse(&text, "t.toml".as_ref()).expect("card of the test").input
    }

    fn size(card: &InputCard, request: &str) -> String {
        match request.parse().and_then(|request| input_size(card, request, HD)) {
            Ok(size) => size.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn frame_sized_inputs_round_up() {
        let card = card("multiple_of = 32");
        for (request, expected) in [
            ("auto", "1280x736"),
            ("full", "1280x736"),
            ("640x360", "640x384"),
            ("50%", "640x384"),
            ("960", "960x544"),
            ("4000", "1280x736"),
        ] {
            assert_eq!(size(&card, request), expected, "{request}");
        }
        assert!(size(&card, "32000x32000").contains("beyond 36000000 pixels"));
    }

    #[test]
    fn cards_may_name_a_size_or_a_limit() {
        assert_eq!(size(&card("multiple_of = 32\nmax_side = 640"), "auto"), "640x384");
        assert_eq!(size(&card("multiple_of = 32\nmax_side = 640"), "full"), "1280x736");
        let resizable = card("width = 640\nheight = 640\nmultiple_of = 32");
        assert_eq!((size(&resizable, "auto"), size(&resizable, "full")), ("640x640".into(), "1280x736".into()));
        let fixed = card("width = 300\nheight = 300");
        assert_eq!((size(&fixed, "auto"), size(&fixed, "300x300")), ("300x300".into(), "300x300".into()));
        assert_eq!(size(&fixed, "full"), "size=full: this model only supports 300x300; leave size out");
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "big", "0", "0x10", "10x", "-5", "0%", "1e9%", "NaN%", "99999x1"] {
            assert!(text.parse::<SizeRequest>().is_err(), "{text}");
        }
    }
}
