//! Opens the sources of a `read`, on the threads that read them.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use framerail_core::{CancelToken, RunFiles, SourceUrl, StreamId};
use framerail_media::{DeinterlaceMethod, FetchCounts, Input, InputOptions, ProbeEffort};
use framerail_pipeline::{ErrorKind, StageError, StreamLine, StreamOpener, StreamReader, StreamRequest};
use framerail_reader::{DeviceReader, FrameSource, HostOptions, HostReader, ReaderError};
use parking_lot::Mutex;

use super::{
    counters::Counters,
    gpu::Gpu,
    looped::{Looped, Reopen, Rounds},
    policy::{self, Liveness},
    source::{Placement, Source, naming},
};
use crate::{convert::reader_error, frame_input::InputFrames, inputs::expand_sources, sources::Sources, stages::link::note_source};

/// Stream names that are remembered. A run of weeks adds more; those get their number appended.
const MAX_NAMES: usize = 4096;

/// The source name of standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// Default timeout of a live source before it is reopened.
const LIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// State shared by the sources of one `read`.
#[derive(Default)]
pub(super) struct Shared {
    counters: OnceLock<Counters>,
    pub(super) has_card: AtomicBool,
    /// Notices from linking.
    pub(super) notices: Mutex<Vec<String>>,
    /// What was requested from servers and object storage.
    pub(super) fetched: FetchCounts,
}

impl Shared {
    /// The counters; the first source creates them and reports the notices.
    pub(super) fn counters(&self, line: &StreamLine) -> &Counters {
        let has_card = self.has_card.load(std::sync::atomic::Ordering::Relaxed);
        let counters = self.counters.get_or_init(|| Counters::new(&line.context, has_card, self.fetched.clone()));
        for notice in self.notices.lock().drain(..) {
            line.context.notice(notice);
        }
        counters
    }
}

/// How sources are opened.
pub(super) struct SourceOpener {
    pub(super) input: InputOptions,
    pub(super) deinterlace: Option<(DeinterlaceMethod, bool)>,
    pub(super) host: HostOptions,
    /// The GPU that gets the frames.
    pub(super) gpu: Option<Gpu>,
    /// `tcp` or `udp`.
    pub(super) rtsp_transport: String,
    /// Memory for frames decoded on the CPU for the CPU, if the user sets it.
    pub(super) image_bytes: Option<u64>,
    /// Options for local cameras, by FFmpeg's names.
    pub(super) camera_options: Vec<(String, String)>,
    pub(super) liveness: Liveness,
    /// Opens sources other than FFmpeg's.
    pub(super) sources: Sources,
    pub(super) shared: Arc<Shared>,
    /// Stream names so far: they are unique.
    pub(super) names: Mutex<BTreeSet<String>>,
    /// The files of the run; added sources are inputs too.
    pub(super) files: RunFiles,
    /// How often files are played.
    pub(super) rounds: Rounds,
}

/// A source that could not be opened on the GPU, but perhaps on the host.
pub(super) enum OpenError {
    NotOnGpu(String),
    Failed(StageError),
}

/// An open source, and the device that decodes it.
pub(super) type Opened = (Box<dyn FrameSource>, Placement);

impl SourceOpener {
    /// Opens a source on the requested device: on the GPU if possible, else on the host, with the reason.
    pub(super) fn open_source(&self, request: &StreamRequest, cancel: &CancelToken) -> Result<Opened, StageError> {
        self.open_beside(request, cancel, None)
    }

    /// The same with a number of decoders, for a file that is decoded beside others; with all if `None`.
    pub(super) fn open_beside(&self, request: &StreamRequest, cancel: &CancelToken, decoders: Option<usize>) -> Result<Opened, StageError> {
        let Some(gpu) = &self.gpu else { return self.open_with_threads(request, cancel, decoders.unwrap_or(self.input.threads)) };
        match self.open_with_engines(gpu, request, cancel, decoders) {
            Ok(opened) => Ok(opened),
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::NotOnGpu(reason)) => {
                let reason = reason.strip_prefix(&format!("{}: ", request.source)).unwrap_or(&reason);
                let reason = format!("{}: decoded on the CPU and uploaded: {reason}", request.source);
                let (frames, _) = self.open_on_host(request, cancel)?;
                Ok((frames, Placement::ForCard(gpu.clone(), reason)))
            }
        }
    }

    /// Opens a source for the GPU's decoder only.
    pub(super) fn open_on_gpu(&self, gpu: &Gpu, request: &StreamRequest, cancel: &CancelToken) -> Result<Opened, OpenError> {
        self.open_with_engines(gpu, request, cancel, None)
    }

    fn open_with_engines(
        &self,
        gpu: &Gpu,
        request: &StreamRequest,
        cancel: &CancelToken,
        decoders: Option<usize>,
    ) -> Result<Opened, OpenError> {
        if self.sources.frames(request.source.reveal()).is_some() {
            return Err(OpenError::NotOnGpu("the program hands in frames in host memory".into()));
        }
        if self.deinterlace.is_some() {
            return Err(OpenError::NotOnGpu("deinterlacing is done on the CPU".into()));
        }
        let mut options = gpu.options();
        options.decoders = decoders.or(options.decoders);
        match DeviceReader::open(&self.options(request, cancel), &options) {
            Ok(reader) => Ok((Box::new(reader), Placement::OnGpu(gpu.clone()))),
            Err(ReaderError::NotOnDevice { reason, .. }) => Err(OpenError::NotOnGpu(reason)),
            Err(error) => Err(OpenError::Failed(naming(&request.source.to_string(), reader_error(error)))),
        }
    }

    pub(super) fn open_on_host(&self, request: &StreamRequest, cancel: &CancelToken) -> Result<Opened, StageError> {
        self.open_with_threads(request, cancel, self.input.threads)
    }

    fn open_with_threads(&self, request: &StreamRequest, cancel: &CancelToken, threads: usize) -> Result<Opened, StageError> {
        let mut options = InputOptions { threads, ..self.options(request, cancel) };
        if let Some(bytes) = self.image_bytes.filter(|_| self.gpu.is_none()) {
            options.image_bytes = bytes;
        }
        if let Some(frames) = self.sources.frames(request.source.reveal()) {
            return Ok((Box::new(InputFrames::open(frames, &options)?), Placement::Host));
        }
        let reader = HostReader::open(&options, &self.host);
        let reader = reader.map_err(|error| naming(&request.source.to_string(), reader_error(error)))?;
        Ok((Box::new(reader), Placement::Host))
    }

    /// A source opened by its header only; `None` if that fails, which the full opening reports.
    pub(super) fn header(&self, request: &StreamRequest, cancel: &CancelToken) -> Option<Input> {
        if self.sources.frames(request.source.reveal()).is_some() {
            return None;
        }
        Input::open(&InputOptions { probe: ProbeEffort::Header, ..self.options(request, cancel) }).ok()
    }

    /// The source as a stream.
    pub(super) fn stream(&self, (frames, placement): Opened, request: &StreamRequest, cancel: &CancelToken) -> Source {
        let frames = if self.rounds == Rounds::Times(1) || request.is_live || !request.can_reopen {
            frames
        } else {
            let reopen = self.reopening(&placement, self.options(request, cancel));
            Box::new(Looped::new(frames, self.rounds, reopen))
        };
        Source::new((frames, placement), self.deinterlace, request.is_live, &self.shared)
    }

    /// Reopens a source on its current device.
    fn reopening(&self, placement: &Placement, options: InputOptions) -> Reopen {
        let host = self.host.clone();
        match placement {
            Placement::OnGpu(gpu) => {
                let gpu = gpu.options();
                Box::new(move || Ok(Box::new(DeviceReader::open(&options, &gpu)?)))
            }
            Placement::Host | Placement::ForCard(..) => Box::new(move || Ok(Box::new(HostReader::open(&options, &host)?))),
        }
    }

    fn options(&self, request: &StreamRequest, cancel: &CancelToken) -> InputOptions {
        let mut options = InputOptions {
            source: request.source.clone(),
            custom: self.sources.find(request.source.reveal()),
            name: Some(request.name.clone()),
            stream: request.id,
            cancel: cancel.clone(),
            fetched: self.shared.fetched.clone(),
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

    /// A unique stream name: the wanted one, or with the stream's number appended.
    fn free_name(&self, wanted: String, id: StreamId) -> String {
        let mut names = self.names.lock();
        if names.len() >= MAX_NAMES {
            return format!("{wanted}-{id}");
        }
        let name = if names.contains(&wanted) { format!("{wanted}-{id}") } else { wanted };
        names.insert(name.clone());
        name
    }
}

impl StreamOpener for SourceOpener {
    fn admit(&self, source: &str, id: StreamId) -> Result<StreamRequest, StageError> {
        let mut sources = expand_sources(&[source])?;
        let one = sources.pop().filter(|_| sources.is_empty());
        let one = one.ok_or_else(|| {
            StageError::new(ErrorKind::Usage, format!("{}: names several files; add them one by one", SourceUrl::new(source)))
        })?;
        if one.source == STANDARD_INPUT {
            return Err(StageError::new(ErrorKind::Usage, "standard input cannot be added to a run; start the run with it"));
        }
        let frames = self.sources.frames(one.source.reveal());
        let is_live = self.liveness.is_live(one.source.reveal(), frames);
        let is_file = !is_live && !one.source.reveal().contains(['%', ':', '*', '?', '[']);
        if is_file && !Path::new(one.source.reveal()).exists() {
            return Err(StageError::new(ErrorKind::Input, format!("{}: no such file or stream; check the name", one.source)));
        }
        note_source(&self.files, &one.source)?;
        Ok(StreamRequest { id, name: self.free_name(one.name, id), can_reopen: frames.is_none(), source: one.source, is_live })
    }

    fn open(&self, request: &StreamRequest, line: &StreamLine) -> Result<Box<dyn StreamReader>, StageError> {
        Ok(Box::new(self.stream(self.open_source(request, &line.cancel)?, request, &line.cancel)))
    }
}
