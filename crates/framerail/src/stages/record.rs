//! The `record` stage: writes clips around events from the packets that were read.

mod ring;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use framerail_core::{Device, MediaKind, StreamId, StreamInfo};
use framerail_media::{Ending, Leftover, OutputRules, PacketFile, PacketStream, PushPacket, Quality, WriterOptions};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, Setting, SettingSpec, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use self::ring::{Clip, Ring};
use super::{clip_files::ClipFiles, link::input_of, trigger::Triggers};
use crate::{convert::output_error, outputs};

/// Keyframe interval of encoded clips: a clip can begin at any keyframe.
const KEYFRAME_EVERY: Duration = Duration::from_secs(1);
/// Maximum value of the setting that begins clips.
const MOST_CALLS: f64 = 1e9;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| RecordPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::sink("record", "writes a clip around each event, from before it to after it")
        .details(
            "Keeps the compressed packets of the last seconds in memory. At an event it writes them from the last keyframe at or before \
             the pre-roll, and goes on until the post-roll is over; an event meanwhile extends the clip. Video and audio packets are \
             copied bit by bit. Where an earlier stage changed pixels (`blur`, `draw`, ...), or codec= is given, frames are encoded \
             instead, so that clips show what the pipeline shows.\n\n\
             Events are given by on=: `detection` or `detection:CLASS` (found on a frame), `zone` or `zone:NAME` (entered) and `line` \
             or `line:NAME` (crossed) of `zones`, and `call`: the setting `trigger` of this stage is set to another number, over HTTP \
             or from Python.",
        )
        .argument(ArgumentSpec::required(
            "file",
            OptionKind::Path,
            "files to write, such as 'clips/{name}-{index:04}.mp4': {name} and {stream} stand for the stream's name and number, {index} \
             for \
             the clip's number, from 1",
        ))
        .option(OptionSpec::text("on").help("what begins a clip, separated by commas; default: detection,call after a model, else call"))
        .option(OptionSpec::time("before").default("5s").help("pre-roll: time before the event"))
        .option(OptionSpec::time("after").default("5s").help("post-roll: time after the last event"))
        .option(OptionSpec::time("max").default("5m").help("maximum length from the event that begins the clip; then a new clip begins"))
        .option(OptionSpec::float("confidence", 0.0..=1.0).default(0).help("minimum score of a detection that begins a clip"))
        .option(
            OptionSpec::integer("memory", 1..=100_000)
                .default(256)
                .unit("MB")
                .help("maximum memory for packets of each stream; a pre-roll that does not fit is cut, with a notice"),
        )
        .option(OptionSpec::switch("audio").default("yes").help("whether audio and subtitles are in the clips"))
        .option(OptionSpec::text("codec").help("encode frames with this FFmpeg encoder; default: copy unless pixels were changed"))
        .option(OptionSpec::float("crf", 0.0..=63.0).help("for encoded clips: constant rate factor; default: the encoder's"))
        .option(OptionSpec::text("preset").help("for encoded clips: the encoder's preset"))
        .option(OptionSpec::switch("overwrite").default("no").help("whether existing files are replaced"))
        .example(
            "read rtsp://host/cam ! sample fps=5 ! infer centerface ! record 'clips/{name}-{index:04}.mp4' before=10s after=20s",
            "a clip whenever a face is detected",
        )
        .example(
            "read cam.mp4 realtime=yes ! infer centerface ! track ! zones yard.toml ! record 'gate-{index}.mp4' on=zone:gate",
            "when somebody enters the zone",
        )
        .example("read rtsp://host/cam ! record 'clips/{index}.mkv' on=call", "when a program requests it")
}

struct RecordPlan {
    files: ClipFiles,
    triggers: Option<Triggers>,
    confidence: f32,
    before: f64,
    after: f64,
    max: f64,
    memory_bytes: usize,
    audio: bool,
    /// Encoding was requested.
    encodes: bool,
    writer: WriterOptions,
}

impl RecordPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let confidence = options.float("confidence") as f32;
        let triggers = options.optional_text("on").map(|text| Triggers::parse(text, confidence)).transpose();
        let quality = options.optional_float("crf").map_or(Quality::EncoderDefault, Quality::Crf);
        let text = |name| options.optional_text(name).map(str::to_owned);
        let rules = OutputRules { overwrite: options.switch("overwrite"), leftover: Leftover::KeepPlayable, ..OutputRules::default() };
        Ok(Self {
            files: ClipFiles::new(outputs::numbered_path(options.path("file")), rules),
            triggers: triggers.map_err(|problem| ConfigError::at("on", problem))?,
            confidence,
            before: options.time("before").as_secs_f64(),
            after: options.time("after").as_secs_f64(),
            max: options.time("max").as_secs_f64().max(0.1),
            memory_bytes: options.count("memory").saturating_mul(1_000_000),
            audio: options.switch("audio"),
            encodes: options.is_given("codec") || options.is_given("crf") || options.is_given("preset"),
            writer: WriterOptions {
                codec: text("codec"),
                quality,
                preset: text("preset"),
                keyframe_every: Some(KEYFRAME_EVERY),
                overwrite: options.switch("overwrite"),
                ..WriterOptions::default()
            },
        })
    }
}

impl StagePlan for RecordPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        self.encodes |= input.is_changed;
        if self.encodes && input.device != Device::Cpu {
            return Err(PlanError::NeedsDevice(Device::Cpu));
        }
        let default = if input.detections.is_some() { "detection,call" } else { "call" };
        let parsed = || Triggers::parse(default, self.confidence).map_err(|problem| StageError::new(ErrorKind::Usage, problem));
        let triggers = self.triggers.take().map_or_else(parsed, Ok)?;
        triggers.check(input)?;
        self.triggers = Some(triggers);
        self.files.link(input, context, &mut self.writer)?;
        Ok(None)
    }

    fn wants_packets(&self) -> bool {
        self.audio
    }

    fn wants_video_packets(&self) -> bool {
        !self.encodes
    }

    fn reads_pixels(&self) -> bool {
        self.encodes
    }

    fn takes_device_frames(&self) -> bool {
        !self.encodes
    }

    fn takes_several_devices(&self) -> bool {
        !self.encodes
    }

    fn note(&self) -> Option<String> {
        Some(if self.encodes { "frames are encoded" } else { "packets are copied" }.into())
    }

    fn into_work(mut self: Box<Self>) -> Result<Work, StageError> {
        let triggers = self.triggers.take().ok_or_else(|| StageError::new(ErrorKind::Internal, "the stage was not linked"))?;
        let record = Record { plan: *self, triggers, streams: BTreeMap::new(), trigger: None, calls: 0, counters: None };
        Ok(Work::Stages(vec![Box::new(record)]))
    }
}

struct Counters {
    events: Counter,
    packets: Counter,
    short: Counter,
}

struct Stream {
    info: Arc<StreamInfo>,
    packets: PacketStream,
    ring: Ring,
    clips: Vec<Clip>,
    /// Number of clips so far.
    count: u64,
    /// Number of calls handled.
    calls: u64,
    /// Whether an event is in progress.
    is_on: bool,
    was_cut: bool,
}

impl Stream {
    /// The first packet that a clip still needs.
    fn unwritten(&self) -> Option<u64> {
        self.clips.iter().filter_map(Clip::next).min()
    }
}

struct Record {
    plan: RecordPlan,
    triggers: Triggers,
    streams: BTreeMap<StreamId, Stream>,
    trigger: Option<Setting>,
    calls: u64,
    counters: Option<Counters>,
}

impl Stage for Record {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let spec = SettingSpec::new("trigger", 0.0..=MOST_CALLS).whole();
        self.trigger = Some(context.setting(spec.help("changing the number begins a clip"), 0.0));
        self.counters = Some(Counters {
            events: context.counter("events"),
            packets: context.counter("packets_written"),
            short: context.counter("pre_rolls_short"),
        });
        self.plan.files.start(context);
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        if self.trigger.as_mut().and_then(Setting::take_change).is_some() {
            self.calls += 1;
        }
        let Some(stream) = self.streams.get_mut(&item.frame.stream) else { return Ok(Flow::More) };
        if self.plan.encodes {
            stream.packets.frame(&item.frame).map_err(output_error)?.into_iter().for_each(|packet| stream.ring.push(packet));
        }
        let is_called = std::mem::replace(&mut stream.calls, self.calls) != self.calls;
        let fired = self.triggers.fired(&item, is_called)?;
        let secs = item.frame.seconds();
        let is_new = fired.is_some() && !std::mem::replace(&mut stream.is_on, fired.is_some());
        stream.is_on = fired.is_some();
        if let Some(what) = fired {
            if is_new && let Some(counters) = &self.counters {
                counters.events.add(1);
            }
            self.event(item.frame.stream, secs, &what)?;
        }
        self.advance(item.frame.stream, secs)?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.begin(&info)?,
            Item::Packet(packet) => {
                let Some(stream) = self.streams.get_mut(&packet.stream) else { return Ok(Flow::More) };
                let kind = stream.info.side_streams.get(packet.side_stream).map(|side| side.kind);
                if kind == Some(MediaKind::Video) || self.plan.audio {
                    let packets = stream.packets.packet(&packet).map_err(output_error)?;
                    packets.into_iter().for_each(|packet| stream.ring.push(packet));
                    self.fit(packet.stream)?;
                }
            }
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
            let path = clip.path.clone();
            let kept = clip.into_file().and_then(PacketFile::keep_unfinished);
            self.plan.files.unfinished(&path, kept);
        }
    }
}

impl Record {
    fn begin(&mut self, info: &Arc<StreamInfo>) -> Result<(), StageError> {
        let plan = &self.plan;
        let packets = if plan.encodes {
            PacketStream::encode(plan.files.template(), &plan.writer, info)
        } else {
            PacketStream::copy(plan.files.template(), &plan.writer, info)
        };
        let packets = packets.map_err(output_error)?;
        packets.warnings().iter().for_each(|warning| plan.files.notice(format_args!("{}: {warning}", info.source)));
        let stream = Stream {
            info: Arc::clone(info),
            packets,
            ring: Ring::default(),
            clips: Vec::new(),
            count: 0,
            calls: self.calls,
            is_on: false,
            was_cut: false,
        };
        self.streams.insert(info.id, stream);
        Ok(())
    }

    /// Extends the current clip, or begins one.
    fn event(&mut self, id: StreamId, secs: f64, what: &str) -> Result<(), StageError> {
        let plan = &self.plan;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.clips.iter_mut().any(|clip| clip.extend(secs + plan.after, secs)) {
            return Ok(());
        }
        let number = stream.count + 1;
        let path = plan.files.claim(&stream.info, number)?;
        if let Some(context) = plan.files.context() {
            log::info!("{}: {}: {what} at {secs:.3} s", context.name(), path.display());
        }
        stream.count = number;
        stream.clips.push(Clip::new(path, secs - plan.before, secs + plan.after, secs + plan.max));
        Ok(())
    }

    /// Writes clips up to a time, completes those that are over, and drops packets that no clip will need.
    fn advance(&mut self, id: StreamId, secs: f64) -> Result<(), StageError> {
        self.write(id, secs, false)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let (over, open) = std::mem::take(&mut stream.clips).into_iter().partition(|clip| clip.is_over(secs));
        stream.clips = open;
        let awaited = stream.clips.iter().filter_map(Clip::awaits).fold(secs - self.plan.before, f64::min);
        let unwritten = stream.unwritten();
        stream.ring.forget(awaited, unwritten);
        self.complete(over, Ending::Whole)
    }

    /// Writes clips up to a time; at the end of a stream everything.
    fn write(&mut self, id: StreamId, secs: f64, is_end: bool) -> Result<(), StageError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        for clip in &mut stream.clips {
            let wanted = clip.awaits();
            let began = clip.open(&stream.ring, stream.packets.target(), is_end).map_err(output_error)?;
            if let (Some(wanted), Some(began), Some(counters)) = (wanted, began, &self.counters) {
                counters.short.add(u64::from(began > wanted + 1e-3));
            }
            clip.write(&stream.ring, secs).map_err(output_error)?;
        }
        Ok(())
    }

    /// Keeps a stream's packets within the memory limit.
    fn fit(&mut self, id: StreamId) -> Result<(), StageError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        while stream.ring.bytes() > self.plan.memory_bytes {
            for clip in &mut stream.clips {
                clip.write(&stream.ring, f64::INFINITY).map_err(output_error)?;
            }
            let unwritten = stream.unwritten();
            if !stream.ring.forget_group(unwritten) {
                break;
            }
            if !std::mem::replace(&mut stream.was_cut, true) {
                let (source, memory) = (&stream.info.source, self.plan.memory_bytes / 1_000_000);
                let files = &self.plan.files;
                files.notice(format_args!("{source}: the pre-roll does not fit in {memory} MB and is shortened; raise memory="));
            }
        }
        Ok(())
    }

    fn end(&mut self, id: StreamId) -> Result<(), StageError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let rest: Vec<PushPacket> = stream.packets.drain().map_err(output_error)?;
        rest.into_iter().for_each(|packet| stream.ring.push(packet));
        self.write(id, f64::INFINITY, true)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let clips = std::mem::take(&mut stream.clips);
        let ending = self.plan.files.ending(&stream.info);
        self.streams.remove(&id);
        self.complete(clips, ending)
    }

    fn complete(&mut self, clips: Vec<Clip>, ending: Ending) -> Result<(), StageError> {
        for clip in clips {
            let (path, packets) = (clip.path.clone(), clip.packets);
            let Some(file) = clip.into_file() else { continue };
            let report = file.finish_as(ending).map_err(output_error)?;
            self.plan.files.completed(&path, &report);
            report.warnings.iter().for_each(|warning| self.plan.files.notice(format_args!("{}: {warning}", path.display())));
            if let Some(counters) = &self.counters {
                counters.packets.add(packets);
            }
        }
        Ok(())
    }
}
