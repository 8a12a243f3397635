//! Specifications of stages: arguments and options, each with type, range, default and a line of help.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::{
    description::is_option_key,
    value::{Choice, OptionKind, OptionValue},
};

/// Position of a stage in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Produces frames; comes first.
    Source,
    /// Consumes and produces frames.
    Transform,
    /// Only consumes frames; comes last.
    Sink,
}

impl Role {
    /// The role as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Transform => "transform",
            Role::Sink => "sink",
        }
    }
}

/// What applies when an option is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// The option must be given.
    Required,
    /// The option may be omitted; the stage then has no value for it.
    Optional,
    /// This default, written as the user would.
    Default(String),
}

/// An option of a stage, written `name=value`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptionSpec {
    /// Its name, in lower case with `_` between words.
    pub name: String,
    /// Former names, still accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Type of the value.
    pub kind: OptionKind,
    /// Special words accepted in addition to `kind`, such as `auto`.
    pub words: Vec<Choice>,
    /// What applies when the option is not given.
    pub presence: Presence,
    /// Unit of the value, such as `pixels`; empty when there is none.
    pub unit: String,
    /// Description, one line.
    pub help: String,
}

impl OptionSpec {
    /// An option that may be omitted.
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

    /// An integer within a range, ends included.
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

    /// A duration or a position in a video.
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

    /// Sets the default, written as the user would.
    #[must_use]
    pub fn default(mut self, value: impl ToString) -> Self {
        self.presence = Presence::Default(value.to_string());
        self
    }

    /// Requires the option.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.presence = Presence::Required;
        self
    }

    /// Also accepts this special word, such as `auto`; read with [`crate::Options::word`].
    #[must_use]
    pub fn or_word(mut self, word: impl Into<String>, help: impl Into<String>) -> Self {
        self.words.push(Choice::new(word, help));
        self
    }

    /// Also accepts a former name.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.aliases.push(name.into());
        self
    }

    /// Whether this is the option's name or an alias.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Sets the unit of the value.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Sets the description, one line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Parses a value of this option.
    ///
    /// # Errors
    /// One line without the option's name, such as `is out of range; it must be from 0 to 2`.
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

/// A positional argument of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArgumentSpec {
    /// Its name in help and in [`crate::Options`], in lower case.
    pub name: String,
    /// Type of the value, or of each value if there are many.
    pub kind: OptionKind,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it takes all remaining values; allowed for the last argument only.
    pub many: bool,
    /// Description, one line.
    pub help: String,
}

impl ArgumentSpec {
    /// An argument that must be given.
    pub fn required(name: impl Into<String>, kind: OptionKind, help: impl Into<String>) -> Self {
        Self { name: name.into(), kind, required: true, many: false, help: help.into() }
    }

    /// An argument that may be omitted.
    pub fn optional(name: impl Into<String>, kind: OptionKind, help: impl Into<String>) -> Self {
        Self { required: false, ..Self::required(name, kind, help) }
    }

    /// Accepts one or more values (zero or more, when optional).
    #[must_use]
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }
}

/// A pipeline text that shows how a stage is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The pipeline.
    pub pipeline: String,
    /// What it does.
    pub help: String,
}

/// Specification of a stage. Built step by step:
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
    /// Its position in a pipeline.
    pub role: Role,
    /// Summary, one line.
    pub summary: String,
    /// Longer description; may be empty. Paragraphs are separated by an empty line.
    pub details: String,
    /// Positional arguments.
    pub arguments: Vec<ArgumentSpec>,
    /// Options, without those common to all stages.
    pub options: Vec<OptionSpec>,
    /// Default of `workers=`, for stages that support several threads.
    pub workers: Option<String>,
    /// Whether it has branches in parentheses and passes every item to each of them.
    pub branches: bool,
    /// Usage examples.
    pub examples: Vec<Example>,
    /// Names that other programs have for it: not accepted, but answered with its name.
    #[serde(skip)]
    pub other_names: Vec<String>,
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
            other_names: Vec::new(),
        }
    }

    /// A stage that produces frames.
    pub fn source(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(name, Role::Source, summary)
    }

    /// A stage that consumes and produces frames.
    pub fn transform(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(name, Role::Transform, summary)
    }

    /// A stage that only consumes frames.
    pub fn sink(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(name, Role::Sink, summary)
    }

    /// Sets the longer description.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds an argument; the order of calls is the order of arguments.
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

    /// Accepts `workers=`, with this default: a number or `auto` (one per CPU core).
    #[must_use]
    pub fn workers(mut self, default: impl ToString) -> Self {
        self.workers = Some(default.to_string());
        self
    }

    /// Accepts branches, as `tee` does.
    #[must_use]
    pub fn branches(mut self) -> Self {
        self.branches = true;
        self
    }

    /// Adds names that other programs have for it, which are answered with a hint.
    #[must_use]
    pub fn other_names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.other_names.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Adds an example.
    #[must_use]
    pub fn example(mut self, pipeline: impl Into<String>, help: impl Into<String>) -> Self {
        self.examples.push(Example { pipeline: pipeline.into(), help: help.into() });
        self
    }

    /// The options common to all stages of this role: `name`, `queue`, `on_error`, `workers`.
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

    /// Options of the stage, followed by the common ones.
    pub fn all_options(&self) -> Vec<OptionSpec> {
        self.options.iter().cloned().chain(self.common_options()).collect()
    }
}

/// The option of all sinks for what happens when they fail.
pub(crate) const ON_ERROR: &str = "on_error";

/// Names of keys with other meanings in TOML files.
const RESERVED: [&str; 6] = ["use", "args", "branches", "name", "queue", "workers"];

impl StageSpec {
    /// Checks for contradictions, so that every default is known to parse.
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
    /// The argument in help texts: `PATH`.
    pub fn placeholder(&self) -> String {
        self.name.to_uppercase()
    }
}

impl StageSpec {
    /// Usage line: `read INPUT... [key=value ...]`.
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
