//! Tables for picking elements of a row with vectors: a few windows of 16 bytes for each half of a vector, and where their bytes go.

/// Windows of consecutive vectors; each half of a vector has its own.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    /// Number of windows per vector.
    pub count: usize,
    /// The first element of each window, for both halves.
    pub starts: Vec<[u32; 2]>,
    /// For each byte of the vector, the byte of its window, or 0x80 if another window has it.
    pub masks: Vec<[u8; 32]>,
}

/// The bytes that half a vector takes from one window.
#[derive(Clone, Copy)]
struct Part {
    start: u32,
    mask: [u8; 16],
}

const NOTHING: Part = Part { start: 0, mask: [0x80; 16] };

impl Windows {
    /// Creates tables that pick `elements`, given by index, of `BYTES` bytes each, from a row of `length` elements. `None` when a vector
    /// needs more than `most` windows, an index is out of range, or the row is shorter than a window.
    pub fn new<const BYTES: usize>(elements: &[u32], length: usize, most: usize) -> Option<Self> {
        let places = 16 / BYTES;
        let last_start = u32::try_from(length.checked_sub(places)?).ok()?;
        let halves: Vec<Vec<Part>> = elements.chunks(places).map(|half| parts::<BYTES>(half, last_start)).collect();
        let count = halves.iter().map(Vec::len).max().unwrap_or(0);
        if count > most || elements.iter().any(|element| *element as usize >= length) {
            return None;
        }
        let mut windows = Self { count, ..Self::default() };
        for pair in halves.chunks(2) {
            for window in 0..count {
                let part = |half: usize| pair.get(half).and_then(|parts| parts.get(window)).copied().unwrap_or(NOTHING);
                let (low, high) = (part(0), part(1));
                windows.starts.push([low.start, high.start]);
                let mut mask = [0; 32];
                mask[..16].copy_from_slice(&low.mask);
                mask[16..].copy_from_slice(&high.mask);
                windows.masks.push(mask);
            }
        }
        Some(windows)
    }
}

/// Covers the elements, which may lie in any order, with as few windows as possible.
fn parts<const BYTES: usize>(elements: &[u32], last_start: u32) -> Vec<Part> {
    let places = 16 / BYTES as u32;
    let mut sorted = elements.to_vec();
    sorted.sort_unstable();
    let mut parts: Vec<Part> = Vec::new();
    for element in sorted {
        if parts.last().is_none_or(|part| element >= part.start + places) {
            parts.push(Part { start: element.min(last_start), ..NOTHING });
        }
    }
    for (place, element) in elements.iter().enumerate() {
        let holder = parts.iter_mut().find(|part| (part.start..part.start + places).contains(element));
        let Some(part) = holder else { continue };
        for byte in 0..BYTES {
            part.mask[place * BYTES + byte] = ((element - part.start) as usize * BYTES + byte) as u8;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_give_back_the_elements() {
        for (step, length) in [(1, 40), (3, 200), (5, 300), (0, 16)] {
            let elements: Vec<u32> = (0..45).map(|i| (i * step + i / 3).min(length as u32 - 1)).collect();
            let row: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let windows = Windows::new::<1>(&elements, length, 16).expect("long enough");
            for (position, element) in elements.iter().enumerate() {
                let (vector, byte) = (position / 32, position % 32);
                let mut found = 0;
                for window in vector * windows.count..(vector + 1) * windows.count {
                    let (start, from) = (windows.starts[window][byte / 16] as usize, windows.masks[window][byte]);
                    found |= if from == 0x80 { 0 } else { row[start..start + 16][from as usize] };
                }
                assert_eq!(found, row[*element as usize], "{step} {position}");
            }
        }
        assert!(Windows::new::<1>(&[0, 100], 200, 1).is_none() && Windows::new::<2>(&[0], 7, 4).is_none());
    }
}
