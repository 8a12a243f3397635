//! The `clips` stage: one file per shot, per part between given times, or per stretch with a detection.

use std::{collections::BTreeMap, sync::Arc};

use framerail_core::{MediaKind, Packet, StreamId, StreamInfo};
use framerail_media::{AudioMode, Ending, Leftover, MediaWriter, OutputRules, Quality, WriterOptions};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options,
    PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work, parse_time,
};
use framerail_vision::SceneDetector;

use super::{clip_files::ClipFiles, link::host_frames, trigger::Triggers};
use crate::{
    convert::{core_error, output_error},
    outputs,
};

/// How far audio may lag behind the frames of its time.
const GRACE_SECS: f64 = 0.5;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| ClipsPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::sink("clips", "writes each shot, or each stretch with a detection, as a separate file")
        .details(
            "A shot begins where the distribution of brightness differs from that of the frame before by more than cut=, as in `hold` and \
             `track`; fades are not found. at= gives times instead. Each file begins with the first frame of its shot: frames are \
             encoded, and the packets of audio that belong to them are copied. A shot shorter than shortest= is not cut off from the one \
             before it.\n\nWith on= a clip begins where something is found: `detection` or `detection:CLASS`, `zone` or `zone:NAME` \
             (entered), `line` or `line:NAME` (crossed), of a model or of records that `load` reads. It ends when nothing was found for \
             gap=, and frames between clips are left out and counted; keep=all writes them too, each up to the next event. `record` has \
             a pre-roll, and copies packets.",
        )
        .argument(ArgumentSpec::required(
            "file",
            OptionKind::Path,
            "files to write, such as 'shots/{name}-{index:04}.mp4': {name} and {stream} stand for the stream's name and number, {index} for \
             the clip's number, from 1",
        ))
        .option(OptionSpec::float("cut", 0.0..=1.0).default(0.4).help("change of the frame that begins a shot, 0 to 1"))
        .option(OptionSpec::text("at").help("times at which a clip begins, separated by commas, such as 12.5,1:03; default: at shots"))
        .option(OptionSpec::text("on").help("what begins a clip, separated by commas, such as detection:person; default: shots"))
        .option(OptionSpec::float("confidence", 0.0..=1.0).default(0).help("for on=: minimum score of a detection"))
        .option(OptionSpec::time("gap").default("1s").help("for on=: how long nothing is found before a clip ends"))
        .option(
            OptionSpec::choice("keep", &[("events", "clips around events only"), ("all", "every frame is in a clip")])
                .default("events")
                .help("for on=: which frames are written"),
        )
        .option(OptionSpec::time("shortest").default("0.5s").help("minimum length of a shot"))
        .option(OptionSpec::text("codec").help("FFmpeg's encoder name, or a codec, such as h264; default: the usual one of the container"))
        .option(OptionSpec::float("crf", 0.0..=63.0).help("constant rate factor, lower is better; default: the encoder's"))
        .option(OptionSpec::text("preset").help("the encoder's preset, such as veryfast"))
        .option(OptionSpec::switch("audio").default("yes").help("whether audio is in the clips"))
        .option(OptionSpec::switch("overwrite").default("no").help("whether existing files are replaced"))
        .example("read film.mp4 ! clips 'shots/{name}-{index:04}.mp4'", "each shot as a file")
        .example("read in.mp4 ! clips 'part-{index}.mp4' at=60,120", "three parts: the first minute, the second, the rest")
        .example("read in.mp4 ! load boxes.jsonl ! clips 'faces/{index:04}.mp4' on=detection:face gap=2s", "where records have a face")
}

/// Where clips begin.
enum Cuts {
    Shots(f32),
    /// Seconds from the start of what is read, increasing.
    Times(Vec<f64>),
    Events {
        triggers: Triggers,
        gap: f64,
        keeps_all: bool,
    },
}

impl Cuts {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let given: Vec<&str> = ["cut", "at", "on"].into_iter().filter(|name| options.is_given(name)).collect();
        if let [first, second, ..] = given[..] {
            return Err(ConfigError::at(second, format_args!("{first} and {second} are both given")).help("leave one out"));
        }
        let of_events = ["confidence", "gap", "keep"].into_iter().find(|name| options.is_given(name));
        let on = options.optional_text("on");
        if let Some(name) = of_events.filter(|_| on.is_none()) {
            return Err(ConfigError::at(name, format_args!("{name} has no effect without on=")).help("leave it out, or give on=detection"));
        }
        if let Some(on) = on {
            let triggers = Triggers::parse(on, options.float("confidence") as f32).map_err(|problem| ConfigError::at("on", problem))?;
            if triggers.has_call() {
                return Err(
                    ConfigError::at("on", "`call` begins clips of `record` only").help("use detection, zone or line, or the stage record")
                );
            }
            let (gap, keeps_all) = (options.time("gap").as_secs_f64(), options.choice("keep") == "all");
            return Ok(Cuts::Events { triggers, gap, keeps_all });
        }
        match options.optional_text("at").map(times).transpose().map_err(|problem| ConfigError::at("at", problem))? {
            Some(times) => Ok(Cuts::Times(times)),
            None => Ok(Cuts::Shots(options.float("cut") as f32)),
        }
    }
}

struct ClipsPlan {
    files: ClipFiles,
    cuts: Cuts,
    shortest: f64,
    audio: bool,
    writer: WriterOptions,
}

impl ClipsPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let text = |name| options.optional_text(name).map(str::to_owned);
        let overwrite = options.switch("overwrite");
        let rules = OutputRules { overwrite, leftover: Leftover::Remove, ..OutputRules::default() };
        Ok(Self {
            files: ClipFiles::new(outputs::numbered_path(options.path("file")), rules),
            cuts: Cuts::new(options)?,
            shortest: options.time("shortest").as_secs_f64(),
            audio: options.switch("audio"),
            writer: WriterOptions {
                codec: text("codec"),
                quality: options.optional_float("crf").map_or(Quality::EncoderDefault, Quality::Crf),
                preset: text("preset"),
                audio: AudioMode::default(),
                overwrite,
                ..WriterOptions::default()
            },
        })
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
        if let Cuts::Events { triggers, .. } = &self.cuts {
            triggers.check(input)?;
        }
        self.files.link(input, context, &mut self.writer)?;
        Ok(None)
    }

    fn wants_packets(&self) -> bool {
        self.audio
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Clips { plan: *self, streams: BTreeMap::new(), counters: None })]))
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
    detector: Option<SceneDetector>,
    /// The previous clip, which waits for its audio.
    clips: Vec<Clip>,
    /// Audio that arrived before the frames of its time.
    early: Vec<Packet>,
    count: u64,
    first_secs: Option<f64>,
    /// When something was found last.
    found_secs: Option<f64>,
}

/// What a frame does to the clip.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// A clip begins with it, if the one before is long enough.
    Begins,
    GoesOn,
    /// It lies between clips.
    LeftOut,
}

struct Counters {
    frames: Counter,
    left_out: Counter,
}

struct Clips {
    plan: ClipsPlan,
    streams: BTreeMap<StreamId, Stream>,
    counters: Option<Counters>,
}

impl Stage for Clips {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters { frames: context.counter("frames_written"), left_out: context.counter("frames_left_out") });
        self.plan.files.start(context);
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let (id, secs) = (item.frame.stream, item.frame.seconds());
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Flow::More) };
        let turn = stream.turn(&self.plan.cuts, &item, secs)?;
        let length = stream.clips.last().map(|clip| secs - clip.start_secs);
        let is_due = match &self.plan.cuts {
            Cuts::Times(_) => true,
            _ => length.is_none_or(|length| length >= self.plan.shortest),
        };
        let is_open = stream.clips.last().is_some_and(|clip| clip.end_secs == f64::INFINITY);
        match turn {
            Turn::LeftOut => {
                if let Some(clip) = stream.clips.last_mut().filter(|_| is_open) {
                    clip.end_secs = secs;
                }
                stream.early.clear();
            }
            Turn::Begins if is_due => self.begin(id, secs)?,
            _ if !is_open => self.begin(id, secs)?,
            _ => {}
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Flow::More) };
        if turn == Turn::LeftOut {
            self.counters.iter().for_each(|counters| counters.left_out.add(1));
        } else if let Some(clip) = stream.clips.last_mut() {
            clip.writer.write_frame(&item.frame).map_err(output_error)?;
        }
        let is_over = |clip: &Clip| secs >= clip.end_secs + GRACE_SECS;
        let (over, open) = std::mem::take(&mut stream.clips).into_iter().partition(is_over);
        stream.clips = open;
        self.complete(over, Ending::Whole)?;
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
        self.plan.files.end()
    }

    fn abandon(&mut self) {
        for clip in std::mem::take(&mut self.streams).into_values().flat_map(|stream| stream.clips) {
            let path = clip.writer.path().to_owned();
            self.plan.files.unfinished(&path, clip.writer.keep_unfinished());
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
        let detector = if let Cuts::Shots(cut) = self.plan.cuts { Some(SceneDetector::new(cut)) } else { None };
        let (clips, early, info) = (Vec::new(), Vec::new(), Arc::new(kept));
        let stream = Stream { info, places, detector, clips, early, count: 0, first_secs: None, found_secs: None };
        self.streams.insert(stream.info.id, stream);
    }

    fn begin(&mut self, id: StreamId, secs: f64) -> Result<(), StageError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.count += 1;
        if let Some(before) = stream.clips.last_mut() {
            before.end_secs = before.end_secs.min(secs);
        }
        let path = self.plan.files.claim(&stream.info, stream.count)?;
        let writer = MediaWriter::create(&path, &self.plan.writer, &stream.info).map_err(output_error)?;
        if stream.count == 1 {
            writer.warnings().iter().for_each(|warning| self.plan.files.notice(format_args!("{}: {warning}", stream.info.source)));
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
            None => {
                stream.early.push(packet);
                Ok(())
            }
        }
    }

    fn end(&mut self, id: StreamId) -> Result<(), StageError> {
        let Some(stream) = self.streams.remove(&id) else { return Ok(()) };
        let ending = self.plan.files.ending(&stream.info);
        self.complete(stream.clips, ending)
    }

    fn complete(&mut self, clips: Vec<Clip>, ending: Ending) -> Result<(), StageError> {
        for clip in clips {
            let path = clip.writer.path().to_owned();
            let report = clip.writer.finish_as(ending).map_err(output_error)?;
            self.plan.files.completed(&path, &report);
            self.counters.iter().for_each(|counters| counters.frames.add(report.frames));
        }
        Ok(())
    }
}

impl Stream {
    fn turn(&mut self, cuts: &Cuts, item: &FrameItem, secs: f64) -> Result<Turn, StageError> {
        let first = *self.first_secs.get_or_insert(secs);
        let begins = |is_cut: bool| if is_cut { Turn::Begins } else { Turn::GoesOn };
        match cuts {
            Cuts::Shots(_) => {
                let Some(detector) = &mut self.detector else { return Ok(Turn::GoesOn) };
                Ok(begins(detector.changed(item.frame.surface.host().map_err(core_error)?)))
            }
            // The number of clips begun equals the number of times passed.
            Cuts::Times(at) => Ok(begins(at.iter().filter(|at| **at > 0.0 && secs - first >= **at - 1e-4).count() as u64 >= self.count)),
            Cuts::Events { triggers, gap, keeps_all } => {
                let is_over = self.found_secs.is_none_or(|found| secs - found > *gap + 1e-6);
                if triggers.fired(item, false)?.is_some() {
                    self.found_secs = Some(secs);
                    return Ok(begins(is_over));
                }
                Ok(if is_over && !keeps_all { Turn::LeftOut } else { Turn::GoesOn })
            }
        }
    }
}
