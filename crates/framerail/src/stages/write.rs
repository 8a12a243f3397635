//! The `write` stage: encodes frames, copies sound and subtitles beside them, completes the file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{MediaKind, Packet, PixelFormat, SideStream, StreamId, StreamInfo};
use framerail_media::{MediaWriter, Quality, WriteReport, WriterOptions, save_image};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use super::link::host_frames;
use crate::{
    convert::output_error,
    inputs::is_image,
    outputs::{self, OneStreamGuard},
};

/// Quality of JPEG pictures, of 100.
const JPEG_QUALITY: u8 = 95;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| WritePlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::sink("write", "encodes frames to a video file, with sound and subtitles copied")
        .details(
            "The container follows from the file name. Frame count, times, size, colour tags, tags and chapters are those of the input; \
             sound and subtitle packets are copied as they are. The file appears under its name only when it is complete. With several \
             streams, put {name} or {stream} into the file name. A picture's name (out.png) writes a stream of one frame.",
        )
        .argument(ArgumentSpec::required("file", OptionKind::Path, "file to write; {name} and {stream} stand for those of the stream"))
        .option(OptionSpec::text("codec").help("FFmpeg's encoder name, such as libx264; the usual one of the container otherwise"))
        .option(OptionSpec::float("crf", 0.0..=63.0).help("constant rate factor, lower is better; the encoder's default otherwise"))
        .option(OptionSpec::integer("bitrate", 1..=1_000_000_000).unit("bits/s").help("mean bit rate in place of crf"))
        .option(OptionSpec::text("preset").help("the encoder's preset, such as veryfast"))
        .option(
            OptionSpec::integer("gop", 1..=10_000).unit("frames").help("most frames between keyframes; the encoder's default otherwise"),
        )
        .option(
            OptionSpec::integer("threads", 0..=256).default(0).help("encoder threads; 0: one a processor, the encoder's choice beyond 8"),
        )
        .option(
            OptionSpec::text("pixel_format")
                .help("pixel format to encode, such as yuv420p; the input's where the encoder takes it otherwise"),
        )
        .option(OptionSpec::text("format").help("FFmpeg's container name; by the file name otherwise"))
        .option(OptionSpec::key_values("options").help("further options for the encoder by FFmpeg's names"))
        .option(OptionSpec::key_values("format_options").help("further options for the container by FFmpeg's names"))
        .option(OptionSpec::key_values("tags").help("tags to set on top of the input's; an empty value removes one"))
        .option(OptionSpec::switch("keep_tags").default("yes").help("whether the input's tags and chapters are kept"))
        .option(OptionSpec::switch("sound").default("yes").help("whether sound and subtitles are copied"))
        .option(
            OptionSpec::switch("pictures")
                .default("no")
                .help("whether cover pictures are copied; they would show what a `blur` has hidden"),
        )
        .option(OptionSpec::switch("overwrite").default("no").help("whether an existing file may be replaced"))
        .example("read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4 crf=20 preset=fast", "a smaller, faster encode")
        .example("read clips/ ! write 'small/{name}.mkv' codec=libx265", "every file of a folder")
}

struct WritePlan {
    template: PathBuf,
    options: WriterOptions,
    sound: bool,
    pictures: bool,
}

impl WritePlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        if options.is_given("crf") && options.is_given("bitrate") {
            return Err(ConfigError::at("bitrate", "crf and bitrate are both given").help("leave one out"));
        }
        let quality = match (options.optional_float("crf"), options.optional_integer("bitrate")) {
            (Some(crf), _) => Quality::Crf(crf),
            (None, Some(rate)) => Quality::BitRate(u64::try_from(rate).unwrap_or(0)),
            (None, None) => Quality::EncoderDefault,
        };
        let text = |name| options.optional_text(name).map(str::to_owned);
        let pairs = |name| options.optional_key_values(name).unwrap_or_default().to_vec();
        let writer = WriterOptions {
            format: text("format"),
            codec: text("codec"),
            quality,
            preset: text("preset"),
            gop: options.optional_integer("gop").and_then(|gop| u32::try_from(gop).ok()),
            threads: encoder_threads(options.count("threads")),
            pixel_format: options.optional_text("pixel_format").map(pixel_format).transpose()?,
            encoder_options: pairs("options"),
            format_options: pairs("format_options"),
            metadata: pairs("tags"),
            keep_metadata: options.switch("keep_tags"),
            overwrite: options.switch("overwrite"),
            ..WriterOptions::default()
        };
        Ok(Self {
            template: options.path("file").to_owned(),
            options: writer,
            sound: options.switch("sound"),
            pictures: options.switch("pictures"),
        })
    }
}

/// Encoders take more threads than there are processors when they think they are alone; each holds frames.
fn encoder_threads(given: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    if given == 0 && processors <= 8 { processors } else { given }
}

fn pixel_format(name: &str) -> Result<PixelFormat, ConfigError> {
    name.parse().map_err(|()| {
        let known: Vec<&str> = PixelFormat::ALL.iter().map(|format| format.name()).collect();
        ConfigError::at("pixel_format", format_args!("no pixel format is called `{name}`"))
            .help(format_args!("there are {}", known.join(", ")))
    })
}

impl StagePlan for WritePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        OneStreamGuard::check_count(&self.template, input.streams)?;
        outputs::check_output(&self.template, self.options.overwrite)?;
        if !is_image(&self.template) {
            MediaWriter::check(&self.template, &self.options).map_err(output_error)?;
        }
        Ok(None)
    }

    fn wants_packets(&self) -> bool {
        self.sound && !is_image(&self.template)
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Write { plan: *self, open: BTreeMap::new(), written: Vec::new(), counters: None })]))
    }
}

/// A video file on its way.
struct Video {
    writer: MediaWriter,
    /// Where each side stream of the input went; none for those that are not copied.
    sides: Vec<Option<usize>>,
}

/// An output that is not complete yet.
enum Output {
    Video(Box<Video>),
    /// The frame waits for the stream's end: a second one makes the whole a mistake, and then no file is written.
    Picture {
        path: PathBuf,
        item: Option<Box<FrameItem>>,
    },
}

struct Counters {
    context: StageContext,
    files: Counter,
    frames: Counter,
    packets: Counter,
    packets_skipped: Counter,
    pictures_skipped: Counter,
    bytes: Counter,
    converted: Counter,
    rescaled: Counter,
    rounded: Counter,
}

struct Write {
    plan: WritePlan,
    open: BTreeMap<StreamId, Output>,
    /// Every name used so far, so that no two streams write the same file.
    written: Vec<PathBuf>,
    counters: Option<Counters>,
}

impl Stage for Write {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            context: context.clone(),
            files: context.counter("files_written"),
            frames: context.counter("frames_written"),
            packets: context.counter("packets_copied"),
            packets_skipped: context.counter("packets_skipped"),
            pictures_skipped: context.counter("cover_pictures_left_out"),
            bytes: context.counter("bytes_written"),
            converted: context.counter("frames_converted"),
            rescaled: context.counter("frames_rescaled"),
            rounded: context.counter("timestamps_rounded"),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let frame = &item.frame;
        match self.open.get_mut(&frame.stream) {
            Some(Output::Video(video)) => video.writer.write_frame(frame).map_err(output_error)?,
            Some(Output::Picture { path, item: Some(_) }) => {
                let message = format!("{}: the stream has more than one frame; write a video, or use `frames`", path.display());
                return Err(StageError::new(ErrorKind::Usage, message));
            }
            Some(Output::Picture { item: first, .. }) => *first = Some(Box::new(item)),
            None => {
                return Err(StageError::new(
                    ErrorKind::Internal,
                    format!("frame {} of stream {} came before its start", frame.index, frame.stream),
                ));
            }
        }
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.begin(&info)?,
            Item::Packet(packet) => self.copy(packet)?,
            Item::StreamEnd(end) => self.complete(end.id)?,
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.open.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.complete(id))
    }
}

impl Write {
    fn begin(&mut self, info: &Arc<StreamInfo>) -> Result<(), StageError> {
        let path = outputs::output_path(&self.plan.template, info);
        if self.written.contains(&path) {
            let message =
                format!("{}: a second stream would overwrite the first; put {{name}} or {{stream}} into the file name", path.display());
            return Err(StageError::new(ErrorKind::Output, message));
        }
        self.written.push(path.clone());
        let output = if is_image(&path) {
            outputs::refuse_source(&path, info)?;
            outputs::check_output(&path, self.plan.options.overwrite)?;
            Output::Picture { path, item: None }
        } else {
            Output::Video(Box::new(self.create(&path, info)?))
        };
        self.open.insert(info.id, output);
        Ok(())
    }

    fn create(&self, path: &Path, info: &StreamInfo) -> Result<Video, StageError> {
        let options = WriterOptions { offset_micros: info.start_offset_micros, ..self.plan.options.clone() };
        let mut kept = StreamInfo { side_streams: Vec::new(), ..info.clone() };
        let mut sides = Vec::new();
        for side in &info.side_streams {
            sides.push(self.keeps(side).then_some(kept.side_streams.len()));
            if self.keeps(side) {
                kept.side_streams.push(side.clone());
            }
        }
        let pictures = info.side_streams.iter().filter(|side| is_picture(side)).count();
        if let Some(counters) = self.counters.as_ref().filter(|_| pictures > 0 && !self.plan.pictures) {
            counters.pictures_skipped.add(pictures as u64);
            counters.context.notice(format_args!(
                "{}: the cover picture of {} is left out; pictures=yes keeps it",
                path.display(),
                info.source
            ));
        }
        let writer = MediaWriter::create(path, &options, &kept).map_err(|error| naming(path, output_error(error)))?;
        Ok(Video { writer, sides })
    }

    /// Whether a side stream goes into the output; chapters always do.
    fn keeps(&self, side: &SideStream) -> bool {
        side.codec == "chapters" || (self.plan.sound && (self.plan.pictures || !is_picture(side)))
    }

    /// Copies a packet whose stream is kept.
    fn copy(&mut self, mut packet: Packet) -> Result<(), StageError> {
        let Some(Output::Video(video)) = self.open.get_mut(&packet.stream) else { return Ok(()) };
        let Some(side_stream) = video.sides.get(packet.side_stream).copied().flatten() else { return Ok(()) };
        packet.side_stream = side_stream;
        video.writer.write_packet(&packet).map_err(output_error)
    }

    fn complete(&mut self, id: StreamId) -> Result<(), StageError> {
        match self.open.remove(&id) {
            Some(Output::Video(video)) => {
                let path = video.writer.path().display().to_string();
                let report = video.writer.finish().map_err(output_error)?;
                self.count(&path, &report);
            }
            Some(Output::Picture { path, item: Some(item) }) => {
                write_picture(&item, &path)?;
                if let Some(counters) = &self.counters {
                    counters.files.add(1);
                    counters.frames.add(1);
                }
            }
            Some(Output::Picture { item: None, .. }) | None => {}
        }
        Ok(())
    }

    fn count(&self, path: &str, report: &WriteReport) {
        let Some(counters) = &self.counters else { return };
        counters.files.add(1);
        counters.frames.add(report.frames);
        counters.packets.add(report.packets_copied);
        counters.packets_skipped.add(report.packets_skipped);
        counters.bytes.add(report.bytes);
        counters.converted.add(report.frames_converted);
        counters.rescaled.add(report.frames_rescaled);
        counters.rounded.add(report.timestamps_rounded);
        for warning in &report.warnings {
            counters.context.notice(format_args!("{path}: {warning}"));
        }
    }
}

/// Puts the file's name before an error that is only about its encoder.
fn naming(path: &Path, mut error: StageError) -> StageError {
    let name = path.display().to_string();
    if error.kind == ErrorKind::Output && !error.message.contains(&name) {
        error.message = format!("{name}: {}", error.message);
    }
    error
}

fn write_picture(item: &FrameItem, path: &Path) -> Result<(), StageError> {
    save_image(&item.frame, path, JPEG_QUALITY).map_err(output_error)
}

/// Whether a side stream is a cover picture rather than sound, subtitles or a font.
fn is_picture(side: &SideStream) -> bool {
    side.kind == MediaKind::Attachment
        && matches!(side.codec.as_str(), "mjpeg" | "png" | "bmp" | "gif" | "webp" | "tiff" | "jpeg2000" | "jpegxl" | "av1" | "hevc")
}
