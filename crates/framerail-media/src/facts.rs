//! Reads facts about a packet's picture from its bytes, without decoding it: whether decoding can start there, and whether
//! other pictures refer to it.

mod av1;
mod h264;
mod hevc;
mod mpeg2;
mod mpeg4;
mod vpx;

use ffmpeg_the_third::ffi;
use serde::Serialize;

use crate::{InputPacket, Parameters, nal::Framing};

/// How decoding can start at a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum RandomAccess {
    /// It cannot, or it is unknown.
    None,
    /// Everything from this packet on decodes as it would from the start.
    Clean,
    /// Pictures that follow the packet but precede it in presentation order (leading pictures) may refer to earlier pictures;
    /// everything presented from it on decodes as it would from the start. Equivalent to `Clean` if no such pictures follow.
    OpenGop,
    /// The picture is refreshed gradually: it is correct only after this many more pictures, in decoding order.
    Gradual {
        /// Number of pictures until it is correct.
        pictures: u32,
    },
    /// Decoding can start, but pictures only approximate those of a decode from the start.
    Approximate,
}

impl RandomAccess {
    /// Whether pictures presented from here on match a decode from the start exactly.
    pub fn is_exact(self) -> bool {
        matches!(self, RandomAccess::Clean | RandomAccess::OpenGop)
    }
}

/// Whether a picture follows a random access point in the file but precedes it in presentation order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Leading {
    /// The codec does not mark it: compare the PTS with that of the random access point.
    Unmarked,
    /// No.
    No,
    /// Yes, and it does not refer to anything before the random access point (HEVC's RADL).
    Decodable,
    /// Yes, and it may refer to pictures before the random access point (HEVC's RASL).
    NeedsEarlier,
}

/// Facts about one packet. Unknown ones have the conservative value: no random access, referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PacketFacts {
    /// How decoding can start here.
    pub random_access: RandomAccess,
    /// Its position relative to the preceding random access point.
    pub leading: Leading,
    /// Whether decoding another picture may need this one.
    pub is_reference: bool,
    /// Whether it carries headers or marks (parameter sets, end of sequence) that later packets need.
    pub has_headers: bool,
    /// Whether one of its pictures is shown; hidden ones (VP8, VP9, AV1) only serve as references.
    pub is_shown: bool,
}

impl PacketFacts {
    /// The values when nothing is known.
    pub const UNKNOWN: PacketFacts = PacketFacts {
        random_access: RandomAccess::None,
        leading: Leading::Unmarked,
        is_reference: true,
        has_headers: true,
        is_shown: true,
    };

    /// Whether the packet can be skipped without changing any other picture.
    pub fn is_disposable(&self) -> bool {
        !self.is_reference && !self.has_headers
    }
}

/// Reads facts from the packets of one stream, in the demuxer's form (before a [`crate::BitstreamFilter`]).
///
/// Pass it every packet from a random access point on: headers in the stream change how packets are interpreted.
/// Sources: ITU-T H.264 and H.265, ISO/IEC 13818-2 and 14496-2, RFC 6386 (VP8), the VP9 and AV1 bitstream specifications.
#[derive(Clone, Debug)]
pub struct FactsReader {
    codec: Codec,
}

#[derive(Clone, Debug)]
enum Codec {
    H264(Framing),
    Hevc(Framing, hevc::SubLayers),
    Mpeg2 {
        has_headers: bool,
    },
    Mpeg4 {
        has_headers: bool,
    },
    Vp8,
    Vp9,
    Av1(av1::Sequence),
    /// Every picture decodes independently.
    Intra,
}

impl FactsReader {
    /// Creates a reader for a stream; `None` for unsupported codecs.
    pub fn new(parameters: &Parameters) -> Option<Self> {
        Self::of(parameters.get().codec_id, parameters.extradata())
    }

    /// Creates a reader for a codec by FFmpeg's name (`h264`), with its global headers (`extradata`, may be empty); `None` for
    /// unsupported codecs.
    pub fn for_codec(name: &str, extradata: &[u8]) -> Option<Self> {
        Self::of(codec_id(name)?, extradata)
    }

    fn of(codec: ffi::AVCodecID, extradata: &[u8]) -> Option<Self> {
        use ffi::AVCodecID as Id;
        let has_headers = !extradata.is_empty();
        let codec = match codec {
            Id::H264 => Codec::H264(h264::framing(extradata)),
            Id::HEVC => Codec::Hevc(hevc::framing(extradata), hevc::SubLayers::of_extradata(extradata)),
            Id::MPEG1VIDEO | Id::MPEG2VIDEO => Codec::Mpeg2 { has_headers },
            Id::MPEG4 => Codec::Mpeg4 { has_headers },
            Id::VP8 => Codec::Vp8,
            Id::VP9 => Codec::Vp9,
            Id::AV1 => Codec::Av1(av1::Sequence::of_extradata(extradata)),
            other if is_intra_only(other) => Codec::Intra,
            _ => return None,
        };
        Some(Self { codec })
    }

    /// Returns a packet's facts, and remembers its headers for later packets.
    pub fn read(&mut self, packet: &InputPacket) -> PacketFacts {
        if let Some(extradata) = packet.new_extradata() {
            self.adopt(extradata);
        }
        self.read_bytes(packet.data())
    }

    /// Returns the facts of a packet's payload; arbitrary bytes are allowed.
    pub fn read_bytes(&mut self, bytes: &[u8]) -> PacketFacts {
        let facts = match &mut self.codec {
            Codec::H264(framing) => h264::read(bytes, *framing),
            Codec::Hevc(framing, layers) => hevc::read(bytes, *framing, layers),
            Codec::Mpeg2 { has_headers } => mpeg2::read(bytes, *has_headers),
            Codec::Mpeg4 { has_headers } => mpeg4::read(bytes, *has_headers),
            Codec::Vp8 => vpx::read_vp8(bytes),
            Codec::Vp9 => vpx::read_vp9(bytes),
            Codec::Av1(sequence) => av1::read(bytes, sequence),
            Codec::Intra => Some(PacketFacts {
                random_access: RandomAccess::Clean,
                leading: Leading::No,
                is_reference: false,
                has_headers: false,
                is_shown: true,
            }),
        };
        facts.unwrap_or(PacketFacts::UNKNOWN)
    }

    /// Switches to new global headers.
    fn adopt(&mut self, extradata: &[u8]) {
        match &mut self.codec {
            Codec::H264(framing) => *framing = h264::framing(extradata),
            Codec::Hevc(framing, layers) => {
                *framing = hevc::framing(extradata);
                layers.join(hevc::SubLayers::of_extradata(extradata));
            }
            Codec::Av1(sequence) => *sequence = av1::Sequence::of_extradata(extradata),
            _ => {}
        }
    }
}

fn codec_id(name: &str) -> Option<ffi::AVCodecID> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the name is zero-terminated; descriptors are static or null.
    unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }.map(|descriptor| descriptor.id)
}

pub(crate) fn is_intra_only(codec: ffi::AVCodecID) -> bool {
    // SAFETY: any id is allowed; descriptors are static or null.
    let descriptor = unsafe { ffi::avcodec_descriptor_get(codec).as_ref() };
    descriptor.is_some_and(|descriptor| descriptor.props & ffi::AV_CODEC_PROP_INTRA_ONLY != 0)
}

#[cfg(test)]
mod tests;
