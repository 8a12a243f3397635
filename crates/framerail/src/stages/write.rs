//! The `write` stage: encodes frames, copies or encodes audio and subtitles, completes the file.

mod push;
mod spec;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Once},
};

use framerail_core::{MediaKind, Packet, SideStream, SourceUrl, StreamId, StreamInfo};
use framerail_media::{Leftover, MediaWriter, OutputRules, WriteReport, WriterOptions, commit, push::check_push, write_image};
use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OnSinkError, Options, PlanError, Registry,
    RegistryError, Stage, StageContext, StageError, StagePlan, Work,
};

use self::{
    push::{OnLoss, PushCounters, Pusher},
    spec::{Kind, Settings},
};
use super::{
    link::host_frames,
    transform::{Resize, Resizer},
};
use crate::{
    convert::output_error,
    outputs::{self, Misplaced, OneStreamGuard},
};

/// JPEG quality, of 100.
const JPEG_QUALITY: u8 = 95;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec::spec(), |options| WritePlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

struct WritePlan {
    template: PathBuf,
    kind: Kind,
    settings: Settings,
    audio: bool,
    subtitles: bool,
    images: bool,
    is_live: bool,
    resize: Option<Resize>,
}

impl WritePlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let template = options.path("file").to_owned();
        let kind = Kind::of(&template);
        Ok(Self {
            kind,
            settings: Settings::new(kind, options)?,
            audio: options.optional_switch("audio") != Some(false),
            subtitles: options.optional_switch("subtitles").or(options.optional_switch("audio")) != Some(false),
            images: options.switch("pictures"),
            is_live: false,
            resize: Resize::new(options)?,
            template,
        })
    }
}

impl StagePlan for WritePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        OneStreamGuard::check_count(&self.template, input.streams)?;
        self.resize.as_ref().map_or(Ok(()), |resize| resize.check(input))?;
        self.is_live = input.is_live;
        self.settings.settle(self.kind, input.is_live);
        let options = &self.settings.writer;
        if let (Kind::Server, Some(url)) = (self.kind, self.template.to_str()) {
            check_push(url, options).map_err(output_error)?;
            return Ok(None);
        }
        self.settings.writer.files = context.files.clone();
        outputs::link_output(&self.template, &self.rules())?;
        if !is_image(&self.template) {
            MediaWriter::check(&self.template, &self.settings.writer).map_err(output_error)?;
        }
        Ok(None)
    }

    fn on_error(&self) -> OnSinkError {
        let drops = self.kind == Kind::Server && self.settings.push.on_loss == OnLoss::Retry;
        if drops { OnSinkError::Drop } else { OnSinkError::Fail }
    }

    fn wants_packets(&self) -> bool {
        (self.audio || self.subtitles || self.settings.writer.keep_metadata) && !is_image(&self.template)
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let resizer = self.resize.as_ref().map(Resize::worker);
        let (open, misplaced, has_noted_exif) = (BTreeMap::new(), Misplaced::default(), Once::new());
        Ok(Work::Stages(vec![Box::new(Write { plan: *self, open, resizer, misplaced, has_noted_exif, counters: None })]))
    }
}

impl WritePlan {
    fn rules(&self) -> OutputRules {
        let WriterOptions { overwrite, files, .. } = &self.settings.writer;
        OutputRules { overwrite: *overwrite, files: files.clone(), leftover: Leftover::Remove, syncs_later: false }
    }
}

/// An unfinished video file.
struct Video {
    writer: MediaWriter,
    ends_by_stop: bool,
    /// Output of each side stream; `None` for those that are dropped.
    sides: Vec<Option<usize>>,
}

/// A stream being pushed to a server.
struct Pushed {
    pusher: Pusher,
    sides: Vec<Option<usize>>,
}

/// An unfinished output.
enum Output {
    Video(Box<Video>),
    Server(Box<Pushed>),
    /// The frame waits for the stream's end: a second one is an error, and then no file is written.
    Image {
        path: PathBuf,
        item: Option<Box<FrameItem>>,
    },
}

struct Counters {
    context: StageContext,
    files: Counter,
    frames: Counter,
    packets: Counter,
    packets_encoded: Counter,
    packets_undecoded: Counter,
    packets_skipped: Counter,
    pictures_skipped: Counter,
    bytes: Counter,
    segments: Counter,
    converted: Counter,
    rescaled: Counter,
    rounded: Counter,
    repeated: Counter,
    repaired: Counter,
    push: PushCounters,
}

struct Write {
    plan: WritePlan,
    open: BTreeMap<StreamId, Output>,
    resizer: Option<Resizer>,
    misplaced: Misplaced,
    has_noted_exif: Once,
    counters: Option<Counters>,
}

impl Stage for Write {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            context: context.clone(),
            files: context.counter("files_written"),
            frames: context.counter("frames_written"),
            packets: context.counter("packets_copied"),
            packets_encoded: context.counter("packets_encoded"),
            packets_undecoded: context.counter("packets_undecoded"),
            packets_skipped: context.counter("packets_skipped"),
            pictures_skipped: context.counter("cover_pictures_left_out"),
            bytes: context.counter("bytes_written"),
            segments: context.counter("segments_written"),
            converted: context.counter("frames_converted"),
            rescaled: context.counter("frames_rescaled"),
            rounded: context.counter("timestamps_rounded"),
            repeated: context.counter("frames_repeated"),
            repaired: context.counter("timestamps_repaired"),
            push: PushCounters::new(context),
        });
        if self.plan.kind == Kind::Server && !self.plan.is_live {
            context.notice("frames are pushed as fast as they are decoded; realtime=yes in `read` sends them in real time");
        }
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Some(resizer) = &mut self.resizer {
            resizer.frame(&mut item)?;
        }
        let frame = &item.frame;
        match self.open.get_mut(&frame.stream) {
            Some(Output::Video(video)) => video.writer.write_frame(frame).map_err(output_error)?,
            Some(Output::Server(pushed)) => pushed.pusher.frame(frame)?,
            Some(Output::Image { path, item: Some(_) }) => {
                let message = format!("{}: the stream has more than one frame; write a video, or use `frames`", path.display());
                return Err(StageError::new(ErrorKind::Usage, message));
            }
            Some(Output::Image { item: first, .. }) => *first = Some(Box::new(item)),
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
            Item::StreamStart(info) => match &self.plan.resize {
                Some(resize) => self.begin(&resize.stream(&info)?)?,
                None => self.begin(&info)?,
            },
            Item::Packet(packet) => self.copy(packet)?,
            Item::StreamEnd(end) => self.complete(end.id)?,
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.open.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.complete(id))?;
        self.misplaced.end()
    }

    fn abandon(&mut self) {
        for output in std::mem::take(&mut self.open).into_values() {
            let Output::Video(video) = output else { continue };
            let path = video.writer.path().to_owned();
            outputs::note_unfinished(&path, video.writer.keep_unfinished(), self.counters.as_ref().map(|counters| &counters.context));
        }
    }
}

impl Write {
    fn begin(&mut self, info: &Arc<StreamInfo>) -> Result<(), StageError> {
        let path = match (self.plan.kind, self.plan.template.to_str()) {
            (Kind::Server, Some(url)) => PathBuf::from(outputs::output_url(url, info)),
            _ => outputs::claim_output(&self.plan.template, info, &self.plan.rules())?,
        };
        let output = if self.plan.kind == Kind::Server {
            Output::Server(Box::new(self.connect(&path, info)?))
        } else if is_image(&path) {
            commit::check(&path, &self.plan.rules()).map_err(output_error)?;
            Output::Image { path, item: None }
        } else {
            Output::Video(Box::new(self.create(&path, info)?))
        };
        self.open.insert(info.id, output);
        Ok(())
    }

    fn create(&self, path: &Path, info: &StreamInfo) -> Result<Video, StageError> {
        let (kept, sides) = self.selected(path, info);
        let settings = &self.plan.settings;
        let options = WriterOptions { crash_safe: settings.is_crash_safe(self.plan.is_live, info), ..settings.writer.clone() };
        let writer = MediaWriter::create(path, &options, &kept).map_err(|error| naming(path, output_error(error)))?;
        Ok(Video { writer, ends_by_stop: outputs::ends_by_stop(self.plan.is_live, info), sides })
    }

    fn connect(&self, path: &Path, info: &StreamInfo) -> Result<Pushed, StageError> {
        let (kept, sides) = self.selected(path, info);
        let Some(counters) = &self.counters else {
            return Err(StageError::new(ErrorKind::Internal, "a stream came before the stage's start"));
        };
        let (options, settings) = (&self.plan.settings.writer, &self.plan.settings.push);
        let pusher = Pusher::start(&path.to_string_lossy(), options, settings, &kept, &counters.push)?;
        Ok(Pushed { pusher, sides })
    }

    /// The stream with the side streams that are kept, and the output of each.
    fn selected(&self, path: &Path, info: &StreamInfo) -> (StreamInfo, Vec<Option<usize>>) {
        let mut kept = StreamInfo { side_streams: Vec::new(), ..info.clone() };
        let mut sides = Vec::new();
        for side in &info.side_streams {
            sides.push(self.keeps(side).then_some(kept.side_streams.len()));
            if self.keeps(side) {
                kept.side_streams.push(side.clone());
            }
        }
        let images = info.side_streams.iter().filter(|side| is_cover(side)).count();
        if let Some(counters) = self.counters.as_ref().filter(|_| images > 0 && !self.plan.images) {
            counters.pictures_skipped.add(images as u64);
            counters.context.notice(format_args!("{}: the cover image of {} is dropped; pictures=yes keeps it", shown(path), info.source));
        }
        (kept, sides)
    }

    /// Whether a side stream is written, as far as it is requested.
    fn keeps(&self, side: &SideStream) -> bool {
        let WritePlan { audio, subtitles, images, .. } = self.plan;
        keeps(side, Wanted { audio, subtitles, images })
    }

    /// Writes a packet whose stream is kept.
    fn copy(&mut self, mut packet: Packet) -> Result<(), StageError> {
        let output = self.open.get_mut(&packet.stream);
        let sides = match &output {
            Some(Output::Video(video)) => &video.sides,
            Some(Output::Server(pushed)) => &pushed.sides,
            _ => return Ok(()),
        };
        let Some(side_stream) = sides.get(packet.side_stream).copied().flatten() else { return Ok(()) };
        packet.side_stream = side_stream;
        match output {
            Some(Output::Video(video)) => video.writer.write_packet(&packet).map_err(output_error),
            Some(Output::Server(pushed)) => pushed.pusher.packet(&packet),
            _ => Ok(()),
        }
    }

    fn complete(&mut self, id: StreamId) -> Result<(), StageError> {
        match self.open.remove(&id) {
            Some(Output::Video(video)) => {
                let path = video.writer.path().to_owned();
                let context = self.counters.as_ref().map(|counters| &counters.context);
                let report = video.writer.finish_as(outputs::ending(context, video.ends_by_stop)).map_err(output_error)?;
                self.misplaced.note(&path, &report.path, report.elsewhere.as_ref(), context);
                self.count(&path.display().to_string(), &report);
            }
            Some(Output::Server(pushed)) => {
                let report = pushed.pusher.complete()?;
                // Its thread has counted what was sent.
                self.count_encoding(&report);
            }
            Some(Output::Image { path, item: Some(item) }) => {
                let written = write_image(&item.frame, &path, JPEG_QUALITY, &self.plan.rules()).map_err(output_error)?;
                let context = self.counters.as_ref().map(|counters| &counters.context);
                outputs::note_exif(&item.frame, context, &self.has_noted_exif);
                self.misplaced.note(&path, &written.path, written.elsewhere.as_ref(), context);
                if let Some(counters) = &self.counters {
                    counters.files.add(1);
                    counters.frames.add(1);
                }
            }
            Some(Output::Image { item: None, .. }) | None => {}
        }
        Ok(())
    }

    fn count(&self, path: &str, report: &WriteReport) {
        let Some(counters) = &self.counters else { return };
        counters.files.add(1);
        counters.frames.add(report.frames);
        counters.packets.add(report.packets_copied);
        counters.bytes.add(report.bytes);
        counters.segments.add(report.segments);
        self.count_encoding(report);
        if report.timestamps_repaired > 0 {
            let count = report.timestamps_repaired;
            counters.context.notice(format_args!("{path}: timestamps corrected because they were missing, repeated or went back: {count}"));
        }
        for warning in &report.warnings {
            counters.context.notice(format_args!("{path}: {warning}"));
        }
    }

    fn count_encoding(&self, report: &WriteReport) {
        let Some(counters) = &self.counters else { return };
        counters.packets_encoded.add(report.packets_encoded);
        counters.packets_undecoded.add(report.packets_damaged);
        counters.packets_skipped.add(report.packets_skipped);
        counters.converted.add(report.frames_converted);
        counters.rescaled.add(report.frames_rescaled);
        counters.rounded.add(report.timestamps_rounded);
        counters.repeated.add(report.frames_repeated);
        counters.repaired.add(report.timestamps_repaired);
    }
}

/// Requested side streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) audio: bool,
    pub(crate) subtitles: bool,
    /// Cover images.
    pub(crate) images: bool,
}

/// Whether a side stream is written.
pub(crate) fn keeps(side: &SideStream, wanted: Wanted) -> bool {
    match side.kind {
        MediaKind::Video => false,
        MediaKind::Audio => wanted.audio,
        MediaKind::Subtitle => wanted.subtitles,
        MediaKind::Attachment if is_cover(side) => wanted.audio && wanted.images,
        // Fonts belong to subtitles.
        MediaKind::Attachment => wanted.subtitles,
        MediaKind::Data => true,
    }
}

/// Whether a name is that of an image rather than a video.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ["bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"].contains(&ending.as_str()))
}

/// A file name or address for messages: without secrets.
fn shown(path: &Path) -> String {
    SourceUrl::from(path.to_string_lossy()).to_string()
}

/// Adds the file's name to an error that only names its encoder.
fn naming(path: &Path, mut error: StageError) -> StageError {
    let name = path.display().to_string();
    if error.kind == ErrorKind::Output && !error.message.contains(&name) {
        error.message = format!("{name}: {}", error.message);
    }
    error
}

/// Whether a side stream is a cover image rather than a font.
fn is_cover(side: &SideStream) -> bool {
    side.kind == MediaKind::Attachment
        && matches!(side.codec.as_str(), "mjpeg" | "png" | "bmp" | "gif" | "webp" | "tiff" | "jpeg2000" | "jpegxl" | "av1" | "hevc")
}
