//! The `read` stage: demuxes and decodes one source after another.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use framerail_core::{Frame, FramePool, StreamId};
use framerail_media::{
    CancelFlag, Damage, DeinterlaceMethod, Deinterlacer, InputOptions, MediaItem, MediaReader, RotationPolicy, SideStreams,
};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, Source, StageContext, StageError, StagePlan, StageSpec, StreamEnd, Work,
};

use crate::{
    convert::input_error,
    inputs::{SourceName, expand_sources},
};

/// Buffers kept for frames that are turned or converted on reading.
const KEPT_BUFFERS: usize = 8;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| ReadPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::source("read", "reads video from files, folders, patterns, URLs or standard input")
        .details(
            "Several sources are read one after another, each as a stream of its own. A folder gives its videos, or its pictures as one \
             stream. Damaged streams are decoded as far as they can be; what was lost is counted.",
        )
        .argument(
            ArgumentSpec::required(
                "source",
                OptionKind::Text,
                "file, folder, glob, pattern such as img%04d.png, http(s) or rtsp URL, or - for standard input",
            )
            .many(),
        )
        .option(OptionSpec::time("start").help("first instant to deliver, from the start of the file; exact"))
        .option(OptionSpec::time("end").help("first instant not to deliver"))
        .option(OptionSpec::time("duration").help("time to deliver from start"))
        .option(OptionSpec::integer("track", 0..=1000).help("which of the file's video streams, from 0; FFmpeg's choice otherwise"))
        .option(OptionSpec::integer("threads", 0..=256).default(0).help("decoder threads; 0 lets FFmpeg choose"))
        .option(
            OptionSpec::choice(
                "rotate",
                &[("auto", "turn frames upright by the stream's tag"), ("keep", "leave frames as coded, keep the tag")],
            )
            .default("auto")
            .help("what to do with rotated video"),
        )
        .option(
            OptionSpec::choice(
                "deinterlace",
                &[
                    ("off", "leave frames as they are"),
                    ("yadif", "fast"),
                    ("bwdif", "better"),
                    ("all", "bwdif on every frame, tagged or not"),
                ],
            )
            .default("off")
            .help("deinterlacing of interlaced frames"),
        )
        .option(OptionSpec::rate("fps").help("frames per second of pictures or raw video that do not say it"))
        .option(OptionSpec::text("format").help("FFmpeg's container name, for sources that do not tell by themselves"))
        .option(OptionSpec::key_values("options").help("further options for FFmpeg's demuxer and protocol"))
        .option(OptionSpec::time("timeout").help("longest wait for the source to give something; none otherwise"))
        .option(
            OptionSpec::choice("on_error", &[("fail", "end the run"), ("skip", "go on with the next source; counted")])
                .default("fail")
                .help("what to do when a source cannot be read"),
        )
        .example("read in.mp4 ! null", "decode a file as fast as it goes")
        .example("read clips/*.mp4 start=5 duration=10 ! save 'boxes/{name}.jsonl'", "ten seconds of each file")
}

struct ReadPlan {
    sources: VecDeque<(StreamId, SourceName)>,
    input: InputOptions,
    deinterlace: Option<(DeinterlaceMethod, bool)>,
    skip_bad: bool,
    pool: FramePool,
    /// The first source, opened while linking so that formats are known and mistakes show early.
    first: Option<MediaReader>,
}

impl ReadPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let sources = options.texts("source");
        let sources = expand_sources(&sources).map_err(|error| ConfigError::at("source", &error.message).kind(error.kind))?;
        let secs = |name| options.optional_time(name).map(|time: Duration| time.as_secs_f64());
        if options.is_given("end") && options.is_given("duration") {
            return Err(ConfigError::at("duration", "end and duration are both given").help("leave one out"));
        }
        if let (Some(start), Some(end)) = (secs("start"), secs("end"))
            && end <= start
        {
            return Err(ConfigError::at("end", "nothing lies between start and end").help("give an end after the start"));
        }
        let mut input = InputOptions::new("");
        input.start_secs = secs("start");
        input.end_secs = secs("end");
        input.duration_secs = secs("duration");
        input.video_stream = options.optional_integer("track").and_then(|track| usize::try_from(track).ok());
        input.threads = options.count("threads");
        input.rotation = if options.choice("rotate") == "keep" { RotationPolicy::Keep } else { RotationPolicy::Auto };
        input.frame_rate = options.optional_rate("fps");
        input.format = options.optional_text("format").map(str::to_owned);
        input.format_options = options.optional_key_values("options").unwrap_or_default().to_vec();
        input.read_timeout = options.optional_time("timeout");
        let deinterlace = match options.choice("deinterlace") {
            "yadif" => Some((DeinterlaceMethod::Yadif, false)),
            "bwdif" => Some((DeinterlaceMethod::Bwdif, false)),
            "all" => Some((DeinterlaceMethod::Bwdif, true)),
            _ => None,
        };
        let numbered = sources.into_iter().zip(0..).map(|(source, id)| (StreamId(id), source));
        Ok(Self {
            sources: numbered.collect(),
            input,
            deinterlace,
            skip_bad: options.choice("on_error") == "skip",
            pool: FramePool::new(KEPT_BUFFERS),
            first: None,
        })
    }
}

impl ReadPlan {
    /// Whether a source can only be a file, and is not there. Patterns, protocols and devices are left to FFmpeg.
    fn is_missing_file(&self, source: &str) -> bool {
        source != "-" && self.input.format.is_none() && !source.contains(['%', ':']) && !Path::new(source).exists()
    }
}

impl StagePlan for ReadPlan {
    fn link(&mut self, _: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        self.input.side_streams = if context.packets_wanted { SideStreams::AudioAndSubtitles } else { SideStreams::None };
        let mut format = EdgeFormat { streams: Some(self.sources.len()), ..EdgeFormat::default() };
        if self.skip_bad && self.sources.len() > 1 {
            return Ok(Some(format));
        }
        // The first is opened below; a slip in the name of a later one need not wait for its turn.
        if let Some(missing) = self.sources.iter().skip(1).find(|(_, source)| self.is_missing_file(&source.source)) {
            let message = format!("{}: no such file or stream; check the name", missing.1.source);
            return Err(StageError::new(ErrorKind::Input, message).into());
        }
        if let Some((id, source)) = self.sources.front().cloned() {
            let reader = open(&self.input, id, &source, &self.pool)?;
            if self.sources.len() == 1 {
                let info = reader.info();
                format.size = Some((info.width, info.height));
                format.pixel_format = Some(info.pixel_format);
                format.frame_rate = info.frame_rate;
            }
            self.first = Some(reader);
            self.sources.pop_front();
        }
        Ok(Some(format))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let cancel: CancelFlag = Arc::clone(&self.input.cancel);
        Ok(Work::Source(Box::new(Read { plan: *self, cancel, open: None, counters: None, finished: Damage::default(), conversions: 0 })))
    }
}

fn open(template: &InputOptions, id: StreamId, source: &SourceName, pool: &FramePool) -> Result<MediaReader, StageError> {
    let options = InputOptions { source: source.source.clone(), name: Some(source.name.clone()), stream: id, ..template.clone() };
    MediaReader::open(&options, pool).map_err(|error| naming(&source.source, input_error(error)))
}

/// Puts the source's name before an error that is only about its codec.
fn naming(source: &str, mut error: StageError) -> StageError {
    if error.kind == ErrorKind::Input && !error.message.contains(source) {
        error.message = format!("{source}: {}", error.message);
    }
    error
}

/// The source that is being read.
struct OpenSource {
    reader: MediaReader,
    deinterlacer: Option<Deinterlacer>,
}

/// A part of the damage, to be counted under a name.
type DamageCount = fn(&Damage) -> u64;

struct Counters {
    context: StageContext,
    expected: Counter,
    skipped: Counter,
    converted: Counter,
    ended_early: Counter,
    damage: [(Counter, DamageCount); 7],
}

impl Counters {
    fn new(context: &StageContext) -> Self {
        let counted: [(&str, DamageCount); 7] = [
            ("packets_corrupt", |damage| damage.packets_corrupt),
            ("packets_dropped", |damage| damage.packets_dropped),
            ("frames_repaired", |damage| damage.frames_repaired),
            ("frames_dropped", |damage| damage.frames_dropped),
            ("timestamps_repaired", |damage| damage.timestamps_repaired),
            ("decode_errors", |damage| damage.decode_errors),
            ("images_missing", |damage| damage.images_missing),
        ];
        Self {
            context: context.clone(),
            expected: context.counter("frames_expected"),
            skipped: context.counter("sources_skipped"),
            converted: context.counter("frames_converted"),
            ended_early: context.counter("sources_ended_early"),
            damage: counted.map(|(name, count)| (context.counter(name), count)),
        }
    }
}

struct Read {
    plan: ReadPlan,
    cancel: CancelFlag,
    open: Option<OpenSource>,
    counters: Option<Counters>,
    /// Damage of the sources that have ended.
    finished: Damage,
    conversions: u64,
}

impl Source for Read {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let cancel: &Arc<AtomicBool> = &self.cancel;
        context.interrupt(cancel);
        self.counters = Some(Counters::new(context));
        Ok(())
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(source) = &mut self.open else { return self.begin(out) };
        match source.reader.next() {
            Ok(Some(MediaItem::Frame(frame))) => deliver(source, frame, out)?,
            Ok(Some(MediaItem::Packet(packet))) => out.push(Item::Packet(packet))?,
            Ok(None) => return self.end_stream(out),
            Err(error) => {
                let error = naming(&source.reader.info().source, input_error(error));
                self.count();
                return Err(error);
            }
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        if self.open.is_some() { self.end_stream(out).map(|_| ()) } else { Ok(()) }
    }
}

impl Read {
    /// Opens the next source, or ends.
    fn begin(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let reader = match self.plan.first.take() {
            Some(reader) => reader,
            None => {
                let Some((id, source)) = self.plan.sources.pop_front() else { return Ok(Flow::Done) };
                match open(&self.plan.input, id, &source, &self.plan.pool) {
                    Ok(reader) => reader,
                    Err(error) if self.plan.skip_bad => {
                        if let Some(counters) = &self.counters {
                            counters.skipped.add(1);
                            counters.context.notice(format_args!("skipped: {error}"));
                        }
                        return Ok(Flow::More);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if let Some(counters) = &self.counters {
            counters.expected.add(reader.info().frames_estimate.unwrap_or(0));
        }
        out.push(Item::StreamStart(Arc::new(reader.info().clone())))?;
        let deinterlacer = self.plan.deinterlace.map(|(method, all)| Deinterlacer::new(method, all));
        self.open = Some(OpenSource { reader, deinterlacer });
        Ok(Flow::More)
    }

    fn end_stream(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.count();
        let Some(mut source) = self.open.take() else { return Ok(Flow::More) };
        if let Some(deinterlacer) = &mut source.deinterlacer {
            deinterlacer.end().map_err(input_error)?;
            drain(deinterlacer, out)?;
        }
        let damage = source.reader.damage();
        let conversions = source.reader.conversions();
        if let Some(counters) = &self.counters {
            counters.ended_early.add(u64::from(damage.ended_early.is_some()));
            let name = &source.reader.info().source;
            if let Some(line) = describe(&damage) {
                counters.context.notice(format_args!("{name}: {line}"));
            }
            for conversion in &conversions {
                let (from, to, frames) = (&conversion.from, &conversion.to, conversion.frames);
                counters.context.notice(format_args!("{name}: {frames} frames converted from {from} to {to}"));
            }
        }
        self.conversions += conversions.iter().map(|conversion| conversion.frames).sum::<u64>();
        let id = source.reader.info().id;
        let ended_early = damage.ended_early.clone();
        self.finished = self.finished.merged(&damage);
        out.push(Item::StreamEnd(StreamEnd { id, ended_early }))?;
        Ok(Flow::More)
    }

    /// Shows the damage so far.
    fn count(&self) {
        let (Some(counters), Some(source)) = (&self.counters, &self.open) else { return };
        let damage = self.finished.merged(&source.reader.damage());
        for (counter, count) in &counters.damage {
            counter.set(count(&damage));
        }
        let converted: u64 = source.reader.conversions().iter().map(|conversion| conversion.frames).sum();
        counters.converted.set(self.conversions + converted);
    }
}

fn deliver(source: &mut OpenSource, frame: Frame, out: &mut dyn Emitter) -> Result<(), StageError> {
    let Some(deinterlacer) = &mut source.deinterlacer else {
        return Ok(out.push(FrameItem::new(frame).into())?);
    };
    deinterlacer.push(frame).map_err(input_error)?;
    drain(deinterlacer, out)
}

fn drain(deinterlacer: &mut Deinterlacer, out: &mut dyn Emitter) -> Result<(), StageError> {
    while let Some(frame) = deinterlacer.pull() {
        out.push(FrameItem::new(frame).into())?;
    }
    Ok(())
}

/// What was lost, in one line; `None` for a sound stream. Streams without timestamps at all are no damage.
fn describe(damage: &Damage) -> Option<String> {
    let counted = [
        (damage.packets_corrupt, "packets damaged"),
        (damage.packets_dropped, "packets dropped"),
        (damage.decode_errors, "decoding errors"),
        (damage.frames_repaired, "frames repaired"),
        (damage.frames_dropped, "frames lost"),
        (damage.images_missing, "pictures missing"),
    ];
    let mut parts: Vec<String> = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    parts.extend(damage.ended_early.as_ref().map(|why| format!("ended early: {why}")));
    if parts.is_empty() && damage.timestamps_repaired > 0 {
        return Some(format!("{} timestamps were missing or out of order and have been worked out", damage.timestamps_repaired));
    }
    (!parts.is_empty()).then(|| format!("decoded as far as it goes: {}", parts.join(", ")))
}
