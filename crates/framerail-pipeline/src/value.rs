//! Types of values, and the parsing of their text.

use std::{path::PathBuf, time::Duration};

use framerail_core::{Rational, run_files::path_of_address};
use serde::Serialize;

use crate::nearest::nearest;

/// Type of a value, and its allowed values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OptionKind {
    /// An integer.
    Integer {
        /// Minimum.
        min: i64,
        /// Maximum.
        max: i64,
    },
    /// A number.
    Float {
        /// Minimum.
        min: f64,
        /// Maximum.
        max: f64,
    },
    /// `true`/`yes`/`on` or `false`/`no`/`off`.
    Switch,
    /// One of several words.
    Choice {
        /// The words, each with a line of help.
        choices: Vec<Choice>,
    },
    /// Any text.
    Text,
    /// A file, folder or address.
    Path,
    /// Several paths, separated by commas; `\,` is a comma within one.
    Paths,
    /// A duration or a position in a video: `90`, `1:30`, `00:01:30.5`, `500ms`, `90s`.
    Time,
    /// Width and height in pixels: `640x384`.
    Size,
    /// `#rrggbb` or a name such as `black`.
    Color,
    /// Frames per second: `25`, `29.97`, `30000/1001`.
    Rate,
    /// `key=value,key=value`; `\,` is a comma within a value.
    KeyValues,
}

/// A word that an option accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The word.
    pub value: String,
    /// Description, one line.
    pub help: String,
}

impl Choice {
    /// A word with its description.
    pub fn new(value: impl Into<String>, help: impl Into<String>) -> Self {
        Self { value: value.into(), help: help.into() }
    }
}

/// A value of an option.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionValue {
    /// An integer.
    Integer(i64),
    /// A number.
    Float(f64),
    /// On or off.
    Switch(bool),
    /// A word of a choice.
    Choice(String),
    /// Any text.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// Several paths.
    Paths(Vec<PathBuf>),
    /// A time.
    Time(Duration),
    /// Width and height in pixels, both above 0.
    Size(u32, u32),
    /// Red, green, blue.
    Color([u8; 3]),
    /// Frames per second, above 0.
    Rate(Rational),
    /// Pairs of key and value.
    KeyValues(Vec<(String, String)>),
    /// A special word instead of a value, such as `auto`.
    Word(String),
}

impl OptionValue {
    /// Parses a value of the given kind.
    ///
    /// # Errors
    /// The expected value, without the option's name, such as `expects an integer`.
    pub fn parse(kind: &OptionKind, text: &str) -> Result<Self, String> {
        match kind {
            OptionKind::Integer { min, max } => parse_integer(text, *min, *max).map(Self::Integer),
            OptionKind::Float { min, max } => parse_float(text, *min, *max).map(Self::Float),
            OptionKind::Switch => parse_switch(text).map(Self::Switch),
            OptionKind::Choice { choices } => parse_choice(text, choices.iter().map(|choice| choice.value.as_str())).map(Self::Choice),
            OptionKind::Text => Ok(Self::Text(text.to_owned())),
            OptionKind::Path => parse_path(text).map(Self::Path),
            OptionKind::Paths => split_list(text).iter().map(|path| parse_path(path)).collect::<Result<_, _>>().map(Self::Paths),
            OptionKind::Time => parse_time(text).map(Self::Time),
            OptionKind::Size => parse_size(text).map(|(width, height)| Self::Size(width, height)),
            OptionKind::Color => parse_color(text).map(Self::Color),
            OptionKind::Rate => parse_rate(text).map(Self::Rate),
            OptionKind::KeyValues => parse_key_values(text).map(Self::KeyValues),
        }
    }
}

fn parse_integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("expects an integer".into());
    }
    match text.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("is out of range; it must be {}", range_in_words(min, max, i64::MIN, i64::MAX))),
    }
}

fn parse_float(text: &str, min: f64, max: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && (min..=max).contains(&value) => Ok(value),
        Ok(value) if value.is_finite() => Err(format!("is out of range; it must be {}", range_in_words(min, max, f64::MIN, f64::MAX))),
        _ => Err("expects a number".into()),
    }
}

/// Formats a range; bounds that are the type's limits are omitted.
fn range_in_words<T: std::fmt::Display + PartialOrd>(min: T, max: T, lowest: T, highest: T) -> String {
    match (min > lowest, max < highest) {
        (true, false) => format!("at least {min}"),
        (false, true) => format!("at most {max}"),
        _ => format!("from {min} to {max}"),
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err("expects `true` or `false` (or yes/no, on/off)".into()),
    }
}

fn parse_choice<'a>(text: &str, choices: impl Iterator<Item = &'a str> + Clone) -> Result<String, String> {
    if choices.clone().any(|choice| choice == text) {
        return Ok(text.to_owned());
    }
    let listed: Vec<String> = choices.clone().map(|choice| format!("`{choice}`")).collect();
    let list = match listed.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".into(),
    };
    Err(match nearest(text, choices) {
        Some(near) => format!("is not one of {list}; did you mean `{near}`?"),
        None => format!("is not one of {list}"),
    })
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("expects a path".into());
    }
    // A text cannot hold a path that is not UTF-8; its URL can.
    Ok(path_of_address(text).unwrap_or_else(|| PathBuf::from(text)))
}

/// Splits at commas; `\,` is a comma within an entry, and `\\` a backslash.
fn split_list(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = character == '\\' && matches!(characters.peek(), Some(',' | '\\'));
        match (escaped, character) {
            (true, _) => push_last(&mut entries, characters.next()),
            (false, ',') => entries.push(String::new()),
            (false, other) => push_last(&mut entries, Some(other)),
        }
    }
    entries
}

fn push_last(entries: &mut [String], character: Option<char>) {
    if let (Some(entry), Some(character)) = (entries.last_mut(), character) {
        entry.push(character);
    }
}

/// Joins entries so that [`split_list`] splits them again.
pub(crate) fn join_list<'a>(entries: impl IntoIterator<Item = &'a str>) -> String {
    let escaped: Vec<String> = entries.into_iter().map(|entry| entry.replace('\\', r"\\").replace(',', r"\,")).collect();
    escaped.join(",")
}

const TIME_EXPECTED: &str = "expects a time such as `90`, `1:30`, `00:01:30.5` or `500ms`";

/// Parses a duration or a position in a video, as in options: `90`, `1:30`, `00:01:30.5`, `500ms`, `90s`.
///
/// # Errors
/// The expected format.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    time_secs(text).and_then(|secs| Duration::try_from_secs_f64(secs).ok()).ok_or_else(|| TIME_EXPECTED.to_owned())
}

fn time_secs(text: &str) -> Option<f64> {
    if let Some(millis) = text.strip_suffix("ms") {
        return plain_number(millis).map(|millis| millis / 1000.0);
    }
    if let Some((number, factor)) = unit_of_time(text) {
        return plain_number(number).map(|number| number * factor);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (seconds, whole) = parts.split_last()?;
    if whole.len() > 2 {
        return None;
    }
    let mut total = 0.0;
    for part in whole {
        let count: u32 = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
        total = (total + f64::from(count)) * 60.0;
    }
    let seconds = plain_number(seconds)?;
    (whole.is_empty() || seconds < 60.0).then_some(total + seconds)
}

fn unit_of_time(text: &str) -> Option<(&str, f64)> {
    let units = [("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0)];
    units.iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))
}

/// Digits with at most one decimal point; no sign or exponent.
fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.bytes().any(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', 'X', '×']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or_else(|| "expects width and height such as `640x384`, each from 1 to 65535".into())
}

fn side(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|side| (1..=65_535).contains(side))
}

/// The sixteen basic CSS colours, and orange, pink and brown.
const COLORS: [(&str, [u8; 3]); 19] = [
    ("black", [0, 0, 0]),
    ("white", [255, 255, 255]),
    ("gray", [128, 128, 128]),
    ("silver", [192, 192, 192]),
    ("red", [255, 0, 0]),
    ("maroon", [128, 0, 0]),
    ("lime", [0, 255, 0]),
    ("green", [0, 128, 0]),
    ("blue", [0, 0, 255]),
    ("navy", [0, 0, 128]),
    ("yellow", [255, 255, 0]),
    ("olive", [128, 128, 0]),
    ("aqua", [0, 255, 255]),
    ("teal", [0, 128, 128]),
    ("fuchsia", [255, 0, 255]),
    ("purple", [128, 0, 128]),
    ("orange", [255, 165, 0]),
    ("pink", [255, 192, 203]),
    ("brown", [165, 42, 42]),
];

fn parse_color(text: &str) -> Result<[u8; 3], String> {
    let lower = text.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix('#') {
        return hex_color(digits).ok_or_else(|| "expects a colour such as `#ff8800`".into());
    }
    let name = match lower.as_str() {
        "grey" => "gray",
        "cyan" => "aqua",
        "magenta" => "fuchsia",
        other => other,
    };
    if let Some((_, color)) = COLORS.iter().find(|(known, _)| *known == name) {
        return Ok(*color);
    }
    Err(match nearest(name, COLORS.iter().map(|(known, _)| *known)) {
        Some(near) => format!("expects a colour such as `#ff8800` or a name; did you mean `{near}`?"),
        None => "expects a colour such as `#ff8800`, `black` or `orange`".into(),
    })
}

fn hex_color(digits: &str) -> Option<[u8; 3]> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u32::from_str_radix(digits, 16).ok().filter(|_| plain)?;
    match digits.len() {
        6 => Some([(value >> 16) as u8, (value >> 8) as u8, value as u8]),
        3 => Some([(value >> 8) as u8 & 15, (value >> 4) as u8 & 15, value as u8 & 15].map(|nibble| nibble * 17)),
        _ => None,
    }
}

fn parse_rate(text: &str) -> Result<Rational, String> {
    let rate = match text.split_once('/') {
        Some((num, den)) => num.parse().ok().zip(den.parse().ok()).and_then(|(num, den)| Rational::new(num, den)),
        None => decimal_rate(text),
    };
    let usable = |rate: &Rational| rate.is_positive() && rate.as_f64() <= 100_000.0;
    rate.filter(usable).ok_or_else(|| "expects frames per second above 0 such as `25`, `29.97` or `30000/1001`".into())
}

/// A decimal as an exact fraction: `29.97` is 2997/100.
fn decimal_rate(text: &str) -> Option<Rational> {
    plain_number(text)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return None;
    }
    Rational::new(format!("{whole}{fraction}").parse().ok()?, 10_i64.checked_pow(fraction.len() as u32)?)
}

fn parse_key_values(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let pair = |entry: &String| match entry.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expects pairs such as `key=value,key=value`".to_owned()),
    };
    split_list(text).iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_every_form() {
        let millis = |text| parse_time(text).map(|time| time.as_millis());
        for (text, expected) in [
            ("90", 90_000),
            ("1:30", 90_000),
            ("00:01:30.5", 90_500),
            ("500ms", 500),
            ("2.5s", 2_500),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1h", 3_600_000),
            (".5", 500),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "1:75", "1:2:3:4", "1e3", "inf", "NaN", "a", ":", "1:", "ms", "."] {
            assert_eq!(millis(text), Err(TIME_EXPECTED.into()), "{text}");
        }
    }

    #[test]
    fn rates_are_exact() {
        assert_eq!(parse_rate("25"), Ok(Rational { num: 25, den: 1 }));
        assert_eq!(parse_rate("29.97"), Ok(Rational { num: 2997, den: 100 }));
        assert_eq!(parse_rate("30000/1001"), Ok(Rational { num: 30000, den: 1001 }));
        for text in ["0", "-5", "1/0", "-1/-1", "x", "", "1e9", "1000000"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn colours_by_number_and_name() {
        assert_eq!(parse_color("#ff8000"), Ok([255, 128, 0]));
        assert_eq!(parse_color("#f80"), Ok([255, 136, 0]));
        assert_eq!(parse_color("Black"), Ok([0, 0, 0]));
        assert_eq!(parse_color("grey"), Ok([128, 128, 128]));
        assert!(parse_color("orang").is_err_and(|error| error.ends_with("did you mean `orange`?")));
        assert!(parse_color("#12345").is_err() && parse_color("#+12345").is_err() && parse_color("#ffé").is_err());
    }

    #[test]
    fn numbers_say_their_range() {
        assert_eq!(parse_float("9", 0.0, 2.0), Err("is out of range; it must be from 0 to 2".into()));
        assert_eq!(parse_integer("0", 1, i64::MAX), Err("is out of range; it must be at least 1".into()));
        assert_eq!(parse_integer("99999999999999999999", 1, 5), Err("is out of range; it must be from 1 to 5".into()));
        assert_eq!(parse_integer("2.5", 1, 5), Err("expects an integer".into()));
        assert_eq!(parse_float("inf", 0.0, 2.0), Err("expects a number".into()));
    }

    #[test]
    fn lists_join_and_split() {
        let entries = ["a.mp4", "b,c.mp4", r"d\e", r"f\,g", ""];
        assert_eq!(split_list(&join_list(entries)), entries);
        assert_eq!(parse_key_values("a=b=c,d="), Ok(vec![("a".into(), "b=c".into()), ("d".into(), String::new())]));
        assert!(parse_key_values("=x").is_err());
    }

    #[test]
    fn sizes_are_positive() {
        assert_eq!(parse_size("640x384"), Ok((640, 384)));
        for text in ["640", "0x5", "5x0", "ax5", "70000x5", "-1x5", "640x384x2"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
