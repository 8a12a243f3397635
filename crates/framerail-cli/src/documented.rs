//! Checks that every `framerail` command line in the documentation parses, and that every option mentioned exists.

use std::{collections::BTreeSet, fs, path::Path};

use clap::{Command, CommandFactory, Parser, error::ErrorKind};

use crate::Cli;

/// Pages whose `--options` are framerail's; others also mention those of further programs.
const OPTION_PAGES: [&str; 9] = [
    "README.md",
    "docs/blur.md",
    "docs/pipelines.md",
    "docs/watch.md",
    "docs/infer.md",
    "docs/install.md",
    "docs/streams.md",
    "docs/live-out.md",
    "docs/records.md",
];

fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned(), "examples/README.md".to_owned()];
    for entry in fs::read_dir(root.join("docs")).expect("docs") {
        let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
        // Help texts have placeholders.
        if name.ends_with(".md") && name != "cli.md" {
            names.push(format!("docs/{name}"));
        }
    }
    names.into_iter().map(|name| (name.clone(), fs::read_to_string(root.join(&name)).expect("readable"))).collect()
}

/// Splits a line like a shell, up to a comment, pipe or redirection. `None` while a quotation is open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, '#' | '|' | '>' | '<' | '&' | ';') if word.is_none() => break,
            (None, '|' | '>' | ';') => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Command lines in code blocks and inline code.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    let mut in_block = false;
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block
            && line.strip_prefix("framerail ").is_some_and(|rest| rest.starts_with(|first: char| first.is_alphabetic() || first == '-'))
        {
            let mut whole = line.trim_end_matches('\\').to_owned();
            let split = loop {
                match words(&whole) {
                    Some(split) if !line.ends_with('\\') || whole.len() > line.len() => break split,
                    _ => whole = format!("{whole} {}", lines.next().expect("the quotation ends").trim()),
                }
            };
            found.push(split);
        } else if !in_block {
            let code = line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("framerail "));
            found.extend(code.filter_map(words));
        }
    }
    found
}

fn options(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default());
    let mut all: BTreeSet<String> = own.map(str::to_owned).collect();
    for below in command.get_subcommands() {
        all.extend(options(below));
    }
    all
}

#[test]
fn commands_in_the_documentation_parse() {
    let mut checked = 0;
    for (page, text) in pages() {
        for command in commands(&text).iter().filter(|command| !command.iter().any(|word| word.contains("..."))) {
            if let Err(error) = Cli::try_parse_from(command) {
                // Text names commands and options without their values.
                let is_shortened = error.to_string().contains("a value is required")
                    || matches!(
                        error.kind(),
                        ErrorKind::DisplayHelp
                            | ErrorKind::DisplayVersion
                            | ErrorKind::MissingRequiredArgument
                            | ErrorKind::MissingSubcommand
                    );
                assert!(is_shortened, "{page}: {}: {error}", command.join(" "));
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} command lines were found");
}

#[test]
fn options_in_the_documentation_exist() {
    let known: BTreeSet<String> = options(&Cli::command()).into_iter().chain(["help".into(), "version".into()]).collect();
    for (page, text) in pages().iter().filter(|(page, _)| OPTION_PAGES.contains(&page.as_str())) {
        for code in text.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("--")) {
            let name: String = code.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect();
            assert!(name.is_empty() || known.contains(&name) || name == "features", "{page}: --{name} does not exist");
        }
    }
}
