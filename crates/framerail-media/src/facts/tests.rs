use proptest::prelude::*;

use super::*;

/// `avcC` with four-byte length prefixes.
const AVCC: [u8; 7] = [1, 66, 0, 10, 0xff, 0xe1, 0];

fn reader(codec: ffi::AVCodecID, extradata: &[u8]) -> FactsReader {
    FactsReader::new(&Parameters::of_codec(codec, extradata)).expect("a known codec")
}

/// `hvcC` with one SPS that allows `sub_layers` sub-layers.
fn hvcc(sub_layers: u8) -> Vec<u8> {
    let mut bytes = vec![0; 22];
    (bytes[0], bytes[21]) = (1, 0xff);
    bytes.extend([1, 33, 0, 1, 0, 6, 0x42, 1, (sub_layers - 1) << 1 | 1, 1, 0x60, 0]);
    bytes
}

fn hevc_unit(kind: u8, temporal_id: u8) -> Vec<u8> {
    vec![0, 0, 0, 4, kind << 1, temporal_id + 1, 0x80, 0x80]
}

#[test]
fn h264_is_referenced_when_any_slice_is() {
    let mut reader = reader(ffi::AVCodecID::H264, &AVCC);
    // Slices: first_mb 0, slice_type 1 (B) as 1 010; nal_ref_idc 0 or 2.
    let nonreference = [0, 0, 0, 2, 0x01, 0b1010_0000];
    let reference = [0, 0, 0, 2, 0x41, 0b1010_0000];
    assert!(reader.read_bytes(&nonreference).is_disposable());
    assert!(!reader.read_bytes(&reference).is_disposable());
    assert!(!reader.read_bytes(&[reference, nonreference].concat()).is_disposable());
    // A parameter set beside it must not get lost.
    let with_headers = [&nonreference[..], &[0, 0, 0, 2, 0x68, 0xce]].concat();
    let facts = reader.read_bytes(&with_headers);
    assert!(!facts.is_reference && !facts.is_disposable());
    // Without a slice, or truncated: unknown.
    assert_eq!(reader.read_bytes(&[0, 0, 0, 2, 0x09, 0x10]), PacketFacts::UNKNOWN);
    assert_eq!(reader.read_bytes(&nonreference[..5]), PacketFacts::UNKNOWN);
}

#[test]
fn h264_recovery_points_are_distinguished() {
    let mut reader = reader(ffi::AVCodecID::H264, &[]);
    // An SEI message before it (type 5, 2 bytes), then recovery point; an I slice (0, 7) as 1 0001000.
    let packet = |recovery: u8, slice: &[u8]| {
        let sei = [0, 0, 1, 6, 5, 2, 0xff, 0xff, 6, 1, recovery, 0x80];
        [&sei[..], &[0, 0, 1, 0x61], slice].concat()
    };
    let (intra, inter) = ([0b1000_1000, 0x80], [0b1001_1000, 0x80]);
    // recovery_frame_cnt 0 as 1, then exact_match_flag.
    assert_eq!(reader.read_bytes(&packet(0b1100_0100, &intra)).random_access, RandomAccess::OpenGop);
    assert_eq!(reader.read_bytes(&packet(0b1000_0100, &intra)).random_access, RandomAccess::Approximate);
    assert_eq!(reader.read_bytes(&packet(0b1100_0100, &inter)).random_access, RandomAccess::None);
    // 2 as 011, exact.
    assert_eq!(reader.read_bytes(&packet(0b0111_0001, &inter)).random_access, RandomAccess::Gradual { pictures: 2 });
    // An intra slice without a recovery point promises nothing.
    assert_eq!(reader.read_bytes(&[&[0, 0, 1, 0x61], &intra[..]].concat()).random_access, RandomAccess::None);
    assert_eq!(reader.read_bytes(&[0, 0, 1, 0x65, 0x88]).random_access, RandomAccess::Clean);
}

#[test]
fn hevc_is_unreferenced_in_its_highest_sub_layer_only() {
    let mut one = reader(ffi::AVCodecID::HEVC, &hvcc(1));
    assert!(one.read_bytes(&hevc_unit(0, 0)).is_disposable());
    assert!(!one.read_bytes(&hevc_unit(1, 0)).is_disposable());
    let mut two = reader(ffi::AVCodecID::HEVC, &hvcc(2));
    assert!(!two.read_bytes(&hevc_unit(0, 0)).is_disposable());
    assert!(two.read_bytes(&hevc_unit(2, 1)).is_disposable());
    // Without parameter sets the highest sub-layer is unknown; then they come in the stream.
    let mut late = reader(ffi::AVCodecID::HEVC, &[]);
    let annex_b = |unit: &[u8]| [&[0, 0, 1][..], unit].concat();
    assert!(!late.read_bytes(&annex_b(&[0, 1, 0x80, 0x80])).is_disposable());
    let sps_and_idr = [annex_b(&[0x42, 1, 1, 1]), annex_b(&[19 << 1, 1, 0x80, 0x80])].concat();
    assert_eq!(late.read_bytes(&sps_and_idr).random_access, RandomAccess::Clean);
    assert!(late.read_bytes(&annex_b(&[0, 1, 0x80, 0x80])).is_disposable());
}

#[test]
fn hevc_leading_pictures_are_marked() {
    let mut reader = reader(ffi::AVCodecID::HEVC, &hvcc(1));
    let mut facts = |kind| {
        let facts = reader.read_bytes(&hevc_unit(kind, 0));
        (facts.random_access, facts.leading)
    };
    assert_eq!(facts(21), (RandomAccess::OpenGop, Leading::No));
    assert_eq!(facts(20), (RandomAccess::Clean, Leading::No));
    assert_eq!(facts(7), (RandomAccess::None, Leading::Decodable));
    assert_eq!(facts(8), (RandomAccess::None, Leading::NeedsEarlier));
}

#[test]
fn mpeg_pictures_are_known_by_their_type() {
    let mut mpeg2 = reader(ffi::AVCodecID::MPEG2VIDEO, &[]);
    let picture = |kind: u8| vec![0, 0, 1, 0, 0, kind << 3, 0xff, 0xf8];
    let sequence = vec![0, 0, 1, 0xb3, 1, 2, 3];
    let group = |is_closed: bool| vec![0, 0, 1, 0xb8, 0, 8, 0, u8::from(is_closed) << 6];
    assert!(mpeg2.read_bytes(&picture(3)).is_disposable());
    assert!(!mpeg2.read_bytes(&picture(2)).is_disposable());
    assert!(!mpeg2.read_bytes(&[picture(2), picture(3)].concat()).is_disposable());
    assert_eq!(mpeg2.read_bytes(&picture(1)).random_access, RandomAccess::None);
    let start = |group: Vec<u8>| [sequence.clone(), group, picture(1)].concat();
    assert_eq!(mpeg2.read_bytes(&start(group(false))).random_access, RandomAccess::OpenGop);
    assert_eq!(mpeg2.read_bytes(&start(group(true))).random_access, RandomAccess::Clean);

    let mut mpeg4 = reader(ffi::AVCodecID::MPEG4, &[0, 0, 1, 0x20]);
    let vop = |kind: u8| vec![0, 0, 1, 0xb6, kind << 6, 0];
    assert_eq!(mpeg4.read_bytes(&vop(0)).random_access, RandomAccess::OpenGop);
    assert!(mpeg4.read_bytes(&vop(2)).is_disposable());
    // Two pictures in one packet.
    assert!(!mpeg4.read_bytes(&[vop(1), vop(2)].concat()).is_disposable());
}

#[test]
fn vp9_superframes_are_parted() {
    let mut vp9 = reader(ffi::AVCodecID::VP9, &[]);
    // frame_marker 2, profile 0, shown or not: a hidden frame and one that shows it.
    let (hidden, existing, keyframe) = (0b1000_0100, 0b1000_1000, 0b1000_0010);
    assert_eq!(vp9.read_bytes(&[keyframe]).random_access, RandomAccess::Clean);
    assert!(!vp9.read_bytes(&[hidden]).is_shown);
    assert!(vp9.read_bytes(&[hidden, existing, 0xc1, 1, 1, 0xc1]).is_shown);
    assert_eq!(vp9.read_bytes(&[hidden, 0xc1, 9, 1, 0xc1]), PacketFacts::UNKNOWN);
}

const CODECS: [ffi::AVCodecID; 8] = [
    ffi::AVCodecID::H264,
    ffi::AVCodecID::HEVC,
    ffi::AVCodecID::MPEG2VIDEO,
    ffi::AVCodecID::MPEG4,
    ffi::AVCodecID::VP8,
    ffi::AVCodecID::VP9,
    ffi::AVCodecID::AV1,
    ffi::AVCodecID::MJPEG,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(
        extradata in prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 0..64), Just(AVCC.to_vec()), Just(hvcc(3))],
        packets in proptest::collection::vec(proptest::collection::vec(prop_oneof![3 => 0_u8..=9, 1 => any::<u8>()], 0..96), 1..4),
    ) {
        for codec in CODECS {
            let mut reader = reader(codec, &extradata);
            for packet in &packets {
                let facts = reader.read_bytes(packet);
                prop_assert!(facts == PacketFacts::UNKNOWN || facts.is_shown || matches!(codec, ffi::AVCodecID::VP8 | ffi::AVCodecID::VP9 | ffi::AVCodecID::AV1));
            }
            reader.adopt(&extradata);
        }
    }

    #[test]
    fn framing_loses_no_unit(sizes in proptest::collection::vec(1_usize..40, 0..8)) {
        let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| vec![0x41; *size]).collect();
        let coded: Vec<u8> = bodies.iter().flat_map(|body| [&(body.len() as u32).to_be_bytes()[..], body].concat()).collect();
        let started: Vec<u8> = bodies.iter().flat_map(|body| [&[0, 0, 1][..], body].concat()).collect();
        for (bytes, framing) in [(&coded, Framing::Lengths(4)), (&started, Framing::StartCodes)] {
            let found: Vec<Vec<u8>> = crate::nal::units(bytes, framing).map(|unit| unit.expect("sound").to_vec()).collect();
            prop_assert_eq!(&found, &bodies);
        }
    }
}
