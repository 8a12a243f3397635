//! Checked options of a stage.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use framerail_core::Rational;

use crate::{ErrorKind, StageError, description::Span, value::OptionValue};

/// A checked option value with its position.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedValue {
    /// The value; several for an argument that takes a list.
    pub values: Vec<OptionValue>,
    /// Position in the text; `None` for a default.
    pub span: Option<Span>,
}

/// The options and arguments of a stage, checked against its [`crate::StageSpec`].
///
/// The getters cannot fail on user input. They panic when a stage asks for an option that its specification lacks or declares with another
/// type: a mistake of the stage's author that shows in the first test.
#[derive(Clone, Debug, Default)]
pub struct Options {
    stage: String,
    /// `None`: declared, optional and not given.
    values: BTreeMap<String, Option<CheckedValue>>,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $optional:ident -> $type:ty, $pattern:pat => $result:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, name: &str) -> $type {
            match self.$optional(name) {
                Some(value) => value,
                None => self.bug(name, "is not given and has no default, or is a word"),
            }
        }

        /// The same for an optional option: `None` when it is not given, or when a special word is given.
        pub fn $optional(&self, name: &str) -> Option<$type> {
            match self.one(name)? {
                OptionValue::Word(_) => None,
                $pattern => Some($result),
                _ => self.bug(name, "has another type"),
            }
        }
    )*};
}

impl Options {
    pub(crate) fn new(stage: impl Into<String>) -> Self {
        Self { stage: stage.into(), values: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, name: &str, value: Option<CheckedValue>) {
        self.values.insert(name.to_owned(), value);
    }

    /// Name of the stage in its specification, such as `blur`.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    getters! {
        /// An integer.
        integer, optional_integer -> i64, OptionValue::Integer(value) => *value;
        /// A number.
        float, optional_float -> f64, OptionValue::Float(value) => *value;
        /// Whether it is on.
        switch, optional_switch -> bool, OptionValue::Switch(value) => *value;
        /// The chosen word.
        choice, optional_choice -> &str, OptionValue::Choice(value) => value;
        /// The text.
        text, optional_text -> &str, OptionValue::Text(value) => value;
        /// The path, as written.
        path, optional_path -> &Path, OptionValue::Path(value) => value;
        /// The time.
        time, optional_time -> Duration, OptionValue::Time(value) => *value;
        /// Width and height in pixels, both above 0.
        size, optional_size -> (u32, u32), OptionValue::Size(width, height) => (*width, *height);
        /// Red, green and blue, 0 to 255.
        color, optional_color -> [u8; 3], OptionValue::Color(value) => *value;
        /// Frames per second, above 0.
        rate, optional_rate -> Rational, OptionValue::Rate(value) => *value;
        /// Pairs of key and value, in the order written.
        key_values, optional_key_values -> &[(String, String)], OptionValue::KeyValues(value) => value;
    }

    /// An integer as a count; negative values, if the range allows them, become 0.
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.integer(name)).unwrap_or(0)
    }

    /// The special word given instead of a value, such as `auto`.
    pub fn word(&self, name: &str) -> Option<&str> {
        match self.one(name)? {
            OptionValue::Word(word) => Some(word),
            _ => None,
        }
    }

    /// All paths of an option or argument that takes several; empty when not given.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for value in self.all(name) {
            match value {
                OptionValue::Path(path) => paths.push(path.clone()),
                OptionValue::Paths(list) => paths.extend(list.iter().cloned()),
                OptionValue::Word(_) => {}
                _ => self.bug(name, "has another type"),
            }
        }
        paths
    }

    /// All texts of an argument that takes several; empty when not given.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let text = |value| match value {
            &OptionValue::Text(ref text) | &OptionValue::Choice(ref text) => text.as_str(),
            _ => self.bug(name, "has another type"),
        };
        self.all(name).iter().map(text).collect()
    }

    /// Whether the user gave a value, as opposed to the default.
    pub fn is_given(&self, name: &str) -> bool {
        self.span(name).is_some()
    }

    /// Position of the value; `None` for a default.
    pub fn span(&self, name: &str) -> Option<Span> {
        self.checked(name).and_then(|value| value.span)
    }

    pub(crate) fn span_if_known(&self, name: &str) -> Option<Span> {
        self.values.get(name)?.as_ref()?.span
    }

    /// Worker threads: `workers=`, with `auto` replaced by the number of CPU cores (at most 64); 1 for a stage without that option.
    pub fn workers(&self) -> usize {
        if !self.values.contains_key("workers") {
            return 1;
        }
        match self.optional_integer("workers") {
            Some(count) => usize::try_from(count).unwrap_or(1).max(1),
            None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(64),
        }
    }

    fn one(&self, name: &str) -> Option<&OptionValue> {
        self.all(name).first()
    }

    fn all(&self, name: &str) -> &[OptionValue] {
        self.checked(name).map_or(&[], |value| &value.values)
    }

    fn checked(&self, name: &str) -> Option<&CheckedValue> {
        match self.values.get(name) {
            Some(value) => value.as_ref(),
            None => self.bug(name, "is not in its specification"),
        }
    }

    fn bug(&self, name: &str, what: &str) -> ! {
        panic!("stage `{}` asks for option `{name}`, which {what}", self.stage)
    }
}

/// Why a stage cannot be configured although each of its options is valid on its own.
#[derive(Clone, Debug)]
pub struct ConfigError {
    /// The invalid option or argument, if any.
    pub option: Option<String>,
    /// Error message, one line.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// Category of the failure; default: [`ErrorKind::Usage`].
    pub kind: ErrorKind,
}

impl ConfigError {
    /// An error of the stage as a whole.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { option: None, message: message.to_string(), help: None, kind: ErrorKind::Usage }
    }

    /// An error of one option or argument; its value is underlined.
    pub fn at(option: &str, message: impl fmt::Display) -> Self {
        Self { option: Some(option.to_owned()), ..Self::new(message) }
    }

    /// Adds how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// Sets the category of the failure.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

impl From<StageError> for ConfigError {
    fn from(error: StageError) -> Self {
        Self::new(&error.message).kind(error.kind)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.option {
            Some(option) => write!(f, "{option}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ConfigError {}
