//! Reads the options of a stage according to its specification.

use std::sync::Arc;

use crate::{
    description::{Description, OptionDescription, Origin, Span, StageDescription, Value},
    diagnostic::{Diagnostic, Diagnostics},
    nearest::nearest,
    options::{CheckedValue, Options},
    spec::{ArgumentSpec, OptionSpec, Presence, StageSpec},
    value::OptionValue,
};

/// Maximum number of characters of a value shown in messages.
const SHOWN_VALUE: usize = 48;

/// Checks arguments and options; appends all problems to `problems`.
pub(crate) fn read_options(spec: &StageSpec, stage: &StageDescription, origin: &Arc<Origin>, problems: &mut Vec<Diagnostic>) -> Options {
    let mut reader = OptionReader { spec, stage, origin, problems, options: Options::new(&spec.name) };
    reader.arguments();
    reader.options();
    reader.options
}

impl StageSpec {
    /// Reads options from text such as `strength=1 kind=mosaic`, as written after the stage's name in a pipeline. For tests of a stage, and
    /// for programs that create a stage without a pipeline.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn read_options(&self, text: &str) -> Result<Options, Diagnostics> {
        let description = Description::parse(&format!("{} {text}", self.name))?;
        let mut problems = Vec::new();
        let stage = description.chain.stages.first().cloned().unwrap_or_default();
        let options = read_options(self, &stage, &description.origin, &mut problems);
        if problems.is_empty() { Ok(options) } else { Err(Diagnostics(problems)) }
    }
}

struct OptionReader<'a> {
    spec: &'a StageSpec,
    stage: &'a StageDescription,
    origin: &'a Arc<Origin>,
    problems: &'a mut Vec<Diagnostic>,
    options: Options,
}

impl OptionReader<'_> {
    fn problem(&mut self, span: Option<Span>, message: String, help: Option<String>) {
        let mut diagnostic = Diagnostic::new(self.origin, span, message);
        diagnostic.help = help;
        self.problems.push(diagnostic);
    }

    fn arguments(&mut self) {
        let mut given = self.stage.arguments.as_slice();
        for argument in &self.spec.arguments {
            let taken = if argument.many { given.len() } else { given.len().min(1) };
            let (own, rest) = given.split_at(taken);
            given = rest;
            if own.is_empty() {
                self.missing_argument(argument);
                self.options.insert(&argument.name, None);
            } else {
                self.argument(argument, own);
            }
        }
        if let Some(extra) = given.first() {
            self.unexpected_argument(extra);
        }
    }

    fn argument(&mut self, argument: &ArgumentSpec, given: &[Value]) {
        let mut values = Vec::new();
        for value in given {
            match OptionValue::parse(&argument.kind, &value.text) {
                Ok(parsed) => values.push(parsed),
                Err(problem) => {
                    let message = format!("`{}` {problem}", clip(&value.text));
                    self.problem(value.span, message, Some(format!("{}: {}", argument.placeholder(), argument.help)));
                }
            }
        }
        let span = given.first().and_then(|first| first.span).zip(given.last().and_then(|last| last.span));
        let span = span.map(|(first, last)| first.to(last));
        // An argument created by a program has no span, but still counts as given.
        self.options.insert(&argument.name, Some(CheckedValue { values, span: span.or(self.stage.stage.span) }));
    }

    fn missing_argument(&mut self, argument: &ArgumentSpec) {
        if argument.required {
            let message = format!("`{}` needs {}: {}", self.spec.name, argument.placeholder(), lower_first(&argument.help));
            let help = format!("write it as `{}`", self.spec.usage());
            self.problem(self.stage.stage.span, message.trim_end_matches('.').to_owned(), Some(help));
        }
    }

    fn unexpected_argument(&mut self, extra: &Value) {
        let message = match self.spec.arguments.len() {
            0 => format!("`{}` takes no arguments, but is given `{}`", self.spec.name, clip(&extra.text)),
            1 => format!("`{}` takes one argument; `{}` is an extra one", self.spec.name, clip(&extra.text)),
            count => format!("`{}` takes {count} arguments; `{}` is an extra one", self.spec.name, clip(&extra.text)),
        };
        let text = &extra.text;
        let help = if text.len() > 1 && (text.starts_with(['!', '(', ')']) || text.ends_with(['!', '(', ')'])) {
            "`!`, `(` and `)` stand alone, with spaces around them".to_owned()
        } else if let Some(option) = self.find(text.trim_start_matches('-').split('=').next().unwrap_or_default()) {
            format!("`{0}` is an option; write `{0}=VALUE`", option.name)
        } else {
            format!("write it as `{}`", self.spec.usage())
        };
        self.problem(extra.span, message, Some(help));
    }

    fn find(&self, key: &str) -> Option<OptionSpec> {
        let key = key.replace('-', "_");
        self.spec.all_options().into_iter().find(|option| option.is_called(&key))
    }

    fn options(&mut self) {
        let mut seen: Vec<String> = Vec::new();
        for option in &self.stage.options {
            let Some(spec) = self.find(&option.key.text) else {
                self.unknown_option(option);
                continue;
            };
            if seen.contains(&spec.name) {
                let message = format!("option `{}` is given twice", spec.name);
                self.problem(span_of(option), message, Some("keep one of the two".into()));
                continue;
            }
            seen.push(spec.name.clone());
            self.option(&spec, option);
        }
        for spec in self.spec.all_options() {
            if !seen.contains(&spec.name) {
                self.absent_option(&spec);
            }
        }
    }

    fn option(&mut self, spec: &OptionSpec, option: &OptionDescription) {
        match spec.parse(&option.value.text) {
            Ok(value) => {
                let span = option.value.span.or(self.stage.stage.span).unwrap_or_default();
                self.options.insert(&spec.name, Some(CheckedValue { values: vec![value], span: Some(span) }));
            }
            Err(problem) => {
                let message = format!("{}={} {problem}", option.key.text, clip(&option.value.text));
                self.problem(span_of(option), message, Some(format!("{}: {}", spec.name, spec.help)));
            }
        }
    }

    fn absent_option(&mut self, spec: &OptionSpec) {
        let value = match &spec.presence {
            Presence::Required => {
                let message = format!("`{}` needs the option `{}=`", self.spec.name, spec.name);
                self.problem(self.stage.stage.span, message, Some(format!("{}: {}", spec.name, spec.help)));
                None
            }
            Presence::Optional => None,
            // Registration has checked that defaults can be parsed.
            Presence::Default(text) => spec.parse(text).ok().map(|value| CheckedValue { values: vec![value], span: None }),
        };
        self.options.insert(&spec.name, value);
    }

    fn unknown_option(&mut self, option: &OptionDescription) {
        let key = option.key.text.replace('-', "_");
        let known = self.spec.all_options();
        let names: Vec<&str> = known.iter().map(|option| option.name.as_str()).collect();
        let help = match (nearest(&key, names.iter().copied()), key.as_str()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, "queue") => "a source has no queue before it; set it on the stage that follows".into(),
            (None, _) => format!("it has {}", list_names(&names)),
        };
        let message = format!("`{}` has no option `{}`", self.spec.name, option.key.text);
        self.problem(option.key.span.or(self.stage.stage.span), message, Some(help));
    }
}

/// The span from key to value, when they are in this order.
fn span_of(option: &OptionDescription) -> Option<Span> {
    match (option.key.span, option.value.span) {
        (Some(key), Some(value)) if key.start <= value.start => Some(key.to(value)),
        (_, value) => value,
    }
}

/// The beginning of a long value.
fn clip(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_VALUE).map(|character| if character.is_control() { ' ' } else { character }).collect();
    if text.chars().count() > SHOWN_VALUE {
        shown.push('…');
    }
    shown
}

/// Formats names as `a`, `b` and `c`.
pub(crate) fn list_names(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "none".into(),
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        // `HTTP address` keeps its capitals.
        Some(first) if !characters.as_str().starts_with(char::is_uppercase) => first.to_lowercase().chain(characters).collect(),
        _ => text.to_owned(),
    }
}
