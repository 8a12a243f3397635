//! Pipelines as TOML files.
//!
//! ```toml
//! name = "blur-faces"              # optional
//! description = "Covers faces."    # optional
//! device = "auto"                  # optional: auto, cpu, cuda, cuda:N, or several as cuda:0,1; stages may override it
//!
//! [serve]                          # optional: HTTP monitoring
//! address = "127.0.0.1:8080"
//!
//! [otlp]                           # optional: metrics and traces for OpenTelemetry
//! url = "http://localhost:4318"
//!
//! [[stage]]
//! use = "read"                     # type of the stage
//! args = ["in.mp4"]                # positional arguments
//! start = 5                        # every other key is an option
//!
//! [[stage]]
//! use = "tee"
//! branches = [
//!   [{ use = "save", args = ["boxes.jsonl"] }],
//!   [{ use = "sample", every = 30 }, { use = "frames", args = ["out/"] }],
//! ]
//!
//! [[stage]]
//! use = "write"
//! args = ["out.mp4"]
//! ```
//!
//! A value may be a number, text, `true`, `false`, a time, a list of these or a table of these. As in a pipeline text, relative paths
//! are relative to the program's current directory, not to the file.

use std::{path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use crate::{
    DeviceChoice, ErrorKind,
    description::{
        Chain, Description, OptionDescription, Origin, OtlpDescription, ServeDescription, Span, StageDescription, Value, is_option_key,
    },
    diagnostic::{Diagnostic, Diagnostics},
    nearest::nearest,
    value::join_list,
};

const TOP_KEYS: [&str; 6] = ["name", "description", "device", "serve", "otlp", "stage"];
const SERVE_KEYS: [&str; 5] = ["address", "token", "hosts", "view", "sources"];
const OTLP_KEYS: [&str; 3] = ["url", "trace", "interval"];

impl Description {
    /// Reads a pipeline from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`Description::from_toml`].
    pub fn read_file(path: &Path) -> Result<Self, Diagnostics> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_toml(Origin::file(path, text)),
            Err(error) => {
                let origin = Origin::text("");
                let error = error.to_string();
                let words = error.split(" (os error").next().unwrap_or_default().to_lowercase();
                let message = format!("cannot read the pipeline file {}: {words}; check its name", path.display());
                Err(Diagnostic::new(&origin, None, message).kind(ErrorKind::Input).into())
            }
        }
    }

    /// Reads a pipeline from TOML.
    ///
    /// # Errors
    /// All syntax errors. Does not check whether stages and options exist.
    pub fn from_toml(origin: Arc<Origin>) -> Result<Self, Diagnostics> {
        let (table, errors) = DeTable::parse_recoverable(&origin.text);
        if !errors.is_empty() {
            let render = |error: &toml::de::Error| Diagnostic::new(&origin, error.span().map(Span::from), error.message());
            return Err(Diagnostics(errors.iter().map(render).collect()));
        }
        let mut reader = Reader { origin: &origin, problems: Vec::new() };
        let mut description = reader.top(table.get_ref());
        if reader.problems.is_empty() {
            description.origin = Arc::clone(&origin);
            Ok(description)
        } else {
            Err(Diagnostics(reader.problems))
        }
    }
}

struct Reader<'a> {
    origin: &'a Arc<Origin>,
    problems: Vec<Diagnostic>,
}

type Entry<'t, 'i> = (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>);

/// The entries of a table in the order written, not by name.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<Entry<'t, 'i>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

impl Reader<'_> {
    fn problem(&mut self, span: std::ops::Range<usize>, message: impl std::fmt::Display, help: Option<String>) {
        let mut diagnostic = Diagnostic::new(self.origin, Some(span.into()), message);
        diagnostic.help = help;
        self.problems.push(diagnostic);
    }

    fn top(&mut self, table: &DeTable<'_>) -> Description {
        let mut description = Description::default();
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "name" => description.name = self.string(key, value).map(|text| text.text),
                "description" => description.description = self.string(key, value).map(|text| text.text),
                "device" => description.device = self.device(key, value),
                "serve" => description.serve = self.serve(key, value),
                "otlp" => description.otlp = self.otlp(key, value),
                "stage" => description.chain = self.chain(value, "`stage` must be a list of tables; write `[[stage]]` above each"),
                _ => self.unknown(key, "a pipeline file", TOP_KEYS, "`name`, `description`, `device`, `[serve]`, `[otlp]` and `[[stage]]`"),
            }
        }
        description
    }

    fn unknown<const N: usize>(&mut self, key: &Spanned<DeString<'_>>, owner: &str, known: [&str; N], all: &str) {
        let name = key.get_ref().as_ref();
        let near = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| format!("{owner} has {all}"));
        self.problem(key.span(), format!("{owner} has no key `{name}`"), Some(help));
    }

    fn serve(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<ServeDescription> {
        let table = self.table(key, value)?;
        let mut serve = ServeDescription::default();
        let mut address = None;
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "address" => address = Some(self.string(key, value)),
                "token" => serve.token = self.string(key, value),
                "hosts" => serve.hosts = self.arguments(value),
                "sources" => serve.sources = self.arguments(value),
                "view" => serve.view = self.string(key, value),
                _ => self.unknown(key, "`[serve]`", SERVE_KEYS, "`address`, `token`, `hosts`, `view` and `sources`"),
            }
        }
        let Some(address) = address else {
            let help = "add an address and a port, such as `address = \"127.0.0.1:8080\"`".into();
            self.problem(key.span(), "`[serve]` has no address", Some(help));
            return None;
        };
        serve.address = address?;
        Some(serve)
    }

    fn otlp(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<OtlpDescription> {
        let table = self.table(key, value)?;
        let mut otlp = OtlpDescription::default();
        let mut url = None;
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "url" => url = Some(self.string(key, value)),
                "trace" => otlp.trace = self.whole(key, value, 0..=u64::from(u32::MAX)),
                "interval" => otlp.interval = self.whole(key, value, 1..=3600),
                _ => self.unknown(key, "`[otlp]`", OTLP_KEYS, "`url`, `trace` and `interval`"),
            }
        }
        let Some(url) = url else {
            let help = "add the URL of a collector, such as `url = \"http://localhost:4318\"`".into();
            self.problem(key.span(), "`[otlp]` has no URL", Some(help));
            return None;
        };
        otlp.url = url?;
        Some(otlp)
    }

    fn whole(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let number = self.scalar(value)?.text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("`{}` must be a whole number from {} to {}", key.get_ref(), range.start(), range.end());
            self.problem(value.span(), message, None);
        }
        number
    }

    fn table<'t, 'i>(&mut self, key: &Spanned<DeString<'_>>, value: &'t Spanned<DeValue<'i>>) -> Option<&'t DeTable<'i>> {
        let DeValue::Table(table) = value.get_ref() else {
            let name = key.get_ref();
            self.problem(value.span(), format!("`{name}` must be a table; write `[{name}]` above its keys"), None);
            return None;
        };
        Some(table)
    }

    fn device(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<DeviceChoice> {
        let text = self.string(key, value)?.text;
        let problem = |_| {
            self.problem(
                value.span(),
                format!("unknown device `{text}`"),
                Some("write auto, cpu, cuda, cuda:N, or several GPUs as cuda:0,1".into()),
            )
        };
        text.parse().map_err(problem).ok()
    }

    fn chain(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> Chain {
        let mut chain = Chain { stages: Vec::new(), span: Some(value.span().into()) };
        let DeValue::Array(stages) = value.get_ref() else {
            self.problem(value.span(), expected, None);
            return chain;
        };
        for stage in stages.iter() {
            match stage.get_ref() {
                DeValue::Table(table) => chain.stages.extend(self.stage(table, stage.span())),
                _ => self.problem(stage.span(), expected, None),
            }
        }
        chain
    }

    fn stage(&mut self, table: &DeTable<'_>, span: std::ops::Range<usize>) -> Option<StageDescription> {
        let mut stage = StageDescription::default();
        let mut named = false;
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "use" => {
                    named = true;
                    stage.stage = self.string(key, value).unwrap_or_default();
                }
                "args" => stage.arguments = self.arguments(value),
                "branches" => stage.branches = self.branches(value),
                _ => stage.options.extend(self.option(key, value)),
            }
        }
        if !named {
            self.problem(span, "this stage has no `use`", Some("add `use = \"STAGE\"`".into()));
        }
        named.then_some(stage)
    }

    fn string(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        match value.get_ref() {
            DeValue::String(text) => Some(Value::new(text.as_ref(), value.span().into())),
            _ => {
                self.problem(value.span(), format!("`{}` must be text in quotes", key.get_ref()), None);
                None
            }
        }
    }

    fn arguments(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Value> {
        let DeValue::Array(values) = value.get_ref() else {
            return self.scalar(value).into_iter().collect();
        };
        values.iter().filter_map(|value| self.scalar(value)).collect()
    }

    fn branches(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Chain> {
        const EXPECTED: &str = "`branches` must be a list of lists of stages";
        let DeValue::Array(branches) = value.get_ref() else {
            self.problem(value.span(), EXPECTED, Some("write `branches = [[{ use = \"save\" }], [{ use = \"null\" }]]`".into()));
            return Vec::new();
        };
        branches.iter().map(|branch| self.chain(branch, EXPECTED)).collect()
    }

    fn option(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Option<OptionDescription> {
        let name = key.get_ref().as_ref();
        if !is_option_key(name) {
            self.problem(key.span(), format!("`{name}` cannot be the name of an option"), None);
            return None;
        }
        let text = match value.get_ref() {
            DeValue::Array(entries) => {
                let entries: Vec<Value> = entries.iter().filter_map(|entry| self.scalar(entry)).collect();
                join_list(entries.iter().map(|entry| entry.text.as_str()))
            }
            DeValue::Table(table) => {
                let pair = |(key, value): Entry<'_, '_>| Some(format!("{}={}", key.get_ref(), self.scalar(value)?.text));
                let pairs: Vec<String> = in_order(table).into_iter().filter_map(pair).collect();
                join_list(pairs.iter().map(String::as_str))
            }
            _ => self.scalar(value)?.text,
        };
        Some(OptionDescription { key: Value::new(name, key.span().into()), value: Value::new(text, value.span().into()) })
    }

    fn scalar(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            DeValue::Integer(number) => match number.radix() {
                10 => number.as_str().to_owned(),
                radix => match i64::from_str_radix(number.as_str(), radix) {
                    Ok(number) => number.to_string(),
                    Err(_) => number.to_string(),
                },
            },
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(switch) => switch.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => {
                self.problem(value.span(), "expected a number, text, `true` or `false` here", None);
                return None;
            }
        };
        Some(Value::new(text, value.span().into()))
    }
}

impl Description {
    /// Writes the pipeline as TOML, which [`Description::from_toml`] reads back as an equal value.
    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        let device = self.device.map(|device| device.to_string());
        for (key, value) in [("name", &self.name), ("description", &self.description), ("device", &device)] {
            if let Some(value) = value {
                toml += &format!("{key} = {}\n", quoted(value));
            }
        }
        if let Some(serve) = &self.serve {
            toml += &serve_toml(serve);
        }
        if let Some(otlp) = &self.otlp {
            toml += &format!("\n[otlp]\nurl = {}\n", quoted(&otlp.url.text));
            for (key, value) in [("trace", otlp.trace), ("interval", otlp.interval)] {
                toml += &value.map(|value| format!("{key} = {value}\n")).unwrap_or_default();
            }
        }
        for stage in &self.chain.stages {
            let separator = if toml.is_empty() { "" } else { "\n" };
            toml += &format!("{separator}[[stage]]\n");
            for (key, value) in stage_entries(stage) {
                toml += &format!("{key} = {value}\n");
            }
            if !stage.branches.is_empty() {
                toml += &format!("branches = {}\n", branches_toml(&stage.branches, 0));
            }
        }
        toml
    }
}

fn serve_toml(serve: &ServeDescription) -> String {
    let mut toml = format!("\n[serve]\naddress = {}\n", quoted(&serve.address.text));
    for (key, value) in [("token", &serve.token), ("view", &serve.view)] {
        if let Some(value) = value {
            toml += &format!("{key} = {}\n", quoted(&value.text));
        }
    }
    for (key, values) in [("hosts", &serve.hosts), ("sources", &serve.sources)] {
        if !values.is_empty() {
            let list = values.iter().map(|value| quoted(&value.text)).collect::<Vec<_>>().join(", ");
            toml += &format!("{key} = [{list}]\n");
        }
    }
    toml
}

fn stage_entries(stage: &StageDescription) -> Vec<(String, String)> {
    let mut entries = vec![("use".to_owned(), quoted(&stage.stage.text))];
    if !stage.arguments.is_empty() {
        let arguments: Vec<String> = stage.arguments.iter().map(|argument| quoted(&argument.text)).collect();
        entries.push(("args".to_owned(), format!("[{}]", arguments.join(", "))));
    }
    entries.extend(stage.options.iter().map(|option| (option.key.text.clone(), literal(&option.value.text))));
    entries
}

/// A list of branches, one per line; nested branches are indented.
fn branches_toml(branches: &[Chain], depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let lines: Vec<String> = branches.iter().map(|branch| format!("{indent}  {},\n", chain_toml(branch, depth + 1))).collect();
    format!("[\n{}{indent}]", lines.concat())
}

fn chain_toml(chain: &Chain, depth: usize) -> String {
    let stage = |stage: &StageDescription| {
        let mut entries: Vec<String> = stage_entries(stage).into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
        if !stage.branches.is_empty() {
            entries.push(format!("branches = {}", branches_toml(&stage.branches, depth)));
        }
        format!("{{ {} }}", entries.join(", "))
    };
    format!("[{}]", chain.stages.iter().map(stage).collect::<Vec<_>>().join(", "))
}

/// Writes a number or `true` without quotes if TOML reads back the same text, otherwise as a string.
fn literal(text: &str) -> String {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let whole = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let number = match unsigned.split_once('.') {
        Some((before, after)) => whole(before) && digits(after),
        None => whole(unsigned) && text.parse::<i64>().is_ok(),
    };
    if number || matches!(text, "true" | "false") { text.to_owned() } else { quoted(text) }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += r"\\",
            '\n' => quoted += r"\n",
            '\t' => quoted += r"\t",
            control if control.is_control() => quoted += &format!("\\u{:04X}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
