//! What a stage says of itself: its arguments and options, with type, range, default and a line of help each.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::{description::is_option_key, value::OptionValue};

/// Where a stage may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes frames; comes first.
    Source,
    /// Takes frames and gives frames.
    Transform,
    /// Takes frames and gives none; comes last.
    Sink,
}

impl Role {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Transform => "transform",
            Role::Sink => "sink",
        }
    }
}

/// What a value is and which values are allowed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OptionKind {
    /// A whole number.
    Integer {
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
    },
    /// A number.
    Float {
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// `true`/`yes`/`on` or `false`/`no`/`off`.
    Switch,
    /// One of a few words.
    Choice {
        /// Every word with a line on what it does.
        choices: Vec<Choice>,
    },
    /// Any text.
    Text,
    /// A file, folder or address.
    Path,
    /// Several paths, separated by commas; `\,` is a comma within one.
    Paths,
    /// A length of time or a place in a clip: `90`, `1:30`, `00:01:30.5`, `500ms`, `90s`.
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

/// A word that an option takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The word.
    pub value: String,
    /// What it does, in one line.
    pub help: String,
}

/// What holds when an option is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It must be given.
    Required,
    /// It may be left out; the stage then has no value for it.
    Optional,
    /// This value, written as the user would.
    Default(String),
}

/// An option of a stage, written `name=value`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptionSpec {
    /// Its name, in lower case with `_` between words.
    pub name: String,
    /// Earlier names, which are still taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What it takes.
    pub kind: OptionKind,
    /// Words it takes beside what `kind` says, such as `auto`.
    pub words: Vec<Choice>,
    /// What holds when it is not given.
    pub presence: Presence,
    /// Unit of the value, such as `pixels`; empty when there is none.
    pub unit: String,
    /// What it does, in one line.
    pub help: String,
}

impl OptionSpec {
    /// An option that may be left out.
    pub fn new(name: impl Into<String>, kind: OptionKind) -> Self {
        Self {
            name: name.into(),
            aliases: Vec::new(),
            kind,
            words: Vec::new(),
            presence: Presence::Optional,
            unit: String::new(),
            help: String::new(),
        }
    }

    /// A whole number within a range, ends included.
    pub fn integer(name: impl Into<String>, range: RangeInclusive<i64>) -> Self {
        Self::new(name, OptionKind::Integer { min: *range.start(), max: *range.end() })
    }

    /// A number within a range, ends included.
    pub fn float(name: impl Into<String>, range: RangeInclusive<f64>) -> Self {
        Self::new(name, OptionKind::Float { min: *range.start(), max: *range.end() })
    }

    /// On or off.
    pub fn switch(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Switch)
    }

    /// One of these words, each with a line of help.
    pub fn choice(name: impl Into<String>, choices: &[(&str, &str)]) -> Self {
        Self::new(name, OptionKind::Choice { choices: choices.iter().map(|(value, help)| Choice::new(*value, *help)).collect() })
    }

    /// Any text.
    pub fn text(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Text)
    }

    /// A path.
    pub fn path(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Path)
    }

    /// Several paths.
    pub fn paths(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Paths)
    }

    /// A length of time or a place in a clip.
    pub fn time(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Time)
    }

    /// Width and height.
    pub fn size(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Size)
    }

    /// A colour.
    pub fn color(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Color)
    }

    /// Frames per second.
    pub fn rate(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::Rate)
    }

    /// Pairs of key and value.
    pub fn key_values(name: impl Into<String>) -> Self {
        Self::new(name, OptionKind::KeyValues)
    }

    /// The value when it is not given, written as the user would.
    #[must_use]
    pub fn default(mut self, value: impl ToString) -> Self {
        self.presence = Presence::Default(value.to_string());
        self
    }

    /// It must be given.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.presence = Presence::Required;
        self
    }

    /// Takes this word too, such as `auto`; read with [`crate::Options::word`].
    #[must_use]
    pub fn or_word(mut self, word: impl Into<String>, help: impl Into<String>) -> Self {
        self.words.push(Choice::new(word, help));
        self
    }

    /// Takes an earlier name too.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }

    /// Whether it is written with this name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Unit of the value.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// What it does, in one line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Reads a value as this option takes it.
    ///
    /// # Errors
    /// One line without the option's name, such as `is out of range; it goes from 0 to 2`.
    pub fn parse(&self, text: &str) -> Result<OptionValue, String> {
        if self.words.iter().any(|word| word.value == text) {
            return Ok(OptionValue::Word(text.to_owned()));
        }
        OptionValue::parse(&self.kind, text).map_err(|message| self.mention_words(message))
    }

    fn mention_words(&self, message: String) -> String {
        if self.words.is_empty() {
            return message;
        }
        let words: Vec<String> = self.words.iter().map(|word| format!("`{}`", word.value)).collect();
        format!("{message}, or {}", words.join(" or "))
    }
}

impl Choice {
    /// A word with its line.
    pub fn new(value: impl Into<String>, help: impl Into<String>) -> Self {
        Self { value: value.into(), help: help.into() }
    }
}

/// What a stage takes without a name, by position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArgumentSpec {
    /// Its name in help and for [`crate::Options`], in lower case.
    pub name: String,
    /// What it takes; of one value, when there are many.
    pub kind: OptionKind,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it takes all the rest; only the last argument may.
    pub many: bool,
    /// What it is, in one line.
    pub help: String,
}

impl ArgumentSpec {
    /// An argument that must be given.
    pub fn required(name: impl Into<String>, kind: OptionKind, help: impl Into<String>) -> Self {
        Self { name: name.into(), kind, required: true, many: false, help: help.into() }
    }

    /// An argument that may be left out.
    pub fn optional(name: impl Into<String>, kind: OptionKind, help: impl Into<String>) -> Self {
        Self { required: false, ..Self::required(name, kind, help) }
    }

    /// Takes one or more values (none or more, when optional).
    #[must_use]
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }
}

/// A pipeline text that shows a stage at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The pipeline.
    pub pipeline: String,
    /// What it does.
    pub help: String,
}

/// All that is known about a stage before it is used. Built like a table:
///
/// ```
/// use framerail_pipeline::{ArgumentSpec, OptionKind, OptionSpec, StageSpec};
///
/// let spec = StageSpec::transform("blur", "Covers what was detected.")
///     .option(OptionSpec::choice("kind", &[("gaussian", "smooth"), ("mosaic", "coarse cells")]).default("gaussian").help("How to cover."))
///     .option(OptionSpec::float("strength", 0.0..=2.0).default(1).help("Relative to the size of the face."))
///     .workers("auto")
///     .example("read in.mp4 ! infer centerface ! blur ! write out.mp4", "Covers every face.");
/// assert_eq!(spec.options.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageSpec {
    /// Its name in a pipeline.
    pub name: String,
    /// Where it may stand.
    pub role: Role,
    /// What it does, in one line.
    pub summary: String,
    /// More than one line on it; may be empty. Paragraphs are separated by an empty line.
    pub details: String,
    /// What it takes by position.
    pub arguments: Vec<ArgumentSpec>,
    /// What it takes by name, without the options that every stage has.
    pub options: Vec<OptionSpec>,
    /// Default of `workers=`, for stages that several threads may share.
    pub workers: Option<String>,
    /// Whether it takes branches in parentheses and gives every item to each.
    pub branches: bool,
    /// How it is used.
    pub examples: Vec<Example>,
}

impl StageSpec {
    fn new(name: impl Into<String>, role: Role, summary: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role,
            summary: summary.into(),
            details: String::new(),
            arguments: Vec::new(),
            options: Vec::new(),
            workers: None,
            branches: false,
            examples: Vec::new(),
        }
    }

    /// A stage that makes frames.
    pub fn source(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(name, Role::Source, summary)
    }

    /// A stage that takes frames and gives frames.
    pub fn transform(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(name, Role::Transform, summary)
    }

    /// A stage that only takes frames.
    pub fn sink(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(name, Role::Sink, summary)
    }

    /// More on it than one line.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds an argument; they are taken in this order.
    #[must_use]
    pub fn argument(mut self, argument: ArgumentSpec) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, option: OptionSpec) -> Self {
        self.options.push(option);
        self
    }

    /// Takes `workers=`, with this default: a number or `auto` (as many as there are processors).
    #[must_use]
    pub fn workers(mut self, default: impl ToString) -> Self {
        self.workers = Some(default.to_string());
        self
    }

    /// Takes branches, as `tee` does.
    #[must_use]
    pub fn branches(mut self) -> Self {
        self.branches = true;
        self
    }

    /// Adds an example.
    #[must_use]
    pub fn example(mut self, pipeline: impl Into<String>, help: impl Into<String>) -> Self {
        self.examples.push(Example { pipeline: pipeline.into(), help: help.into() });
        self
    }

    /// The options that this stage has because every stage of its role has them: `name`, `queue`, `on_error`, `workers`.
    pub fn common_options(&self) -> Vec<OptionSpec> {
        let mut options = vec![OptionSpec::text("name").help("Name in statistics and graphs; default: the stage's name.")];
        if self.role != Role::Source {
            let queue = OptionSpec::integer("queue", 1..=1024).default(4).unit("frames");
            options.push(queue.help("Frames that may wait before this stage."));
        }
        if self.role == Role::Sink {
            let choices = [
                ("fail", "the other outputs are finished, then the run fails with its error"),
                ("drop", "its frames are dropped and counted; the run fails only when no other output is left"),
            ];
            let help = "Behaviour when this output fails; default: fail for files, drop for network outputs.";
            options.push(OptionSpec::choice(ON_ERROR, &choices).help(help));
        }
        if let Some(default) = &self.workers {
            let workers = OptionSpec::integer("workers", 1..=64).default(default).unit("threads");
            options.push(workers.or_word("auto", "one per CPU").help("Threads that share the work; order is kept."));
        }
        options
    }

    /// Its own options, then the common ones.
    pub fn all_options(&self) -> Vec<OptionSpec> {
        self.options.iter().cloned().chain(self.common_options()).collect()
    }
}

/// The option of every sink on what happens when it fails.
pub(crate) const ON_ERROR: &str = "on_error";

/// Names of keys that TOML files use for other things than options.
const RESERVED: [&str; 6] = ["use", "args", "branches", "name", "queue", "workers"];

impl StageSpec {
    /// Looks for contradictions, so that every default is known to be readable.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !is_option_key(&self.name) {
            return Err("its name must be a word of letters, digits, `_` and `-`".into());
        }
        let mut names = Vec::new();
        for option in &self.options {
            if RESERVED.contains(&option.name.as_str()) {
                return Err(format!("the option name `{}` is taken", option.name));
            }
            if !is_option_key(&option.name) || option.name.contains('-') {
                return Err(format!("the option name `{}` must be a word of letters, digits and `_`", option.name));
            }
            names.push(&option.name);
            names.extend(&option.aliases);
        }
        if self.role == Role::Sink && names.iter().any(|name| *name == ON_ERROR) {
            return Err(format!("every sink has the option `{ON_ERROR}`"));
        }
        for (index, argument) in self.arguments.iter().enumerate() {
            if argument.many && index + 1 < self.arguments.len() {
                return Err(format!("argument `{}` takes many, but is not the last", argument.name));
            }
            names.push(&argument.name);
        }
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("`{}` is there twice", pair[0]));
        }
        self.validate_defaults()
    }

    fn validate_defaults(&self) -> Result<(), String> {
        for option in self.all_options() {
            if let Presence::Default(text) = &option.presence {
                option.parse(text).map_err(|problem| format!("the default {}={text} {problem}", option.name))?;
            }
        }
        Ok(())
    }
}

impl ArgumentSpec {
    /// How help writes it: `PATH`.
    pub fn placeholder(&self) -> String {
        self.name.to_uppercase()
    }
}

impl StageSpec {
    /// How it is written: `read INPUT... [key=value ...]`.
    pub fn usage(&self) -> String {
        let mut usage = self.name.clone();
        for argument in &self.arguments {
            let name = argument.placeholder() + if argument.many { "..." } else { "" };
            usage += &if argument.required { format!(" {name}") } else { format!(" [{name}]") };
        }
        for option in self.options.iter().filter(|option| option.presence == Presence::Required) {
            usage += &format!(" {}=...", option.name);
        }
        if self.options.iter().any(|option| option.presence != Presence::Required) {
            usage += " [key=value ...]";
        }
        if self.branches {
            usage += " ( stage ... ) [( stage ... ) ...]";
        }
        usage
    }
}
