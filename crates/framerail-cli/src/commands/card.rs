//! `framerail card`.

use std::path::{Path, PathBuf};

use clap::Args;
use framerail::{
    core::RunFiles,
    infer::{InferError, draft, onnx::OnnxFile},
    pipeline::{Description, Diagnostics, PlannedGraph, RunStats},
};

use crate::{
    Messages,
    blur_faces::sheet::ContactSheet,
    exit::{CommandResult, Failure, INTERNAL, MODEL, USAGE},
    interrupt, outputs,
    progress::Progress,
    runner::{self, RunArgs},
    summary, terminal,
};

const EXAMPLES: &str = "\
Examples:
  framerail card yolov8n.onnx
  framerail card yolov8n.onnx --try clip.mp4
  framerail card model.onnx -o cards/mine.toml --try photo.jpg --overwrite";

/// Write a model card for an ONNX file, from the names and shapes of its inputs and outputs
///
/// What the file does not say, such as how images are scaled, is guessed and marked UNKNOWN in the card. With --try, the card is run on a clip, and
/// frames before and after are written as a contact sheet.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CardCommand {
    /// The ONNX file
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Where to write the card [default: beside the model, with its name]
    #[arg(short, long, value_name = "CARD.toml")]
    output: Option<PathBuf>,
    /// Run the card on this video or image
    #[arg(long = "try", value_name = "CLIP")]
    clip: Option<String>,
    /// Where --try writes frames before and after [default: beside the card, with its name and .png]
    #[arg(long, value_name = "FILE", requires = "clip")]
    contact_sheet: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    run: RunArgs,
}

impl CardCommand {
    /// Writes the card, and tries it.
    pub fn execute(&self, messages: Messages) -> CommandResult {
        let path = self.output.clone().unwrap_or_else(|| self.model.with_extension("toml"));
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(Failure::new(USAGE, format_args!("-o {}: name a file that ends in .toml", path.display())));
        }
        // Beside the card the file name suffices.
        let whole = || std::path::absolute(&self.model).unwrap_or_else(|_| self.model.clone());
        let place = if self.model.parent() == path.parent() { self.model.file_name().map(PathBuf::from) } else { None };
        let place = place.unwrap_or_else(whole);
        let draft = OnnxFile::read(&self.model).and_then(|file| draft(&file, &place)).map_err(model_failure)?;
        let files = RunFiles::default();
        files.read(&self.model).map_err(|error| Failure::new(USAGE, error))?;
        outputs::claim(&path, self.overwrite, &files)?;
        outputs::write(&path, draft.text.as_bytes(), self.overwrite, &files)?;
        if !messages.quiet {
            terminal::line(&format!("{} -> {}", self.model.display(), path.display()));
            terminal::line(&format!("  {}", draft.family));
            draft.unknown.iter().for_each(|unknown| terminal::line(&format!("  unknown: {unknown}")));
        }
        match &self.clip {
            Some(clip) => self.try_on(clip, &path, messages),
            None => Ok(()),
        }
    }

    fn try_on(&self, clip: &str, card: &Path, messages: Messages) -> CommandResult {
        let sheet = self.contact_sheet.clone().unwrap_or_else(|| card.with_extension("png"));
        let files = RunFiles::default();
        let sheet = ContactSheet::new(&sheet, self.overwrite, &files)?;
        let text = format!("read {} ! infer {} ! draw ! null", quoted(clip), quoted(&card.to_string_lossy()));
        let description = Description::parse(&text).map_err(|diagnostic| Failure::from(Diagnostics::from(diagnostic)))?;
        let mut planned = runner::link(&description, &self.run, false, files)?.into_graph()?;
        add_probes(&mut planned, &sheet)?;
        let progress = Progress::new(!self.run.no_progress && !messages.quiet, clip);
        let outcome = runner::run(planned, &self.run, None, progress)?;
        outcome.result?;
        if interrupt::came() {
            return Err(Failure::interrupted("interrupted: the card was written"));
        }
        if !messages.quiet {
            terminal::line(&format!("{clip}: {}", findings(&outcome.stats)));
        }
        match sheet.write()? {
            Some(path) if !messages.quiet => terminal::line(&format!("  before and after: {}", path.display())),
            Some(_) => {}
            None => log::warn!(
                "no contact sheet was written: no frame had a detection; lower `confidence`, or check what is marked UNKNOWN in the card"
            ),
        }
        summary::check_strict(self.run.strict, &outcome.stats)
    }
}

fn model_failure(error: InferError) -> Failure {
    Failure::new(MODEL, error)
}

/// Quotes a word for a pipeline's text.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
}

/// The number of detections, and signs of a wrong card.
fn findings(stats: &RunStats) -> String {
    let (frames, found) = (stats.frames_done(), stats.counter("detections"));
    let mut words = format!("{found} detections in {frames} frames");
    let doubtful = [
        ("boxes_without_area", "boxes without area were left out: check form, normalized and space"),
        ("scores_above_one", "scores are above 1: check activation"),
        ("boxes_not_finite", "results are not finite numbers: check scale, mean and std"),
    ];
    for (counter, advice) in doubtful {
        let count = stats.counter(counter);
        if count > 0 {
            words.push_str(&format!("; {count} {advice}"));
        }
    }
    words
}

/// Attaches the contact sheet to the edges around `draw`.
fn add_probes(planned: &mut PlannedGraph, sheet: &ContactSheet) -> CommandResult {
    let edge_into = |planned: &PlannedGraph, name: &str| {
        let node = planned.node(name)?.id;
        planned.edges.iter().find(|edge| edge.to == node).map(|edge| edge.id)
    };
    let (Some(draw), Some(end)) = (edge_into(planned, "draw"), edge_into(planned, "null")) else {
        return Err(Failure::new(INTERNAL, "the pipeline has no stage that draws; please report it"));
    };
    planned.graph.probe(draw, sheet.before());
    planned.graph.probe(end, sheet.after());
    Ok(())
}
