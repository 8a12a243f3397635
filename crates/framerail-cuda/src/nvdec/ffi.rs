//! The video decoder's C interface (NVDECODE API, `cuviddec.h` and `nvcuvid.h` of NVIDIA's Video Codec SDK 11 and later).
//!
//! Field order and sizes follow the public header for 64-bit Linux, where `unsigned long` has 8 bytes; a test checks them.

use std::ffi::{c_int, c_short, c_uchar, c_uint, c_ulong, c_ulonglong, c_ushort, c_void};

pub(super) type Decoder = *mut c_void;
pub(super) type Parser = *mut c_void;
pub(super) type Code = u32;

/// `cudaVideoSurfaceFormat`.
pub(super) mod surface_format {
    pub(in super::super) const NV12: i32 = 0;
    pub(in super::super) const P016: i32 = 1;
    pub(in super::super) const YUV444: i32 = 2;
}

/// `CUvideopacketflags`.
pub(super) mod packet_flag {
    pub(in super::super) const END_OF_STREAM: u64 = 0x01;
    pub(in super::super) const TIMESTAMP: u64 = 0x02;
    pub(in super::super) const END_OF_PICTURE: u64 = 0x08;
}

/// `CUVIDDECODECAPS`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct DecodeCaps {
    pub(super) codec: c_int,
    pub(super) chroma_format: c_int,
    pub(super) bit_depth_minus8: c_uint,
    pub(super) reserved1: [c_uint; 3],
    pub(super) is_supported: c_uchar,
    pub(super) engines: c_uchar,
    pub(super) output_format_mask: c_ushort,
    pub(super) max_width: c_uint,
    pub(super) max_height: c_uint,
    pub(super) max_macroblocks: c_uint,
    pub(super) min_width: c_ushort,
    pub(super) min_height: c_ushort,
    pub(super) histogram: [c_uchar; 2],
    pub(super) histogram_bins: c_ushort,
    pub(super) reserved3: [c_uint; 10],
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct ShortRect {
    pub(super) left: c_short,
    pub(super) top: c_short,
    pub(super) right: c_short,
    pub(super) bottom: c_short,
}

/// `CUVIDDECODECREATEINFO`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CreateInfo {
    pub(super) width: c_ulong,
    pub(super) height: c_ulong,
    pub(super) decode_surfaces: c_ulong,
    pub(super) codec: c_int,
    pub(super) chroma_format: c_int,
    pub(super) creation_flags: c_ulong,
    pub(super) bit_depth_minus8: c_ulong,
    pub(super) intra_only: c_ulong,
    pub(super) max_width: c_ulong,
    pub(super) max_height: c_ulong,
    pub(super) reserved1: c_ulong,
    pub(super) display_area: ShortRect,
    pub(super) output_format: c_int,
    pub(super) deinterlace_mode: c_int,
    pub(super) target_width: c_ulong,
    pub(super) target_height: c_ulong,
    pub(super) output_surfaces: c_ulong,
    pub(super) lock: *mut c_void,
    pub(super) target_rect: ShortRect,
    pub(super) enable_histogram: c_ulong,
    pub(super) reserved2: [c_ulong; 4],
}

/// `CUVIDPICPARAMS`, as far as it is read here; the parser fills it and passes it on to the decoder.
#[repr(C)]
pub(super) struct PictureParameters {
    width_in_macroblocks: c_int,
    height_in_macroblocks: c_int,
    pub(super) picture_index: c_int,
    pub(super) is_field: c_int,
    is_bottom_field: c_int,
    pub(super) is_second_field: c_int,
    rest: [u8; 4280 - 24],
}

/// `CUVIDPROCPARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ProcessParameters {
    pub(super) progressive_frame: c_int,
    pub(super) second_field: c_int,
    pub(super) top_field_first: c_int,
    pub(super) unpaired_field: c_int,
    pub(super) reserved_flags: c_uint,
    pub(super) reserved_zero: c_uint,
    pub(super) raw_input_address: c_ulonglong,
    pub(super) raw_input_pitch: c_uint,
    pub(super) raw_input_format: c_uint,
    pub(super) raw_output_address: c_ulonglong,
    pub(super) raw_output_pitch: c_uint,
    pub(super) reserved1: c_uint,
    pub(super) output_stream: *mut c_void,
    pub(super) reserved: [c_uint; 46],
    pub(super) histogram_address: *mut c_ulonglong,
    pub(super) reserved2: [*mut c_void; 1],
}

/// `CUVIDGETDECODESTATUS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DecodeStatus {
    pub(super) status: c_int,
    pub(super) reserved: [c_uint; 31],
    pub(super) reserved_pointers: [*mut c_void; 8],
}

/// `cuvidDecodeStatus`: an error, and an error that was concealed.
pub(super) const STATUS_ERROR: c_int = 8;
pub(super) const STATUS_ERROR_CONCEALED: c_int = 9;

/// `CUVIDRECONFIGUREDECODERINFO`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ReconfigureInfo {
    pub(super) width: c_uint,
    pub(super) height: c_uint,
    pub(super) target_width: c_uint,
    pub(super) target_height: c_uint,
    pub(super) decode_surfaces: c_uint,
    pub(super) reserved1: [c_uint; 12],
    pub(super) display_area: ShortRect,
    pub(super) target_rect: ShortRect,
    pub(super) reserved2: [c_uint; 11],
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Rect {
    pub(super) left: c_int,
    pub(super) top: c_int,
    pub(super) right: c_int,
    pub(super) bottom: c_int,
}

/// `CUVIDEOFORMAT`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct VideoFormat {
    pub(super) codec: c_int,
    pub(super) frame_rate: [c_uint; 2],
    pub(super) progressive_sequence: c_uchar,
    pub(super) luma_depth_minus8: c_uchar,
    pub(super) chroma_depth_minus8: c_uchar,
    pub(super) min_decode_surfaces: c_uchar,
    pub(super) coded_width: c_uint,
    pub(super) coded_height: c_uint,
    pub(super) display_area: Rect,
    pub(super) chroma_format: c_int,
    pub(super) bitrate: c_uint,
    pub(super) display_aspect_ratio: [c_int; 2],
    /// Bits 0 to 2: video format; bit 3: full range.
    pub(super) signal_bits: c_uchar,
    pub(super) color_primaries: c_uchar,
    pub(super) transfer_characteristics: c_uchar,
    pub(super) matrix_coefficients: c_uchar,
    pub(super) sequence_header_bytes: c_uint,
}

/// `CUVIDEOFORMATEX`.
#[repr(C)]
pub(super) struct VideoFormatExtended {
    pub(super) format: VideoFormat,
    pub(super) sequence_header: [u8; 1024],
}

/// `CUVIDSOURCEDATAPACKET`.
#[repr(C)]
pub(super) struct SourcePacket {
    pub(super) flags: c_ulong,
    pub(super) payload_bytes: c_ulong,
    pub(super) payload: *const c_uchar,
    pub(super) timestamp: i64,
}

/// `CUVIDPARSERDISPINFO`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct DisplayInfo {
    pub(super) picture_index: c_int,
    pub(super) progressive_frame: c_int,
    pub(super) top_field_first: c_int,
    pub(super) repeat_first_field: c_int,
    pub(super) timestamp: i64,
}

pub(super) type SequenceCallback = unsafe extern "C" fn(*mut c_void, *mut VideoFormat) -> c_int;
pub(super) type DecodeCallback = unsafe extern "C" fn(*mut c_void, *mut PictureParameters) -> c_int;
pub(super) type DisplayCallback = unsafe extern "C" fn(*mut c_void, *mut DisplayInfo) -> c_int;

/// `CUVIDPARSERPARAMS`.
#[repr(C)]
pub(super) struct ParserParameters {
    pub(super) codec: c_int,
    pub(super) max_decode_surfaces: c_uint,
    pub(super) clock_rate: c_uint,
    pub(super) error_threshold: c_uint,
    pub(super) max_display_delay: c_uint,
    pub(super) flags: c_uint,
    pub(super) reserved1: [c_uint; 4],
    pub(super) user_data: *mut c_void,
    pub(super) on_sequence: Option<SequenceCallback>,
    pub(super) on_decode: Option<DecodeCallback>,
    pub(super) on_display: Option<DisplayCallback>,
    pub(super) on_operating_point: *mut c_void,
    pub(super) reserved2: [*mut c_void; 6],
    pub(super) extended_format: *mut VideoFormatExtended,
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// Values printed by a C program that includes the public header.
    #[test]
    fn layouts_are_those_of_the_header() {
        assert_eq!(size_of::<DecodeCaps>(), 88);
        assert_eq!(offset_of!(DecodeCaps, is_supported), 24);
        assert_eq!(offset_of!(DecodeCaps, max_width), 28);
        assert_eq!(offset_of!(DecodeCaps, min_width), 40);
        assert_eq!(size_of::<CreateInfo>(), 176);
        assert_eq!(offset_of!(CreateInfo, display_area), 80);
        assert_eq!(offset_of!(CreateInfo, output_format), 88);
        assert_eq!(offset_of!(CreateInfo, target_width), 96);
        assert_eq!(offset_of!(CreateInfo, lock), 120);
        assert_eq!(offset_of!(CreateInfo, target_rect), 128);
        assert_eq!(offset_of!(CreateInfo, enable_histogram), 136);
        assert_eq!(size_of::<PictureParameters>(), 4280);
        assert_eq!(offset_of!(PictureParameters, picture_index), 8);
        assert_eq!(offset_of!(PictureParameters, is_second_field), 20);
        assert_eq!(size_of::<ProcessParameters>(), 264);
        assert_eq!(offset_of!(ProcessParameters, raw_input_address), 24);
        assert_eq!(offset_of!(ProcessParameters, output_stream), 56);
        assert_eq!(offset_of!(ProcessParameters, histogram_address), 248);
        assert_eq!(size_of::<DecodeStatus>(), 192);
        assert_eq!(size_of::<ReconfigureInfo>(), 128);
        assert_eq!(offset_of!(ReconfigureInfo, display_area), 68);
        assert_eq!(offset_of!(ReconfigureInfo, target_rect), 76);
        assert_eq!(size_of::<VideoFormat>(), 64);
        assert_eq!(offset_of!(VideoFormat, coded_width), 16);
        assert_eq!(offset_of!(VideoFormat, display_area), 24);
        assert_eq!(offset_of!(VideoFormat, chroma_format), 40);
        assert_eq!(offset_of!(VideoFormat, display_aspect_ratio), 48);
        assert_eq!(offset_of!(VideoFormat, signal_bits), 56);
        assert_eq!(offset_of!(VideoFormat, sequence_header_bytes), 60);
        assert_eq!(size_of::<VideoFormatExtended>(), 1088);
        assert_eq!(size_of::<SourcePacket>(), 32);
        assert_eq!(offset_of!(SourcePacket, timestamp), 24);
        assert_eq!(size_of::<DisplayInfo>(), 24);
        assert_eq!(offset_of!(DisplayInfo, timestamp), 16);
        assert_eq!(size_of::<ParserParameters>(), 136);
        assert_eq!(offset_of!(ParserParameters, user_data), 40);
        assert_eq!(offset_of!(ParserParameters, on_operating_point), 72);
        assert_eq!(offset_of!(ParserParameters, extended_format), 128);
    }
}
