//! The `clips` stage: one file per shot, or per part between given times.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use framerail_core::{MediaKind, Packet, StreamId, StreamInfo};
use framerail_media::{AudioMode, Leftover, MediaWriter, OutputRules, Quality, WriterOptions};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options,
    PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work, parse_time,
};
use framerail_vision::SceneDetector;

use super::link::host_frames;
use crate::{
    convert::{core_error, output_error},
    outputs::{self, Misplaced, OneStreamGuard},
};

/// How far audio may lag behind the frames of its time.
const GRACE_SECS: f64 = 0.5;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| ClipsPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::sink("clips", "writes each shot as a separate file")
        .details(
            "A shot begins where the distribution of brightness differs from that of the frame before by more than cut=, as in `hold` and \
             `track`; fades are not found. at= gives times instead. Each file begins with the first frame of its shot: frames are \
             encoded, and the packets of audio that belong to them are copied. A shot shorter than shortest= is not cut off from the one \
             before it.",
        )
        .argument(ArgumentSpec::required(
            "file",
            OptionKind::Path,
            "files to write, such as 'shots/{name}-{index:04}.mp4': {name} and {stream} stand for the stream's name and number, {index} for \
             the clip's number, from 1",
        ))
        .option(OptionSpec::float("cut", 0.0..=1.0).default(0.4).help("change of the frame that begins a shot, 0 to 1"))
        .option(OptionSpec::text("at").help("times at which a clip begins, separated by commas, such as 12.5,1:03; default: at shots"))
        .option(OptionSpec::time("shortest").default("0.5s").help("minimum length of a shot"))
        .option(OptionSpec::text("codec").help("FFmpeg's encoder name; default: the usual one of the container"))
        .option(OptionSpec::float("crf", 0.0..=63.0).help("constant rate factor, lower is better; default: the encoder's"))
        .option(OptionSpec::text("preset").help("the encoder's preset, such as veryfast"))
        .option(OptionSpec::switch("audio").default("yes").help("whether audio is in the clips"))
        .option(OptionSpec::switch("overwrite").default("no").help("whether existing files are replaced"))
        .example("read film.mp4 ! clips 'shots/{name}-{index:04}.mp4'", "each shot as a file")
        .example("read in.mp4 ! clips 'part-{index}.mp4' at=60,120", "three parts: the first minute, the second, the rest")
}

struct ClipsPlan {
    template: PathBuf,
    cut: f32,
    /// Seconds from the start of what is read, increasing.
    at: Option<Vec<f64>>,
    shortest: f64,
    audio: bool,
    is_live: bool,
    writer: WriterOptions,
}

impl ClipsPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let text = |name| options.optional_text(name).map(str::to_owned);
        let at = options.optional_text("at").map(times).transpose().map_err(|problem| ConfigError::at("at", problem))?;
        if at.is_some() && options.is_given("cut") {
            return Err(ConfigError::at("cut", "at and cut are both given").help("leave one out"));
        }
        Ok(Self {
            template: outputs::numbered_path(options.path("file")),
            cut: options.float("cut") as f32,
            at,
            shortest: options.time("shortest").as_secs_f64(),
            audio: options.switch("audio"),
            is_live: false,
            writer: WriterOptions {
                codec: text("codec"),
                quality: options.optional_float("crf").map_or(Quality::EncoderDefault, Quality::Crf),
                preset: text("preset"),
                audio: AudioMode::default(),
                overwrite: options.switch("overwrite"),
                ..WriterOptions::default()
            },
        })
    }

    fn rules(&self) -> OutputRules {
        let WriterOptions { overwrite, files, .. } = &self.writer;
        OutputRules { overwrite: *overwrite, files: files.clone(), leftover: Leftover::Remove, syncs_later: false }
    }
}

/// Times in increasing order.
fn times(text: &str) -> Result<Vec<f64>, String> {
    let parse =
        |word: &str| parse_time(word.trim()).map(|time| time.as_secs_f64()).map_err(|problem| format!("`{}` {problem}", word.trim()));
    let times = text.split(',').map(parse).collect::<Result<Vec<f64>, _>>()?;
    if times.iter().is_sorted_by(|before, after| before < after) { Ok(times) } else { Err("the times do not rise".into()) }
}

impl StagePlan for ClipsPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        OneStreamGuard::check_count(&self.template, input.streams)?;
        self.is_live = input.is_live;
        self.writer.files = context.files.clone();
        outputs::link_output(&self.template, &self.rules())?;
        MediaWriter::check(&self.template, &self.writer).map_err(output_error)?;
        Ok(None)
    }

    fn wants_packets(&self) -> bool {
        self.audio
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Clips { plan: *self, streams: BTreeMap::new(), misplaced: Misplaced::default(), counters: None })]))
    }
}

/// An unfinished file.
struct Clip {
    writer: MediaWriter,
    start_secs: f64,
    /// Where the next one begins, once known.
    end_secs: f64,
}

struct Stream {
    /// Writes audio only, beside the video.
    info: Arc<StreamInfo>,
    /// Index of each side stream of the input in `info`.
    places: Vec<Option<usize>>,
    detector: SceneDetector,
    /// The previous clip, which waits for its audio.
    clips: Vec<Clip>,
    /// Audio that arrived before any frame.
    early: Vec<Packet>,
    count: u64,
    first_secs: Option<f64>,
}

struct Counters {
    context: StageContext,
    clips: Counter,
    frames: Counter,
    bytes: Counter,
}

struct Clips {
    plan: ClipsPlan,
    streams: BTreeMap<StreamId, Stream>,
    misplaced: Misplaced,
    counters: Option<Counters>,
}

impl Stage for Clips {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            context: context.clone(),
            clips: context.counter("clips_written"),
            frames: context.counter("frames_written"),
            bytes: context.counter("bytes_written"),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let (id, secs) = (item.frame.stream, item.frame.seconds());
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Flow::More) };
        let first = *stream.first_secs.get_or_insert(secs);
        let is_cut = match &self.plan.at {
            // The number of clips begun equals the number of times passed.
            Some(at) => at.iter().filter(|at| **at > 0.0 && secs - first >= **at - 1e-4).count() as u64 >= stream.count,
            None => stream.detector.changed(item.frame.surface.host().map_err(core_error)?),
        };
        let length = stream.clips.last().map_or(f64::INFINITY, |clip| secs - clip.start_secs);
        if stream.clips.is_empty() || (is_cut && (self.plan.at.is_some() || length >= self.plan.shortest)) {
            self.begin(id, secs)?;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Flow::More) };
        if let Some(clip) = stream.clips.last_mut() {
            clip.writer.write_frame(&item.frame).map_err(output_error)?;
        }
        let is_over = |clip: &Clip| secs >= clip.end_secs + GRACE_SECS;
        let (over, open) = std::mem::take(&mut stream.clips).into_iter().partition(is_over);
        stream.clips = open;
        self.complete(over, true)?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.add(&info),
            Item::Packet(packet) => self.copy(packet)?,
            Item::StreamEnd(end) => self.end(end.id)?,
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.end(id))?;
        self.misplaced.end()
    }

    fn abandon(&mut self) {
        for clip in std::mem::take(&mut self.streams).into_values().flat_map(|stream| stream.clips) {
            let path = clip.writer.path().to_owned();
            outputs::note_unfinished(&path, clip.writer.keep_unfinished(), self.counters.as_ref().map(|counters| &counters.context));
        }
    }
}

impl Clips {
    fn add(&mut self, info: &StreamInfo) {
        let (mut kept, mut places) = (StreamInfo { side_streams: Vec::new(), ..info.clone() }, Vec::new());
        for side in &info.side_streams {
            let is_kept = self.plan.audio && side.kind == MediaKind::Audio;
            places.push(is_kept.then_some(kept.side_streams.len()));
            if is_kept {
                kept.side_streams.push(side.clone());
            }
        }
        let detector = SceneDetector::new(self.plan.cut);
        let (clips, early, info) = (Vec::new(), Vec::new(), Arc::new(kept));
        self.streams.insert(info.id, Stream { info, places, detector, clips, early, count: 0, first_secs: None });
    }

    fn begin(&mut self, id: StreamId, secs: f64) -> Result<(), StageError> {
        let rules = self.plan.rules();
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.count += 1;
        if let Some(before) = stream.clips.last_mut() {
            before.end_secs = secs;
        }
        let path = outputs::indexed_path(&self.plan.template, &stream.info, stream.count);
        rules.files.write(&path).map_err(|error| output_error(error.into()))?;
        let writer = MediaWriter::create(&path, &self.plan.writer, &stream.info).map_err(output_error)?;
        if let Some(counters) = self.counters.as_ref().filter(|_| stream.count == 1) {
            writer.warnings().iter().for_each(|warning| counters.context.notice(format_args!("{}: {warning}", stream.info.source)));
        }
        stream.clips.push(Clip { writer, start_secs: secs, end_secs: f64::INFINITY });
        let early = std::mem::take(&mut stream.early);
        early.into_iter().try_for_each(|packet| self.copy(packet))
    }

    /// Writes audio to the clip of its time.
    fn copy(&mut self, packet: Packet) -> Result<(), StageError> {
        let Some(stream) = self.streams.get_mut(&packet.stream) else { return Ok(()) };
        let Some(side_stream) = stream.places.get(packet.side_stream).copied().flatten() else { return Ok(()) };
        if stream.clips.is_empty() {
            stream.early.push(packet);
            return Ok(());
        }
        let secs = packet.pts.map(|pts| packet.time_base.seconds(pts.0));
        let is_of = |clip: &&mut Clip| secs.is_none_or(|secs| secs < clip.end_secs);
        match stream.clips.iter_mut().find(is_of) {
            Some(clip) => clip.writer.write_packet(&Packet { side_stream, ..packet }).map_err(output_error),
            None => Ok(()),
        }
    }

    fn end(&mut self, id: StreamId) -> Result<(), StageError> {
        let Some(stream) = self.streams.remove(&id) else { return Ok(()) };
        let ends_by_stop = outputs::ends_by_stop(self.plan.is_live, &stream.info);
        self.complete(stream.clips, ends_by_stop)
    }

    fn complete(&mut self, clips: Vec<Clip>, ends_by_stop: bool) -> Result<(), StageError> {
        for clip in clips {
            let path = clip.writer.path().to_owned();
            let context = self.counters.as_ref().map(|counters| &counters.context);
            let report = clip.writer.finish_as(outputs::ending(context, ends_by_stop)).map_err(output_error)?;
            self.misplaced.note(&path, &report.path, report.elsewhere.as_ref(), context);
            if let Some(counters) = &self.counters {
                counters.clips.add(1);
                counters.frames.add(report.frames);
                counters.bytes.add(report.bytes);
            }
        }
        Ok(())
    }
}
