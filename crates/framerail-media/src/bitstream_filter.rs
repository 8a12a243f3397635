//! Converts packets from the form that containers store to the form that hardware decoders' parsers expect.
//!
//! MP4 and Matroska store H.264 and HEVC with length-prefixed NAL units and separate parameter sets; parsers of
//! elementary streams expect start codes and in-band parameter sets. Nothing is decoded here.

use std::ptr::NonNull;

use ffmpeg_the_third::ffi;

use crate::{
    Damage, InputPacket, MediaError, Parameters,
    av::{self, AvPacket},
};

/// First byte (version) of `avcC` and `hvcC`; a stream with start codes never begins with it.
const LENGTH_PREFIXED: u8 = 1;
/// First byte of `av1C` (marker bit and version), and the record's length before the OBUs.
const AV1C_START: u8 = 0x81;
const AV1C_BYTES: usize = 4;

/// Converts the packets of one video stream to an elementary stream.
///
/// PTS, DTS, duration, position and the keyframe flag are kept. H.264 and HEVC packets get start codes (ITU-T H.264 and
/// H.265, Annex B), with the parameter sets before each IDR picture (H.264) or IRAP picture (HEVC).
///
/// Decoding of an H.264 stream may also start at non-IDR pictures (recovery points), and no parameter sets are inserted
/// there: to start at one, send [`BitstreamFilter::headers`] to the parser first.
pub struct BitstreamFilter {
    context: Context,
    name: &'static str,
    parameters: Parameters,
    damage: Damage,
}

impl BitstreamFilter {
    /// Returns the filter that a stream needs before a parser of elementary streams; `None` if it needs none.
    ///
    /// Length-prefixed H.264 and HEVC get start codes; packets of MPEG-4 part 2 that hold two pictures (AVI) are split. VP8,
    /// VP9, MPEG-1, MPEG-2, MJPEG and AV1 (low-overhead OBUs, temporal delimiters may be missing) pass unchanged.
    ///
    /// # Errors
    /// `Unsupported` if this FFmpeg lacks the filter; `Ffmpeg` if it rejects the stream's headers.
    pub fn for_parser(parameters: &Parameters) -> Result<Option<Self>, MediaError> {
        let Some(name) = filter_for(parameters.get().codec_id, parameters.extradata()) else { return Ok(None) };
        let context = Context::open(name, parameters)?;
        Ok(Some(Self { context, name, parameters: parameters.clone(), damage: Damage::default() }))
    }

    /// FFmpeg's name of the filter, such as `h264_mp4toannexb`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The stream's global headers in the form of the output packets: H.264's and HEVC's parameter sets with start
    /// codes. See [`parser_headers`] for streams without a filter.
    pub fn headers(&self) -> &[u8] {
        self.context.extradata()
    }

    /// Filters the next packet. Usually returns one packet; none if it is held back or rejected (counted in
    /// [`BitstreamFilter::damage`]).
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub fn filter(&mut self, packet: InputPacket) -> Result<Vec<InputPacket>, MediaError> {
        if let Some(extradata) = packet.new_extradata() {
            self.adopt(extradata)?;
        }
        if packet.data().is_empty() {
            // FFmpeg treats an empty packet as the end of the stream.
            self.damage.packets_dropped += 1;
            return Ok(Vec::new());
        }
        let InputPacket { kind, mut packet, .. } = packet;
        // SAFETY: an initialised filter and an owned packet, whose contents the filter takes or leaves.
        let code = unsafe { ffi::av_bsf_send_packet(self.context.as_mut_ptr(), packet.as_mut_ptr()) };
        if code < 0 {
            self.damage.packets_dropped += 1;
            return Ok(Vec::new());
        }
        let mut ready = Vec::with_capacity(1);
        loop {
            let mut packet = AvPacket::new();
            // SAFETY: an initialised filter and an empty packet.
            let code = unsafe { ffi::av_bsf_receive_packet(self.context.as_mut_ptr(), packet.as_mut_ptr()) };
            match code {
                0 => ready.push(InputPacket { kind, packet, new_parameters: None }),
                _ if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF => return Ok(ready),
                _ if code == ffi::AVERROR(libc::ENOMEM) => return Err(av::error(self.name, code)),
                _ => {
                    self.damage.packets_dropped += 1;
                    return Ok(ready);
                }
            }
        }
    }

    /// Drops held-back packets and starts again, as at the stream's start. Call it after a seek.
    /// Packets that the filter rejected, as `packets_dropped`.
    pub fn reset(&mut self) {
        // SAFETY: an initialised filter.
        unsafe { ffi::av_bsf_flush(self.context.as_mut_ptr()) };
    }

    /// Packets that the filter refused, as `packets_dropped`.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Switches to new global headers. Invalid headers are ignored, and the current ones stay in use.
    fn adopt(&mut self, extradata: &[u8]) -> Result<(), MediaError> {
        let parameters = self.parameters.with_extradata(extradata)?;
        match Context::open(self.name, &parameters) {
            Ok(context) => (self.context, self.parameters) = (context, parameters),
            Err(_) => self.damage.packets_corrupt += 1,
        }
        Ok(())
    }
}

/// A stream's global headers for a parser of elementary streams, as NVIDIA's parser takes them as sequence header data:
/// H.264's and HEVC's parameter sets with start codes, AV1's OBUs, all other codecs as stored in the container. Empty
/// if the headers are in-band.
///
/// # Errors
/// As [`BitstreamFilter::for_parser`].
pub fn parser_headers(parameters: &Parameters) -> Result<Vec<u8>, MediaError> {
    if let Some(filter) = BitstreamFilter::for_parser(parameters)? {
        return Ok(filter.headers().to_vec());
    }
    let extradata = parameters.extradata();
    let is_av1c = parameters.get().codec_id == ffi::AVCodecID::AV1 && extradata.first() == Some(&AV1C_START);
    Ok(extradata.get(if is_av1c { AV1C_BYTES } else { 0 }..).unwrap_or_default().to_vec())
}

/// FFmpeg's name of the filter for a codec with these global headers.
fn filter_for(codec: ffi::AVCodecID, extradata: &[u8]) -> Option<&'static str> {
    let is_length_prefixed = extradata.first() == Some(&LENGTH_PREFIXED);
    match codec {
        ffi::AVCodecID::H264 if is_length_prefixed => Some("h264_mp4toannexb"),
        ffi::AVCodecID::HEVC if is_length_prefixed => Some("hevc_mp4toannexb"),
        // Only the packets show whether two pictures share one; other packets pass unchanged.
        ffi::AVCodecID::MPEG4 => Some("mpeg4_unpack_bframes"),
        _ => None,
    }
}

/// An owned, initialised `AVBSFContext`.
struct Context(NonNull<ffi::AVBSFContext>);

// SAFETY: a filter may be used from any thread, one at a time; `&mut self` guards every changing call.
unsafe impl Send for Context {}

impl Context {
    fn open(name: &'static str, parameters: &Parameters) -> Result<Self, MediaError> {
        av::init();
        let wanted = av::c_string(name);
        // SAFETY: a zero-terminated name.
        let filter = unsafe { ffi::av_bsf_get_by_name(wanted.as_ptr()) };
        if filter.is_null() {
            return Err(MediaError::Unsupported {
                what: format!("bitstream filter {name}"),
                reason: "this FFmpeg was built without it; use a full build".into(),
            });
        }
        let mut context = std::ptr::null_mut();
        // SAFETY: a filter of FFmpeg's; the result is written to a live pointer.
        let code = unsafe { ffi::av_bsf_alloc(filter, &mut context) };
        let Some(context) = NonNull::new(context).filter(|_| code >= 0) else { return Err(av::error(name, code)) };
        let context = Self(context);
        // SAFETY: a fresh context has parameters to fill, and ours are valid.
        let mut code = unsafe { ffi::avcodec_parameters_copy((*context.0.as_ptr()).par_in, parameters.get()) };
        if code >= 0 {
            // SAFETY: its parameters are set; called once.
            code = unsafe { ffi::av_bsf_init(context.0.as_ptr()) };
        }
        if code < 0 { Err(av::error(format!("preparing {name} for a {} stream", parameters.codec_name()), code)) } else { Ok(context) }
    }

    /// Global headers of the output.
    fn extradata(&self) -> &[u8] {
        // SAFETY: an initialised filter has output parameters with this many bytes, which live as long as it.
        unsafe {
            let parameters = &*self.0.as_ref().par_out;
            match usize::try_from(parameters.extradata_size) {
                Ok(size) if size > 0 && !parameters.extradata.is_null() => std::slice::from_raw_parts(parameters.extradata, size),
                _ => &[],
            }
        }
    }

    fn as_mut_ptr(&mut self) -> *mut ffi::AVBSFContext {
        self.0.as_ptr()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: owned by self and freed once.
        unsafe { ffi::av_bsf_free(&mut context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PacketKind;

    /// `avcC` with one SPS and one PPS of two bytes each, and four-byte length prefixes.
    const AVCC: [u8; 15] = [1, 66, 0, 10, 0xff, 0xe1, 0, 2, 0x67, 0x42, 1, 0, 2, 0x68, 0xce];

    fn filter() -> BitstreamFilter {
        let parameters = Parameters::of_codec(ffi::AVCodecID::H264, &AVCC);
        BitstreamFilter::for_parser(&parameters).expect("sound headers").expect("needs one")
    }

    fn packet(bytes: &[u8]) -> InputPacket {
        InputPacket { kind: PacketKind::Video, packet: AvPacket::of_bytes(bytes).expect("memory"), new_parameters: None }
    }

    #[test]
    fn headers_come_before_an_idr_picture() {
        let mut filter = filter();
        assert_eq!(filter.headers(), [0, 0, 0, 1, 0x67, 0x42, 0, 0, 0, 1, 0x68, 0xce]);
        let out = filter.filter(packet(&[0, 0, 0, 2, 0x65, 0x88])).expect("memory");
        assert!(out[0].data().starts_with(filter.headers()));
        assert!(out[0].data().ends_with(&[0x65, 0x88]));
    }

    #[test]
    fn broken_packets_are_counted_and_the_next_one_passes() {
        let mut filter = filter();
        // A NAL unit longer than its packet, a cut length, nothing.
        for broken in [&[0x7f, 0xff, 0xff, 0xff, 0x65][..], &[0, 0, 0], &[]] {
            assert!(filter.filter(packet(broken)).expect("memory").is_empty(), "{broken:?}");
        }
        assert_eq!(filter.damage().packets_dropped, 3);
        assert_eq!(filter.filter(packet(&[0, 0, 0, 2, 0x65, 0x88])).expect("memory").len(), 1);
    }

    #[test]
    fn new_headers_are_adopted_and_broken_ones_are_not() {
        let mut filter = filter();
        let mut other = AVCC;
        other[9] = 0x4d;
        filter.adopt(&other).expect("memory");
        assert_eq!(filter.headers().get(5), Some(&0x4d));
        filter.adopt(&[1, 0, 0, 0, 0xff, 0xe1, 0xff, 0xff]).expect("memory");
        assert_eq!(filter.headers().get(5), Some(&0x4d));
        assert_eq!(filter.damage().packets_corrupt, 1);
    }

    #[test]
    fn headers_of_garbage_are_refused() {
        let parameters = Parameters::of_codec(ffi::AVCodecID::H264, &[1, 0, 0, 0, 0xff, 0xe1, 0xff, 0xff]);
        assert!(BitstreamFilter::for_parser(&parameters).is_err());
        let tiny = Parameters::of_codec(ffi::AVCodecID::HEVC, &[1]);
        let _ = BitstreamFilter::for_parser(&tiny);
        assert_eq!(parser_headers(&Parameters::of_codec(ffi::AVCodecID::AV1, &[0x81, 0])).expect("no filter"), [0_u8; 0]);
    }
}
