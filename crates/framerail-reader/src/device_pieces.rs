//! Decodes pieces on the engines of a GPU.

use std::{collections::HashMap, sync::Arc, time::Duration};

use framerail_core::{ColorDescription, DeviceSurface, FieldOrder, Rational, Rotation, TimeBase};
use framerail_cuda::{
    CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool, Traffic, kernels,
    nvdec::{CLOCK_HZ, FrameSink, MappedFrame, MappedFrameInfo, NvdecCodec, NvdecSession, StreamFormat},
};
use framerail_media::{BitstreamFilter, InputPacket, Parameters, bitstream_filter::parser_headers};
use parking_lot::Mutex;

use crate::{
    ReaderError,
    device::may_work_on_cpu,
    parallel::{PieceDecoder, PieceEnd, PieceOutput, Tagged},
    piece::{Piece, PiecePacket},
};

/// Attempts to create a decoder while others release theirs, and the wait between two attempts.
const MEMORY_TRIES: u32 = 100;
const MEMORY_WAIT: Duration = Duration::from_millis(20);

/// Converts a decoded frame for delivery.
pub trait MakeSurface: Send + Sync {
    /// Queues the work on the stream of `picture`; the surface carries the mark after it. `color` holds the frame's colour tags, completed
    /// by those of the container.
    ///
    /// # Errors
    /// Any error; it ends the reading.
    fn make(&self, image: &MappedFrame<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError>;

    /// The same for a frame whose position in a batch may be known by the tag of its packet: it is then written there directly.
    ///
    /// # Errors
    /// As [`MakeSurface::make`].
    fn make_tagged(&self, image: &MappedFrame<'_>, color: &ColorDescription, _tag: i64) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        self.make(image, color)
    }

    /// Device memory for one frame, in bytes.
    fn bytes(&self, format: &StreamFormat) -> usize;
}

/// Delivers the decoded frame itself, copied out of the decoder's memory.
pub struct CopySurfaces {
    pool: DevicePool,
}

impl CopySurfaces {
    /// Surfaces from this pool.
    pub fn new(pool: DevicePool) -> Self {
        Self { pool }
    }
}

impl MakeSurface for CopySurfaces {
    fn make(&self, image: &MappedFrame<'_>, _: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        let planes = &image.planes;
        let surface = CudaSurface::new(&self.pool, planes.format(), planes.width(), planes.height())?;
        surface.copy_from(planes, image.stream)?;
        Ok(Arc::new(surface))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        let (width, height) = format.size;
        (0..format.pixel_format.planes())
            .map(|plane| format.pixel_format.plane_size(plane, width, height))
            .map(|(row, rows)| row * rows)
            .sum()
    }
}

/// Timing that the packet carries for its frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PacketTimes {
    pub(crate) pts: Option<i64>,
    pub(crate) duration: i64,
    pub(crate) is_keyframe: bool,
}

impl PacketTimes {
    pub(crate) fn of(packet: &InputPacket) -> Self {
        Self { pts: packet.pts(), duration: packet.duration(), is_keyframe: packet.is_keyframe() }
    }
}

/// A decoded frame in device memory, before it gets its final number and time.
pub(crate) struct DeviceFrame {
    pub(crate) surface: Arc<dyn DeviceSurface>,
    pub(crate) format: Arc<StreamFormat>,
    pub(crate) color: ColorDescription,
    pub(crate) times: PacketTimes,
    pub(crate) field_order: FieldOrder,
    pub(crate) has_errors: bool,
}

/// Work done by decoding threads.
#[derive(Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) traffic: Traffic,
    /// Frames decoded by the engines.
    pub(crate) images: u64,
}

impl Done {
    /// The sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { traffic: self.traffic.plus(other.traffic), images: self.images + other.images }
    }
}

/// State shared by all decoders of a reader.
pub(crate) struct DeviceSetup {
    pub(crate) device: Arc<CudaDevice>,
    pub(crate) codec: NvdecCodec,
    pub(crate) parameters: Parameters,
    /// The container's colour tags.
    pub(crate) color: ColorDescription,
    /// The container's pixel aspect ratio.
    pub(crate) sample_aspect_ratio: Option<Rational>,
    pub(crate) make: Arc<dyn MakeSurface>,
    /// Rotates frames clockwise before conversion, into memory of this pool.
    pub(crate) turn: Option<(Rotation, DevicePool)>,
    pub(crate) time_base: TimeBase,
    pub(crate) source_name: String,
    /// Work done by the decoding threads.
    pub(crate) done: Mutex<Done>,
}

impl DeviceSetup {
    /// Maps errors that a CPU fallback may avoid to `NotOnDevice`.
    pub(crate) fn error(&self, error: CudaError) -> ReaderError {
        let source_name = self.source_name.clone();
        if may_work_on_cpu(&error) {
            return ReaderError::NotOnDevice { source_name, reason: error.to_string() };
        }
        ReaderError::Cuda { source_name, error }
    }

    /// A PTS on the parser's clock. The parser uses it for ordering, and it identifies frames.
    pub(crate) fn timestamp(&self, pts: i64) -> i64 {
        let clock = TimeBase::new(1, CLOCK_HZ).unwrap_or(TimeBase::MICROS);
        self.time_base.rescale(pts, clock)
    }

    pub(crate) fn headers(&self) -> Result<Vec<u8>, ReaderError> {
        Ok(parser_headers(&self.parameters)?)
    }

    pub(crate) fn account(&self, images: u64) {
        let traffic = Traffic::take();
        // One lock for both: separate locks were once taken here in one order and by readers of the statistics in the other.
        let mut done = self.done.lock();
        done.traffic = done.traffic.plus(traffic);
        done.images += images;
    }
}

/// Makes a delivered frame of what the session maps.
pub(crate) struct ImageMaker {
    make: Arc<dyn MakeSurface>,
    turn: Option<(Rotation, DevicePool)>,
    color: ColorDescription,
    sample_aspect_ratio: Option<Rational>,
    format: Option<Arc<StreamFormat>>,
}

impl ImageMaker {
    pub(crate) fn new(setup: &DeviceSetup) -> Self {
        Self {
            make: Arc::clone(&setup.make),
            turn: setup.turn.clone(),
            color: setup.color,
            sample_aspect_ratio: setup.sample_aspect_ratio,
            format: None,
        }
    }

    /// `tag` is the tag of the frame's packet; 0 when packets have none.
    pub(crate) fn image(&mut self, image: &MappedFrame<'_>, times: PacketTimes, tag: i64) -> Result<DeviceFrame, CudaError> {
        let mut format = image.format.clone();
        format.sample_aspect_ratio = format.sample_aspect_ratio.or(self.sample_aspect_ratio);
        let format = self.format.take().filter(|known| **known == format).unwrap_or_else(|| Arc::new(format));
        self.format = Some(Arc::clone(&format));
        let color = format.color.completed_by(&self.color);
        let (info, planes, stream, has_errors) = (image.info, image.planes, image.stream, image.has_errors);
        let image = &MappedFrame { info, format: &format, planes, stream, has_errors };
        let (surface, format) = match &self.turn {
            None => (self.make.make_tagged(image, &color, tag)?, Arc::clone(&format)),
            Some((rotation, pool)) => self.turned(image, (*rotation, pool), &color, tag)?,
        };
        Ok(DeviceFrame { surface, format, color, times, field_order: image.info.field_order, has_errors: image.has_errors })
    }

    fn turned(
        &self,
        image: &MappedFrame<'_>,
        (rotation, pool): (Rotation, &DevicePool),
        color: &ColorDescription,
        tag: i64,
    ) -> Result<(Arc<dyn DeviceSurface>, Arc<StreamFormat>), CudaError> {
        let (stream, format) = (image.stream, Arc::new(image.format.turned(rotation)));
        let upright = kernels::turned(&image.planes, rotation, pool, stream)?;
        upright.buffer().begin_read(stream)?;
        let (info, planes, has_errors) = (image.info, upright.planes(), image.has_errors);
        let upright_frame = MappedFrame { info, format: &format, planes, stream, has_errors };
        let surface = self.make.make_tagged(&upright_frame, color, tag)?;
        upright.buffer().end_read(stream)?;
        Ok((surface, format))
    }
}

/// Decodes pieces on one engine.
pub(crate) struct DevicePieces {
    setup: Arc<DeviceSetup>,
    stream: CudaStream,
    filter: Option<BitstreamFilter>,
    headers: Vec<u8>,
    format: Option<Arc<StreamFormat>>,
}

impl DevicePieces {
    pub(crate) fn new(setup: &Arc<DeviceSetup>) -> Result<Self, ReaderError> {
        let stream = CudaStream::new(&setup.device).map_err(|error| setup.error(error))?;
        let filter = BitstreamFilter::for_parser(&setup.parameters)?;
        Ok(Self { setup: Arc::clone(setup), stream, filter, headers: setup.headers()?, format: None })
    }

    /// The packets in the format that the parser expects.
    fn filtered(&mut self, packets: &[PiecePacket]) -> Result<Vec<InputPacket>, ReaderError> {
        let mut ready = Vec::with_capacity(packets.len());
        for packet in packets {
            let packet = packet.packet.share()?;
            match &mut self.filter {
                Some(filter) => ready.extend(filter.filter(packet)?),
                None => ready.push(packet),
            }
        }
        Ok(ready)
    }

    fn run(&mut self, packets: &[InputPacket], shown: &Shown, output: &mut dyn PieceOutput<DeviceFrame>) -> Result<PieceEnd, ReaderError> {
        let setup = Arc::clone(&self.setup);
        let mut maker = ImageMaker::new(&setup);
        maker.format = self.format.take();
        let sink = PieceSink { shown, output, maker, error: None };
        let made = NvdecSession::new(&setup.device, setup.codec, &self.headers, &self.stream, sink);
        let mut session = made.map_err(|error| setup.error(error))?;
        let mut send = |packet: &InputPacket| session.send(packet.data(), packet.pts().map(|pts| setup.timestamp(pts)));
        let sent = packets.iter().try_for_each(&mut send).and_then(|()| session.flush());
        setup.account(session.pictures_decoded());
        self.format = session.sink().maker.format.take();
        let is_unknown = session.format().is_none() && !packets.is_empty();
        match (session.sink().error.take(), sent) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(setup.error(error)),
            (None, Ok(())) if is_unknown => Err(setup.error(no_sequence())),
            (None, Ok(())) => Ok(PieceEnd::Complete),
        }
    }
}

impl PieceDecoder for DevicePieces {
    type Decoded = DeviceFrame;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<DeviceFrame>) -> Result<PieceEnd, ReaderError> {
        if let Some(filter) = &mut self.filter {
            filter.reset();
        }
        let shown = Shown::new(piece, &self.setup);
        let packets = self.filtered(&piece.packets)?;
        let mut counted = Counted { output, pushed: 0 };
        for _ in 1..MEMORY_TRIES {
            match self.run(&packets, &shown, &mut counted) {
                // Another decoder may be released soon; nothing was delivered, so the piece can be started again.
                Err(ReaderError::Cuda { error: CudaError::OutOfMemory { .. }, .. }) if counted.pushed == 0 => {
                    std::thread::sleep(MEMORY_WAIT);
                }
                other => return other,
            }
        }
        self.run(&packets, &shown, &mut counted)
    }
}

/// The error when the GPU's parser skips all packets, as it does for profiles that it does not know.
pub(crate) fn no_sequence() -> CudaError {
    CudaError::NoDecoder { reason: "its parser finds no sequence that the GPU decodes".into() }
}

/// Counts the frames passed on.
struct Counted<'a> {
    output: &'a mut dyn PieceOutput<DeviceFrame>,
    pushed: usize,
}

impl PieceOutput<DeviceFrame> for Counted<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        self.pushed += 1;
        self.output.reserve()
    }

    fn push(&mut self, image: Tagged<DeviceFrame>) {
        self.output.push(image);
    }
}

/// The frames that a piece shows, by timestamp.
struct Shown {
    times: HashMap<i64, (i64, PacketTimes)>,
    /// Shows every frame, including those whose packets have no PTS.
    all: bool,
}

impl Shown {
    fn new(piece: &Piece, setup: &DeviceSetup) -> Self {
        let timed = |packet: &PiecePacket| {
            let times = PacketTimes::of(&packet.packet);
            times.pts.map(|pts| (setup.timestamp(pts), (packet.tag, times)))
        };
        let times = piece.packets.iter().filter(|packet| packet.is_shown).filter_map(timed).collect();
        Self { times, all: piece.packets.iter().all(|packet| packet.is_shown || !packet.facts.is_shown) }
    }
}

struct PieceSink<'a> {
    shown: &'a Shown,
    output: &'a mut dyn PieceOutput<DeviceFrame>,
    maker: ImageMaker,
    /// Why the sink stopped the session, if not for a CUDA error.
    error: Option<ReaderError>,
}

impl FrameSink for PieceSink<'_> {
    fn wants(&mut self, info: &MappedFrameInfo) -> bool {
        self.shown.all || self.shown.times.contains_key(&info.timestamp)
    }

    fn image(&mut self, image: &MappedFrame<'_>) -> Result<(), CudaError> {
        if let Err(error) = self.output.reserve() {
            self.error = Some(error);
            return Err(CudaError::BadArgument { what: "reading was cancelled".into() });
        }
        let (tag, times) = self.shown.times.get(&image.info.timestamp).copied().unwrap_or_default();
        let image = self.maker.image(image, times, tag)?;
        self.output.push(Tagged { tag, image });
        Ok(())
    }
}
