//! Frames by number, decoded on a GPU and gathered into dense batches in its memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use framerail_core::DeviceSurface;
use framerail_cuda::{CudaDevice, CudaError, CudaStream, CudaTensor, DeviceBuffer, DevicePool};
use framerail_media::{Input, InputOptions};
use framerail_vision::{ChannelOrder, TensorOptions};
use parking_lot::Mutex;

use crate::{
    Batch, CudaBatch, FrameInfo, FrameStatus, HostTensor, ReaderError, Tensor,
    batch::ImageShape,
    batches::{Order, Outlet},
    device::{DecodingCard, check, in_turn, setups},
    device_pieces::{DeviceFrame, DevicePieces, DeviceSetup},
    frame_index::{Access, FrameIndex},
    gpu_slots::{GpuSlots, InPlace, Place, Places},
    parallel::{Ahead, MakeDecoder, ParallelDecoder},
    piece_frames::{NextFrame, PieceFrames},
    piece_source::PieceSource,
    tensors::TensorFrames,
    video::{Fault, Target, Video},
};

/// Bytes of batch memory, and of frame memory, kept for reuse.
const KEEP_BATCHES_BYTES: usize = 512 << 20;
const KEEP_PICTURES_BYTES: usize = 256 << 20;
/// The same, while no reader is open.
const KEEP_UNUSED_BYTES: usize = 64 << 20;
/// Limits for frames decoded ahead: this fraction of the free memory, and this number of bytes.
const MEMORY_SHARE: u64 = 4;
const MAX_AHEAD_BYTES: u64 = 3 << 30;
/// Number of earlier frames that are tried in place of a missing one.
const MAX_TRIES: usize = 64;

/// A GPU's memory for batches and frames, shared by all readers of the process: a new reader reuses the memory of earlier ones.
struct GpuPools {
    batches: DevicePool,
    images: DevicePool,
}

impl GpuPools {
    fn of(device: &Arc<CudaDevice>) -> Result<Arc<Self>, CudaError> {
        static KNOWN: Mutex<BTreeMap<u32, Arc<GpuPools>>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock();
        if let Some(pools) = known.get(&device.info().ordinal) {
            return Ok(Arc::clone(pools));
        }
        let (batches, images) = (DevicePool::new(device, KEEP_BATCHES_BYTES)?, DevicePool::new(device, KEEP_PICTURES_BYTES)?);
        let pools = Arc::new(Self { batches, images });
        known.insert(device.info().ordinal, Arc::clone(&pools));
        Ok(pools)
    }
}

/// A reader's share of a GPU's memory. Dropping the last one frees most of it.
struct Share(Arc<GpuPools>);

impl Drop for Share {
    fn drop(&mut self) {
        // The remaining reference belongs to the list of pools.
        if Arc::strong_count(&self.0) <= 2 {
            self.0.batches.shrink(KEEP_UNUSED_BYTES);
            self.0.images.shrink(KEEP_UNUSED_BYTES);
        }
    }
}

/// A GPU's memory for batches; shared by a reader's threads.
#[derive(Clone)]
pub(crate) struct GpuMemory {
    pub(crate) device: Arc<CudaDevice>,
    batches: DevicePool,
    /// The decoding GPUs, with their memory for frames.
    images: Vec<DevicePool>,
    _shares: Arc<Vec<Share>>,
}

impl GpuMemory {
    /// Batches on a GPU, which also decodes unless `decode_on` names others.
    pub(crate) fn new(device: &Arc<CudaDevice>, decode_on: &[Arc<CudaDevice>]) -> Result<Self, CudaError> {
        let decode_on = if decode_on.is_empty() { std::slice::from_ref(device) } else { decode_on };
        let own = GpuPools::of(device)?;
        let shares = decode_on.iter().map(|gpu| GpuPools::of(gpu).map(Share)).collect::<Result<Vec<_>, _>>()?;
        let images = shares.iter().map(|share| share.0.images.clone()).collect();
        let batches = own.batches.clone();
        let shares = shares.into_iter().chain([Share(own)]).collect();
        Ok(Self { device: Arc::clone(device), batches, images, _shares: Arc::new(shares) })
    }

    /// The decoding GPUs.
    pub(crate) fn decoding(&self) -> impl Iterator<Item = &Arc<CudaDevice>> {
        self.images.iter().map(DevicePool::device)
    }

    /// Uploads a batch that was made on the host.
    pub(crate) fn upload(&self, tensor: &HostTensor) -> Result<CudaBatch, CudaError> {
        let bytes = tensor.as_bytes();
        let buffer = self.batches.buffer(bytes.len())?;
        if !bytes.is_empty() {
            let stream = CudaStream::new(&self.device)?;
            buffer.upload(0, bytes, &stream)?;
        }
        let count = tensor.shape().first().copied().unwrap_or(0);
        Ok(CudaBatch::new(count, tensor.image().clone(), Arc::new(buffer)))
    }
}

/// Rejects options that a GPU does not support.
pub(crate) fn check_output(output: &crate::OutputOptions) -> Result<TensorOptions, ReaderError> {
    let refuse = |name, reason: &str| Err(ReaderError::BadOption { name, reason: reason.into() });
    match output {
        crate::OutputOptions::Tensor(options) => Ok(*options),
        crate::OutputOptions::Swscale(_) => refuse("exact", "swscale works on the CPU only; use device=cpu"),
        crate::OutputOptions::Yuv => refuse("output", "decoded planes are available on the CPU only; use device=cpu"),
    }
}

/// Why frames are decoded and converted on the host and uploaded, if the GPU does not support the output.
fn on_the_host(options: &TensorOptions) -> Option<&'static str> {
    match options.channel_order {
        ChannelOrder::Rgba => Some("GPUs do not decode alpha"),
        ChannelOrder::Gray if options.tone_map.is_some() => Some("grey frames are tone-mapped on the CPU"),
        _ => None,
    }
}

/// The GPU decoders of one file.
pub(crate) struct DeviceFrames {
    frames: PieceFrames<DevicePieces>,
    /// One per GPU.
    setups: Vec<Arc<DeviceSetup>>,
    source_name: String,
}

impl DeviceFrames {
    /// GPU decoders for an input at any position; default: one more per GPU than it has engines. Up to `window` frames wait for their turn.
    ///
    /// # Errors
    /// `NotOnDevice` when a GPU cannot decode it, or when packets do not identify frames.
    pub(crate) fn new(
        input: Input,
        index: Arc<FrameIndex>,
        options: &InputOptions,
        gpus: &[DecodingCard],
        decoders: Option<usize>,
        window: usize,
    ) -> Result<Self, ReaderError> {
        let (mut of_all, mut kind) = (0, None);
        for gpu in gpus {
            let (codec, coded) = check(&input, &gpu.device)?;
            of_all += gpu.decoders(codec, coded.bits());
            kind = Some(codec);
        }
        let source_name = input.info().source.to_string();
        if index.access != Access::ByTime {
            return Err(not_on_device(
                &source_name,
                "the packet index does not match the decoded frames, which are counted from the start \
                                                    on the CPU",
            ));
        }
        let setups = kind.map(|codec| setups(gpus, codec, &input, options.rotation)).transpose()?.unwrap_or_default();
        let decoders = decoders.unwrap_or(of_all).max(1);
        let next = in_turn(&setups);
        let make: MakeDecoder<DevicePieces> = Arc::new(move || DevicePieces::new(&next()));
        let ahead = Ahead { workers: decoders, frames: window.max(decoders), adapts: false };
        let frames = PieceFrames::new(PieceSource::new(input, index), ParallelDecoder::new(ahead, make));
        Ok(Self { frames, setups, source_name })
    }

    /// Frames decoded by the GPUs.
    fn pictures_decoded(&self) -> u64 {
        self.setups.iter().map(|setup| setup.done.lock().images).sum()
    }

    /// See [`PieceFrames::pictures`].
    pub(crate) fn images(&mut self, numbers: &[usize]) -> Result<HashMap<usize, DeviceFrame>, ReaderError> {
        self.frames.images(numbers)?.ok_or_else(|| self.headers_change())
    }

    /// The next frame after [`PieceFrames::begin`]; `None` at the end.
    fn next(&mut self) -> Result<Option<(usize, DeviceFrame)>, ReaderError> {
        match self.frames.next()? {
            NextFrame::Frame(number, image) => Ok(Some((number, image))),
            NextFrame::End => Ok(None),
            NextFrame::NotInPieces => Err(self.headers_change()),
        }
    }

    pub(crate) fn index(&self) -> &Arc<FrameIndex> {
        self.frames.index()
    }

    fn headers_change(&self) -> ReaderError {
        not_on_device(&self.source_name, "its global headers change within the file, so frames are counted from the start on the CPU")
    }
}

fn not_on_device(source_name: &str, reason: &str) -> ReaderError {
    ReaderError::NotOnDevice { source_name: source_name.to_owned(), reason: reason.to_owned() }
}

/// Reads frames by number on a GPU.
pub(crate) struct DeviceEngine {
    video: Arc<Video>,
    target: Target,
    memory: GpuMemory,
    frames: DeviceFrames,
    stream: CudaStream,
    /// Positions of frames in the batches in progress.
    slots: Arc<GpuSlots>,
    pictures_decoded: u64,
}

impl DeviceEngine {
    /// Creates the GPU decoders for the video.
    ///
    /// # Errors
    /// `NotOnDevice` when the CPU must decode; `Media`, `Cuda`.
    pub(crate) fn new(video: &Arc<Video>, index: &Arc<FrameIndex>, target: &Target, memory: &GpuMemory) -> Result<Self, ReaderError> {
        let failed = |error| cuda_error(video, error);
        let options = check_output(&target.output)?;
        if let Some(reason) = on_the_host(&options) {
            return Err(ReaderError::NotOnDevice { source_name: video.source_name().to_owned(), reason: reason.to_owned() });
        }
        let options = options.pinned(target.kind.width, target.kind.height);
        let (mut gpus, mut ahead_bytes) = (Vec::with_capacity(memory.images.len()), 0);
        let slots = Arc::new(GpuSlots::default());
        for pool in &memory.images {
            let tensors = TensorFrames::new(options, pool.clone());
            // Frames decoded by another GPU are copied over the link between the two.
            let is_here = pool.device().id() == memory.device.id();
            let make = Arc::new(if is_here { tensors.with_slots(&slots) } else { tensors });
            ahead_bytes += (pool.device().free_memory_lately().map_err(failed)? / MEMORY_SHARE).min(MAX_AHEAD_BYTES);
            gpus.push(DecodingCard { device: Arc::clone(pool.device()), make });
        }
        let window = usize::try_from(ahead_bytes / (target.shape().bytes().max(1) as u64)).unwrap_or(usize::MAX);
        let frames = DeviceFrames::new(video.open()?, Arc::clone(index), &video.input, &gpus, None, window)?;
        let stream = CudaStream::new(&memory.device).map_err(failed)?;
        Ok(Self { video: Arc::clone(video), target: target.clone(), memory: memory.clone(), frames, stream, slots, pictures_decoded: 0 })
    }

    /// Returns the frames as one batch, in the order requested.
    pub(crate) fn read(&mut self, numbers: &[usize]) -> Result<Batch, Fault> {
        let made = self.read_batch(numbers);
        self.slots.end();
        made
    }

    fn read_batch(&mut self, numbers: &[usize]) -> Result<Batch, Fault> {
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        numbers.iter().enumerate().for_each(|(place, number)| places.entry(*number).or_default().push(place));
        let bytes = self.target.shape().bytes();
        let index = Arc::clone(self.frames.index());
        let of_number = |(number, places): (&usize, &Vec<usize>)| {
            let slots = places.iter().map(|place| Place { batch: 0, offset: place * bytes, part: 0 }).collect();
            Some((index.place(*number)? as i64, slots))
        };
        let mut gathering = self.gather(numbers.len(), Places::Listed(places.iter().filter_map(of_number).collect()), numbers.len())?;
        // The number of frames waiting in the decoders' memory is bounded by the batch.
        let wanted: Vec<usize> = places.keys().copied().collect();
        self.frames.frames.begin(&wanted);
        let mut statuses = BTreeMap::new();
        let deadline = self.video.deadline();
        while let Some((number, image)) = self.frames.next()? {
            deadline.check(|| format!("the GPU is at frame {number}, {} of {} are decoded", statuses.len(), wanted.len()))?;
            let status = status_of(&image);
            self.check_size(&image)?;
            for place in places.get(&number).into_iter().flatten() {
                self.put(&mut gathering, *place, &image.surface)?;
            }
            statuses.insert(number, status);
        }
        for number in wanted.iter().filter(|number| !statuses.contains_key(number)).copied().collect::<Vec<_>>() {
            let surface = self.stand_in(number)?;
            for place in places.get(&number).into_iter().flatten() {
                self.put(&mut gathering, *place, &surface)?;
            }
        }
        self.count();
        let status = |number: &usize| statuses.get(number).copied().unwrap_or(FrameStatus::Missing);
        let info = |number: &usize| self.video.info(self.frames.index(), *number, status(number));
        let frames = numbers.iter().map(info).collect::<Result<Vec<_>, _>>()?;
        Ok(gathering.batch(frames))
    }

    /// Sends batches of rising frames, decoded ahead as far as memory allows.
    pub(crate) fn stream(&mut self, order: &Order, outlet: &Outlet) -> Result<(), Fault> {
        let done = self.stream_batches(order, outlet);
        self.slots.end();
        done
    }

    fn stream_batches(&mut self, order: &Order, outlet: &Outlet) -> Result<(), Fault> {
        let mut unique = order.numbers.to_vec();
        unique.dedup();
        self.frames.frames.begin(&unique);
        let mut ahead: Option<(usize, DeviceFrame)> = None;
        let mut last: Option<(usize, Arc<dyn DeviceSurface>, FrameStatus)> = None;
        let (batch, image) = (order.batch.max(1), self.target.shape());
        let places = Places::Rising {
            index: Arc::clone(self.frames.index()),
            numbers: Arc::clone(&order.numbers),
            batch,
            image_bytes: image.bytes(),
        };
        let most = batch.min(order.numbers.len());
        self.begin_batches(places, most);
        for (batch, numbers) in order.numbers.chunks(batch).enumerate() {
            let mut gathering = self.gathering(batch, numbers.len())?;
            let mut frames = Vec::with_capacity(numbers.len());
            for (place, number) in numbers.iter().enumerate() {
                outlet.at(*number);
                if outlet.is_stopped() {
                    return Ok(());
                }
                while last.as_ref().is_none_or(|(shown, ..)| shown < number) {
                    if ahead.is_none() {
                        ahead = self.frames.next()?;
                        if let Some((_, image)) = &ahead {
                            self.check_size(image)?;
                        }
                    }
                    last = Some(match (ahead.take(), last.take()) {
                        (Some((found, image)), _) if found <= *number => (found, Arc::clone(&image.surface), status_of(&image)),
                        // The decoder did not output it: the frame shown before stays.
                        (other, Some((_, surface, _))) => {
                            ahead = other;
                            (*number, surface, FrameStatus::Missing)
                        }
                        (other, None) => {
                            ahead = other;
                            let mut alone = DeviceEngine::new(&self.video, self.frames.index(), &self.target, &self.memory)?;
                            (*number, alone.stand_in(*number)?, FrameStatus::Missing)
                        }
                    });
                }
                let Some((_, surface, status)) = &last else { continue };
                self.put(&mut gathering, place, surface)?;
                frames.push(self.video.info(self.frames.index(), *number, *status)?);
            }
            self.count();
            if !outlet.send(gathering.batch(frames)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Checks that a frame has the size in the header, while only the header is known.
    fn check_size(&mut self, image: &DeviceFrame) -> Result<(), Fault> {
        let kind = self.target.kind;
        if !self.target.is_seen && image.format.size != (kind.width, kind.height) {
            return Err(Fault::OtherKind);
        }
        self.target.is_seen = true;
        self.video.counters.frames_rescaled.add(u64::from(image.format.size != (kind.width, kind.height)));
        Ok(())
    }

    /// Begins batches of up to `most` frames, with the positions of frames in them.
    fn begin_batches(&self, places: Places, most: usize) {
        self.slots.begin(places, &self.memory.batches, (self.target.shape().bytes() * most).max(1));
    }

    /// Begins and takes the only batch.
    fn gather(&self, count: usize, places: Places, most: usize) -> Result<Gathering, ReaderError> {
        self.begin_batches(places, most);
        self.gathering(0, count)
    }

    fn gathering(&self, batch: usize, count: usize) -> Result<Gathering, ReaderError> {
        let buffer = self.slots.take(batch).map_err(|error| cuda_error(&self.video, error))?;
        Ok(Gathering { count, image: self.target.shape(), buffer })
    }

    /// Copies a frame to its position if the conversion did not write it there: frames that stand in for another, or that another GPU
    /// decoded. The copy is queued without waiting.
    fn put(&self, gathering: &mut Gathering, place: usize, surface: &Arc<dyn DeviceSurface>) -> Result<(), ReaderError> {
        let bytes = gathering.image.bytes();
        let failed = |error| cuda_error(&self.video, error);
        let (tensor, made): (Option<&CudaTensor>, Option<&InPlace>) = (surface.as_any().downcast_ref(), surface.as_any().downcast_ref());
        let (source, from, have) = match (tensor, made.and_then(|made| Some((made, made.slots.first()?)))) {
            (Some(tensor), _) => (tensor.buffer(), 0, tensor.spec().image_bytes()),
            (None, Some((made, slot))) => (&*slot.buffer, slot.offset, made.bytes),
            (None, None) => return Err(failed(CudaError::BadArgument { what: "a frame that is not a tensor".into() })),
        };
        if have != bytes {
            return Err(failed(CudaError::BadArgument { what: format!("a frame of {have} bytes in a batch of {bytes} each") }));
        }
        self.video.counters.pictures_converted.add(1);
        if made.is_some_and(|made| made.slots.iter().any(|slot| slot.is_at(&gathering.buffer, place * bytes))) {
            return Ok(());
        }
        self.video.counters.device_copies.add(1);
        gathering.buffer.copy_from(place * bytes, source, from, bytes, &self.stream).map_err(failed)
    }

    /// The nearest decodable frame before a missing one.
    fn stand_in(&mut self, number: usize) -> Result<Arc<dyn DeviceSurface>, Fault> {
        let first = number.saturating_sub(MAX_TRIES);
        let before: Vec<usize> = (first..number).collect();
        let mut found = self.frames.images(&before)?;
        let nearest = before.iter().rev().find_map(|before| found.remove(before));
        let reason = "neither it nor a frame before it can be decoded";
        let error = || Fault::Error(self.video.decode_error(self.frames.index(), number, reason));
        nearest.map(|image| image.surface).ok_or_else(error)
    }

    fn count(&mut self) {
        let counters = &self.video.counters;
        let (seeks, skipped) = self.frames.frames.take_counts();
        counters.seeks.add(seeks);
        counters.packets_skipped.add(skipped);
        let decoded = self.frames.pictures_decoded();
        counters.pictures_decoded.add(decoded.saturating_sub(self.pictures_decoded));
        self.pictures_decoded = decoded;
    }
}

/// A batch being filled.
struct Gathering {
    count: usize,
    image: ImageShape,
    buffer: Arc<DeviceBuffer>,
}

impl Gathering {
    fn batch(self, frames: Vec<FrameInfo>) -> Batch {
        Batch { tensor: Tensor::Cuda(CudaBatch::new(self.count, self.image, self.buffer)), frames }
    }
}

fn status_of(image: &DeviceFrame) -> FrameStatus {
    if image.has_errors { FrameStatus::Repaired } else { FrameStatus::Ok }
}

fn cuda_error(video: &Video, error: CudaError) -> ReaderError {
    ReaderError::Cuda { source_name: video.source_name().to_owned(), error }
}
