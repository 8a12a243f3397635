//! The `read` stage: demuxes and decodes one source after another.

mod inputs;
mod source;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use framerail_core::{Device, FramePool, StreamId};
use framerail_cuda::{Traffic, nvdec};
use framerail_media::{CancelFlag, Damage, DeinterlaceMethod, InputOptions, RotationPolicy, SideStreams};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, DeviceChoice, EdgeFormat, Emitter, ErrorKind, Flow, Item, LinkContext, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, Source, StageContext, StageError, StagePlan, StageSpec, StreamEnd, Work,
};

use self::source::{Card, OpenError, OpenSource, Opener, since};
use super::infer::ModelInput;
use crate::{
    convert::cuda_error,
    devices::{Devices, account},
    inputs::{SourceName, expand_sources, is_image},
};

/// The source that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Buffers kept for frames that are turned or converted on reading.
const KEPT_BUFFERS: usize = 8;

pub(super) fn register(registry: &mut Registry, devices: &Arc<Devices>) -> Result<(), RegistryError> {
    let devices = Arc::clone(devices);
    registry.register_with(spec(), move |options| ReadPlan::new(options, &devices).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::source("read", "reads video from files, folders, patterns, URLs or standard input")
        .details(
            "Several sources are read one after another, each as a stream of its own. A folder gives its videos, or its pictures as one \
             stream. Damaged streams are decoded as far as they can be; what was lost is counted.\n\n\
             On a card, one file is cut at its keyframes and decoded by all of the card's engines; frames come out in order and stay in \
             device memory. What the card does not decode (codec, chroma, depth, size, interlaced video that is to be deinterlaced) is decoded \
             on the CPU, with a notice that says why.",
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
        .option(DeviceChoice::option("where to decode: auto, cpu, cuda or cuda:N; what --device says otherwise"))
        .option(
            OptionSpec::integer("engines", 1..=64)
                .default("auto")
                .or_word("auto", "one more than the card has engines, one for short and live sources")
                .help("on a card: decoders side by side, on pieces of one file"),
        )
        .option(
            OptionSpec::integer("memory", 1..=1_000_000)
                .default("auto")
                .unit("MB")
                .or_word("auto", "a quarter of what is free, 3 GiB at most; 512 MiB where only the model's inputs are kept")
                .help("on a card: device memory for frames decoded ahead"),
        )
        .example("read in.mp4 ! null", "decode a file as fast as it goes")
        .example("read clips/*.mp4 start=5 duration=10 ! save 'boxes/{name}.jsonl'", "ten seconds of each file")
}

struct ReadPlan {
    sources: VecDeque<(StreamId, SourceName)>,
    opener: Opener,
    devices: Arc<Devices>,
    choice: DeviceChoice,
    decoders: Option<usize>,
    ahead_bytes: Option<u64>,
    skip_bad: bool,
    /// The first source, opened while linking so that formats are known and mistakes show early.
    first: Option<OpenSource>,
    /// What was decided while linking and the user should know.
    notices: Vec<String>,
    /// Sources of a card's run that the card does not decode, so far.
    on_cpu: u64,
}

impl ReadPlan {
    fn new(options: &Options, devices: &Arc<Devices>) -> Result<Self, ConfigError> {
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
        let number = |name: &str| options.optional_integer(name).and_then(|number| u64::try_from(number).ok());
        Ok(Self {
            sources: numbered.collect(),
            opener: Opener { input, deinterlace, pool: FramePool::new(KEPT_BUFFERS), card: None },
            devices: Arc::clone(devices),
            choice: devices.choice(DeviceChoice::of(options)?),
            decoders: number("engines").and_then(|count| usize::try_from(count).ok()),
            ahead_bytes: number("memory").map(|megabytes| megabytes * 1_000_000),
            skip_bad: options.choice("on_error") == "skip",
            first: None,
            notices: Vec::new(),
            on_cpu: 0,
        })
    }
}

impl ReadPlan {
    /// Whether a source can only be a file, and is not there. Patterns, protocols and devices are left to FFmpeg.
    fn is_missing_file(&self, source: &str) -> bool {
        source != STANDARD_INPUT && self.opener.input.format.is_none() && !source.contains(['%', ':']) && !Path::new(source).exists()
    }
}

impl ReadPlan {
    /// Finds the card that decodes, if one is to.
    fn find_card(&mut self, context: &LinkContext) -> Result<(), StageError> {
        let can = |_: &Arc<framerail_cuda::CudaDevice>| nvdec::check_library().map_err(|error| error.to_string());
        let settled = self.devices.settle(self.choice, Device::Cpu, "decoding", can)?;
        self.notices.extend(settled.notice);
        if let Some(device) = settled.card {
            let model = context.tensor_wanted.as_ref().and_then(|request| request.downcast_ref::<ModelInput>()).cloned();
            self.opener.card = Some(Card::new(device, self.decoders, self.ahead_bytes, model).map_err(cuda_error)?);
        }
        Ok(())
    }

    /// Opens the first source. Where the device is ours to choose, one that the card does not decode moves all to the CPU.
    fn open_first(&mut self, id: StreamId, source: &SourceName) -> Result<OpenSource, StageError> {
        if self.choice == DeviceChoice::Auto
            && let Some(card) = self.opener.card.clone()
        {
            if is_image(Path::new(&source.source)) {
                // Nobody expects a card to decode a picture: no word on it.
                self.opener.card = None;
                return self.opener.open_on_host(id, source);
            }
            // Standard input cannot be opened twice.
            let opened = if source.source == STANDARD_INPUT {
                Err(OpenError::NotOnCard("standard input is decoded on the CPU unless device=cuda is given".into()))
            } else {
                self.opener.open_on_card(&card, id, source)
            };
            return match opened {
                Ok(open) => Ok(open),
                Err(OpenError::Failed(error)) => Err(error),
                Err(OpenError::NotOnCard(reason)) => {
                    self.opener.card = None;
                    self.notices.extend(self.devices.fall_back("decoding", reason));
                    self.opener.open_on_host(id, source)
                }
            };
        }
        let (open, reason) = self.opener.open(id, source)?;
        self.on_cpu += u64::from(reason.is_some());
        self.notices.extend(reason);
        Ok(open)
    }
}

impl StagePlan for ReadPlan {
    fn link(&mut self, _: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        self.opener.input.side_streams = if context.packets_wanted { SideStreams::AudioAndSubtitles } else { SideStreams::None };
        // The first is opened below; a slip in the name of a later one need not wait for its turn.
        if !(self.skip_bad && self.sources.len() > 1)
            && let Some(missing) = self.sources.iter().skip(1).find(|(_, source)| self.is_missing_file(&source.source))
        {
            let message = format!("{}: no such file or stream; check the name", missing.1.source);
            return Err(StageError::new(ErrorKind::Input, message).into());
        }
        self.find_card(context)?;
        let mut format = EdgeFormat { streams: Some(self.sources.len()), ..EdgeFormat::default() };
        if !(self.skip_bad && self.sources.len() > 1)
            && let Some((id, source)) = self.sources.front().cloned()
        {
            let open = self.open_first(id, &source)?;
            if self.sources.len() == 1 {
                let info = open.info();
                format.size = Some((info.width, info.height));
                format.pixel_format = open.pixel_format();
                format.frame_rate = info.frame_rate;
            }
            self.first = Some(open);
            self.sources.pop_front();
        }
        format.device = self.opener.card.as_ref().map_or(Device::Cpu, Card::id);
        Ok(Some(format))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let cancel: CancelFlag = Arc::clone(&self.opener.input.cancel);
        let read = Read {
            plan: *self,
            cancel,
            open: None,
            counters: None,
            finished: Damage::default(),
            conversions: 0,
            card: CardTotals::default(),
        };
        Ok(Work::Source(Box::new(read)))
    }
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
    card: Option<CardCounters>,
}

/// Counted when a card decodes.
struct CardCounters {
    sources_on_cpu: Counter,
    decoders: Counter,
    pieces: Counter,
    pictures: Counter,
    most_waiting: Counter,
}

impl CardCounters {
    fn new(context: &StageContext) -> Self {
        Self {
            sources_on_cpu: context.counter("sources_on_cpu"),
            decoders: context.counter("decoders"),
            pieces: context.counter("pieces"),
            pictures: context.counter("pictures_decoded"),
            most_waiting: context.counter("frames_waiting_max"),
        }
    }
}

/// What card sources that have ended did, and what of the open one was accounted for.
#[derive(Default)]
struct CardTotals {
    pieces: u64,
    pictures: u64,
    decoders: u64,
    most_waiting: u64,
    accounted: Traffic,
}

impl Counters {
    fn new(context: &StageContext, has_card: bool) -> Self {
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
            card: has_card.then(|| CardCounters::new(context)),
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
    card: CardTotals,
}

impl Source for Read {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let cancel: &Arc<AtomicBool> = &self.cancel;
        context.interrupt(cancel);
        self.counters = Some(Counters::new(context, self.plan.opener.card.is_some()));
        self.plan.notices.drain(..).for_each(|notice| context.notice(notice));
        Ok(())
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(source) = &mut self.open else { return self.begin(out) };
        let given = source.next(out);
        self.count_card();
        match given {
            Ok(true) => Ok(Flow::More),
            Ok(false) => self.end_stream(out),
            Err(error) => {
                self.count();
                Err(error)
            }
        }
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        if self.open.is_some() { self.end_stream(out).map(|_| ()) } else { Ok(()) }
    }
}

impl Read {
    /// Opens the next source, or ends.
    fn begin(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let open = match self.plan.first.take() {
            Some(open) => open,
            None => {
                let Some((id, source)) = self.plan.sources.pop_front() else { return Ok(Flow::Done) };
                match self.plan.opener.open(id, &source) {
                    Ok((open, reason)) => {
                        self.tell_on_cpu(reason);
                        open
                    }
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
            counters.expected.add(open.info().frames_estimate.unwrap_or(0));
        }
        out.push(Item::StreamStart(Arc::new(open.info().clone())))?;
        self.open = Some(open);
        Ok(Flow::More)
    }

    fn tell_on_cpu(&mut self, reason: Option<String>) {
        if let (Some(reason), Some(counters)) = (reason, &self.counters) {
            self.plan.on_cpu += 1;
            counters.context.notice(reason);
        }
    }

    fn end_stream(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.count();
        let Some(mut source) = self.open.take() else { return Ok(Flow::More) };
        source.end(out)?;
        self.end_card(&source);
        let damage = source.damage();
        let conversions = source.conversions();
        if let Some(counters) = &self.counters {
            counters.ended_early.add(u64::from(damage.ended_early.is_some()));
            let name = &source.info().source;
            if let Some(line) = describe(&damage) {
                counters.context.notice(format_args!("{name}: {line}"));
            }
            for conversion in &conversions {
                let (from, to, frames) = (&conversion.from, &conversion.to, conversion.frames);
                counters.context.notice(format_args!("{name}: {frames} frames converted from {from} to {to}"));
            }
        }
        self.conversions += conversions.iter().map(|conversion| conversion.frames).sum::<u64>();
        let id = source.info().id;
        let ended_early = damage.ended_early.clone();
        self.finished = self.finished.merged(&damage);
        out.push(Item::StreamEnd(StreamEnd { id, ended_early }))?;
        Ok(Flow::More)
    }

    /// Shows the damage so far.
    fn count(&self) {
        let (Some(counters), Some(source)) = (&self.counters, &self.open) else { return };
        let damage = self.finished.merged(&source.damage());
        for (counter, count) in &counters.damage {
            counter.set(count(&damage));
        }
        let converted: u64 = source.conversions().iter().map(|conversion| conversion.frames).sum();
        counters.converted.set(self.conversions + converted);
    }

    /// Shows what was done on the card so far.
    fn count_card(&mut self) {
        let Some(counters) = &self.counters else { return };
        let Some(card) = &counters.card else { return };
        let work = self.open.as_ref().and_then(OpenSource::card_work).unwrap_or_default();
        account(&counters.context, since(work.stats.traffic, self.card.accounted));
        // Uploads of frames that the host decoded were made by this thread.
        account(&counters.context, Traffic::take());
        self.card.accounted = work.stats.traffic;
        if let Some((device, bytes)) = work.memory {
            counters.context.memory(device, bytes);
        }
        card.sources_on_cpu.set(self.plan.on_cpu);
        card.pieces.set(self.card.pieces + work.stats.pieces);
        card.pictures.set(self.card.pictures + work.stats.pictures_decoded);
        card.decoders.set(self.card.decoders.max(work.stats.decoders as u64));
        card.most_waiting.set(self.card.most_waiting.max(work.stats.most_waiting as u64));
    }

    /// Adds a source that has ended.
    fn end_card(&mut self, source: &OpenSource) {
        let Some(work) = source.card_work() else { return };
        let (Some(counters), stats) = (&self.counters, work.stats) else { return };
        account(&counters.context, since(stats.traffic, self.card.accounted));
        account(&counters.context, Traffic::take());
        self.card = CardTotals {
            pieces: self.card.pieces + stats.pieces,
            pictures: self.card.pictures + stats.pictures_decoded,
            decoders: self.card.decoders.max(stats.decoders as u64),
            most_waiting: self.card.most_waiting.max(stats.most_waiting as u64),
            accounted: Traffic::default(),
        };
    }
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
