//! NAL units of H.264 and HEVC in a packet, and bit reading. All lengths and counts are validated.

/// Maximum number of escaped bytes read of a NAL unit: more than any header or SEI message needed here.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// How NAL units are delimited in a stream's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Start codes (Annex B).
    StartCodes,
    /// A big-endian length of 1 to 4 bytes before each unit.
    Lengths(usize),
}

/// A packet that does not match its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// The NAL units of a packet, starting at the header byte; trailing zeros may remain. Ends after an error.
pub(crate) fn units(bytes: &[u8], framing: Framing) -> impl Iterator<Item = Result<&[u8], Broken>> {
    let mut rest = match framing {
        Framing::StartCodes => after_start_code(bytes),
        Framing::Lengths(_) => bytes,
    };
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (unit, next) = match framing {
            Framing::StartCodes => up_to_start_code(rest),
            Framing::Lengths(size) => match by_length(rest, size) {
                Some(parts) => parts,
                None => {
                    rest = &[];
                    return Some(Err(Broken));
                }
            },
        };
        rest = next;
        Some(Ok(unit))
    })
}

fn by_length(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(size)?;
    let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

/// The bytes after the first start code; empty without one.
pub(crate) fn after_start_code(bytes: &[u8]) -> &[u8] {
    start_code(bytes).and_then(|place| bytes.get(place + 3..)).unwrap_or_default()
}

/// The bytes before the next start code, and those after it.
pub(crate) fn up_to_start_code(bytes: &[u8]) -> (&[u8], &[u8]) {
    match start_code(bytes) {
        Some(place) => (bytes.get(..place).unwrap_or_default(), bytes.get(place + 3..).unwrap_or_default()),
        None => (bytes, &[]),
    }
}

/// Position of the next `00 00 01`.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut place = 0;
    // The third byte determines the minimum distance to the next start code.
    while let Some([first, second, third]) = bytes.get(place..place + 3) {
        match (first, second, third) {
            (0, 0, 1) => return Some(place),
            (_, _, 2..) => place += 3,
            _ => place += 1,
        }
    }
    None
}

/// Bytes of a NAL unit without emulation prevention (`00 00 03` stands for `00 00`).
#[derive(Clone)]
pub(crate) struct Payload<'a> {
    bytes: &'a [u8],
    zeros: u8,
}

impl<'a> Payload<'a> {
    pub(crate) fn new(unit: &'a [u8]) -> Self {
        Self { bytes: unit.get(..MAX_HEADER_BYTES).unwrap_or(unit), zeros: 0 }
    }
}

impl Iterator for Payload<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (mut byte, mut rest) = self.bytes.split_first()?;
        if self.zeros >= 2 && *byte == 3 {
            self.zeros = 0;
            (byte, rest) = rest.split_first()?;
        }
        self.zeros = if *byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.bytes = rest;
        Some(*byte)
    }
}

/// Reads bits, most significant first; `None` past the end.
pub(crate) struct Bits<I> {
    bytes: I,
    current: u8,
    left: u32,
}

impl<I: Iterator<Item = u8>> Bits<I> {
    pub(crate) fn new(bytes: I) -> Self {
        Self { bytes, current: 0, left: 0 }
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.bytes.next()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// Reads up to 32 bits as a number.
    pub(crate) fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0_u32, |number, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    /// Reads an unsigned Exp-Golomb code, `ue(v)`.
    pub(crate) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.number(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], framing: Framing) -> Vec<Result<&[u8], Broken>> {
        units(bytes, framing).collect()
    }

    #[test]
    fn start_codes_part_units() {
        let bytes = [0, 0, 0, 1, 9, 16, 0, 0, 1, 0x65, 1, 2, 0, 0, 0, 1, 0x41];
        assert_eq!(all(&bytes, Framing::StartCodes), [Ok(&[9, 16][..]), Ok(&[0x65, 1, 2, 0]), Ok(&[0x41])]);
        assert!(all(&[1, 2, 3], Framing::StartCodes).is_empty());
        assert!(all(&[0, 0, 1], Framing::StartCodes).is_empty());
    }

    #[test]
    fn lengths_part_units_and_too_long_ones_end_them() {
        assert_eq!(all(&[0, 1, 7, 0, 2, 8, 9], Framing::Lengths(2)), [Ok(&[7][..]), Ok(&[8, 9])]);
        assert_eq!(all(&[0, 1, 7, 0, 9, 8], Framing::Lengths(2)), [Ok(&[7][..]), Err(Broken)]);
        assert_eq!(all(&[0, 0], Framing::Lengths(4)), [Err(Broken)]);
        assert_eq!(all(&[0xff; 4], Framing::Lengths(4)), [Err(Broken)]);
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        assert_eq!(Payload::new(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3]).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 0, 0, 3]);
        assert_eq!(Payload::new(&[5, 0, 0, 3]).collect::<Vec<_>>(), [5, 0, 0]);
    }

    #[test]
    fn exp_golomb_codes_are_those_of_the_standard() {
        // 1, 010, 011, 00100, then ones.
        let mut bits = Bits::new([0b1010_0110, 0b0100_1111].into_iter());
        assert_eq!([bits.golomb(), bits.golomb(), bits.golomb(), bits.golomb()], [Some(0), Some(1), Some(2), Some(3)]);
        let mut longest = Bits::new([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff].into_iter());
        assert_eq!(longest.golomb(), Some(u32::MAX - 1));
        assert_eq!(Bits::new([0; 9].into_iter()).golomb(), None);
        assert_eq!(Bits::new([0].into_iter()).golomb(), None);
    }
}
