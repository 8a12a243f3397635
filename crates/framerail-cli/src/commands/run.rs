//! `framerail run`.

use std::path::Path;

use clap::Args;
use framerail::{
    core::RunFiles,
    pipeline::{Description, Diagnostics, Plan, PlannedStage},
};

use crate::{
    Messages,
    exit::{CommandResult, Failure, OUTPUT},
    interrupt, outputs,
    progress::Progress,
    runner::{self, RunArgs},
    summary, terminal,
};

const EXAMPLES: &str = "\
Examples:
  framerail run 'read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4'
  framerail run 'read in.mp4 ! sample fps=1 ! frames images/'
  framerail run pipeline.toml --stats stats.json --graph graph.svg
  framerail run 'read in.mp4 ! infer centerface ! save boxes.jsonl' --device cuda
  framerail run --check 'read in.mp4 ! infer centerface ! save boxes.jsonl'

Put the pipeline in quotes: shells interpret `!`, `*` and `(`.
Ctrl-C ends the run and finishes its files; a second Ctrl-C discards them. Files of a
stopped run do not replace existing ones: they become NAME.unfinished.EXT.
`framerail --help` lists the exit codes.";

/// Run a pipeline given as text or as a TOML file
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunCommand {
    /// `stage arg key=value ! stage ...`, or a file that ends in .toml
    #[arg(required = true, value_name = "PIPELINE")]
    pipeline: Vec<String>,
    #[command(flatten)]
    run: RunArgs,
    /// Replace existing outputs, in every stage without its own overwrite=
    #[arg(long, help_heading = "Run")]
    overwrite: bool,
    /// Open inputs and models, print the format of every edge, and exit
    #[arg(long, help_heading = "Run")]
    check: bool,
}

impl RunCommand {
    /// Runs the pipeline.
    pub fn execute(&self, messages: Messages) -> CommandResult {
        self.run.check()?;
        let files = RunFiles::default();
        let description = self.description(&files)?;
        let mut plan = runner::link(&description, &self.run, self.overwrite, files.clone())?;
        self.run.claim(self.overwrite, &files)?;
        if self.check {
            if let Some(path) = &self.run.graph {
                outputs::write_graph(path, &plan.drawing(), self.overwrite, &files)?;
            }
            return outputs::print(&formats(&plan));
        }
        plan.link()?;
        let progress = Progress::new(!self.run.no_progress && !messages.quiet, "run");
        let outcome = runner::run(plan.into_graph()?, &self.run, Some(&description), progress)?;
        if !messages.quiet {
            terminal::line(&summary::table(&outcome.stats));
        }
        let written = runner::write_up(&self.run, &outcome.stats, self.overwrite, &files);
        outcome.result?;
        written?;
        if interrupt::came() {
            return Err(Failure::interrupted("interrupted: outputs are complete up to that point"));
        }
        summary::check_strict(self.run.strict, &outcome.stats)
    }

    fn description(&self, files: &RunFiles) -> Result<Description, Failure> {
        match self.pipeline.as_slice() {
            [file] if is_file(file) => {
                let description = Description::read_file(Path::new(file))?;
                files.read(Path::new(file)).map_err(|error| Failure::new(OUTPUT, error))?;
                Ok(description)
            }
            [text] => parse(text),
            words => parse(&joined(words)),
        }
    }
}

fn parse(text: &str) -> Result<Description, Failure> {
    Description::parse(text).map_err(|diagnostic| Diagnostics::from(diagnostic).into())
}

/// Whether an argument names a pipeline file, existing or not.
fn is_file(argument: &str) -> bool {
    argument.ends_with(".toml") && (Path::new(argument).exists() || !argument.contains(char::is_whitespace))
}

/// Joins words that the shell has split; those with spaces were quoted, and are quoted again.
fn joined(words: &[String]) -> String {
    let mut at_stage = true;
    let mut parts = Vec::with_capacity(words.len());
    for word in words {
        // In place of a stage, a word with spaces is a stage with its arguments: 'read in.mp4' ! blur.
        parts.push(if at_stage { word.clone() } else { quoted(word) });
        at_stage = matches!(word.as_str(), "!" | "(" | ")");
    }
    parts.join(" ")
}

fn quoted(word: &str) -> String {
    if !word.is_empty() && !word.contains(char::is_whitespace) {
        return word.to_owned();
    }
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let (key, value) = match word.split_once('=') {
        Some((key, value)) if is_key(key) => (format!("{key}="), value),
        _ => (String::new(), word),
    };
    if value.contains('\'') {
        return format!("{key}\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""));
    }
    format!("{key}'{value}'")
}

/// `OK`, the format of every edge, and notices of stages.
fn formats(plan: &Plan) -> String {
    let drawing = plan.drawing();
    let width = drawing.edges.iter().map(|edge| edge.from.chars().count() + edge.to.chars().count()).max().unwrap_or(0) + 4;
    let line = |from: &str, to: &str, format: &str| format!("  {:<width$}  {format}\n", format!("{from} -> {to}"));
    let edges: String = drawing.edges.iter().map(|edge| line(&edge.from, &edge.to, &edge.format)).collect();
    let note = |stage: &PlannedStage| stage.note().map(|note| format!("  {}: {note}\n", stage.name));
    let notes: String = plan.stages().iter().filter_map(note).collect();
    format!("OK: {} stages\n{edges}{notes}", drawing.nodes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(words: &[&str]) -> String {
        joined(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_that_the_shell_took_apart_are_joined() {
        assert_eq!(join(&["read", "my in.mp4", "!", "write", "it's.mp4"]), "read 'my in.mp4' ! write it's.mp4");
        assert_eq!(join(&["read", "it's a clip", "!", "null"]), "read \"it's a clip\" ! null");
        assert_eq!(join(&["read", "in", "!", "write", "out", "tags=title=a b"]), "read in ! write out tags='title=a b'");
        assert_eq!(join(&["read in.mp4", "!", "blur kind=box", "!", "null"]), "read in.mp4 ! blur kind=box ! null");
    }

    #[test]
    fn a_pipeline_text_that_ends_like_a_file_is_text() {
        assert!(is_file("no-such.toml"));
        assert!(!is_file("read in.mp4 ! infer card.toml"));
    }
}
