//! H.264: NAL unit types, `nal_ref_idc`, slice types and recovery points (ITU-T H.264, 7.3 and D.2.8).

use super::{Leading, PacketFacts, RandomAccess};
use crate::nal::{Bits, Framing, Payload, units};

const SLICE_IDR: u8 = 5;
const SEI: u8 = 6;
/// SEI payload type of a recovery point.
const RECOVERY_POINT: u32 = 6;

/// Length prefixes if the global headers are an `avcC` record, else start codes.
pub(super) fn framing(extradata: &[u8]) -> Framing {
    match extradata {
        [1, _, _, _, sizes, _, _, ..] => Framing::Lengths(usize::from(sizes & 3) + 1),
        _ => Framing::StartCodes,
    }
}

pub(super) fn read(bytes: &[u8], framing: Framing) -> Option<PacketFacts> {
    let (mut slices, mut is_reference, mut has_headers, mut is_idr) = (0_u32, false, false, false);
    let mut recovery = None;
    let mut pictures = Pictures::default();
    for unit in units(bytes, framing) {
        let unit = unit.ok()?;
        let Some((header, payload)) = unit.split_first() else { continue };
        match header & 0x1f {
            // Slices, their partitions, and those of scalable and multiview layers.
            kind @ (1..=SLICE_IDR | 20 | 21) => {
                slices += 1;
                is_reference |= header & 0x60 != 0;
                is_idr |= kind == SLICE_IDR;
                if matches!(kind, 1 | 2 | SLICE_IDR) {
                    pictures.note_slice(payload);
                }
            }
            SEI => recovery = recovery.or(recovery_point(payload)),
            // Parameter sets, ends of sequence and stream.
            7 | 8 | 10 | 11 | 13 | 15 => has_headers = true,
            _ => {}
        }
    }
    let random_access = match recovery {
        _ if is_idr => RandomAccess::Clean,
        None => RandomAccess::None,
        Some(Recovery { pictures: 0, .. }) if !pictures.first_is_intra() => RandomAccess::None,
        Some(Recovery { is_exact: false, .. }) => RandomAccess::Approximate,
        Some(Recovery { pictures: 0, .. }) => RandomAccess::OpenGop,
        Some(Recovery { pictures, .. }) => RandomAccess::Gradual { pictures },
    };
    let leading = if is_idr { Leading::No } else { Leading::Unmarked };
    (slices > 0).then_some(PacketFacts { random_access, leading, is_reference, has_headers, is_shown: true })
}

/// Facts from a packet's slices about its first picture. A packet may hold two fields.
#[derive(Default)]
struct Pictures {
    is_known: bool,
    begun: u32,
    first_has_inter: bool,
}

impl Pictures {
    fn note_slice(&mut self, payload: &[u8]) {
        let mut bits = Bits::new(Payload::new(payload));
        let Some((first_macroblock, slice_type)) = bits.golomb().zip(bits.golomb()) else {
            self.first_has_inter = true;
            return;
        };
        self.is_known = true;
        self.begun += u32::from(first_macroblock == 0);
        // I and SI, for this slice only or for all slices of the picture.
        let is_intra = matches!(slice_type, 2 | 4 | 7 | 9);
        self.first_has_inter |= self.begun < 2 && !is_intra;
    }

    fn first_is_intra(&self) -> bool {
        self.is_known && !self.first_has_inter
    }
}

#[derive(Clone, Copy)]
struct Recovery {
    pictures: u32,
    is_exact: bool,
}

/// The recovery point message of an SEI unit.
fn recovery_point(payload: &[u8]) -> Option<Recovery> {
    let mut bytes = Payload::new(payload);
    loop {
        let kind = sei_number(&mut bytes)?;
        let size = sei_number(&mut bytes)?;
        if kind == RECOVERY_POINT {
            let mut bits = Bits::new(bytes);
            return Some(Recovery { pictures: bits.golomb()?, is_exact: bits.flag()? });
        }
        for _ in 0..size {
            bytes.next()?;
        }
    }
}

/// A number in SEI coding: bytes of 255 continue it.
fn sei_number(bytes: &mut Payload) -> Option<u32> {
    let mut number = 0_u32;
    loop {
        let byte = bytes.next()?;
        number = number.checked_add(byte.into())?;
        if byte != 0xff {
            return Some(number);
        }
    }
}
