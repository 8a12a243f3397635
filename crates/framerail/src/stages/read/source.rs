//! One source as a stream of the engine: decoded on the host, on a GPU, or on the host for a GPU.

use std::sync::Arc;

use framerail_core::{FieldOrder, Frame, PixelFormat, StreamInfo};
use framerail_media::{Damage, DeinterlaceMethod, Deinterlacer, MediaItem};
use framerail_pipeline::{Emitter, ErrorKind, Flow, FrameItem, Item, StageContext, StageError, StreamLine, StreamReader};
use framerail_reader::FrameSource;

use super::{
    ahead::InTurn,
    counters::Counted,
    gpu::Gpu,
    opener::{Opened, Shared},
};
use crate::{
    convert::{cuda_error, input_error, reader_error},
    uploader::Uploader,
};

/// The device that decodes a source's frames, and the device that uses them.
pub(super) enum Placement {
    /// On the host, for stages on the host.
    Host,
    OnGpu(Gpu),
    /// On the host for a GPU that does not decode it, with the reason.
    ForCard(Gpu, String),
}

impl Placement {
    fn gpu(&self) -> Option<&Gpu> {
        match self {
            Placement::Host => None,
            Placement::OnGpu(gpu) | Placement::ForCard(gpu, _) => Some(gpu),
        }
    }

    /// The pixel format of frames, if known.
    pub(super) fn pixel_format(&self, format: PixelFormat) -> Option<PixelFormat> {
        match self {
            Placement::OnGpu(gpu) => (gpu.makes_images && format == PixelFormat::Yuv420p).then_some(PixelFormat::Nv12),
            _ => Some(format),
        }
    }
}

pub(super) struct Source {
    frames: Box<dyn FrameSource>,
    placement: Placement,
    info: Arc<StreamInfo>,
    deinterlacer: Option<Deinterlacer>,
    /// For frames that the host decodes for the GPU.
    uploader: Option<Uploader>,
    is_live: bool,
    shared: Arc<Shared>,
    line: Option<StreamLine>,
    counted: Counted,
    /// Whether the change from GPU to CPU was reported.
    is_change_reported: bool,
    /// Following sources in a run that reads one after another.
    ahead: Option<Arc<InTurn>>,
    given: u64,
}

impl Source {
    pub(super) fn new(
        (frames, placement): Opened,
        deinterlace: Option<(DeinterlaceMethod, bool)>,
        is_live: bool,
        shared: &Arc<Shared>,
    ) -> Self {
        let mut info = frames.info().clone();
        if deinterlace.is_some() {
            info.field_order = FieldOrder::Progressive;
        }
        Self {
            info: Arc::new(info),
            frames,
            placement,
            deinterlacer: deinterlace.map(|(method, all)| Deinterlacer::new(method, all)),
            uploader: None,
            is_live,
            shared: Arc::clone(shared),
            line: None,
            counted: Counted::default(),
            is_change_reported: false,
            ahead: None,
            given: 0,
        }
    }

    /// The same in a run that reads one source after another.
    pub(super) fn in_turn(self, ahead: &Arc<InTurn>) -> Self {
        Self { ahead: Some(Arc::clone(ahead)), ..self }
    }

    fn deliver(&mut self, frame: Frame, out: &mut dyn Emitter) -> Result<(), StageError> {
        match &mut self.deinterlacer {
            None => self.push(frame, out),
            Some(deinterlacer) => {
                deinterlacer.push(frame).map_err(input_error)?;
                self.drain(out)
            }
        }
    }

    fn drain(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while let Some(frame) = self.deinterlacer.as_mut().and_then(Deinterlacer::pull) {
            self.push(frame, out)?;
        }
        Ok(())
    }

    fn push(&mut self, mut frame: Frame, out: &mut dyn Emitter) -> Result<(), StageError> {
        if let Some(gpu) = self.placement.gpu().filter(|_| frame.surface.host().is_ok()) {
            let uploader = match &mut self.uploader {
                Some(uploader) => uploader,
                none => none.insert(Uploader::new(&gpu.device).map_err(cuda_error)?),
            };
            uploader.upload(&mut frame).map_err(cuda_error)?;
        }
        Ok(out.push(FrameItem::new(frame).into())?)
    }

    /// Counts the work since the last call.
    fn count(&mut self) {
        let Some(line) = &self.line else { return };
        let uploaded = self.uploader.as_ref().map_or(0, Uploader::memory_bytes);
        let counters = self.shared.counters(line);
        counters.count_work(&line.context, &mut self.counted, self.frames.stats());
        if let Some(gpu) = self.placement.gpu() {
            // Frames decoded on the host are on the first GPU.
            let on_first = |device| if device == gpu.id() { uploaded } else { 0 };
            gpu.memory_bytes().for_each(|(device, bytes)| line.context.memory(device, bytes + on_first(device)));
        }
        // Reports once that a source on the GPU continues on the CPU.
        if let Some((secs, reason)) = self.frames.on_host().filter(|_| !self.is_change_reported) {
            self.is_change_reported = true;
            self.shared.counters(line).count_on_cpu();
            line.context.notice(format_args!(
                "{}: not supported by the GPU, first at {secs:.3} s, and decoded on the CPU and uploaded from there: {reason}",
                self.info.source
            ));
        }
    }

    /// Reports a file's losses. A live source may be opened thousands of times; its losses are in the counters.
    fn tell(&self, context: &StageContext, damage: &Damage) {
        let name = &self.info.source;
        if let Some(line) = describe(damage) {
            context.notice(format_args!("{name}: {line}"));
        }
        for conversion in self.frames.conversions() {
            let (from, to, frames) = (&conversion.from, &conversion.to, conversion.frames);
            context.notice(format_args!("{name}: {frames} frames converted from {from} to {to}"));
        }
    }
}

impl StreamReader for Source {
    fn start(&mut self, line: &StreamLine) -> Result<(), StageError> {
        let counters = self.shared.counters(line);
        counters.expected.add(self.info.frames_estimate.unwrap_or(0));
        if let Placement::ForCard(_, reason) = &self.placement {
            counters.count_on_cpu();
            line.context.notice(reason);
        }
        for lost in &self.info.not_delivered {
            line.context.notice(format_args!("{}: {lost}", self.info.source));
        }
        if let Some(notice) = self.frames.notice() {
            line.context.notice(format_args!("{}: {notice}", self.info.source));
        }
        self.line = Some(line.clone());
        Ok(())
    }

    fn info(&self) -> Arc<StreamInfo> {
        Arc::clone(&self.info)
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let item = self.frames.next_item().map_err(|error| naming(&self.info.source.to_string(), reader_error(error)));
        let given = match item {
            Ok(Some(MediaItem::Frame(frame))) => {
                self.given += 1;
                if let Some(ahead) = &self.ahead {
                    ahead.go_on(&self.info, self.given);
                }
                self.deliver(frame, out).map(|()| Flow::More)
            }
            Ok(Some(MediaItem::Packet(packet))) => out.push(Item::Packet(packet)).map(|()| Flow::More).map_err(StageError::from),
            Ok(None) => Ok(Flow::Done),
            Err(error) => Err(error),
        };
        self.count();
        given
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<Option<String>, StageError> {
        let damage = self.frames.damage();
        if let Some(line) = &self.line {
            let converted = self.frames.conversions().iter().map(|conversion| conversion.frames).sum();
            self.shared.counters(line).count(&mut self.counted, damage.clone(), converted);
        }
        let ended = match &mut self.deinterlacer {
            None => Ok(()),
            Some(deinterlacer) => deinterlacer.end().map_err(input_error).and_then(|()| self.drain(out)),
        };
        self.count();
        if let Some(line) = self.line.as_ref().filter(|_| !self.is_live) {
            self.shared.counters(line).ended_early.add(u64::from(damage.ended_early.is_some()));
            self.tell(&line.context, &damage);
        }
        ended.map(|()| damage.ended_early)
    }
}

/// Adds the source's name to an error that only names its codec.
pub(super) fn naming(source: &str, mut error: StageError) -> StageError {
    if error.kind == ErrorKind::Input && !error.message.contains(source) {
        error.message = format!("{source}: {}", error.message);
    }
    error
}

/// The losses, in one line; `None` for an intact stream.
fn describe(damage: &Damage) -> Option<String> {
    let counted = [
        (damage.frames_lost, "frame lost", "frames lost"),
        (damage.frames_repaired, "frame repaired", "frames repaired"),
        (damage.frames_dropped, "frame dropped", "frames dropped"),
        (damage.packets_corrupt, "packet damaged", "packets damaged"),
        (damage.packets_dropped, "packet refused", "packets refused"),
        (damage.packets_lost, "packet lost in transit", "packets lost in transit"),
        (damage.container_errors, "error in the container", "errors in the container"),
        (damage.decode_errors, "decoding error", "decoding errors"),
        (damage.images_missing, "image missing", "images missing"),
    ];
    let losses = counted.iter().filter(|(count, ..)| *count > 0);
    let mut parts: Vec<String> = losses.map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many })).collect();
    parts.extend(damage.ended_early.as_ref().map(|why| format!("ended early: {why}")));
    if parts.is_empty() && damage.timestamps_repaired > 0 {
        return Some(format!("timestamps corrected because they repeat or are out of order: {}", damage.timestamps_repaired));
    }
    (!parts.is_empty()).then(|| format!("decoded as far as possible: {}", parts.join(", ")))
}
