//! HEVC: NAL unit types and temporal sub-layers (ITU-T H.265, 7.3 and 7.4.2.2).

use super::{Leading, PacketFacts, RandomAccess};
use crate::nal::{Framing, units};

const VPS: u8 = 32;
const SPS: u8 = 33;
/// Bytes of an `hvcC` record before its arrays of NAL units.
const HVCC_BYTES: usize = 23;

/// Length prefixes if the global headers are an `hvcC` record, else start codes.
pub(super) fn framing(extradata: &[u8]) -> Framing {
    match (extradata.first(), extradata.get(HVCC_BYTES - 2)) {
        (Some(1), Some(sizes)) => Framing::Lengths(usize::from(sizes & 3) + 1),
        _ => Framing::StartCodes,
    }
}

/// The maximum number of temporal sub-layers of the parameter sets seen so far.
///
/// "Not referenced" applies only within a picture's own sub-layer: pictures of higher sub-layers may refer to it. Only in the
/// highest one is the picture disposable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SubLayers(Option<u8>);

impl SubLayers {
    pub(super) fn of_extradata(extradata: &[u8]) -> Self {
        let mut layers = Self::default();
        match framing(extradata) {
            Framing::StartCodes => units(extradata, Framing::StartCodes).flatten().for_each(|unit| layers.note(unit)),
            Framing::Lengths(_) => layers.note_arrays(extradata.get(HVCC_BYTES - 1..).unwrap_or_default()),
        }
        layers
    }

    pub(super) fn join(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }

    /// Records a NAL unit if it is a video or sequence parameter set of the base layer.
    fn note(&mut self, unit: &[u8]) {
        let [first, second, fields, more, ..] = unit else { return };
        if first & 1 != 0 || second >> 3 != 0 {
            return;
        }
        let minus_one = match first >> 1 {
            // vps_video_parameter_set_id (4), two flags, vps_max_layers_minus1 (6), vps_max_sub_layers_minus1 (3).
            VPS => more >> 1 & 7,
            // sps_video_parameter_set_id (4), sps_max_sub_layers_minus1 (3).
            SPS => fields >> 1 & 7,
            _ => return,
        };
        self.join(Self(Some(minus_one + 1)));
    }

    /// Reads the arrays of an `hvcC` record: a count, then per array a type, a count and NAL units with two-byte length prefixes.
    fn note_arrays(&mut self, arrays: &[u8]) {
        let Some((count, mut rest)) = arrays.split_first() else { return };
        for _ in 0..*count {
            let Some(([_, high, low], units)) = rest.split_first_chunk::<3>() else { return };
            rest = units;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                let Some((length, bytes)) = rest.split_first_chunk::<2>() else { return };
                let Some((unit, after)) = bytes.split_at_checked(u16::from_be_bytes(*length).into()) else { return };
                self.note(unit);
                rest = after;
            }
        }
    }

    fn is_highest(self, temporal_id: u8) -> bool {
        self.0.is_some_and(|count| temporal_id + 1 >= count)
    }
}

pub(super) fn read(bytes: &[u8], framing: Framing, layers: &mut SubLayers) -> Option<PacketFacts> {
    let mut facts: Option<PacketFacts> = None;
    let mut has_headers = false;
    for unit in units(bytes, framing) {
        let unit = unit.ok()?;
        let Some(([first, second], _)) = unit.split_first_chunk::<2>() else { continue };
        let (kind, layer) = (first >> 1 & 0x3f, (first & 1) << 5 | second >> 3);
        if layer != 0 {
            continue;
        }
        match kind {
            0..=31 => {
                let slice = slice_facts(kind, (second & 7).saturating_sub(1), *layers);
                facts = Some(match facts {
                    Some(before) => PacketFacts { is_reference: before.is_reference | slice.is_reference, ..before },
                    None => slice,
                });
            }
            // Parameter sets, ends of sequence and bitstream.
            VPS | SPS | 34 | 36 | 37 => {
                layers.note(unit);
                has_headers = true;
            }
            _ => {}
        }
    }
    facts.map(|facts| PacketFacts { has_headers, ..facts })
}

fn slice_facts(kind: u8, temporal_id: u8, layers: SubLayers) -> PacketFacts {
    // Even types up to RSV_VCL_N14 are not referenced within their sub-layer.
    let is_reference = kind > 14 || kind % 2 == 1 || !layers.is_highest(temporal_id);
    let random_access = match kind {
        // IDR pictures, and BLA pictures: their undecodable leading pictures are never shown.
        16..=20 => RandomAccess::Clean,
        // CRA pictures.
        21 => RandomAccess::OpenGop,
        _ => RandomAccess::None,
    };
    let leading = match kind {
        6 | 7 => Leading::Decodable,
        8 | 9 => Leading::NeedsEarlier,
        _ => Leading::No,
    };
    PacketFacts { random_access, leading, is_reference, has_headers: false, is_shown: true }
}
