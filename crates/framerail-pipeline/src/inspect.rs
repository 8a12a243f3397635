//! Output of `inspect`: all stages, or one with its options.

use serde::Serialize;

use crate::{
    registry::Registry,
    spec::{ArgumentSpec, OptionSpec, Presence, Role, StageSpec},
    value::{Choice, OptionKind},
};

/// Width of the text in columns.
const WIDTH: usize = 100;

/// Maximum width of the column with option names.
const MAX_NAME: usize = 28;

/// The stages of a registry, for printing or as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct StageList {
    /// All stages, sorted by name.
    pub stages: Vec<StageSpec>,
}

impl StageList {
    /// The stages of a registry.
    pub fn new(registry: &Registry) -> Self {
        Self { stages: registry.specs().cloned().collect() }
    }

    /// One line per stage: sources, then transforms, then sinks. Ends with a line feed.
    pub fn text(&self) -> String {
        let mut rows = Vec::new();
        for role in [Role::Source, Role::Transform, Role::Sink] {
            let stages = self.stages.iter().filter(|stage| stage.role == role);
            rows.extend(stages.map(|stage| [stage.name.clone(), role.as_str().to_owned(), stage.summary.clone()]));
        }
        format!("{}\n`inspect STAGE` shows the options of one.\n", columns(&rows, ["stage", "role", "what it does"]))
    }

    /// The same as JSON, with every option.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl StageSpec {
    /// Full description of the stage: usage, arguments, options and examples; at most 100 columns. Ends with a line feed.
    pub fn text(&self) -> String {
        let mut text = format!("{} ({})\n", self.name, self.role.as_str());
        text += &paragraph(&self.summary, 2);
        for part in self.details.split("\n\n").filter(|part| !part.trim().is_empty()) {
            text += "\n";
            text += &paragraph(part, 2);
        }
        text += &format!("\nusage\n{}", paragraph(&self.usage(), 2));
        let (options, common) = (self.options.iter().map(option_entry), self.common_options());
        let arguments: Vec<Entry> = self.arguments.iter().map(argument_entry).collect();
        let (options, common): (Vec<Entry>, Vec<Entry>) = (options.collect(), common.iter().map(option_entry).collect());
        let names = arguments.iter().chain(&options).chain(&common).map(|entry| entry.name.chars().count());
        let width = names.max().unwrap_or(0).min(MAX_NAME);
        for (title, entries) in [("arguments", arguments), ("options", options), ("common options", common)] {
            if !entries.is_empty() {
                text += &format!("\n{title}\n");
                entries.iter().for_each(|entry| text += &entry.text(width));
            }
        }
        if !self.examples.is_empty() {
            text += "\nexamples\n";
        }
        for example in &self.examples {
            text += &format!("{}    framerail run '{}'\n", paragraph(&example.help, 2), example.pipeline.replace('\'', r"'\''"));
        }
        text
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

/// An argument or option as displayed.
struct Entry {
    name: String,
    /// Type, range, unit and default.
    takes: String,
    help: String,
    words: Vec<Choice>,
}

impl Entry {
    /// The name with the accepted values beside it, followed by the description and the special words.
    fn text(&self, width: usize) -> String {
        let indent = width + 4;
        let words = self.words.iter().map(|word| hanging(&format!("{:<12} ", word.value), &word.help, indent + 2));
        hanging(&format!("{:<width$}  ", self.name), &self.takes, 2) + &paragraph(&self.help, indent) + &words.collect::<String>()
    }
}

fn argument_entry(argument: &ArgumentSpec) -> Entry {
    let many = if argument.many { "..." } else { "" };
    let presence = if argument.required { "required" } else { "optional" };
    Entry {
        name: argument.placeholder() + many,
        takes: format!("{}, {presence}", kind_words(&argument.kind)),
        help: argument.help.clone(),
        words: choices(&argument.kind),
    }
}

fn option_entry(option: &OptionSpec) -> Entry {
    let unit = if option.unit.is_empty() { String::new() } else { format!(" {}", option.unit) };
    let words: String = option.words.iter().map(|word| format!(" or `{}`", word.value)).collect();
    let presence = match &option.presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional => "optional".to_owned(),
        Presence::Default(value) if value.is_empty() => "default empty".to_owned(),
        Presence::Default(value) => format!("default {value}"),
    };
    Entry {
        name: format!("{}=", option.name),
        takes: format!("{}{unit}{words}, {presence}", kind_words(&option.kind)),
        help: match option.aliases.join("=, ") {
            aliases if aliases.is_empty() => option.help.clone(),
            aliases => format!("{} (alias: {aliases}=)", option.help),
        },
        words: choices(&option.kind).into_iter().chain(option.words.iter().cloned()).collect(),
    }
}

fn choices(kind: &OptionKind) -> Vec<Choice> {
    match kind {
        OptionKind::Choice { choices } => choices.clone(),
        _ => Vec::new(),
    }
}

/// The type with its range.
fn kind_words(kind: &OptionKind) -> String {
    match kind {
        OptionKind::Integer { min, max } if *max == i64::MAX => format!("integer from {min}"),
        OptionKind::Integer { min, max } => format!("integer {min} to {max}"),
        OptionKind::Float { min, max } if *max == f64::MAX || max.is_infinite() => format!("number from {min}"),
        OptionKind::Float { min, max } => format!("number {min} to {max}"),
        OptionKind::Switch => "true or false".into(),
        OptionKind::Choice { choices } => choices.iter().map(|choice| choice.value.as_str()).collect::<Vec<_>>().join(" | "),
        OptionKind::Text => "text".into(),
        OptionKind::Path => "path".into(),
        OptionKind::Paths => "paths, separated by commas".into(),
        OptionKind::Time => "time such as 90, 1:30 or 500ms".into(),
        OptionKind::Size => "size such as 640x384".into(),
        OptionKind::Color => "colour such as #ff8800 or black".into(),
        OptionKind::Rate => "rate such as 25 or 30000/1001".into(),
        OptionKind::KeyValues => "pairs key=value,key=value".into(),
    }
}

/// Wraps text at spaces and indents every line.
fn paragraph(text: &str, indent: usize) -> String {
    hanging("", text, indent)
}

/// A head followed by text wrapped at spaces; continuation lines are aligned with the first word of the text.
fn hanging(head: &str, text: &str, indent: usize) -> String {
    let (start, hang) = (" ".repeat(indent), " ".repeat(indent + head.chars().count()));
    let mut lines = vec![format!("{start}{head}")];
    let mut empty = true;
    for word in text.split(' ').flat_map(|part| part.split('\n')) {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if !empty && used + 1 + word.chars().count() > WIDTH {
            lines.push(hang.clone());
            empty = true;
        }
        if let Some(line) = lines.last_mut() {
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        empty = false;
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Rows under a heading, with the last column wrapped at spaces.
fn columns(rows: &[[String; 3]], heading: [&str; 3]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0).max(heading.map(str::len)[column])
    };
    let (first, second) = (width(0), width(1));
    let line = |[a, b, c]: [&str; 3]| hanging(&format!("{a:<first$}  {b:<second$}  "), c, 0);
    let body: String = rows.iter().map(|[a, b, c]| line([a, b, c])).collect();
    line(heading) + &body
}
