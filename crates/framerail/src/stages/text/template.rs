//! Text with placeholders.

use std::fmt::Write;

use chrono::{
    DateTime, Local,
    format::{Item as TimeItem, StrftimeItems},
};
use framerail_core::{StreamInfo, printable};
use framerail_pipeline::FrameItem;

/// Default format of the clock.
const CLOCK: &str = "%Y-%m-%d %H:%M:%S";

/// Placeholders, for messages.
const KNOWN: &str = "stream, source, time, pts, frame, width, height, count, count:CLASS, clock, clock:FORMAT";

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Fixed(String),
    Stream,
    Source,
    Time,
    Pts,
    Frame,
    Width,
    Height,
    Count(Option<String>),
    Clock(String),
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Part>);

impl Template {
    /// # Errors
    /// What is wrong with a placeholder.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut fixed = String::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let after = rest.get(character.len_utf8()..).unwrap_or_default();
            match character {
                '{' | '}' if after.starts_with(character) => {
                    fixed.push(character);
                    rest = after.get(1..).unwrap_or_default();
                }
                '{' => {
                    let (inside, after) =
                        after.split_once('}').ok_or_else(|| format!("`{text}`: a brace is not closed; {{{{ is a brace"))?;
                    if !fixed.is_empty() {
                        parts.push(Part::Fixed(std::mem::take(&mut fixed)));
                    }
                    parts.push(Part::parse(inside)?);
                    rest = after;
                }
                '}' => return Err(format!("`{text}`: a brace is not opened; }}}} is a brace")),
                '\\' if after.starts_with('n') => {
                    fixed.push('\n');
                    rest = after.get(1..).unwrap_or_default();
                }
                other => {
                    fixed.push(other);
                    rest = after;
                }
            }
        }
        if !fixed.is_empty() {
            parts.push(Part::Fixed(fixed));
        }
        if parts.is_empty() { Err("the text is empty".into()) } else { Ok(Self(parts)) }
    }

    /// The text of a frame. Control characters in names are escaped.
    pub(super) fn fill(&self, item: &FrameItem, stream: Option<&StreamInfo>) -> String {
        let mut text = String::new();
        let frame = &item.frame;
        let secs = frame.seconds() + stream.map_or(0.0, |stream| stream.start_offset_micros as f64 / 1e6);
        for part in &self.0 {
            // Formatting fails only for an invalid clock format, and those were checked.
            let _ = match part {
                Part::Fixed(fixed) => text.write_str(fixed),
                Part::Stream => text.write_str(&printable(stream.map_or("", |stream| &stream.name))),
                Part::Source => text.write_str(&printable(&stream.map_or_else(String::new, |stream| stream.source.to_string()))),
                Part::Time => text.write_str(&clock_time(secs)),
                Part::Pts => write!(text, "{:.3}", frame.seconds()),
                Part::Frame => write!(text, "{}", frame.index),
                Part::Width => write!(text, "{}", frame.width),
                Part::Height => write!(text, "{}", frame.height),
                Part::Count(None) => write!(text, "{}", item.detections.len()),
                Part::Count(Some(label)) => {
                    let count = item.detections.iter().filter(|found| *found.label.name == **label).count();
                    write!(text, "{count}")
                }
                Part::Clock(format) => {
                    let now: DateTime<Local> = item.arrival.map_or_else(Local::now, |arrival| arrival.wall.into());
                    write!(text, "{}", now.format(format))
                }
            };
        }
        text
    }

    /// The counted classes.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| if let Part::Count(Some(label)) = part { Some(label.as_str()) } else { None })
    }

    /// Whether it uses values of the stream's start.
    pub(super) fn needs_stream(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Stream | Part::Source | Part::Time))
    }

    /// Names of a stream that it uses.
    pub(super) fn of_stream(&self, info: &StreamInfo) -> String {
        let names = self.0.iter().map(|part| match part {
            Part::Stream => info.name.clone(),
            Part::Source => info.source.to_string(),
            _ => String::new(),
        });
        names.collect()
    }

    /// Values that are equal on every frame.
    pub(super) fn fixed(&self) -> String {
        self.0.iter().filter_map(|part| if let Part::Fixed(text) = part { Some(text.as_str()) } else { None }).collect()
    }
}

impl Part {
    fn parse(inside: &str) -> Result<Self, String> {
        let (name, value) = inside.split_once(':').map_or((inside, None), |(name, value)| (name, Some(value)));
        match (name.trim(), value) {
            ("stream" | "name", None) => Ok(Self::Stream),
            ("source", None) => Ok(Self::Source),
            ("time", None) => Ok(Self::Time),
            ("pts", None) => Ok(Self::Pts),
            ("frame" | "index", None) => Ok(Self::Frame),
            ("width", None) => Ok(Self::Width),
            ("height", None) => Ok(Self::Height),
            ("count", label) => Ok(Self::Count(label.map(|label| label.trim().to_owned()))),
            ("clock", format) => {
                let format = format.unwrap_or(CLOCK);
                match StrftimeItems::new(format).any(|item| matches!(item, TimeItem::Error)) {
                    true => Err(format!("{{clock:{format}}}: not a format of strftime, such as %H:%M:%S")),
                    false => Ok(Self::Clock(format.to_owned())),
                }
            }
            _ => Err(format!("`{{{inside}}}` is not a placeholder; there are {KNOWN}")),
        }
    }
}

/// `0:01:30.500`.
fn clock_time(secs: f64) -> String {
    let millis = (secs.abs() * 1000.0).round() as u64;
    let sign = if secs < 0.0 && millis > 0 { "-" } else { "" };
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{sign}{}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_known_and_braces_may_stand() {
        let template = Template::parse(r"{{{stream}}} {count:face}\nat {clock:%H:%M}").expect("a template");
        let fixed = |text: &str| Part::Fixed(text.into());
        let expected =
            [fixed("{"), Part::Stream, fixed("} "), Part::Count(Some("face".into())), fixed("\nat "), Part::Clock("%H:%M".into())];
        assert_eq!(template.0, expected);
        assert!(template.needs_stream());
        for (wrong, why) in
            [("{streams}", "not a placeholder"), ("{stream", "not closed"), ("a}", "not opened"), ("{clock:%Q}", "strftime"), ("", "empty")]
        {
            assert!(Template::parse(wrong).expect_err(wrong).contains(why), "{wrong}");
        }
    }

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!([0.0, 90.5, 3725.0004, -1.25].map(clock_time), ["0:00:00.000", "0:01:30.500", "1:02:05.000", "-0:00:01.250"]);
    }
}
