//! Decodes one stream on the GPU: takes packets, returns frames in display order.

use std::{
    collections::VecDeque,
    ffi::{c_int, c_void},
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use framerail_core::{FieldOrder, PixelFormat};

use super::{
    codec::NvdecCodec,
    ffi,
    format::StreamFormat,
    hardware::{HardwareDecoder, OUTPUT_SURFACES},
    library::library,
};
use crate::{CudaDevice, CudaError, CudaEvent, CudaStream, DevicePlanes};

/// Extra frames between decoding and display beyond the codec's reordering, so that the engine keeps working while frames are mapped.
const DISPLAY_DELAY: u32 = 4;

/// Clock rate of the parser's timestamps, in ticks per second.
pub const CLOCK_HZ: i64 = 10_000_000;

/// Longer sequence headers are sent with the first packet.
const MAX_SEQUENCE_HEADER: usize = 1024;

/// Information about a frame before it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedFrameInfo {
    /// Timestamp of the packet that contained it; guessed by the parser if it had none.
    pub timestamp: i64,
    /// Interlacing of this frame.
    pub field_order: FieldOrder,
}

/// A decoded frame in the decoder's memory.
pub struct MappedFrame<'a> {
    /// Timestamp and interlacing.
    pub info: MappedFrameInfo,
    /// Format from the sequence header.
    pub format: &'a StreamFormat,
    /// The planes. Queue all reads on `stream`; the decoder reclaims the memory after them.
    pub planes: DevicePlanes<'a>,
    /// The decoder's stream.
    pub stream: &'a CudaStream,
    /// Whether the bitstream had errors here, concealed or not.
    pub has_errors: bool,
}

/// Receives the frames of a session.
pub trait FrameSink {
    /// Whether the frame is wanted; others are never mapped.
    fn wants(&mut self, _info: &MappedFrameInfo) -> bool {
        true
    }

    /// Handles a frame; called in display order.
    ///
    /// # Errors
    /// Any error; it ends the session.
    fn image(&mut self, image: &MappedFrame<'_>) -> Result<(), CudaError>;
}

/// State of the parser's callbacks.
struct State<S> {
    device: Arc<CudaDevice>,
    codec: NvdecCodec,
    stream: CudaStream,
    decoder: Option<HardwareDecoder>,
    format: Option<StreamFormat>,
    /// Mapped frames with queued reads, oldest first.
    mapped: VecDeque<(u64, CudaEvent)>,
    sink: S,
    error: Option<CudaError>,
    /// Whether the decoder's state is unknown after a failure; if so, it is not cached for the next session.
    has_failed: bool,
    pictures_decoded: u64,
}

/// Decodes one stream. When dropped, its decoder object is cached for the next session.
pub struct NvdecSession<S: FrameSink> {
    parser: ffi::Parser,
    state: *mut State<S>,
    /// The sequence header, to which the parser keeps a pointer.
    _extended: Option<Box<ffi::VideoFormatExtended>>,
    /// A header to send before the first packet.
    header: Option<Vec<u8>>,
    owns: PhantomData<State<S>>,
}

// SAFETY: parser and state are used by one thread at a time, through `&mut self`.
unsafe impl<S: FrameSink + Send> Send for NvdecSession<S> {}

impl<S: FrameSink> NvdecSession<S> {
    /// Creates a session. `header` is the sequence header in the format of the packets (Annex B for H.264 and HEVC), or empty.
    ///
    /// # Errors
    /// `NoDecoder`, `Driver`. Whether the GPU supports the stream is known only after the first packet.
    pub fn new(device: &Arc<CudaDevice>, codec: NvdecCodec, header: &[u8], stream: &CudaStream, sink: S) -> Result<Self, CudaError> {
        let library = library()?;
        let entered = device.enter()?;
        let state = Box::into_raw(Box::new(State {
            device: Arc::clone(device),
            codec,
            stream: stream.clone(),
            decoder: None,
            format: None,
            mapped: VecDeque::new(),
            sink,
            error: None,
            has_failed: false,
            pictures_decoded: 0,
        }));
        // In H.264 and HEVC, parameter sets are separate packets.
        let goes_in_band = matches!(codec, NvdecCodec::H264 | NvdecCodec::Hevc) || header.len() > MAX_SEQUENCE_HEADER;
        let mut extended = (!header.is_empty() && !goes_in_band).then(|| {
            let mut extended =
                Box::new(ffi::VideoFormatExtended { format: ffi::VideoFormat::default(), sequence_header: [0; MAX_SEQUENCE_HEADER] });
            extended.format.codec = codec.id();
            extended.format.sequence_header_bytes = header.len() as u32;
            extended.sequence_header[..header.len()].copy_from_slice(header);
            extended
        });
        let mut parameters = ffi::ParserParameters {
            codec: codec.id(),
            max_decode_surfaces: 1,
            clock_rate: CLOCK_HZ as u32,
            // Damaged frames are decoded too: a missing one would shift all later frame numbers.
            error_threshold: 100,
            max_display_delay: DISPLAY_DELAY,
            flags: 0,
            reserved1: [0; 4],
            user_data: state.cast(),
            on_sequence: Some(on_sequence::<S>),
            on_decode: Some(on_decode::<S>),
            on_display: Some(on_display::<S>),
            on_operating_point: std::ptr::null_mut(),
            reserved2: [std::ptr::null_mut(); 6],
            extended_format: extended.as_mut().map_or(std::ptr::null_mut(), |extended| std::ptr::from_mut(extended.as_mut())),
        };
        let mut parser = std::ptr::null_mut();
        // SAFETY: an out value and a structure of the header's layout; its pointers stay valid as long as the session.
        let code = unsafe { (library.create_parser)(&mut parser, &mut parameters) };
        let header = (goes_in_band && !header.is_empty()).then(|| header.to_vec());
        let session = Self { parser, state, _extended: extended, header, owns: PhantomData };
        entered.check_code(code, "creating a video parser")?;
        Ok(session)
    }

    fn state(&self) -> &State<S> {
        // SAFETY: created by `new`, freed by `drop`; the callbacks that write it run only within `&mut self` methods.
        unsafe { &*self.state }
    }

    fn state_mut(&mut self) -> &mut State<S> {
        // SAFETY: as above.
        unsafe { &mut *self.state }
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut S {
        &mut self.state_mut().sink
    }

    /// Format from the sequence header, once it was parsed.
    pub fn format(&self) -> Option<&StreamFormat> {
        self.state().format.as_ref()
    }

    /// Number of frames sent to the engine so far.
    pub fn pictures_decoded(&self) -> u64 {
        self.state().pictures_decoded
    }

    /// Sends a packet with one frame. Its timestamp, in ticks of [`CLOCK_HZ`], is returned with the frame: the parser treats
    /// it as a presentation time, and makes up another if timestamps do not increase in display order. Frames that are due are passed
    /// to the sink.
    ///
    /// # Errors
    /// `Unsupported` when the GPU cannot decode the stream, `OutOfMemory`, `Driver`, and errors of the sink.
    pub fn send(&mut self, packet: &[u8], timestamp: Option<i64>) -> Result<(), CudaError> {
        if let Some(header) = self.header.take() {
            self.parse(&header, 0, 0)?;
        }
        let flags = if timestamp.is_some() { ffi::packet_flag::TIMESTAMP } else { 0 };
        self.parse(packet, flags | ffi::packet_flag::END_OF_PICTURE, timestamp.unwrap_or(0))
    }

    /// Ends the stream: passes all remaining frames to the sink, and waits for the work it queued on the decoder's memory.
    ///
    /// # Errors
    /// As for [`NvdecSession::send`].
    pub fn flush(&mut self) -> Result<(), CudaError> {
        self.parse(&[], ffi::packet_flag::END_OF_STREAM, 0)?;
        self.state_mut().unmap_down_to(0)
    }

    fn parse(&mut self, payload: &[u8], flags: u64, timestamp: i64) -> Result<(), CudaError> {
        let library = library()?;
        let device = Arc::clone(&self.state().device);
        let entered = device.enter()?;
        let mut packet = ffi::SourcePacket {
            flags,
            payload_bytes: payload.len() as u64,
            payload: if payload.is_empty() { std::ptr::null() } else { payload.as_ptr() },
            timestamp,
        };
        // SAFETY: a live parser and a packet that outlives the call; the callbacks receive the matching state.
        let code = unsafe { (library.parse)(self.parser, &mut packet) };
        let state = self.state_mut();
        let outcome = match state.error.take() {
            // An error of the sink does not mean that the decoder failed.
            Some(error) => Err(error),
            None => state.noted(entered.check_code(code, "parsing the stream")),
        };
        state.has_failed |= matches!(outcome, Err(CudaError::Driver { .. } | CudaError::DeviceLost { .. }));
        outcome
    }
}

impl<S: FrameSink> Drop for NvdecSession<S> {
    fn drop(&mut self) {
        if let (Ok(library), false) = (library(), self.parser.is_null()) {
            let _entered = self.state().device.enter();
            // SAFETY: created by us, destroyed once.
            unsafe { (library.destroy_parser)(self.parser) };
        }
        // SAFETY: created from a box in `new`, reclaimed once, after the parser that points to it is destroyed.
        let mut state = unsafe { Box::from_raw(self.state) };
        let is_unmapped = state.unmap_down_to(0).is_ok();
        // A failed decoder could also fail on the next file; dropping it destroys it.
        if let Some(decoder) = state.decoder.take()
            && is_unmapped
            && !state.has_failed
        {
            decoder.keep();
        }
    }
}

impl<S: FrameSink> State<S> {
    /// Records whether a call on the decoder failed.
    fn noted<T>(&mut self, outcome: Result<T, CudaError>) -> Result<T, CudaError> {
        self.has_failed |= outcome.is_err();
        outcome
    }

    /// Unmaps frames, oldest first, once the work that reads them is done, until `count` remain.
    fn unmap_down_to(&mut self, count: usize) -> Result<(), CudaError> {
        while self.mapped.len() > count {
            let (Some((address, read)), Some(decoder)) = (self.mapped.pop_front(), &mut self.decoder) else { break };
            let waited = read.synchronize();
            let unmapped = decoder.unmap(address);
            self.noted(waited.and(unmapped))?;
        }
        Ok(())
    }

    /// Obtains a decoder for the format. Returns how many surfaces the parser may use.
    fn sequence(&mut self, raw: &ffi::VideoFormat) -> Result<c_int, CudaError> {
        let format = StreamFormat::new(self.codec, raw)?;
        let surfaces = format.min_surfaces + DISPLAY_DELAY;
        self.unmap_down_to(0)?;
        match &mut self.decoder {
            Some(decoder) if decoder.can_become(&format, surfaces) => {
                let fitted = decoder.become_fit(&format, surfaces);
                self.noted(fitted)?;
            }
            decoder => {
                if let Some(old) = decoder.take()
                    && !self.has_failed
                {
                    old.keep();
                }
                self.has_failed = false;
                *decoder = Some(HardwareDecoder::obtain(&self.device, &format, surfaces)?);
            }
        }
        self.format = Some(format);
        Ok(self.decoder.as_ref().map_or(1, |decoder| decoder.surfaces() as c_int))
    }

    /// # Safety
    /// `picture` comes from the parser.
    unsafe fn decode(&mut self, image: *mut ffi::PictureParameters) -> Result<(), CudaError> {
        self.pictures_decoded += 1;
        // The parser assigns the same surface to every JPEG, and the driver does not wait for readers of the previous frame: under
        // other load on the GPU, frames had the contents of later ones.
        if self.codec == NvdecCodec::Mjpeg {
            self.unmap_down_to(0)?;
        }
        match &mut self.decoder {
            Some(decoder) => {
                // SAFETY: guaranteed by the caller.
                let decoded = unsafe { decoder.decode(image) };
                self.noted(decoded)
            }
            None => Err(CudaError::NoDecoder { reason: "a frame arrived before the sequence header".into() }),
        }
    }

    fn display(&mut self, info: &ffi::DisplayInfo) -> Result<(), CudaError> {
        let field_order = match (info.progressive_frame != 0, info.top_field_first != 0) {
            (true, _) => FieldOrder::Progressive,
            (false, true) => FieldOrder::TopFirst,
            (false, false) => FieldOrder::BottomFirst,
        };
        let image = MappedFrameInfo { timestamp: info.timestamp, field_order };
        if !self.sink.wants(&image) {
            return Ok(());
        }
        self.unmap_down_to(OUTPUT_SURFACES as usize - 1)?;
        let (Some(decoder), Some(format)) = (&mut self.decoder, &self.format) else { return Ok(()) };
        let mapped = decoder.map(info, &self.stream);
        // Returning early, before the frame is added to the list below, would leave it mapped.
        self.has_failed = true;
        let (address, pitch) = mapped?;
        let has_errors = decoder.has_errors(info.picture_index);
        let planes = planes(format, address, pitch);
        let taken = self.sink.image(&MappedFrame { info: image, format, planes, stream: &self.stream, has_errors });
        self.mapped.push_back((address, self.stream.record()?));
        self.has_failed = false;
        taken
    }
}

/// The displayed area of a mapped frame.
fn planes(format: &StreamFormat, address: u64, pitch: usize) -> DevicePlanes<'_> {
    let plane_bytes = pitch as u64 * u64::from(format.coded_size.1.next_multiple_of(2));
    let (left, top) = (u64::from(format.origin.0), u64::from(format.origin.1));
    let sample = u64::from(format.bits.div_ceil(8));
    let at = |plane: u64, x: u64, y: u64| address + plane * plane_bytes + y * pitch as u64 + x;
    let addresses = match format.pixel_format {
        PixelFormat::Yuv444p => [at(0, left, top), at(1, left, top), at(2, left, top), 0],
        _ => [at(0, left * sample, top), at(1, left / 2 * 2 * sample, top / 2), 0, 0],
    };
    let (width, height) = format.size;
    DevicePlanes { format: format.pixel_format, width, height, addresses, pitches: [pitch; 4], owner: PhantomData }
}

/// Runs a callback: a panic must not unwind into the driver, and an error stops the parser.
///
/// # Safety
/// `user` is the state that the parser was created with, and nothing else uses it meanwhile.
unsafe fn guarded<S: FrameSink>(user: *mut c_void, work: impl FnOnce(&mut State<S>) -> Result<c_int, CudaError>) -> c_int {
    // SAFETY: guaranteed by the caller.
    let state = unsafe { &mut *user.cast::<State<S>>() };
    if state.error.is_some() {
        return 0;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| work(state)));
    let panicked = || Err(CudaError::argument("the callback for decoded frames panicked; this is a bug, please report it"));
    match outcome.unwrap_or_else(|_| panicked()) {
        Ok(answer) => answer,
        Err(error) => {
            state.error = Some(error);
            0
        }
    }
}

/// # Safety
/// Called by the parser that was created with this state.
unsafe extern "C" fn on_sequence<S: FrameSink>(user: *mut c_void, format: *mut ffi::VideoFormat) -> c_int {
    // SAFETY: the parser's state and format; null ends the stream.
    unsafe {
        let Some(format) = format.as_ref() else { return 0 };
        guarded::<S>(user, |state| state.sequence(format))
    }
}

/// # Safety
/// Called by the parser that was created with this state.
unsafe extern "C" fn on_decode<S: FrameSink>(user: *mut c_void, image: *mut ffi::PictureParameters) -> c_int {
    // SAFETY: the parser's state and picture.
    unsafe { guarded::<S>(user, |state| state.decode(image).map(|()| 1)) }
}

/// # Safety
/// Called by the parser that was created with this state.
unsafe extern "C" fn on_display<S: FrameSink>(user: *mut c_void, info: *mut ffi::DisplayInfo) -> c_int {
    // SAFETY: the parser's state and frame; null marks the end of the stream.
    unsafe {
        let Some(info) = info.as_ref() else { return 1 };
        guarded::<S>(user, |state| state.display(info).map(|()| 1))
    }
}
