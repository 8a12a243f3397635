//! The `frames` stage: writes each frame as a file.

mod names;
mod npy;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use framerail_core::{Frame, FramePool, PixelFormat, StreamId, StreamInfo};
use framerail_media::{Converter, Ending, ImageEncoder, ImageFormat, Leftover, OutputRules, ScaleOptions, commit};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use parking_lot::{Condvar, Mutex};

use self::names::{FileFormat, FrameNames};
use super::{
    link::host_frames,
    transform::{Resize, Resizer},
};
use crate::{
    convert::{core_error, output_error},
    outputs::{self, Misplaced, OneStreamGuard, OutputFile},
};

/// Ended streams that are remembered; each worker holds frames of a few at most.
const ENDED_STREAMS: usize = 1000;
/// How long a worker waits for a stream's start that another worker received.
const STREAM_START_WAIT: Duration = Duration::from_secs(10);

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| FramesPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    let spec = StageSpec::sink("frames", "writes each frame as PNG, JPEG or NumPy file")
        .other_names(["images", "stills", "png"])
        .details(
            "TARGET is a folder, which is created if it is missing, or a pattern with {index}. Files in a folder are named \
             {name}-{index:06} with the format's extension. {name} and {stream} stand for the stream's name and number, {index} for the \
             frame's number in its stream as decoded, {index:06} for the same with six digits. With count=1 TARGET can be one file.\n\nPNG \
             keeps alpha and has 8 bits, or 16 for 16-bit grey. JPEG is 4:2:0. NPY holds an array of uint8 with the shape (height, width, 3), RGB, full range, \
             for numpy.load. Several workers share the work unless every or count is given.",
        )
        .argument(ArgumentSpec::required("target", OptionKind::Path, "folder, or pattern such as stills/{name}-{index:06}.png"))
        .option(
            OptionSpec::choice("format", &[("png", "lossless"), ("jpg", "lossy, small"), ("npy", "uncompressed RGB for NumPy")])
                .help("format of the files; default: by the pattern's extension, else png"),
        )
        .option(OptionSpec::integer("quality", 1..=100).default(92).help("quality of JPEG, 100 is best"))
        .option(OptionSpec::integer("every", 1..=1_000_000).default(1).unit("frames").help("write every Nth frame of each stream"))
        .option(OptionSpec::integer("count", 1..=i64::MAX).unit("frames").help("write at most this many frames of each stream"))
        .option(OptionSpec::switch("overwrite").default("no").help("whether existing files may be replaced"));
    Resize::options(spec)
        .workers("auto")
        .example("read in.mp4 ! frames stills", "every frame as stills/in-000000.png and so on")
        .example("read in.mp4 start=5 ! frames still.jpg count=1", "one image at five seconds")
        .example("read in.mp4 ! frames thumbnails every=100 size=320x", "thumbnails, 320 pixels wide")
        .example("read clips/ ! frames 'arrays/{name}/{index:06}.npy' every=25", "a folder of arrays for each clip")
}

struct FramesPlan {
    names: FrameNames,
    quality: u8,
    every: u64,
    count: Option<u64>,
    rules: OutputRules,
    workers: usize,
    one_stream: bool,
    resize: Option<Resize>,
}

impl FramesPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let every = options.count("every") as u64;
        let count = options.optional_integer("count").and_then(|count| u64::try_from(count).ok());
        let counts = every > 1 || count.is_some();
        if counts && options.is_given("workers") && options.workers() > 1 {
            return Err(ConfigError::at("workers", "workers cannot count frames together").help("with every or count, use one worker"));
        }
        Ok(Self {
            names: FrameNames::new(options.path("target"), options.optional_choice("format"), count)?,
            quality: u8::try_from(options.integer("quality")).unwrap_or(100),
            every,
            count,
            rules: OutputRules {
                overwrite: options.switch("overwrite"),
                leftover: Leftover::Ignore,
                syncs_later: true,
                ..OutputRules::default()
            },
            workers: if counts { 1 } else { options.workers() },
            one_stream: false,
            resize: Resize::new(options)?,
        })
    }
}

impl StagePlan for FramesPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        self.one_stream = input.streams == Some(1);
        OneStreamGuard::check_count(self.names.template(), input.streams)?;
        self.resize.as_ref().map_or(Ok(()), |resize| resize.check(input))?;
        self.rules.files = context.files.clone();
        self.names.link(&self.rules)?;
        Ok(None)
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let workers = self.workers;
        let shared = Arc::new(Shared {
            plan: *self,
            streams: Mutex::default(),
            started: Condvar::new(),
            misplaced: Mutex::default(),
            unsynced: Mutex::default(),
            has_noted_exif: Once::new(),
        });
        Ok(Work::Stages((0..workers).map(|_| Box::new(Frames::new(&shared)) as Box<dyn Stage>).collect()))
    }
}

#[derive(Default)]
struct Streams {
    guard: OneStreamGuard,
    /// Kept for some time after a stream's end: another worker may still hold a frame of it.
    known: HashMap<StreamId, Arc<StreamInfo>>,
    ended: VecDeque<StreamId>,
}

/// State shared by workers: any of them may receive the start of a stream.
struct Shared {
    plan: FramesPlan,
    streams: Mutex<Streams>,
    started: Condvar,
    misplaced: Mutex<Misplaced>,
    /// One folder that was written to per file system, by device.
    unsynced: Mutex<BTreeMap<u64, PathBuf>>,
    has_noted_exif: Once,
}

impl Shared {
    fn begin(&self, info: &Arc<StreamInfo>) -> Result<(), StageError> {
        let mut streams = self.streams.lock();
        streams.guard.admit(self.plan.names.template(), info)?;
        streams.known.insert(info.id, Arc::clone(info));
        self.started.notify_all();
        Ok(())
    }

    fn end(&self, id: StreamId) {
        let mut streams = self.streams.lock();
        streams.ended.push_back(id);
        if streams.ended.len() > ENDED_STREAMS
            && let Some(first) = streams.ended.pop_front()
        {
            streams.known.remove(&first);
        }
    }

    /// Items are taken in order, so the worker with the stream's start is processing it.
    fn stream(&self, id: StreamId) -> Result<Arc<StreamInfo>, StageError> {
        let mut streams = self.streams.lock();
        let waited = self.started.wait_while_for(&mut streams, |streams| !streams.known.contains_key(&id), STREAM_START_WAIT);
        match streams.known.get(&id) {
            Some(info) if !waited.timed_out() => Ok(Arc::clone(info)),
            _ => Err(StageError::new(ErrorKind::Internal, format!("a frame of stream {id} came before the stream's start"))),
        }
    }
}

struct Counters {
    written: Counter,
    skipped: Counter,
    bytes: Counter,
    context: StageContext,
}

/// Position in a stream, if frames are counted.
#[derive(Default)]
struct Progress {
    seen: u64,
    written: u64,
}

struct Frames {
    shared: Arc<Shared>,
    encoder: ImageEncoder,
    resizer: Option<Resizer>,
    /// For arrays.
    converter: Converter,
    pool: FramePool,
    streams: HashMap<StreamId, Progress>,
    counters: Option<Counters>,
}

impl Stage for Frames {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            written: context.counter("files_written"),
            skipped: context.counter("frames_skipped"),
            bytes: context.counter("bytes_written"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let plan = &self.shared.plan;
        let progress = self.streams.entry(item.frame.stream).or_default();
        let due = progress.seen.is_multiple_of(plan.every) && plan.count.is_none_or(|count| progress.written < count);
        progress.seen += 1;
        if !due {
            if let Some(counters) = &self.counters {
                counters.skipped.add(1);
            }
            return Ok(Flow::More);
        }
        progress.written += 1;
        let complete = plan.one_stream && plan.count.is_some_and(|count| progress.written >= count);
        if let Some(resizer) = &mut self.resizer {
            resizer.frame(&mut item)?;
        }
        self.write(&item.frame)?;
        Ok(if complete { Flow::Done } else { Flow::More })
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.shared.begin(&info)?,
            Item::StreamEnd(end) => {
                self.streams.remove(&end.id);
                self.shared.end(end.id);
            }
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        // Syncing each file would take longer than writing it.
        let unsynced = std::mem::take(&mut *self.shared.unsynced.lock());
        unsynced.values().try_for_each(|folder| commit::sync_file_system(folder)).map_err(output_error)?;
        self.shared.misplaced.lock().end()
    }
}

impl Frames {
    fn new(shared: &Arc<Shared>) -> Self {
        let converter = Converter::new(ScaleOptions { accurate: true, ..ScaleOptions::default() });
        let format = match shared.plan.names.format() {
            FileFormat::Jpeg => ImageFormat::Jpeg { quality: shared.plan.quality },
            FileFormat::Png | FileFormat::Npy => ImageFormat::Png,
        };
        let encoder = ImageEncoder::new(format);
        let resizer = shared.plan.resize.as_ref().map(Resize::worker);
        Self { shared: Arc::clone(shared), encoder, resizer, converter, pool: FramePool::new(1), streams: HashMap::new(), counters: None }
    }

    fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        let info = self.shared.stream(frame.stream)?;
        let path = self.shared.plan.names.path(&info, frame.index);
        let bytes = self.encode(frame, &path)?;
        let mut file = OutputFile::create(&path, &self.shared.plan.rules, None)?;
        file.write(&bytes)?;
        let written = file.complete(Ending::Whole)?;
        if let Some((folder, found)) = written.path.parent().and_then(|folder| Some((folder, fs::metadata(&written.path).ok()?))) {
            self.shared.unsynced.lock().entry(found.dev()).or_insert_with(|| folder.to_owned());
        }
        let context = self.counters.as_ref().map(|counters| &counters.context);
        if self.shared.plan.names.format() != FileFormat::Npy {
            outputs::note_exif(frame, context, &self.shared.has_noted_exif);
        }
        self.shared.misplaced.lock().note(&path, &written.path, written.elsewhere.as_ref(), context);
        if let Some(counters) = &self.counters {
            counters.written.add(1);
            counters.bytes.add(bytes.len() as u64);
        }
        Ok(())
    }

    fn encode(&mut self, frame: &Frame, path: &Path) -> Result<Vec<u8>, StageError> {
        let surface = frame.surface.host().map_err(core_error)?;
        let named = |error| {
            let error = output_error(error);
            StageError::new(error.kind, format!("{}: {error}", path.display()))
        };
        match self.shared.plan.names.format() {
            FileFormat::Png | FileFormat::Jpeg => self.encoder.encode_frame(frame).map_err(named),
            FileFormat::Npy => {
                let (width, height) = (surface.width(), surface.height());
                let rgb = self.converter.convert(surface, &frame.color, PixelFormat::Rgb24, width, height, &self.pool);
                Ok(npy::encode_rgb(&rgb.map_err(named)?))
            }
        }
    }
}
