//! Composition offsets of an MP4 or MOV track, which turn decoding times into presentation times.
//!
//! FFmpeg does not expose them; it only reports the PTS of each packet it reads. Source: ISO/IEC 14496-12.

use std::io::{Read, Seek};

use crate::mp4_boxes::{boxes, find, read_top_level, track_id};

/// Maximum size of a `moov` box that is read.
const MAX_MOOV_BYTES: u64 = 256 * 1024 * 1024;

/// Data that an index lacks to compute all times.
pub(crate) struct SampleTimes {
    /// The offset of every sample in decoding order.
    pub(crate) offsets: Vec<i32>,
    /// Duration of the last sample in ticks.
    pub(crate) last_duration: u32,
}

/// Reads a track's offsets; `None` if the file does not state them in a simple form: fragments, several
/// edits, or a number of samples other than `samples`.
pub(crate) fn sample_times(file: impl Read + Seek, wanted: u32, samples: usize) -> Option<SampleTimes> {
    let moov = read_top_level(file, b"moov", MAX_MOOV_BYTES)?;
    if find(&moov, &[b"mvex"]).is_some() {
        return None;
    }
    let track = boxes(&moov).filter(|found| &found.kind == b"trak").find(|track| track_id(track.body) == Some(wanted))?.body;
    if let Some(edits) = find(track, &[b"edts", b"elst"]) {
        has_one_edit(edits)?;
    }
    let table = find(track, &[b"mdia", b"minf", b"stbl"])?;
    let offsets = match find(table, &[b"ctts"]) {
        Some(offsets) => expand(offsets, samples)?,
        None => vec![0; samples],
    };
    Some(SampleTimes { offsets, last_duration: last_duration(find(table, &[b"stts"])?)? })
}

/// The duration in the last run of samples.
fn last_duration(table: &[u8]) -> Option<u32> {
    let count = usize::try_from(u32_at(table, 4)?).ok()?;
    u32_at(table.get(8..)?.chunks_exact(8).take(count).next_back()?, 4)
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    let bytes = bytes.get(place..place.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// `None` if more than one edit shows media.
fn has_one_edit(edits: &[u8]) -> Option<()> {
    let count = u32_at(edits, 4)?;
    // Duration, media time (all ones for an empty edit) and rate; times have 4 or 8 bytes.
    let time_bytes = if edits.first() == Some(&1) { 8 } else { 4 };
    let entries = edits.get(8..)?.chunks_exact(2 * time_bytes + 4).take(usize::try_from(count).ok()?);
    let shown = entries.filter_map(|entry| entry.get(time_bytes..2 * time_bytes)).filter(|time| time.iter().any(|byte| *byte != 0xff));
    (shown.count() <= 1).then_some(())
}

fn expand(table: &[u8], samples: usize) -> Option<Vec<i32>> {
    let count = usize::try_from(u32_at(table, 4)?).ok()?;
    let mut offsets = Vec::with_capacity(samples);
    for entry in table.get(8..)?.chunks_exact(8).take(count) {
        let run = usize::try_from(u32_at(entry, 0)?).ok()?;
        // Signed in version 1; players read version 0 as signed too.
        let offset = u32_at(entry, 4)?.cast_signed();
        if run > samples - offsets.len() {
            return None;
        }
        offsets.extend(std::iter::repeat_n(offset, run));
    }
    (offsets.len() == samples).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32 + 8).to_be_bytes()[..], kind, payload].concat()
    }

    fn table(entries: &[[u32; 2]]) -> Vec<u8> {
        let words = [0, entries.len() as u32].into_iter().chain(entries.iter().flatten().copied());
        words.flat_map(u32::to_be_bytes).collect()
    }

    fn moov(offsets: &[[u32; 2]], edits: &[[u32; 3]]) -> Vec<u8> {
        let table = boxed(b"stbl", &[boxed(b"stts", &table(&[[2, 10], [1, 7]])), boxed(b"ctts", &table(offsets))].concat());
        let media = boxed(b"mdia", &boxed(b"minf", &table));
        let header = boxed(b"tkhd", &[&[0; 12][..], &3_u32.to_be_bytes()].concat());
        let words = [0, edits.len() as u32].into_iter().chain(edits.iter().flatten().copied());
        let edits = boxed(b"edts", &boxed(b"elst", &words.flat_map(u32::to_be_bytes).collect::<Vec<u8>>()));
        boxed(b"moov", &boxed(b"trak", &[header, edits, media].concat()))
    }

    fn read(bytes: &[u8], samples: usize) -> Option<(Vec<i32>, u32)> {
        sample_times(Cursor::new(bytes), 3, samples).map(|times| (times.offsets, times.last_duration))
    }

    #[test]
    fn runs_are_expanded_and_other_counts_refused() {
        let file = [boxed(b"ftyp", b"isom"), moov(&[[1, 20], [2, u32::MAX]], &[[0, u32::MAX, 1], [30, 20, 1]])].concat();
        assert_eq!(read(&file, 3), Some((vec![20, -1, -1], 7)));
        assert_eq!(read(&file, 2), None);
        assert_eq!(read(&file, 4), None);
        assert_eq!(read(&moov(&[[3, 0]], &[[9, 0, 1], [9, 9, 1]]), 3), None, "two edits");
        assert_eq!(read(&file[..file.len() - 1], 3), None, "cut off");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn broken_boxes_are_survived(place in 0_usize..180, value in any::<u8>(), samples in 0_usize..5) {
            let mut file = moov(&[[1, 20], [2, 10]], &[[30, 20, 1]]);
            if let Some(byte) = file.get_mut(place) {
                *byte = value;
            }
            prop_assert!(read(&file, samples).is_none_or(|(offsets, _)| offsets.len() == samples));
        }
    }
}
