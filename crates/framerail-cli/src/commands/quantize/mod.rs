//! `framerail quantize`.

mod agreement;
mod footage;
mod tool;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use framerail::{
    core::{Detection, Device, Frame, RunFiles},
    infer::{DetectorOptions, InferError, Precision, Prediction, Predictor, QUANTISED_SUFFIX, Task, View},
    media::source_files,
    pipeline::FrameItem,
    vision::{Canvas, DrawOptions},
};
use serde_json::{Value, json};

use self::{agreement::Agreement, tool::Tools};
use crate::{
    Messages,
    blur_faces::sheet::ContactSheet,
    exit::{CommandResult, Failure, INPUT, INTERNAL, MODEL, OUTPUT, USAGE},
    interrupt, outputs,
    progress::Steps,
    terminal,
};

/// Frames on which the influence of single layers is measured: the order of the layers is needed, not a figure.
const SENSITIVITY_FRAMES: usize = 3;

/// Margins around the threshold within which float32 decides, from which the smallest is taken that holds the limits.
const MARGINS: [f32; 5] = [0.01, 0.02, 0.04, 0.08, WIDEST_MARGIN];
const WIDEST_MARGIN: f32 = 0.16;

/// A margin of so many usual differences of scores is ample for footage that was not compared.
const AMPLE: f32 = 2.0;

/// One frame in so many may run in float32 too before layers are put back into float32.
const FEW_OF: usize = 10;

const EXAMPLES: &str = "\
Examples:
  framerail quantize centerface --clips day.mp4 night.mp4
  framerail quantize cards/mine.toml --clips clips/*.mp4 --check other.mp4 --contact-sheet boxes.png
  framerail quantize centerface --clips day.mp4 -o models/centerface-int8.toml --min-recall 0.995
  framerail run 'read in.mp4 ! infer centerface precision=int8 ! save boxes.jsonl'

Needs Python with `pip install onnxruntime onnx`. Half of the frames calibrate the model, the other half are compared,
unless --check names other clips. Choose footage like that which the model will see: day and night, small and
large objects. Meanwhile the model inputs of calibration take room in the folder for temporary files, TMPDIR:
11 MB a frame at 1280x720.";

/// Make an 8-bit integer model for the CPU, calibrated on your own footage
///
/// The model's float32 weights become int8 with a scale for each channel; value ranges are measured on frames of the clips. Detections of
/// both models are compared. Where an int8 score is close to the threshold, the float32 model runs too and decides; layers that lose too much
/// stay in float32. Model and model card are written beside each other; `precision=int8` finds them.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct QuantizeCommand {
    /// Name of a model, or path of its model card
    #[arg(value_name = "CARD")]
    card: String,
    /// Videos or images to calibrate on
    #[arg(long, required = true, num_args = 1.., value_name = "CLIP")]
    clips: Vec<String>,
    /// Videos or images to compare on [default: every second frame of --clips]
    #[arg(long, num_args = 1.., value_name = "CLIP")]
    check: Vec<String>,
    /// Where to write the model card; the model goes beside it [default: CARD-int8.toml beside the card, or beside the ONNX file for a built-in
    /// card]
    #[arg(short, long, value_name = "CARD.toml")]
    output: Option<PathBuf>,
    /// Frames of each clip
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=1000))]
    frames: u32,
    /// Model input, as the option `size` of `infer` takes it
    #[arg(long, value_name = "SIZE", default_value = "auto")]
    size: String,
    /// Share of float32's detections that must be found
    #[arg(long, value_name = "R", default_value_t = 0.99, value_parser = share)]
    min_recall: f64,
    /// Share of the detections found that must be float32's
    #[arg(long, value_name = "P", default_value_t = 0.98, value_parser = share)]
    min_precision: f64,
    /// Distance from the threshold within which the float32 model decides; 0 = never [default: as the scores differ, and as the limits need]
    #[arg(long, value_name = "M", value_parser = share)]
    recheck_margin: Option<f64>,
    /// Use 7 bits for weights, for CPUs without VNNI, which would overflow with 8 [default: if this CPU has no VNNI]
    #[arg(long, value_name = "YES|NO")]
    reduce_range: Option<Switch>,
    /// Python with onnxruntime and onnx [default: FRAMERAIL_PYTHON, the active environment's, python3]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Write frames with the detections of float32 and int8 side by side (.png, .jpg); first those in which they differ
    #[arg(long, value_name = "FILE")]
    contact_sheet: Option<PathBuf>,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
    /// Show no progress bars
    #[arg(long)]
    no_progress: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Yes,
    No,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "takes a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("takes a number from 0 to 1".into()) }
}

/// Puts a word into a pipeline's text.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
}

fn model_failure(error: InferError) -> Failure {
    let code = if matches!(error, InferError::Option { .. }) { USAGE } else { MODEL };
    Failure::new(code, error)
}

fn written(path: &Path, bytes: &[u8]) -> CommandResult {
    std::fs::write(path, bytes).map_err(|error| Failure::new(OUTPUT, format_args!("cannot write {}: {error}", path.display())))
}

/// A model's detections in every frame, and the time that it took.
struct Findings {
    detections: Vec<Vec<Detection>>,
    per_frame: Duration,
}

/// A quantised model that was compared.
struct Candidate {
    float_layers: Vec<String>,
    /// Distance from the threshold within which float32 decides.
    margin: f32,
    /// Frames that float32 decides.
    rechecked: usize,
    agreement: Agreement,
    findings: Findings,
}

/// The quantisation of one model, under way.
struct Quantization<'a> {
    command: &'a QuantizeCommand,
    shows_progress: bool,
    float: Predictor,
    tools: Tools,
    folder: tempfile::TempDir,
    /// Frames to compare on, and what the float32 model finds in them.
    frames: Vec<Frame>,
    expected: Findings,
    /// Layers that always stay in float32: those of the outputs.
    last_layers: Vec<String>,
}

impl QuantizeCommand {
    /// Calibrates, compares, searches, writes.
    pub fn execute(&self, messages: Messages) -> CommandResult {
        // From here on a signal ends the work in an orderly way.
        interrupt::tokens();
        let float = Predictor::load(&self.options(&self.card, Precision::Fp32)?).map_err(model_failure)?;
        if float.task() != Task::Detection {
            let words = format!("{} is a model for {}; quantize compares detections, and takes detectors only", self.card, float.task());
            return Err(Failure::new(USAGE, words));
        }
        let card = self.output.clone().map_or_else(|| self.usual_output(&float), Ok)?;
        if card.extension().is_none_or(|extension| extension != "toml") {
            return Err(Failure::new(USAGE, format_args!("-o {}: name a file that ends in .toml", card.display())));
        }
        let model = card.with_extension("onnx");
        let files = RunFiles::default();
        let clips = || self.clips.iter().chain(&self.check);
        let read = clips().flat_map(|clip| source_files(clip)).chain(float.files().map(Path::to_owned));
        read.into_iter().try_for_each(|file| files.read(&file)).map_err(|error| Failure::new(USAGE, error))?;
        [&card, &model].into_iter().try_for_each(|path| outputs::claim(path, self.overwrite, &files))?;
        let sheet = self
            .contact_sheet
            .as_deref()
            .map(|path| ContactSheet::new(path, self.overwrite, &files))
            .transpose()?
            .map(|sheet| sheet.with_second("int8"));

        let mut work = Quantization::begin(self, float, messages)?;
        let candidate = work.search()?;
        let bytes = std::fs::read(work.path("candidate.onnx")).map_err(|error| Failure::new(INTERNAL, error))?;
        let text = work.card_text(&model, &bytes, &candidate)?;
        if interrupt::came() {
            return Err(Failure::interrupted("interrupted: nothing was written"));
        }
        outputs::write(&model, &bytes, self.overwrite, &files)?;
        outputs::write(&card, text.as_bytes(), self.overwrite, &files)?;
        let sheet = sheet.map(|sheet| work.draw(&sheet, &candidate).map(|()| sheet)).transpose()?;
        let sheet = sheet.as_ref().map(ContactSheet::write).transpose()?.flatten();
        if self.json {
            let report = work.as_json(&candidate, &card, &model);
            return outputs::print(&format!("{}\n", outputs::to_json(&report)?));
        }
        if !messages.quiet {
            terminal::line(&format!("{} -> {}, {}", self.card, card.display(), model.display()));
            work.table(&candidate).iter().for_each(|row| terminal::line(row));
            sheet.iter().for_each(|path| terminal::line(&format!("  float32 and int8 side by side: {}", path.display())));
        }
        Ok(())
    }

    fn options(&self, model: &str, precision: Precision) -> Result<DetectorOptions, Failure> {
        let mut options = DetectorOptions::new(model);
        options.size = self.size.parse().map_err(|error| Failure::new(USAGE, format_args!("--size: {error}")))?;
        (options.device, options.precision) = (Device::Cpu, precision);
        Ok(options)
    }

    /// `NAME-int8.toml` beside the card, or beside the model of a card that is built in.
    fn usual_output(&self, float: &Predictor) -> Result<PathBuf, Failure> {
        let is_card = |path: &&Path| path.extension().is_some_and(|extension| extension == "toml");
        let files: Vec<&Path> = float.files().collect();
        let beside = files.iter().find(|path| is_card(path)).or(files.first());
        let beside = beside.ok_or_else(|| Failure::new(INTERNAL, "the model has no file; please report it"))?;
        let stem = match is_card(beside) {
            true => beside.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            false => float.card().name.clone(),
        };
        Ok(beside.with_file_name(format!("{stem}{QUANTISED_SUFFIX}.toml")))
    }

    fn reduces_range(&self) -> bool {
        self.reduce_range.map_or_else(|| !has_vnni(), |given| given == Switch::Yes)
    }
}

/// Whether this CPU multiplies 8-bit integers without overflow of its 16-bit sums.
fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni");
    #[allow(unreachable_code, reason = "other processors have no such sums")]
    true
}

impl<'a> Quantization<'a> {
    /// Reads the clips, runs the float32 model, and calibrates.
    fn begin(command: &'a QuantizeCommand, float: Predictor, messages: Messages) -> Result<Self, Failure> {
        let shows_progress = !command.no_progress && !messages.quiet;
        let folder = tempfile::Builder::new().prefix("framerail-quantize-").tempdir();
        let folder = folder.map_err(|error| Failure::new(OUTPUT, format_args!("cannot create a temporary folder: {error}")))?;
        // Before hours of footage are read.
        let tools = Tools::start(command.python.as_deref(), folder.path())?;
        let (calibration, frames) = command.footage(shows_progress)?;
        let expected = Findings { detections: Vec::new(), per_frame: Duration::ZERO };
        let mut work = Self { command, shows_progress, float, tools, folder, frames, expected, last_layers: Vec::new() };
        work.store(&calibration)?;
        drop(calibration);
        let mut float = work.float.fork();
        work.expected = work.find(&mut float, "float32")?;
        if work.expected.detections.iter().all(Vec::is_empty) {
            let words = format!(
                "{} finds nothing in {} frames, so nothing can be compared; give clips that show what it detects",
                command.card,
                work.frames.len()
            );
            return Err(Failure::new(INPUT, words));
        }
        let prepared = work.tools.ask(&json!({ "do": "prepare" }), || ())?;
        let last = prepared.get("last_layers").and_then(Value::as_array).cloned().unwrap_or_default();
        work.last_layers = last.iter().filter_map(|layer| layer.as_str().map(str::to_owned)).collect();
        for (request, label) in [("equalize", "ranges of channels"), ("calibrate", "calibrating")] {
            let mut steps = Steps::new(shows_progress, label, work.stored());
            work.tools.ask(&json!({ "do": request }), || steps.step())?;
        }
        Ok(work)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the model and its inputs for the frames.
    fn store(&self, frames: &[Frame]) -> CommandResult {
        written(&self.path("model.onnx"), &self.float.open_model().map_err(model_failure)?)?;
        let mut names = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            let arrays = self.float.input_arrays(&View::whole(frame)).map_err(model_failure)?;
            for (index, array) in arrays.iter().enumerate() {
                written(&self.path(&format!("{number:04}-{index}.npy")), &array.npy)?;
            }
            names = arrays.into_iter().map(|array| array.name).collect();
        }
        written(&self.path("inputs.json"), outputs::to_json(&names)?.as_bytes())
    }

    /// Calibration inputs.
    fn stored(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with("-0.npy")).count()
    }

    /// Runs a model on the frames to compare on.
    fn find(&self, predictor: &mut Predictor, label: &str) -> Result<Findings, Failure> {
        let mut steps = Steps::new(self.shows_progress, label, self.frames.len());
        let mut times = Vec::with_capacity(self.frames.len());
        let mut detections = Vec::with_capacity(self.frames.len());
        for frame in &self.frames {
            if interrupt::came() {
                return Err(Failure::interrupted("interrupted: nothing was written"));
            }
            let began = Instant::now();
            let said = predictor.predict(&[View::whole(frame)]).map_err(model_failure)?;
            times.push(began.elapsed());
            detections.extend(said.into_iter().map(|said| match said {
                Prediction::Detections(found) => found,
                _ => Vec::new(),
            }));
            steps.step();
        }
        times.sort();
        Ok(Findings { detections, per_frame: times.get(times.len() / 2).copied().unwrap_or_default() })
    }

    /// The fastest quantised model that holds the limits. Where float32 would have to decide many frames, layers go back to float32, those
    /// that change the outputs most for their time first.
    fn search(&mut self) -> Result<Candidate, Failure> {
        let mut best = self.compare(&[])?;
        if self.holds(&best) && self.rechecks_few(&best) {
            return Ok(best);
        }
        let order = self.by_sensitivity()?;
        let mut count = 1;
        while count < order.len() {
            let candidate = self.compare(order.get(..count).unwrap_or_default())?;
            // More layers in float32 only take longer.
            let is_last = self.holds(&best) && candidate.findings.per_frame >= self.time_per_frame(&best);
            if self.is_better(&candidate, &best) {
                best = candidate;
            }
            if is_last {
                break;
            }
            count *= 2;
        }
        if !self.holds(&best) {
            let words = format!(
                "no quantised model holds recall {} and precision {}: the best has {:.4} and {:.4}; calibrate on more footage, or lower the limits",
                self.command.min_recall,
                self.command.min_precision,
                best.agreement.recall(),
                best.agreement.precision()
            );
            return Err(Failure::new(MODEL, words));
        }
        // The file is that of the candidate which was made last.
        self.make(&best.float_layers)?;
        Ok(best)
    }

    fn is_better(&self, candidate: &Candidate, best: &Candidate) -> bool {
        let agreed = |candidate: &Candidate| candidate.agreement.recall() + candidate.agreement.precision();
        match (self.holds(candidate), self.holds(best)) {
            (true, true) => self.time_per_frame(candidate) < self.time_per_frame(best),
            (false, false) => agreed(candidate) > agreed(best),
            (holds, _) => holds,
        }
    }

    /// Mean time of a frame, with those that float32 decides.
    fn time_per_frame(&self, candidate: &Candidate) -> Duration {
        let share = candidate.rechecked as f64 / self.frames.len().max(1) as f64;
        candidate.findings.per_frame + self.expected.per_frame.mul_f64(share)
    }

    fn holds(&self, candidate: &Candidate) -> bool {
        let agreement = &candidate.agreement;
        agreement.recall() >= self.command.min_recall && agreement.precision() >= self.command.min_precision
    }

    /// Layers by how much the outputs change where only one is int8, for its time: first those that are worth most in float32.
    fn by_sensitivity(&mut self) -> Result<Vec<String>, Failure> {
        let mut steps = Steps::new(self.shows_progress, "layers", 0);
        let answer = self.tools.ask(&json!({ "do": "sensitivity", "frames": SENSITIVITY_FRAMES }), || steps.step())?;
        let layers = answer.get("layers").and_then(Value::as_array).cloned().unwrap_or_default();
        let number = |layer: &Value, key: &str| layer.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        // Errors of layers add up in squares.
        let worth = |layer: &Value| number(layer, "error").powi(2) / number(layer, "secs").max(1e-6);
        let named = |layer: Value| Some((layer.get("name")?.as_str()?.to_owned(), worth(&layer), number(&layer, "error")));
        let mut layers: Vec<(String, f64, f64)> = layers.into_iter().filter_map(named).collect();
        layers.retain(|(_, worth, _)| *worth > 0.0);
        layers.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        layers.iter().take(8).for_each(|(layer, _, error)| log::debug!("int8 changes the outputs by {:.2}%: {layer}", error * 100.0));
        Ok(layers.into_iter().map(|(layer, ..)| layer).collect())
    }

    /// Writes the quantised model to the temporary folder.
    fn make(&mut self, float_layers: &[String]) -> CommandResult {
        let output = self.path("candidate.onnx");
        let reduce_range = self.command.reduces_range();
        let question = json!({ "do": "quantize", "output": output, "float_layers": float_layers, "reduce_range": reduce_range });
        self.tools.ask(&question, || ()).map(drop)
    }

    /// Quantises with these layers in float32, and compares.
    fn compare(&mut self, float_layers: &[String]) -> Result<Candidate, Failure> {
        self.make(float_layers)?;
        let (model, card) = (self.path("candidate.onnx"), self.path("candidate.toml"));
        let bytes = std::fs::read(&model).map_err(|error| Failure::new(INTERNAL, error))?;
        let text = self.float.quantised_card(Path::new("candidate.onnx"), &bytes, None, "").map_err(model_failure)?;
        written(&card, text.as_bytes())?;
        let mut options = self.command.options(&card.to_string_lossy(), Precision::Int8)?;
        let widest = self.command.recheck_margin.map_or(WIDEST_MARGIN, |margin| margin as f32);
        options.confidence_threshold = Some((self.float.thresholds().confidence - widest).max(0.0));
        let mut int8 = Predictor::load(&options).map_err(model_failure)?;
        let findings = self.find(&mut int8, "int8")?;
        let candidate = match self.command.recheck_margin {
            Some(margin) => self.decided(float_layers, &findings, margin as f32),
            None => self.with_margin(float_layers, &findings),
        };
        log::info!(
            "{} layers in float32, margin {}, {} frames decided by float32: recall {:.4}, precision {:.4}",
            float_layers.len(),
            candidate.margin,
            candidate.rechecked,
            candidate.agreement.recall(),
            candidate.agreement.precision()
        );
        Ok(candidate)
    }

    /// The candidate with a margin beyond usual differences of scores if that costs few runs in float32, else with the smallest that holds
    /// the limits, else with the widest.
    fn with_margin(&self, float_layers: &[String], findings: &Findings) -> Candidate {
        let exact = self.decided(float_layers, findings, 0.0);
        let ample = AMPLE * exact.agreement.usual_score_change();
        let mut smallest = self.holds(&exact).then_some(exact);
        for margin in MARGINS {
            let candidate = self.decided(float_layers, findings, margin);
            let holds = self.holds(&candidate);
            if holds && margin >= ample && self.rechecks_few(&candidate) {
                return candidate;
            }
            if holds && smallest.is_none() {
                smallest = Some(candidate);
            }
        }
        smallest.unwrap_or_else(|| self.decided(float_layers, findings, WIDEST_MARGIN))
    }

    fn rechecks_few(&self, candidate: &Candidate) -> bool {
        candidate.rechecked * FEW_OF <= self.frames.len()
    }

    /// What the quantised model and float32 find together, from all that the former found with a lower threshold.
    fn decided(&self, float_layers: &[String], found: &Findings, margin: f32) -> Candidate {
        let thresholds = self.float.thresholds();
        let counts = |score: f32| score > thresholds.confidence || thresholds.confidence_inclusive && score == thresholds.confidence;
        let (mut agreement, mut rechecked, mut detections) = (Agreement::default(), 0, Vec::with_capacity(found.detections.len()));
        for (expected, found) in self.expected.detections.iter().zip(&found.detections) {
            let is_doubtful = margin > 0.0 && found.iter().any(|found| (found.score - thresholds.confidence).abs() <= margin);
            rechecked += usize::from(is_doubtful);
            let decided = if is_doubtful { expected.clone() } else { found.iter().filter(|found| counts(found.score)).cloned().collect() };
            agreement.add(expected, &decided);
            detections.push(decided);
        }
        let findings = Findings { detections, per_frame: found.per_frame };
        Candidate { float_layers: float_layers.to_vec(), margin, rechecked, agreement, findings }
    }

    /// All layers of a candidate in float32.
    fn kept(&self, candidate: &Candidate) -> Vec<String> {
        candidate.float_layers.iter().chain(&self.last_layers).cloned().collect()
    }

    fn card_text(&self, model: &Path, bytes: &[u8], candidate: &Candidate) -> Result<String, Failure> {
        let file = model.file_name().map(PathBuf::from).unwrap_or_default();
        let (agreement, kept) = (&candidate.agreement, self.kept(candidate).len());
        let note = format!(
            "Made by `framerail quantize` from {}: int8, calibrated on {} frames, {kept} layers in float32.\n\
             Against float32 on {} other frames: recall {:.4}, precision {:.4}, worst IoU {:.3}.",
            self.float.card().name,
            self.stored(),
            agreement.frames,
            agreement.recall(),
            agreement.precision(),
            agreement.worst_iou
        );
        let float_file = self.float_file(model)?;
        let recheck = (candidate.margin > 0.0).then_some((candidate.margin, float_file.as_path()));
        self.float.quantised_card(&file, bytes, recheck, &note).map_err(model_failure)
    }

    /// The float32 model as the card beside `model` names it: by its file name in the same folder, else by its whole path.
    fn float_file(&self, model: &Path) -> Result<PathBuf, Failure> {
        let failed = |error: std::io::Error| Failure::new(INTERNAL, format_args!("the model's folder cannot be read: {error}"));
        let is_model = |path: &&Path| path.extension().is_none_or(|extension| extension != "toml");
        let file = self.float.files().find(is_model).ok_or_else(|| Failure::new(INTERNAL, "the model has no file; please report it"))?;
        let file = file.canonicalize().map_err(failed)?;
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_beside = file.parent().map(Path::to_owned) == Some(folder.canonicalize().map_err(failed)?);
        Ok(if is_beside { file.file_name().map(PathBuf::from).unwrap_or_default() } else { file })
    }

    /// What changed, for people.
    fn table(&self, candidate: &Candidate) -> Vec<String> {
        let agreement = &candidate.agreement;
        let noun = match self.float.card().labels.as_slice() {
            [only] => format!("{only}s"),
            _ => "objects".to_owned(),
        };
        let ms = |findings: &Findings| milliseconds(findings.per_frame);
        let mut rows = vec![
            format!("  compared on {} frames, calibrated on {} others", agreement.frames, self.stored()),
            format!("  {:<22} {:>10} {:>10}", "", "float32", "int8"),
            format!("  {:<22} {:>10} {:>10}", noun, agreement.expected, agreement.found),
            format!("  {:<22} {:>10} {:>10}", "time per frame", ms(&self.expected), ms(&candidate.findings)),
            format!("  {:<22} {:>21.2}%", "recall", agreement.recall() * 100.0),
            format!("  {:<22} {:>21.2}%", "precision", agreement.precision() * 100.0),
            format!("  {:<22} {:>21.3}", "worst IoU", agreement.worst_iou),
            format!("  {:<22} {:>21.3}", "largest score change", agreement.worst_score),
            format!("  {:<22} {:>10} lost, {} new", noun, agreement.lost(), agreement.added()),
        ];
        if candidate.margin > 0.0 {
            let (rechecked, frames) = (candidate.rechecked, agreement.frames);
            rows.push(format!("  float32 decides {rechecked} of {frames} frames: scores within {} of the threshold", candidate.margin));
            rows.push(format!("  {:<22} {:>21}", "time with these", milliseconds(self.time_per_frame(candidate))));
        }
        rows.push(match self.kept(candidate).as_slice() {
            [] => "  all layers in int8".to_owned(),
            kept => format!("  {} layers stay in float32: {}", kept.len(), shortened(kept)),
        });
        rows
    }

    fn as_json(&self, candidate: &Candidate, card: &Path, model: &Path) -> Value {
        let agreement = &candidate.agreement;
        json!({
            "card": card,
            "model": model,
            "calibration_frames": self.stored(),
            "agreement": agreement,
            "recall": agreement.recall(),
            "precision": agreement.precision(),
            "lost": agreement.lost(),
            "new": agreement.added(),
            "float_layers": self.kept(candidate),
            "recheck_margin": candidate.margin,
            "rechecked_frames": candidate.rechecked,
            "float32_secs_per_frame": self.expected.per_frame.as_secs_f64(),
            "int8_secs_per_frame": candidate.findings.per_frame.as_secs_f64(),
        })
    }

    /// Draws both models' boxes: frames in which they differ, or all where they agree everywhere.
    fn draw(&self, sheet: &ContactSheet, candidate: &Candidate) -> CommandResult {
        let pairs = || self.frames.iter().zip(self.expected.detections.iter().zip(&candidate.findings.detections));
        let differ = |expected: &[Detection], found: &[Detection]| Agreement::default().add(expected, found);
        let only_different = pairs().any(|(_, (expected, found))| differ(expected, found));
        let (before, after) = (sheet.before(), sheet.after());
        for (frame, (expected, found)) in pairs() {
            let is_empty = expected.is_empty() && found.is_empty();
            if is_empty || only_different && !differ(expected, found) {
                continue;
            }
            for (probe, boxes) in [(&before, expected), (&after, found)] {
                let mut item = FrameItem::new(drawn(frame, boxes)?);
                // The sheet takes frames with detections; where one model has none, the other's absence is what matters.
                item.detections = if boxes.is_empty() { expected.iter().chain(found).cloned().collect() } else { boxes.clone() };
                probe(&mut item);
            }
        }
        Ok(())
    }
}

fn drawn(frame: &Frame, boxes: &[Detection]) -> Result<Frame, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(INTERNAL, format_args!("the contact sheet cannot be drawn: {error}"));
    let mut frame = frame.clone();
    let pool = framerail::core::FramePool::new(1);
    frame.make_writable(&pool).map_err(|error| failed(&error))?;
    let color = frame.color;
    let surface = frame.surface.host_mut().map_err(|error| failed(&error))?;
    Canvas::new(surface, &color).detections(boxes, &DrawOptions::default()).map_err(|error| failed(&error))?;
    Ok(frame)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The first names, and how many more.
fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(6) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl QuantizeCommand {
    /// Frames to calibrate on and frames to compare on.
    fn footage(&self, shows_progress: bool) -> Result<(Vec<Frame>, Vec<Frame>), Failure> {
        let wanted = self.frames as usize;
        let mut number = 0;
        let mut read = |clips: &[String]| {
            let mut frames = Vec::new();
            for clip in clips {
                frames.push(footage::frames_of(clip, number, wanted, shows_progress)?);
                number += 1;
            }
            Ok::<_, Failure>(frames)
        };
        let calibration = read(&self.clips)?;
        if !self.check.is_empty() {
            let check = read(&self.check)?;
            return Ok((calibration.concat(), check.concat()));
        }
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for frame in calibration.into_iter().flat_map(|frames| frames.into_iter().enumerate()) {
            if frame.0 % 2 == 0 { one.push(frame.1) } else { other.push(frame.1) }
        }
        if other.is_empty() {
            return Err(Failure::new(INPUT, "the clips have one frame each, and none is left to compare on; give --check as well"));
        }
        Ok((one, other))
    }
}
