//! Clips made in the memory of a card: decoded by its engines, or by a core and uploaded as decoded, and converted there either way.

use std::{any::Any, collections::HashMap, sync::Arc};

use framerail_core::{ColorDescription, Device, DeviceSurface, Frame, FramePool, FrameStatus as Decoded};
use framerail_cuda::{
    CudaDevice, CudaError, CudaStream, CudaSurface, CudaTensor, DeviceBuffer, DevicePool,
    kernels::{AugmentJob, augment_batch},
    nvdec::{MappedPicture, StreamFormat},
};
use framerail_media::{Input, MediaError};
use framerail_vision::TensorOptions;

use super::{ClipAugment, LoadedClip, output::SourceOutput, queue::Request};
use crate::{
    Clip, CpuPieces, FrameStatus, PieceDecoder, PieceOutput, ReaderError, Tagged,
    device::{DecodingCard, check, engines, setup},
    device_pieces::{DevicePicture, DevicePieces, DeviceSetup, MakeSurface},
    frame_index::{Access, FrameIndex},
    piece_source::PieceSource,
    tensors::TensorPictures,
};

/// Bytes of clips, and of pictures, that are kept for the next ones.
const KEEP_CLIPS_BYTES: usize = 256 << 20;
const KEEP_PICTURES_BYTES: usize = 256 << 20;
/// Threads for each engine: while one reads packets, another decodes.
const THREADS_PER_ENGINE: usize = 2;
const SPARE_THREADS: usize = 2;
/// Buffers kept for frames that are copied on the host: turned or converted ones.
const KEPT_FRAMES: usize = 2;

/// A place for a clip in a card's memory, which is taken once the clip is made.
#[derive(Debug)]
pub struct CardPlace {
    /// Bytes of a clip.
    pub bytes: usize,
    /// The clip.
    pub buffer: Option<DeviceBuffer>,
}

impl CardPlace {
    /// A place for a clip of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, buffer: None }
    }
}

/// The card's memory for clips; shared by all threads.
pub(super) struct ClipCard {
    pub(super) device: Arc<CudaDevice>,
    clips: DevicePool,
    pictures: DevicePool,
}

impl ClipCard {
    pub(super) fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let (clips, pictures) = (DevicePool::new(device, KEEP_CLIPS_BYTES)?, DevicePool::new(device, KEEP_PICTURES_BYTES)?);
        Ok(Self { device: Arc::clone(device), clips, pictures })
    }

    /// Threads that keep all engines busy.
    pub(super) fn threads(&self) -> usize {
        let engines = engines(&self.device, framerail_cuda::nvdec::NvdecCodec::H264, 8);
        engines * THREADS_PER_ENGINE + SPARE_THREADS
    }

    /// A clip that was made on the host.
    pub(super) fn upload(&self, bytes: &[u8], stream: &CudaStream) -> Result<DeviceBuffer, CudaError> {
        let buffer = self.clips.buffer(bytes.len())?;
        buffer.upload(0, bytes, stream)?;
        Ok(buffer)
    }
}

/// What is made of a picture: a tensor for each part of a clip.
struct CardPictures {
    parts: Vec<TensorPictures>,
    pool: DevicePool,
}

#[derive(Debug)]
struct CardPicture(Vec<CudaTensor>);

impl DeviceSurface for CardPicture {
    fn device(&self) -> Device {
        self.0.first().map_or(Device::Cpu, DeviceSurface::device)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl MakeSurface for CardPictures {
    fn make(&self, picture: &MappedPicture<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        let aspect = picture.format.sample_aspect_ratio;
        let tensor = |part: &TensorPictures| part.convert(&picture.planes, color, aspect, picture.stream);
        Ok(Arc::new(CardPicture(self.parts.iter().map(tensor).collect::<Result<_, _>>()?)))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.parts.iter().map(|part| part.bytes(format)).sum()
    }
}

enum Engine {
    Card(Box<DevicePieces>, Arc<DeviceSetup>),
    Host(Box<CpuPieces>),
}

/// A source whose clips are made on a card.
pub(super) struct CardSource {
    packets: PieceSource,
    engine: Engine,
    pictures: Arc<CardPictures>,
}

impl CardSource {
    /// # Errors
    /// `NotOnDevice` for what must be made on the host.
    pub(super) fn new(
        card: &ClipCard,
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
        let parts = parts.into_iter().map(|part| TensorPictures::new(part, card.pictures.clone())).collect();
        let pictures = Arc::new(CardPictures { parts, pool: card.pictures.clone() });
        let on_card = if by_core {
            Err(ReaderError::NotOnDevice { source_name, reason: "a core decodes it".into() })
        } else {
            Self::engine(card, &input, rotation, &pictures)
        };
        let engine = match on_card {
            Ok(engine) => engine,
            // The card converts what a core decodes.
            Err(ReaderError::NotOnDevice { .. }) => {
                let mut setup = input.decoder_setup();
                setup.threads = 1;
                Engine::Host(Box::new(CpuPieces::new(&setup, &FramePool::new(KEPT_FRAMES))?))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { packets: PieceSource::at_start(input, Arc::clone(index)), engine, pictures })
    }

    fn engine(
        card: &ClipCard,
        input: &Input,
        rotation: framerail_media::RotationPolicy,
        pictures: &Arc<CardPictures>,
    ) -> Result<Engine, ReaderError> {
        let (codec, _) = check(input, &card.device)?;
        let make = Arc::clone(pictures) as Arc<dyn MakeSurface>;
        let setup = setup(&DecodingCard { device: Arc::clone(&card.device), make }, codec, input, rotation)?;
        Ok(Engine::Card(Box::new(DevicePieces::new(&setup)?), setup))
    }

    /// Whether a core decodes.
    pub(super) fn is_by_core(&self) -> bool {
        matches!(self.engine, Engine::Host(_))
    }

    /// Makes clips with one visit of each group of pictures. Their frames were drawn.
    ///
    /// # Errors
    /// `NotOnDevice` for what must be made on the host: damage among it.
    pub(super) fn make(
        &mut self,
        card: &ClipCard,
        stream: &CudaStream,
        output: &SourceOutput,
        augment: Option<&ClipAugment>,
        requests: &mut [Request],
    ) -> Result<Vec<LoadedClip>, ReaderError> {
        let source_name = output.source_name.clone();
        let failed = |error| ReaderError::Cuda { source_name: source_name.clone(), error };
        let not_here = |reason: &str| ReaderError::NotOnDevice { source_name: source_name.clone(), reason: reason.to_owned() };
        let clips: Vec<Clip> = requests.iter().filter_map(|request| request.drawn.clone()).collect();
        let picture_bytes = output.card_parts.first().map_or(0, |part| part.picture_bytes(0, 0));
        let read_parts = self.pictures.parts.len();
        let mut sink = Sink {
            index: Arc::clone(self.packets.index()),
            pictures: Arc::clone(&self.pictures),
            stream,
            places: HashMap::new(),
            buffers: Vec::with_capacity(clips.len()),
            picture_bytes,
            found: HashMap::new(),
            error: None,
        };
        for (clip, numbers) in clips.iter().enumerate() {
            let frames = numbers.frames.len();
            sink.buffers.push(card.clips.buffer(picture_bytes * frames * read_parts).map_err(failed)?);
            for (frame, number) in numbers.frames.iter().enumerate() {
                let offsets = (0..read_parts).map(|part| (part * frames + frame) * picture_bytes).collect();
                sink.places.entry(*number).or_default().push((clip, offsets));
            }
        }
        let numbers: std::collections::BTreeSet<usize> = sink.places.keys().copied().collect();
        let engine = &mut self.engine;
        let decoded = self.packets.pieces(numbers.iter().copied(), |piece| match engine {
            Engine::Card(pieces, _) => pieces.decode(&piece, &mut sink).map(drop),
            Engine::Host(pieces) => pieces.decode(&piece, &mut sink).map(drop),
        });
        if let Some(error) = sink.error.take() {
            return Err(error);
        }
        decoded?;
        if self.packets.changes_headers() {
            return Err(not_here("its global headers change on the way"));
        }
        if sink.found.len() < numbers.len() {
            return Err(not_here("frames are missing"));
        }
        let mut made = Vec::with_capacity(requests.len());
        for ((request, clip), buffer) in requests.iter_mut().zip(&clips).zip(std::mem::take(&mut sink.buffers)) {
            let buffer = match (&output.augment, augment) {
                (Some(spec), Some(augment)) => {
                    let clip_buffer = card.clips.buffer(output.shape.bytes()).map_err(failed)?;
                    let (from, to) = (spec.input.picture_bytes() * clip.frames.len(), spec.output.picture_bytes() * clip.frames.len());
                    for part in 0..output.shape.parts {
                        // Crops of a clip share its numbers, views do not.
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
                        augment_batch(stream, &card.clips, spec, &job).map_err(failed)?;
                    }
                    clip_buffer
                }
                _ => buffer,
            };
            request.place_on_card(buffer);
            made.push(LoadedClip {
                numbers: clip.frames.clone(),
                seconds: clip
                    .frames
                    .iter()
                    .filter_map(|number| self.packets.index().times().get(*number))
                    .map(|time| time.seconds)
                    .collect(),
                statuses: clip.frames.iter().filter_map(|number| sink.found.get(number).copied()).collect(),
                filled: clip.filled,
            });
        }
        Ok(made)
    }

    /// Pictures that were decoded, shown or not, since the last call.
    pub(super) fn take_pictures(&mut self) -> u64 {
        match &mut self.engine {
            Engine::Host(pieces) => pieces.take_pictures(),
            Engine::Card(_, setup) => std::mem::take(&mut setup.done.lock().pictures),
        }
    }
}

/// Copies pictures to their places, on the card.
struct Sink<'a> {
    index: Arc<FrameIndex>,
    pictures: Arc<CardPictures>,
    stream: &'a CudaStream,
    /// Clip, and bytes from its start for each part, of each frame that is wanted.
    places: HashMap<usize, Vec<(usize, Vec<usize>)>>,
    buffers: Vec<DeviceBuffer>,
    picture_bytes: usize,
    found: HashMap<usize, FrameStatus>,
    error: Option<ReaderError>,
}

impl Sink<'_> {
    fn number(&self, tag: i64) -> Option<usize> {
        self.index.number_at(usize::try_from(tag).ok()?).filter(|number| self.places.contains_key(number))
    }

    fn place(&mut self, number: usize, picture: &CardPicture, status: FrameStatus) -> Result<(), CudaError> {
        for (clip, offsets) in self.places.get(&number).into_iter().flatten() {
            let Some(buffer) = self.buffers.get(*clip) else { continue };
            for (tensor, offset) in picture.0.iter().zip(offsets) {
                if tensor.spec().picture_bytes() != self.picture_bytes {
                    let what = format!("a picture of {} bytes in a clip of {} each", tensor.spec().picture_bytes(), self.picture_bytes);
                    return Err(CudaError::BadArgument { what });
                }
                buffer.copy_from(*offset, tensor.buffer(), 0, self.picture_bytes, self.stream)?;
            }
        }
        self.found.insert(number, status);
        Ok(())
    }

    /// Notes what went wrong: the host makes the clip.
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

impl PieceOutput<DevicePicture> for Sink<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        if self.error.is_some() { Err(ReaderError::Closed) } else { Ok(()) }
    }

    fn push(&mut self, picture: Tagged<DevicePicture>) {
        let Some(number) = self.number(picture.tag) else { return };
        let status = if picture.picture.has_errors { FrameStatus::Repaired } else { FrameStatus::Ok };
        let outcome = match picture.picture.surface.as_any().downcast_ref() {
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

    fn push(&mut self, picture: Tagged<Frame>) {
        let (Some(number), frame) = (self.number(picture.tag), picture.picture) else { return };
        let host = match frame.surface.host() {
            Ok(host) => host,
            Err(error) => {
                self.error.get_or_insert(MediaError::from(error).into());
                return;
            }
        };
        let status = if frame.status == Decoded::Ok { FrameStatus::Ok } else { FrameStatus::Repaired };
        let outcome = CudaSurface::upload(host, &self.pictures.pool, self.stream).and_then(|surface| {
            surface.buffer().begin_read(self.stream)?;
            let convert = |part: &TensorPictures| part.convert(&surface.planes(), &frame.color, frame.sample_aspect_ratio, self.stream);
            let made = self.pictures.parts.iter().map(convert).collect::<Result<_, _>>().map(CardPicture);
            surface.buffer().end_read(self.stream)?;
            made
        });
        let outcome = outcome.and_then(|made| self.place(number, &made, status));
        self.note(outcome);
    }
}
