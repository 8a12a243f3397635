//! The `read` stage: demuxes and decodes its sources, one after another or concurrently.

mod ahead;
mod counters;
mod gpu;
mod inputs;
mod looped;
mod opener;
mod policy;
mod source;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use framerail_core::{CancelToken, Device, FramePool, PixelAspect, RunFiles, StreamId, StreamInfo};
use framerail_cuda::nvdec;
use framerail_media::{Allowance, DeinterlaceMethod, InputOptions, RotationPolicy, SideStreams};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, DeviceChoice, EdgeFormat, ErrorKind, LinkContext, OnStreamError, OpenedStream, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, StageError, StagePlan, StageSpec, StreamOpener, StreamPolicy, StreamRequest, StreamSet,
    Work,
};
use framerail_reader::{HostOptions, PiecePlan, Reading, default_memory_bytes, default_threads};
use parking_lot::Mutex;

use self::{
    ahead::{InTurn, InTurnOpener},
    gpu::Gpu,
    looped::Rounds,
    opener::{OpenError, Opened, STANDARD_INPUT, Shared, SourceOpener},
    policy::Liveness,
    source::Placement,
};
use super::{infer::ModelInput, link::note_source};
use crate::{
    convert::cuda_error,
    devices::Devices,
    inputs::{expand_sources, is_image},
};

/// Buffers kept for frames that are rotated or converted on reading.
const KEPT_BUFFERS: usize = 8;

pub(super) fn register(registry: &mut Registry, devices: &Arc<Devices>) -> Result<(), RegistryError> {
    let devices = Arc::clone(devices);
    registry.register_with(spec(), move |options| ReadPlan::new(options, &devices).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    policy::options().into_iter().fold(own_spec(), StageSpec::option)
}

fn own_spec() -> StageSpec {
    StageSpec::source("read", "reads video from files, folders, patterns, URLs or standard input")
        .other_names(["input", "source", "open", "decode", "demux", "filesrc"])
        .details(
            "Each source is a separate stream. Files are read one after another, or concurrently with streams=; live sources (RTSP, RTP, \
             UDP, SRT, RTMP, local cameras, and all sources with live=yes) are always read concurrently, and reopened when they fail. \
             Frames of live sources that cannot be processed in time are dropped, counted by stream and place. A folder means its \
             videos, or its images as one stream. Damaged streams are decoded as far as possible, and losses are counted.\n\nA file is \
             split at keyframes, and the pieces are decoded in parallel: on all cores, or by all engines of a GPU. Frames are delivered in \
             order, on a GPU in device memory. One decoder with several threads reads live sources, pipes, files without keyframes to \
             split at, and damaged files from the damage on. Video that the GPU cannot decode (codec, chroma, depth, size, deinterlacing) \
             is decoded on the CPU, with a notice that gives the reason.",
        )
        .argument(
            ArgumentSpec::required(
                "source",
                OptionKind::Text,
                "file, folder, glob, pattern such as img%04d.png, http(s) or rtsp URL, object, folder or pattern in object storage \
                 (s3://bucket/x.mp4, gs://, az://, hf://), camera (/dev/video0), or - for standard input",
            )
            .many(),
        )
        .option(OptionSpec::time("start").help("start time, from the start of the file; exact"))
        .option(OptionSpec::time("end").help("end time (exclusive)"))
        .option(OptionSpec::time("duration").help("duration from the start time"))
        .option(
            OptionSpec::integer("loop", 1..=1_000_000_000)
                .default("no")
                .or_word("no", "once")
                .or_word("yes", "repeated until the run is stopped")
                .unit("times")
                .help("how often each file, or its selected part, is played; timestamps continue"),
        )
        .option(OptionSpec::integer("track", 0..=1000).help("video stream of the file, from 0; default: FFmpeg's choice"))
        .option(
            OptionSpec::integer("threads", 0..=256)
                .default(0)
                .help("decoding threads of all decoders together; 0: as many as all CPUs need"),
        )
        .option(
            OptionSpec::choice(
                "rotate",
                &[("auto", "rotate frames upright by the stream's tag"), ("keep", "leave frames as coded, keep the tag")],
            )
            .default("auto")
            .help("handling of rotated video"),
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
        .option(OptionSpec::rate("fps").help("frames per second of images or raw video without a rate, or to request from a camera"))
        .option(OptionSpec::text("format").help("FFmpeg's format name, for sources whose format cannot be detected"))
        .option(OptionSpec::key_values("options").help("further options for FFmpeg's demuxer and protocol"))
        .option(
            OptionSpec::choice(
                "allow",
                &[
                    ("nothing", "local ones: files of their folder; those from web servers: http and https"),
                    ("network", "local ones also http and https, those from web servers also private addresses"),
                    ("outside", "local ones also files outside their folder"),
                    ("all", "both"),
                ],
            )
            .default("nothing")
            .help("what playlists, manifests and scripts may open"),
        )
        .option(OptionSpec::switch("insecure").default("no").help("accept servers' certificates without verification"))
        .option(OptionSpec::time("timeout").help("maximum wait for data; default: 10s for live sources, no limit for others"))
        .option(DeviceChoice::option(
            "where to decode: auto, cpu, cuda, cuda:N, or several GPUs as cuda:0,1 or cuda:all; default: --device",
        ))
        .option(
            OptionSpec::integer("engines", 1..=64)
                .default("auto")
                .or_word("auto", "one more than the GPU has engines; one for short and live sources")
                .help("GPU: parallel decoders for one file"),
        )
        .option(
            OptionSpec::integer("memory", 1..=1_000_000)
                .default("auto")
                .unit("MB")
                .or_word("auto", "a quarter of free memory; at most 4 GiB, 3 GiB on a GPU, and 512 MiB if only model inputs are kept")
                .help("memory for frames decoded ahead; frames that do not fit are refused"),
        )
        .example("read in.mp4 ! null", "decode a file at full speed")
        .example(
            "read cam1.mp4 cam2.mp4 streams=all ! infer centerface batch=8 ! save 'boxes/{stream}.jsonl'",
            "frames of both in one batch",
        )
        .example("read rtsp://host/cam1 latency=500ms ! infer centerface ! save -", "a camera with a latency of at most half a second")
        .example("read clip.mp4 loop=yes realtime=yes ! write rtsp://host/live", "a file as a camera that never ends")
        .example("read clips/*.mp4 start=5 duration=10 ! save 'boxes/{name}.jsonl'", "ten seconds of each file")
}

struct ReadPlan {
    requests: Vec<StreamRequest>,
    opener: SourceOpener,
    devices: Arc<Devices>,
    choice: DeviceChoice,
    /// What `memory` asks for.
    ahead_bytes: Option<u64>,
    /// Host memory for frames decoded ahead, over all sources.
    host_ahead_bytes: u64,
    decoders: Option<usize>,
    policy: StreamPolicy,
    /// Whether the number of concurrent files was given.
    streams_given: bool,
    /// A source opened while linking so that formats are known and mistakes are reported early, and its flag.
    first: Option<(Opened, CancelToken)>,
}

/// GPU decoders for all streams of a run together: one more than the engines of the largest GPUs.
const DECODERS_FOR_ALL: usize = 8;

/// Device memory for frames decoded ahead, of all streams together.
const AHEAD_BYTES_FOR_ALL: u64 = 3 << 30;

impl ReadPlan {
    fn new(options: &Options, devices: &Arc<Devices>) -> Result<Self, ConfigError> {
        let sources = options.texts("source");
        let sources = expand_sources(&sources).map_err(|error| ConfigError::at("source", &error.message).kind(error.kind))?;
        let liveness = Liveness::of(options);
        let requests = sources.into_iter().zip(0..).map(|(source, id)| {
            let frames = devices.sources.frames(source.source.reveal());
            StreamRequest {
                id: StreamId(id),
                is_live: liveness.is_live(source.source.reveal(), frames),
                can_reopen: frames.is_none(),
                source: source.source,
                name: source.name,
            }
        });
        let requests: Vec<StreamRequest> = requests.collect();
        check_camera_options(options, &requests)?;
        let policy = policy::policy(options, requests.len())?;
        let number = |name: &str| options.optional_integer(name).and_then(|number| u64::try_from(number).ok());
        let mut opener = SourceOpener {
            input: input_options(options)?,
            deinterlace: deinterlacing(options),
            host: HostOptions::new(&FramePool::new(KEPT_BUFFERS)),
            gpu: None,
            rtsp_transport: options.choice("transport").to_owned(),
            image_bytes: None,
            camera_options: camera_options(options),
            sources: devices.sources.clone(),
            names: Mutex::new(requests.iter().map(|request| request.name.clone()).collect()),
            liveness,
            shared: Arc::new(Shared::default()),
            files: RunFiles::default(),
            rounds: rounds(options, &requests)?,
        };
        let ahead_bytes = number("memory").map(|megabytes| megabytes * 1_000_000);
        opener.image_bytes = ahead_bytes;
        Ok(Self {
            requests,
            opener,
            devices: Arc::clone(devices),
            choice: devices.choice(DeviceChoice::of(options)?),
            decoders: number("engines").and_then(|count| usize::try_from(count).ok()),
            ahead_bytes,
            host_ahead_bytes: 0,
            policy,
            streams_given: options.is_given("streams"),
            first: None,
        })
    }

    /// Divides threads and memory among the concurrent sources. Frames of the run may use `memory_bytes` together.
    fn share_out(&mut self, memory_bytes: u64) {
        let Self { opener, policy, requests, .. } = self;
        let side_by_side = together(policy, requests);
        if opener.input.threads == 0 && side_by_side > 1 {
            let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            opener.input.threads = (processors / side_by_side).max(1);
        }
        let mut share = side_by_side.max(1) as u64;
        if side_by_side == 1 && requests.len() > 1 {
            // Other files are decoded concurrently.
            opener.host.threads_alone = Some(threads(opener).div_ceil(requests.len()));
            share = 2;
        }
        self.host_ahead_bytes = self.ahead_bytes.unwrap_or_else(|| default_memory_bytes().min(memory_bytes / 2));
        opener.host.memory_bytes = Some(self.host_ahead_bytes / share);
    }

    /// Whether a source can only be a file and is missing. Patterns, protocols and devices are left to FFmpeg.
    fn is_missing_file(&self, source: &str) -> bool {
        source != STANDARD_INPUT && self.opener.input.format.is_none() && !source.contains(['%', ':']) && !Path::new(source).exists()
    }

    /// Whether a failure of this source is a failure of the run.
    fn must_open(&self, request: &StreamRequest) -> bool {
        self.policy.on_error_of(request) == OnStreamError::Fail
    }

    /// Finds the GPU for decoding, if one is wanted.
    fn find_gpu(&mut self, context: &LinkContext) -> Result<(), StageError> {
        let can = |_: &Arc<framerail_cuda::CudaDevice>| nvdec::check_library().map_err(|error| error.to_string());
        let settled = self.devices.settle(self.choice, Device::Cpu, "decoding", can)?;
        self.opener.shared.notices.lock().extend(settled.notice);
        if let Some(device) = settled.gpu {
            let model = context.tensor_wanted.as_ref().and_then(|request| request.downcast_ref::<ModelInput>()).cloned();
            let side_by_side = together(&self.policy, &self.requests);
            let (mut decoders, mut ahead_bytes) = (self.decoders, self.ahead_bytes);
            let gpus: Vec<_> = std::iter::once(device).chain(settled.others).collect();
            if side_by_side > 1 {
                decoders = decoders.or(Some((DECODERS_FOR_ALL * gpus.len() / side_by_side).max(1)));
                ahead_bytes = Some(ahead_bytes.unwrap_or(AHEAD_BYTES_FOR_ALL) / side_by_side as u64);
            }
            self.opener.shared.has_card.store(true, Ordering::Relaxed);
            self.opener.gpu = Gpu::new(&gpus, decoders, ahead_bytes, model.as_ref()).map_err(cuda_error)?;
        }
        Ok(())
    }

    /// Opens the first source. With an automatic device, a source that the GPU does not decode moves everything to the CPU.
    fn open_first(&mut self, request: &StreamRequest, cancel: &CancelToken) -> Result<Opened, StageError> {
        if self.choice == DeviceChoice::Auto
            && let Some(gpu) = self.opener.gpu.clone()
        {
            if is_image(Path::new(request.source.reveal())) {
                // A single image is always decoded on the CPU: no notice.
                self.opener.gpu = None;
                return self.opener.open_on_host(request, cancel);
            }
            // Standard input cannot be opened twice.
            let opened = if request.source == STANDARD_INPUT {
                Err(OpenError::NotOnGpu("standard input is decoded on the CPU unless device=cuda is given".into()))
            } else {
                self.opener.open_on_gpu(&gpu, request, cancel)
            };
            return match opened {
                Ok(opened) => match self.why_not_this_gpu(&gpu, opened.0.info()) {
                    Some(reason) => {
                        self.opener.gpu = None;
                        self.opener.shared.notices.lock().extend(self.devices.fall_back("decoding", reason));
                        self.opener.open_on_host(request, cancel)
                    }
                    None => Ok(opened),
                },
                Err(OpenError::Failed(error)) => Err(error),
                Err(OpenError::NotOnGpu(reason)) => {
                    self.opener.gpu = None;
                    self.opener.shared.notices.lock().extend(self.devices.fall_back("decoding", reason));
                    self.opener.open_on_host(request, cancel)
                }
            };
        }
        self.opener.open_source(request, cancel)
    }
}

/// Maximum pixels and frames per second of one core and of one GPU engine: small frames cost either as much as larger ones. Measured
/// with H.264 on the 16 cores of an H200's host (340x192: 24,000; 1080p: 1,500) and on its 7 engines (17,700; 4,300).
const CORE: (f64, f64) = (190e6, 1500.0);
const ENGINE: (f64, f64) = (1275e6, 2530.0);

/// Frames per second of this many decoders.
fn frames_per_sec(decoders: usize, (pixels_per_sec, most): (f64, f64), (width, height): (u32, u32)) -> f64 {
    let pixels = f64::from(width) * f64::from(height);
    decoders as f64 * (pixels_per_sec / pixels.max(1.0)).min(most)
}

/// Why frames are decoded on the CPU despite a usable GPU, if that is faster.
fn why_cpu(cores: usize, engines: usize, (width, height): (u32, u32)) -> Option<String> {
    let is_faster = frames_per_sec(cores, CORE, (width, height)) > frames_per_sec(engines, ENGINE, (width, height));
    is_faster.then(|| format!("{cores} cores decode frames of {width}x{height} faster than a GPU of {engines} engines"))
}

impl ReadPlan {
    /// Why the CPU is faster than any GPU for the first file, if it is and no stage wants its input made on a GPU. No GPU was started
    /// until then: that takes longer than reading many a folder of small files.
    fn why_no_gpu(&self, context: &LinkContext) -> Option<String> {
        let request = self.requests.first().filter(|_| self.choice == DeviceChoice::Auto && context.tensor_wanted.is_none())?;
        let is_file = !request.is_live && std::fs::metadata(request.source.reveal()).is_ok_and(|found| found.is_file());
        if !is_file || is_image(Path::new(request.source.reveal())) {
            return None;
        }
        let input = self.opener.header(request, &context.cancel.child())?;
        let info = input.info();
        nvdec::NvdecCodec::from_ffmpeg_name(&info.codec)?;
        why_cpu(threads(&self.opener), DECODERS_FOR_ALL - 1, (info.width, info.height))
    }

    /// The same for a selected GPU.
    fn why_not_this_gpu(&self, gpu: &Gpu, info: &StreamInfo) -> Option<String> {
        let codec = nvdec::NvdecCodec::from_ffmpeg_name(&info.codec).filter(|_| gpu.makes_images)?;
        let capability = nvdec::capability(&gpu.device, codec, nvdec::Chroma::Yuv420, 8).ok().flatten()?;
        why_cpu(threads(&self.opener), usize::try_from(capability.engines).ok()?, (info.width, info.height))
    }
}

/// Maximum number of concurrent streams.
fn together(policy: &StreamPolicy, requests: &[StreamRequest]) -> usize {
    let live = requests.iter().filter(|request| request.is_live).count();
    live + (requests.len() - live).min(policy.at_once)
}

fn input_options(options: &Options) -> Result<InputOptions, ConfigError> {
    let secs = |name| options.optional_time(name).map(|time: Duration| time.as_secs_f64());
    if options.is_given("end") && options.is_given("duration") {
        return Err(ConfigError::at("duration", "end and duration are both given").help("leave one out"));
    }
    if let (Some(start), Some(end)) = (secs("start"), secs("end"))
        && end <= start
    {
        return Err(ConfigError::at("end", "start is not before end").help("give an end after the start"));
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
    input.allow = Allowance::of(options.choice("allow")).unwrap_or_default();
    input.insecure = options.switch("insecure");
    input.read_timeout = options.optional_time("timeout");
    Ok(input)
}

/// How often files are played.
fn rounds(options: &Options, requests: &[StreamRequest]) -> Result<Rounds, ConfigError> {
    let rounds = match options.word("loop") {
        Some("yes") => Rounds::Endless,
        Some(_) => Rounds::Times(1),
        None => Rounds::Times(options.optional_integer("loop").and_then(|times| u64::try_from(times).ok()).unwrap_or(1)),
    };
    let once = |request: &&StreamRequest| request.is_live || !request.can_reopen || request.source == STANDARD_INPUT;
    match requests.iter().find(once).filter(|_| rounds != Rounds::Times(1)) {
        Some(request) => {
            let message = format!("{} cannot be played again: it is live, standard input, or handed in", request.source);
            Err(ConfigError::at("loop", message).help("leave it out"))
        }
        None => Ok(rounds),
    }
}

/// Refuses camera options without a camera.
fn check_camera_options(options: &Options, requests: &[StreamRequest]) -> Result<(), ConfigError> {
    let given = ["size", "input_format"].into_iter().find(|name| options.is_given(name));
    let has_camera = options.is_given("format") || requests.iter().any(|request| policy::is_camera(request.source.reveal()));
    match given.filter(|_| !has_camera) {
        Some(name) => Err(ConfigError::at(name, format_args!("`{name}` is for local cameras, such as /dev/video0")).help("leave it out")),
        None => Ok(()),
    }
}

/// Options for local cameras, by FFmpeg's names.
fn camera_options(options: &Options) -> Vec<(String, String)> {
    let size = options.optional_size("size").map(|(width, height)| ("video_size".to_owned(), format!("{width}x{height}")));
    let format = options.optional_text("input_format").map(|format| ("input_format".to_owned(), format.to_owned()));
    size.into_iter().chain(format).collect()
}

fn deinterlacing(options: &Options) -> Option<(DeinterlaceMethod, bool)> {
    match options.choice("deinterlace") {
        "yadif" => Some((DeinterlaceMethod::Yadif, false)),
        "bwdif" => Some((DeinterlaceMethod::Bwdif, false)),
        "all" => Some((DeinterlaceMethod::Bwdif, true)),
        _ => None,
    }
}

impl StagePlan for ReadPlan {
    fn note(&self) -> Option<String> {
        let ((frames, placement), _) = self.first.as_ref()?;
        if self.requests.first().is_some_and(|request| !request.can_reopen) {
            return Some("frames are handed in by the program".into());
        }
        let place = if matches!(placement, Placement::OnGpu(_)) { "the GPU" } else { "the CPU" };
        let way = match frames.reading() {
            Reading::Pieces(PiecePlan { decoders, threads, frames }) => {
                let each = if threads == 1 { "one thread".to_owned() } else { format!("{threads} threads") };
                format!("in pieces: {decoders} decoders in parallel, {each} each, up to {frames} frames wait for their turn")
            }
            Reading::Sequential(reason) => format!("by one decoder: {reason}"),
        };
        let more = self.requests.len() - 1;
        let others = if more > 0 && self.policy.reads_in_turn(&self.requests) { "; files behind it are decoded ahead" } else { "" };
        Some(format!("decoded on {place} {way}{others}"))
    }

    fn link(&mut self, _: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        self.opener.input.video_packets = context.video_packets_wanted;
        self.opener.input.side_streams = if context.packets_wanted { SideStreams::AudioAndSubtitles } else { SideStreams::None };
        if context.streams_in_step {
            self.policy.in_step = true;
            if !self.streams_given {
                self.policy.at_once = self.policy.at_once.max(self.requests.len());
            }
        }
        self.share_out(context.memory_bytes);
        // The first source is opened below; a mistake in a later name is reported at once.
        if let Some(missing) =
            self.requests.iter().skip(1).find(|request| self.must_open(request) && self.is_missing_file(request.source.reveal()))
        {
            let message = format!("{}: no such file or stream; check the name", missing.source);
            return Err(StageError::new(ErrorKind::Input, message).into());
        }
        self.requests.iter().try_for_each(|request| note_source(&context.files, &request.source))?;
        self.opener.files = context.files.clone();
        match self.why_no_gpu(context) {
            Some(reason) => self.opener.shared.notices.lock().extend(self.devices.fall_back("decoding", reason)),
            None => self.find_gpu(context)?,
        }
        let one_stream = self.requests.len() == 1 && !self.policy.stays;
        let is_live = self.policy.realtime || self.requests.iter().any(|request| request.is_live);
        let streams = (!self.policy.stays).then_some(self.requests.len());
        let mut format = EdgeFormat { streams, is_live, ..EdgeFormat::default() };
        // A source that may fail alone does not stop others; a source that is read at once is opened when the run begins.
        let first = self.requests.first().filter(|first| one_stream || (!first.is_live && self.must_open(first))).cloned();
        if let Some(request) = first {
            let cancel = context.cancel.child();
            match self.open_first(&request, &cancel) {
                Ok(open) => {
                    let (frames, placement) = &open;
                    if one_stream {
                        let info = frames.info();
                        format.size = Some((info.width, info.height));
                        format.pixel_aspect = PixelAspect::of(info.sample_aspect_ratio);
                        format.pixel_format = placement.pixel_format(info.pixel_format);
                        format.frame_rate = info.frame_rate;
                    }
                    self.first = Some((open, cancel));
                }
                // It is retried as soon as the run begins.
                Err(error) if !self.must_open(&request) && error.kind == ErrorKind::Input => {}
                Err(error) => return Err(error.into()),
            }
        }
        format.device = self.opener.gpu.as_ref().map_or(Device::Cpu, Gpu::id);
        format.other_devices = self.opener.gpu.as_ref().map(Gpu::others).unwrap_or_default();
        Ok(Some(format))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let Self { requests, opener, policy, first, ahead_bytes, host_ahead_bytes, decoders, .. } = *self;
        let most = match &opener.gpu {
            Some(gpu) => decoders.unwrap_or(DECODERS_FOR_ALL * (1 + gpu.others().len())),
            None => threads(&opener),
        };
        let in_turn = policy.reads_in_turn(&requests) && requests.len() > 1 && most > 1;
        let memory_bytes = match opener.gpu {
            Some(_) => ahead_bytes.unwrap_or(AHEAD_BYTES_FOR_ALL),
            None => host_ahead_bytes,
        };
        let on_host = if opener.gpu.is_some() { 0 } else { host_ahead_bytes };
        let opener = Arc::new(opener);
        let ahead = in_turn.then(|| InTurn::new(Arc::clone(&opener), most, memory_bytes, &requests));
        let opened = first.zip(requests.first()).map(|((opened, cancel), request)| {
            let source = opener.stream(opened, request, &cancel);
            let reader = match &ahead {
                Some(ahead) => {
                    ahead.opened(request.id);
                    source.in_turn(ahead)
                }
                None => source,
            };
            OpenedStream { id: request.id, reader: Box::new(reader), cancel }
        });
        let opener: Arc<dyn StreamOpener> = match ahead {
            Some(ahead) => Arc::new(InTurnOpener(ahead)),
            None => opener,
        };
        Ok(Work::Streams(StreamSet { opener, requests, opened, policy, ahead_bytes: on_host }))
    }
}

/// Decoding threads on the host.
fn threads(opener: &SourceOpener) -> usize {
    if opener.input.threads == 0 { default_threads() } else { opener.input.threads }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_are_for_many_cores() {
        let is_faster = |cores, size| why_cpu(cores, 7, size).is_some();
        assert!(is_faster(16, (340, 192)));
        assert!(!is_faster(8, (340, 192)) && !is_faster(16, (640, 360)) && !is_faster(16, (1920, 1080)));
    }
}
