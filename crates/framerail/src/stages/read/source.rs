//! One source while it is read: decoded on the host, on a card, or on the host for a card.

use std::{sync::Arc, time::Duration};

use framerail_core::{Device, Frame, FramePool, PixelFormat, StreamInfo};
use framerail_cuda::{CudaDevice, CudaError, DevicePool, Traffic};
use framerail_media::{CancelFlag, Damage, DeinterlaceMethod, Deinterlacer, InputOptions, MediaItem, MediaReader};
use framerail_pipeline::{Emitter, ErrorKind, FrameItem, Item, StageError, StreamRequest};
use framerail_reader::{CopySurfaces, DeviceOptions, DeviceReader, DeviceReaderStats, MakeSurface, ReaderError};

use super::{inputs::ModelInputs, policy};
use crate::{
    convert::{cuda_error, input_error, reader_error},
    stages::infer::ModelInput,
    uploader::Uploader,
};

/// Device memory kept for frames that come back: a quarter of the card's, and no more than this.
const MAX_KEPT_BYTES: u64 = 4 << 30;

/// Device memory for model inputs made ahead, unless the user says otherwise: they are far smaller than pictures.
const INPUTS_AHEAD_BYTES: u64 = 512 << 20;

/// Longest silence of a live source before it is opened again, unless the user says otherwise.
const LIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How sources are opened.
#[derive(Clone)]
pub(super) struct Opener {
    pub(super) input: InputOptions,
    pub(super) deinterlace: Option<(DeinterlaceMethod, bool)>,
    pub(super) pool: FramePool,
    /// The card to which frames go.
    pub(super) card: Option<Card>,
    /// `tcp` or `udp`.
    pub(super) rtsp_transport: String,
    /// What cameras of this machine are asked for, by FFmpeg's names.
    pub(super) camera_options: Vec<(String, String)>,
}

/// A card that decodes.
#[derive(Clone)]
pub(super) struct Card {
    pub(super) device: Arc<CudaDevice>,
    pub(super) decoders: Option<usize>,
    pub(super) ahead_bytes: Option<u64>,
    pool: DevicePool,
    make: Arc<dyn MakeSurface>,
    makes_pictures: bool,
}

impl Card {
    /// `model` is the only stage that looks at pictures, and would rather have its input.
    pub(super) fn new(
        device: Arc<CudaDevice>,
        decoders: Option<usize>,
        ahead_bytes: Option<u64>,
        model: Option<ModelInput>,
    ) -> Result<Self, CudaError> {
        let (_, total) = device.memory()?;
        let kept = usize::try_from((total / 4).min(MAX_KEPT_BYTES)).unwrap_or(usize::MAX);
        let pool = DevicePool::new(&device, kept)?;
        let makes_pictures = model.is_none();
        let ahead_bytes = ahead_bytes.or((!makes_pictures).then_some(INPUTS_AHEAD_BYTES));
        let make: Arc<dyn MakeSurface> = match model {
            Some(model) => Arc::new(ModelInputs::new(model, &pool)),
            None => Arc::new(CopySurfaces::new(pool.clone())),
        };
        Ok(Self { device, decoders, ahead_bytes, pool, make, makes_pictures })
    }

    pub(super) fn id(&self) -> Device {
        self.device.id()
    }

    /// The most device memory that its frames took, decoders not counted.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.pool.stats().high_water_bytes as u64
    }

    fn options(&self) -> DeviceOptions {
        let make = Some(Arc::clone(&self.make));
        DeviceOptions { decoders: self.decoders, ahead_bytes: self.ahead_bytes, make, ..DeviceOptions::new(&self.device) }
    }
}

/// A source that could not be opened on the card, though the host may decode it.
pub(super) enum OpenError {
    NotOnCard(String),
    Failed(StageError),
}

impl Opener {
    /// Opens a source where frames are wanted: on the card if it can, else on the host, with the reason.
    pub(super) fn open(&self, request: &StreamRequest, cancel: &CancelFlag) -> Result<OpenSource, StageError> {
        let Some(card) = &self.card else { return self.open_on_host(request, cancel) };
        match self.open_on_card(card, request, cancel) {
            Ok(open) => Ok(open),
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::NotOnCard(reason)) => {
                let mut open = self.open_on_host(request, cancel)?;
                if let OpenSource::Host(host) = &mut open {
                    host.uploader = Some(Uploader::new(&card.device).map_err(cuda_error)?);
                    let reason = reason.strip_prefix(&format!("{}: ", request.source)).unwrap_or(&reason);
                    host.why_here = Some(format!("{}: decoded on the CPU and uploaded: {reason}", request.source));
                }
                Ok(open)
            }
        }
    }

    /// Opens a source for the card's decoder alone.
    pub(super) fn open_on_card(&self, card: &Card, request: &StreamRequest, cancel: &CancelFlag) -> Result<OpenSource, OpenError> {
        if self.deinterlace.is_some() {
            return Err(OpenError::NotOnCard("deinterlacing is done on the CPU".into()));
        }
        match DeviceReader::open(&self.options(request, cancel), &card.options()) {
            Ok(reader) => Ok(OpenSource::Card(Box::new(CardSource { reader, card: card.clone(), uploader: None }))),
            Err(ReaderError::NotOnDevice { reason, .. }) => Err(OpenError::NotOnCard(reason)),
            Err(error) => Err(OpenError::Failed(naming(&request.source.to_string(), reader_error(error)))),
        }
    }

    pub(super) fn open_on_host(&self, request: &StreamRequest, cancel: &CancelFlag) -> Result<OpenSource, StageError> {
        let reader = MediaReader::open(&self.options(request, cancel), &self.pool)
            .map_err(|error| naming(&request.source.to_string(), input_error(error)))?;
        let deinterlacer = self.deinterlace.map(|(method, all)| Deinterlacer::new(method, all));
        Ok(OpenSource::Host(Box::new(HostSource { reader, deinterlacer, uploader: None, why_here: None })))
    }

    fn options(&self, request: &StreamRequest, cancel: &CancelFlag) -> InputOptions {
        let mut options = InputOptions {
            source: request.source.clone(),
            name: Some(request.name.clone()),
            stream: request.id,
            cancel: Arc::clone(cancel),
            ..self.input.clone()
        };
        if request.is_live {
            options.waits_for_keyframe = true;
            options.read_timeout = options.read_timeout.or(Some(LIVE_TIMEOUT));
        }
        if policy::is_camera(request.source.reveal()) {
            options.format.get_or_insert_with(|| policy::CAMERA_FORMAT.to_owned());
        }
        if options.format.is_some() {
            options.format_options.extend(self.camera_options.iter().cloned());
        }
        let is_rtsp = request.source.scheme().is_some_and(|scheme| scheme == "rtsp" || scheme == "rtsps");
        if is_rtsp && !options.format_options.iter().any(|(name, _)| name == "rtsp_transport") {
            options.format_options.push(("rtsp_transport".to_owned(), self.rtsp_transport.clone()));
        }
        options
    }
}

/// Puts the source's name before an error that is only about its codec.
fn naming(source: &str, mut error: StageError) -> StageError {
    if error.kind == ErrorKind::Input && !error.message.contains(source) {
        error.message = format!("{source}: {}", error.message);
    }
    error
}

/// The source that is being read.
pub(super) enum OpenSource {
    Host(Box<HostSource>),
    Card(Box<CardSource>),
}

pub(super) struct HostSource {
    reader: MediaReader,
    deinterlacer: Option<Deinterlacer>,
    /// For frames that are wanted on a card.
    uploader: Option<Uploader>,
    /// Why the card does not decode it, though it was to.
    why_here: Option<String>,
}

pub(super) struct CardSource {
    reader: DeviceReader,
    card: Card,
    /// For frames that the host decodes in place of the card, from where the stream changes to what that does not decode.
    uploader: Option<Uploader>,
}

impl CardSource {
    fn upload(&mut self, frame: &mut Frame) -> Result<(), StageError> {
        let uploader = match &mut self.uploader {
            Some(uploader) => uploader,
            none => none.insert(Uploader::new(&self.card.device).map_err(cuda_error)?),
        };
        uploader.upload(frame).map_err(cuda_error)
    }
}

/// What a source has done on a card so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CardWork {
    pub(super) stats: DeviceReaderStats,
    pub(super) memory: Option<(Device, u64)>,
}

impl OpenSource {
    pub(super) fn info(&self) -> &StreamInfo {
        match self {
            OpenSource::Host(host) => host.reader.info(),
            OpenSource::Card(card) => card.reader.info(),
        }
    }

    /// The pixel format of its frames, when it is known.
    pub(super) fn pixel_format(&self) -> Option<PixelFormat> {
        let format = self.info().pixel_format;
        match (self, format) {
            (OpenSource::Host(_), format) => Some(format),
            // What cards give out for the usual streams.
            (OpenSource::Card(open), PixelFormat::Yuv420p) if open.card.makes_pictures => Some(PixelFormat::Nv12),
            (OpenSource::Card(_), _) => None,
        }
    }

    /// Gives the next frame or packet; `false` at the end.
    pub(super) fn next(&mut self, out: &mut dyn Emitter) -> Result<bool, StageError> {
        let source = self.info().source.to_string();
        let item = match self {
            OpenSource::Host(host) => host.reader.next().map_err(input_error),
            OpenSource::Card(card) => card.reader.next_item().map_err(reader_error),
        };
        match item.map_err(|error| naming(&source, error))? {
            Some(MediaItem::Frame(frame)) => self.deliver(frame, out)?,
            Some(MediaItem::Packet(packet)) => out.push(Item::Packet(packet))?,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn deliver(&mut self, mut frame: Frame, out: &mut dyn Emitter) -> Result<(), StageError> {
        let host = match self {
            OpenSource::Host(host) => host,
            OpenSource::Card(card) => {
                if frame.surface.host().is_ok() {
                    card.upload(&mut frame)?;
                }
                return Ok(out.push(FrameItem::new(frame).into())?);
            }
        };
        match &mut host.deinterlacer {
            None => host.push(frame, out),
            Some(deinterlacer) => {
                deinterlacer.push(frame).map_err(input_error)?;
                host.drain(out)
            }
        }
    }

    /// Gives what is still held at the end.
    pub(super) fn end(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        if let OpenSource::Host(host) = self
            && let Some(deinterlacer) = &mut host.deinterlacer
        {
            deinterlacer.end().map_err(input_error)?;
            host.drain(out)?;
        }
        Ok(())
    }

    /// Why a source that was meant for a card is decoded on the CPU, when it is.
    pub(super) fn why_on_cpu(&self) -> Option<&str> {
        match self {
            OpenSource::Host(host) => host.why_here.as_deref(),
            OpenSource::Card(_) => None,
        }
    }

    /// Why a source that the card decodes is decoded on the CPU from somewhere on, once it is.
    pub(super) fn why_changed(&self) -> Option<String> {
        let OpenSource::Card(card) = self else { return None };
        let (secs, reason) = card.reader.on_host()?;
        let source = &card.reader.info().source;
        Some(format!("{source}: where the card does not decode it, first at {secs:.3} s, decoded on the CPU and uploaded: {reason}"))
    }

    pub(super) fn damage(&self) -> Damage {
        match self {
            OpenSource::Host(host) => host.reader.damage(),
            OpenSource::Card(card) => card.reader.damage(),
        }
    }

    /// Frames converted to a pixel format that is passed on: how many, from what, to what.
    pub(super) fn conversions(&self) -> Vec<framerail_media::Conversion> {
        match self {
            OpenSource::Host(host) => host.reader.conversions(),
            OpenSource::Card(card) => card.reader.conversions(),
        }
    }

    /// What was done on a card, its traffic of this source so far included.
    pub(super) fn card_work(&self) -> Option<CardWork> {
        match self {
            OpenSource::Card(card) => {
                let uploaded = card.uploader.as_ref().map_or(0, Uploader::memory_bytes);
                Some(CardWork { stats: card.reader.stats(), memory: Some((card.card.id(), card.card.memory_bytes() + uploaded)) })
            }
            OpenSource::Host(host) => {
                let uploader = host.uploader.as_ref()?;
                Some(CardWork { memory: Some((uploader.device(), uploader.memory_bytes())), ..CardWork::default() })
            }
        }
    }
}

impl HostSource {
    fn drain(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while let Some(frame) = self.deinterlacer.as_mut().and_then(Deinterlacer::pull) {
            self.push(frame, out)?;
        }
        Ok(())
    }

    fn push(&mut self, mut frame: Frame, out: &mut dyn Emitter) -> Result<(), StageError> {
        if let Some(uploader) = &mut self.uploader {
            uploader.upload(&mut frame).map_err(cuda_error)?;
        }
        Ok(out.push(FrameItem::new(frame).into())?)
    }
}

/// What has been moved since an earlier look; both count from the start of a source.
pub(super) fn since(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        uploads: now.uploads.saturating_sub(before.uploads),
        upload_bytes: now.upload_bytes.saturating_sub(before.upload_bytes),
        downloads: now.downloads.saturating_sub(before.downloads),
        download_bytes: now.download_bytes.saturating_sub(before.download_bytes),
        device_copies: now.device_copies.saturating_sub(before.device_copies),
        device_bytes: now.device_bytes.saturating_sub(before.device_bytes),
        syncs: now.syncs.saturating_sub(before.syncs),
    }
}
