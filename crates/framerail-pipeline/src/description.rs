//! A pipeline as its author wrote it: one data model for text and TOML.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::DeviceChoice;

/// A byte range in the text of a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The span from the start of this one to the end of `other`.
    #[must_use]
    pub fn to(self, other: Span) -> Self {
        Self { start: self.start, end: other.end }
    }
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// The text of a pipeline, shown in messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The whole text.
    pub text: String,
    /// The file that contains it; `None` for a pipeline given on the command line or by a program.
    pub file: Option<PathBuf>,
}

impl Origin {
    /// A pipeline text that is not from a file.
    pub fn text(text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { text: text.into(), file: None })
    }

    /// The content of a file.
    pub fn file(path: &Path, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { text: text.into(), file: Some(path.to_owned()) })
    }
}

/// A word and its position. Compares the words only.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// The word, without quotes.
    pub text: String,
    /// Position, quotes included.
    pub span: Option<Span>,
}

impl Value {
    /// A word at a position.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span: Some(span) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), span: None }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Value {}

/// An option of a stage: `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDescription {
    /// The key.
    pub key: Value,
    /// The value.
    pub value: Value,
}

/// A stage of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageDescription {
    /// Which stage to use.
    pub stage: Value,
    /// Positional arguments.
    pub arguments: Vec<Value>,
    /// Options in the order written, including `name`, `queue` and `workers`.
    pub options: Vec<OptionDescription>,
    /// Branches in parentheses.
    pub branches: Vec<Chain>,
}

impl StageDescription {
    /// A stage without arguments.
    pub fn new(stage: impl Into<String>) -> Self {
        Self { stage: Value { text: stage.into(), span: None }, ..Self::default() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, text: impl Into<String>) -> Self {
        self.arguments.push(Value { text: text.into(), span: None });
        self
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        let key = Value { text: key.into(), span: None };
        self.options.push(OptionDescription { key, value: Value { text: value.to_string(), span: None } });
        self
    }

    /// Adds a branch.
    #[must_use]
    pub fn branch(mut self, stages: Vec<StageDescription>) -> Self {
        self.branches.push(Chain { stages, span: None });
        self
    }

    /// The name given by the author.
    pub fn name(&self) -> Option<&str> {
        self.options.iter().find(|option| option.key.text == "name").map(|option| option.value.text.as_str())
    }
}

/// Consecutive stages. Compares the stages only.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The stages.
    pub stages: Vec<StageDescription>,
    /// Position, parentheses included.
    pub span: Option<Span>,
}

impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        self.stages == other.stages
    }
}

impl Eq for Chain {}

/// HTTP monitoring of a run: `[serve]` of a pipeline file. Only stored here; the program that runs the pipeline starts the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeDescription {
    /// Address and port.
    pub address: Value,
    /// Token that clients must present.
    pub token: Option<Value>,
    /// Additional host names accepted by the server.
    pub hosts: Vec<Value>,
    /// URL schemes of sources that may be added during the run; `file` stands for paths.
    pub sources: Vec<Value>,
    /// The stage whose frames are shown.
    pub view: Option<Value>,
}

/// OpenTelemetry export of a run: `[otlp]` of a pipeline file. Only stored here; the program that runs the pipeline exports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpDescription {
    /// Base URL of the collector; `env` for the environment's.
    pub url: Value,
    /// Every Nth frame of the sources is traced; 0 for none.
    pub trace: Option<u64>,
    /// Seconds between two exports of metrics, 1 to 3600.
    pub interval: Option<u64>,
}

/// A pipeline as its author wrote it. Text and TOML forms of the same pipeline compare equal.
///
/// [`fmt::Display`] writes it as text, which [`Description::parse`] reads back as an equal value.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Name, from a file.
    pub name: Option<String>,
    /// Description of its purpose, from a file.
    pub description: Option<String>,
    /// Default device of the stages, from a file.
    pub device: Option<DeviceChoice>,
    /// Default HTTP monitoring of its runs, from a file.
    pub serve: Option<ServeDescription>,
    /// Default OpenTelemetry export of its runs, from a file.
    pub otlp: Option<OtlpDescription>,
    /// Its stages.
    pub chain: Chain,
    /// The text it was read from.
    pub origin: Arc<Origin>,
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        let parts = |one: &Self| (one.name.clone(), one.description.clone(), one.device, one.serve.clone(), one.otlp.clone());
        parts(self) == parts(other) && self.chain == other.chain
    }
}

impl Eq for Description {}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chain.fmt(f)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            if index > 0 {
                f.write_str(" ! ")?;
            }
            stage.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for StageDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(f, &self.stage.text, true)?;
        for argument in &self.arguments {
            f.write_str(" ")?;
            write_word(f, &argument.text, true)?;
        }
        for option in &self.options {
            write!(f, " {}=", option.key.text)?;
            write_word(f, &option.value.text, false)?;
        }
        for branch in &self.branches {
            if branch.stages.is_empty() { f.write_str(" ( )")? } else { write!(f, " ( {branch} )")? }
        }
        Ok(())
    }
}

/// Writes a word so that it parses back unchanged. A standalone word is quoted if it would parse as an option or a symbol.
fn write_word(f: &mut fmt::Formatter<'_>, word: &str, alone: bool) -> fmt::Result {
    let plain = !word.chars().any(|character| character.is_whitespace() || matches!(character, '\'' | '"' | '\\'));
    let sign = alone && (word.is_empty() || matches!(word, "!" | "(" | ")" | "--") || option_key_len(word).is_some());
    if plain && !sign {
        return f.write_str(word);
    }
    if !word.contains('\'') {
        return write!(f, "'{word}'");
    }
    write!(f, "\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
}

/// Length of the key if a word has the form `key=value`: a letter or `_`, then letters, digits, `_` or `-`.
pub(crate) fn option_key_len(word: &str) -> Option<usize> {
    let key = word.split_once('=')?.0;
    is_option_key(key).then_some(key.len())
}

/// Whether a text is a valid option key.
pub(crate) fn is_option_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
