//! Clips made in GPU memory: decoded by the GPU's engines, or decoded on a CPU core and uploaded. The GPU converts in both cases.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use framerail_core::{ColorDescription, DeviceSurface, Frame, FramePool, FrameStatus as Decoded, HostSurface, Rational};
use framerail_cuda::{
    CudaDevice, CudaError, CudaStream, CudaSurface, DeviceBuffer, DevicePlanes, DevicePool, PinnedPool, Traffic,
    kernels::{AugmentJob, augment_batch},
    nvdec::{MappedFrame, StreamFormat},
};
use framerail_media::{Input, MediaError};
use framerail_vision::TensorOptions;

use super::{ClipAugment, LoadedClip, output::SourceOutput, queue::Request};
use crate::{
    Clip, CpuPieces, FrameStatus, PieceDecoder, PieceOutput, ReaderError, Tagged,
    device::{DecodingCard, check, engines, setup},
    device_pieces::{DeviceFrame, DevicePieces, DeviceSetup, Done, MakeSurface},
    frame_index::{Access, FrameIndex},
    gpu_slots::{GpuSlots, InPlace, Place, Places},
    piece_source::PieceSource,
    tensors::TensorFrames,
};

/// Bytes of clip memory, and of frame memory, kept for reuse.
const KEEP_CLIPS_BYTES: usize = 256 << 20;
const KEEP_PICTURES_BYTES: usize = 256 << 20;
/// Threads per engine: while one reads packets, another decodes.
const THREADS_PER_ENGINE: usize = 2;
const SPARE_THREADS: usize = 2;
/// Buffers kept for frames that are copied on the host (rotated or converted frames).
const KEPT_FRAMES: usize = 2;

/// Destination of a clip in GPU memory.
#[derive(Debug)]
pub struct GpuPlace {
    bytes: usize,
    buffer: Option<Arc<DeviceBuffer>>,
}

impl GpuPlace {
    /// A destination of `bytes` bytes, allocated when the clip is made.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, buffer: None }
    }

    /// A destination in memory provided by the caller; uses the whole buffer.
    pub fn within(buffer: DeviceBuffer) -> Self {
        Self { bytes: buffer.len(), buffer: Some(Arc::new(buffer)) }
    }

    /// Size of the clip in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The clip's memory: the caller's buffer, or the buffer allocated for a finished clip.
    pub fn buffer(&self) -> Option<&Arc<DeviceBuffer>> {
        self.buffer.as_ref()
    }

    /// The memory, allocated from the pool if the caller provided none.
    pub(super) fn take(&mut self, pool: &DevicePool) -> Result<Arc<DeviceBuffer>, CudaError> {
        if self.buffer.is_none() {
            self.buffer = Some(Arc::new(pool.buffer(self.bytes)?));
        }
        self.buffer.clone().ok_or_else(|| CudaError::BadArgument { what: "a clip without a place".into() })
    }
}

/// GPU memory for clips; shared by all threads.
pub(super) struct ClipGpu {
    pub(super) device: Arc<CudaDevice>,
    clips: DevicePool,
    images: DevicePool,
}

impl ClipGpu {
    pub(super) fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let (clips, images) = (DevicePool::new(device, KEEP_CLIPS_BYTES)?, DevicePool::new(device, KEEP_PICTURES_BYTES)?);
        Ok(Self { device: Arc::clone(device), clips, images })
    }

    /// Number of threads that keeps all engines busy.
    pub(super) fn threads(&self) -> usize {
        let engines = engines(&self.device, framerail_cuda::nvdec::NvdecCodec::H264, 8);
        engines * THREADS_PER_ENGINE + SPARE_THREADS
    }

    /// Uploads a clip that was made on the host.
    pub(super) fn upload(&self, bytes: &[u8], place: &mut GpuPlace, stream: &CudaStream) -> Result<(), CudaError> {
        place.take(&self.clips)?.upload(0, bytes, stream)
    }
}

/// Converts a frame to every part of a clip, at its positions.
struct GpuFrames {
    parts: Vec<TensorFrames>,
    slots: GpuSlots,
    pool: DevicePool,
}

impl GpuFrames {
    /// Converts a frame to all its positions, which are `image_bytes` apart.
    fn place(
        &self,
        tag: i64,
        planes: &DevicePlanes<'_>,
        (color, aspect): (&ColorDescription, Option<Rational>),
        stream: &CudaStream,
    ) -> Result<InPlace, CudaError> {
        let slots = self.slots.of(tag)?;
        let mut bytes = 0;
        for slot in &slots {
            let Some(part) = self.parts.get(slot.part) else { continue };
            bytes = part.convert_to(planes, (color, aspect), slot, stream)?;
        }
        Ok(InPlace { slots, bytes })
    }
}

impl MakeSurface for GpuFrames {
    fn make(&self, image: &MappedFrame<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        self.make_tagged(image, color, 0)
    }

    fn make_tagged(&self, image: &MappedFrame<'_>, color: &ColorDescription, tag: i64) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        Ok(Arc::new(self.place(tag, &image.planes, (color, image.format.sample_aspect_ratio), image.stream)?))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.parts.iter().map(|part| part.bytes(format)).sum()
    }
}

enum Engine {
    Gpu(Box<DevicePieces>, Arc<DeviceSetup>),
    Host(Box<CpuPieces>),
}

/// A source whose clips are made on a GPU.
pub(super) struct GpuSource {
    packets: PieceSource,
    engine: Engine,
    images: Arc<GpuFrames>,
}

impl GpuSource {
    /// # Errors
    /// `NotOnDevice` for clips that must be made on the host.
    pub(super) fn new(
        gpu: &ClipGpu,
        input: Input,
        index: &Arc<FrameIndex>,
        rotation: framerail_media::RotationPolicy,
        parts: Vec<TensorOptions>,
        by_core: bool,
    ) -> Result<Self, ReaderError> {
        let source_name = input.info().source.to_string();
        if index.access != Access::ByTime {
            let reason = "the packet index does not match the decoded frames, which are counted from the start on the CPU".into();
            return Err(ReaderError::NotOnDevice { source_name, reason });
        }
        let parts = parts.into_iter().map(|part| TensorFrames::new(part, gpu.images.clone())).collect();
        let images = Arc::new(GpuFrames { parts, slots: GpuSlots::default(), pool: gpu.images.clone() });
        let on_gpu = if by_core {
            Err(ReaderError::NotOnDevice { source_name, reason: "the CPU decodes it".into() })
        } else {
            Self::engine(gpu, &input, rotation, &images)
        };
        let engine = match on_gpu {
            Ok(engine) => engine,
            // The GPU converts what a core decodes.
            Err(ReaderError::NotOnDevice { .. }) => {
                let mut setup = input.decoder_setup();
                setup.threads = 1;
                Engine::Host(Box::new(CpuPieces::new(&setup, &FramePool::new(KEPT_FRAMES))?))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { packets: PieceSource::at_start(input, Arc::clone(index)), engine, images })
    }

    fn engine(
        gpu: &ClipGpu,
        input: &Input,
        rotation: framerail_media::RotationPolicy,
        images: &Arc<GpuFrames>,
    ) -> Result<Engine, ReaderError> {
        let (codec, _) = check(input, &gpu.device)?;
        let make = Arc::clone(images) as Arc<dyn MakeSurface>;
        let setup = setup(&DecodingCard { device: Arc::clone(&gpu.device), make }, codec, input, rotation)?;
        Ok(Engine::Gpu(Box::new(DevicePieces::new(&setup)?), setup))
    }

    /// Whether a CPU core decodes.
    pub(super) fn is_by_core(&self) -> bool {
        matches!(self.engine, Engine::Host(_))
    }

    /// Makes clips and visits each GOP once. Their frames must already be drawn.
    ///
    /// # Errors
    /// `NotOnDevice` for clips that must be made on the host, for instance damaged ones.
    pub(super) fn make(
        &mut self,
        gpu: &ClipGpu,
        (stream, staging): (&CudaStream, &PinnedPool),
        output: &SourceOutput,
        augment: Option<&ClipAugment>,
        requests: &mut [Request],
    ) -> Result<Vec<LoadedClip>, ReaderError> {
        let source_name = output.source_name.clone();
        let failed = |error| ReaderError::Cuda { source_name: source_name.clone(), error };
        let not_here = |reason: &str| ReaderError::NotOnDevice { source_name: source_name.clone(), reason: reason.to_owned() };
        let clips: Vec<Clip> = requests.iter().filter_map(|request| request.drawn.clone()).collect();
        let image_bytes = output.gpu_parts.first().map_or(0, |part| part.image_bytes(0, 0));
        let (read_parts, index) = (self.images.parts.len(), Arc::clone(self.packets.index()));
        let most = clips.iter().map(|clip| clip.frames.len()).max().unwrap_or(0);
        let (mut places, mut numbers) = (HashMap::<i64, Vec<Place>>::new(), BTreeSet::new());
        for (batch, clip) in clips.iter().enumerate() {
            for (frame, number) in clip.frames.iter().enumerate() {
                numbers.insert(*number);
                let Some(tag) = index.place(*number) else { continue };
                let place = |part| Place { batch, offset: (part * clip.frames.len() + frame) * image_bytes, part };
                places.entry(tag as i64).or_default().extend((0..read_parts).map(place));
            }
        }
        // Frames that are augmented are first converted to a separate buffer.
        let read_bytes = image_bytes * most * read_parts;
        let memory = |request: &mut Request| match &output.augment {
            Some(_) => gpu.clips.buffer(read_bytes).map(Arc::new),
            None => request.gpu_memory(&gpu.clips),
        };
        let buffers = requests.iter_mut().map(memory).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        self.images.slots.begin_in(Places::Listed(places), &gpu.clips, buffers.clone());
        let mut sink = Sink {
            index,
            wanted: &numbers,
            images: Arc::clone(&self.images),
            thread: (stream, staging),
            staged: Vec::new(),
            image_bytes,
            found: HashMap::new(),
            error: None,
        };
        let engine = &mut self.engine;
        let decoded = self.packets.pieces(numbers.iter().copied(), |piece| match engine {
            Engine::Gpu(pieces, _) => pieces.decode(&piece, &mut sink).map(drop),
            Engine::Host(pieces) => pieces.decode(&piece, &mut sink).map(drop),
        });
        let (found, error) = (std::mem::take(&mut sink.found), sink.error.take());
        drop(sink);
        self.images.slots.end();
        if let Some(error) = error {
            return Err(error);
        }
        decoded?;
        if self.packets.changes_headers() {
            return Err(not_here("its global headers change within the file"));
        }
        if found.len() < numbers.len() {
            return Err(not_here("frames are missing"));
        }
        let mut made = Vec::with_capacity(requests.len());
        for ((request, clip), buffer) in requests.iter_mut().zip(&clips).zip(buffers) {
            if let (Some(spec), Some(augment)) = (&output.augment, augment) {
                let clip_buffer = request.gpu_memory(&gpu.clips).map_err(failed)?;
                let (from, to) = (spec.input.image_bytes() * clip.frames.len(), spec.output.image_bytes() * clip.frames.len());
                for part in 0..output.shape.parts {
                    // Crops of a clip share its random numbers, views do not.
                    let (draw, source) = if read_parts > 1 { (0, part) } else { (part as u64, 0) };
                    let (width, height) = (spec.input.width, spec.input.height);
                    let params = augment.description.draw(request.item.seed, draw, clip.frames.len(), width, height);
                    let params = params.map_err(|error| ReaderError::Convert { source_name: source_name.clone(), error })?;
                    let job = AugmentJob {
                        params: &params,
                        input: &buffer,
                        input_offset_bytes: source * from,
                        output: &clip_buffer,
                        output_offset_bytes: part * to,
                    };
                    augment_batch(stream, &gpu.clips, spec, &job).map_err(failed)?;
                }
            }
            made.push(LoadedClip {
                numbers: clip.frames.clone(),
                seconds: clip
                    .frames
                    .iter()
                    .filter_map(|number| self.packets.index().times().get(*number))
                    .map(|time| time.seconds)
                    .collect(),
                statuses: clip.frames.iter().filter_map(|number| found.get(number).copied()).collect(),
                filled: clip.filled,
            });
        }
        Ok(made)
    }

    /// Decoded frames, shown or not, and transfers since the last call.
    pub(super) fn take_done(&mut self) -> Done {
        let of_thread = Traffic::take();
        match &mut self.engine {
            Engine::Host(pieces) => Done { images: pieces.take_frames(), traffic: of_thread },
            Engine::Gpu(_, setup) => {
                let done = std::mem::take(&mut *setup.done.lock());
                Done { traffic: done.traffic.plus(of_thread), ..done }
            }
        }
    }
}

/// Records which frames reached their positions; converts those that a CPU core decoded.
struct Sink<'a> {
    index: Arc<FrameIndex>,
    /// Numbers of the frames that have positions.
    wanted: &'a BTreeSet<usize>,
    images: Arc<GpuFrames>,
    /// The thread's stream and its page-locked memory.
    thread: (&'a CudaStream, &'a PinnedPool),
    /// Kept until the clip is made, so that each of its frames has separate memory and none waits for a copy.
    staged: Vec<HostSurface>,
    image_bytes: usize,
    found: HashMap<usize, FrameStatus>,
    error: Option<ReaderError>,
}

impl Sink<'_> {
    fn number(&self, tag: i64) -> Option<usize> {
        self.index.number_at(usize::try_from(tag).ok()?).filter(|number| self.wanted.contains(number))
    }

    fn place(&mut self, number: usize, made: &InPlace, status: FrameStatus) -> Result<(), CudaError> {
        if made.bytes != self.image_bytes {
            let what = format!("a frame of {} bytes in a clip of {} each", made.bytes, self.image_bytes);
            return Err(CudaError::BadArgument { what });
        }
        self.found.insert(number, status);
        Ok(())
    }

    /// Records an error; the host then makes the clip.
    fn note(&mut self, outcome: Result<(), CudaError>) {
        if let Err(error) = outcome {
            let reason = error.to_string();
            let made = match error {
                CudaError::OutOfMemory { .. } | CudaError::Driver { .. } | CudaError::DeviceLost { .. } => {
                    ReaderError::Cuda { source_name: String::from("a clip"), error }
                }
                _ => ReaderError::NotOnDevice { source_name: String::from("a clip"), reason },
            };
            self.error.get_or_insert(made);
        }
    }
}

impl PieceOutput<DeviceFrame> for Sink<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        if self.error.is_some() { Err(ReaderError::Closed) } else { Ok(()) }
    }

    fn push(&mut self, image: Tagged<DeviceFrame>) {
        let Some(number) = self.number(image.tag) else { return };
        let status = if image.image.has_errors { FrameStatus::Repaired } else { FrameStatus::Ok };
        let outcome = match image.image.surface.as_any().downcast_ref() {
            Some(made) => self.place(number, made, status),
            None => Ok(()),
        };
        self.note(outcome);
    }
}

impl PieceOutput<Frame> for Sink<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        if self.error.is_some() { Err(ReaderError::Closed) } else { Ok(()) }
    }

    fn push(&mut self, image: Tagged<Frame>) {
        let (Some(number), frame) = (self.number(image.tag), image.image) else { return };
        let host = match frame.surface.host() {
            Ok(host) => host,
            Err(error) => {
                self.error.get_or_insert(MediaError::from(error).into());
                return;
            }
        };
        let status = if frame.status == Decoded::Ok { FrameStatus::Ok } else { FrameStatus::Repaired };
        let (stream, staging) = self.thread;
        let staged = staging.copied(host).and_then(|host| {
            let surface = CudaSurface::upload(&host, &self.images.pool, stream)?;
            self.staged.push(host);
            Ok(surface)
        });
        let outcome = staged.and_then(|surface| {
            surface.buffer().begin_read(stream)?;
            let made = self.images.place(image.tag, &surface.planes(), (&frame.color, frame.sample_aspect_ratio), stream);
            surface.buffer().end_read(stream)?;
            made
        });
        let outcome = outcome.and_then(|made| self.place(number, &made, status));
        self.note(outcome);
    }
}
