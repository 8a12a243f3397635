//! Checks that the fragments of an MP4 are complete and intact: FFmpeg silently skips unknown boxes and samples that are
//! not listed.

use framerail_core::TimeBase;

use crate::{
    container::Container,
    movie_fragment::{MovieFragment, SampleDefaults},
    mp4_boxes::{BoxHeader, find},
};

/// Top-level boxes of an MP4.
const BOXES: [&[u8; 4]; 16] = [
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"ssix", b"mfra", b"emsg", b"prft", b"free", b"skip", b"wide", b"uuid", b"meta",
    b"pdin",
];
/// Maximum number of boxes read, and bytes after a break that are searched for the next fragment.
const MAX_BOXES: usize = 1_000_000;
const SEARCH_BYTES: usize = 8 << 20;
/// Maximum size of the index and of a fragment's header.
const MAX_INDEX_BYTES: u64 = 256 << 20;
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Gap in frames beyond which the timestamps are considered damaged.
const MAX_GAP_FRAMES: u64 = 100_000;

/// Result of checking a fragmented file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FragmentCheck {
    /// The container stream of the video.
    pub(super) stream: usize,
    /// Number of damaged or missing fragments.
    pub(super) errors: u64,
    /// Video packets that are listed, plus missing ones according to the times of the surrounding fragments.
    pub(super) packets: u64,
    /// Data after the last fragment belongs to no fragment: the last one is damaged.
    pub(super) is_end_broken: bool,
}

/// Checks the boxes of a file; `None` for a file without fragments.
pub(super) fn check(container: &mut Container, size: u64, track: u32, base: TimeBase) -> Option<FragmentCheck> {
    let mut walk = Walk { track, half_second: base.ticks(0.5).max(1).unsigned_abs(), ..Walk::default() };
    let (mut at, mut is_fragmented) = (0, false);
    for _ in 0..MAX_BOXES {
        if at + 8 > size {
            break;
        }
        let head = container.bytes_at(at, 16)?;
        let header = BoxHeader::read(&head).filter(|header| BOXES.contains(&&header.kind) && header.size >= header.length as u64);
        let Some(header) = header.filter(|header| header.size <= size - at) else {
            if !is_fragmented {
                return None;
            }
            let rest = container.bytes_at(at, SEARCH_BYTES)?;
            walk.check.errors += 1;
            walk.is_in_doubt = true;
            match next_fragment(&rest) {
                Some(offset) => at += offset as u64,
                None => {
                    // Data that a recorder or tagging tool appended after the last fragment does not contain a fragment's boxes.
                    let has_media = [b"mdat", b"traf", b"trun", b"mfro"].iter().any(|name| rest.windows(4).any(|bytes| bytes == *name));
                    walk.check.is_end_broken = has_media || walk.is_open;
                    walk.check.errors -= u64::from(!walk.check.is_end_broken);
                    break;
                }
            }
            continue;
        };
        match &header.kind {
            b"moov" if header.size <= MAX_INDEX_BYTES => {
                let moov = container.bytes_at(at + header.length as u64, usize::try_from(header.size).ok()? - header.length)?;
                is_fragmented |= find(&moov, &[b"mvex"]).is_some();
                walk.defaults = SampleDefaults::of_track(&moov, track).unwrap_or_default();
            }
            b"moof" if header.size <= MAX_HEADER_BYTES => {
                is_fragmented = true;
                let body = container.bytes_at(at + header.length as u64, usize::try_from(header.size).ok()? - header.length)?;
                walk.fragment(&body);
            }
            b"mdat" => walk.samples(header.size - header.length as u64),
            _ => {}
        }
        at += header.size;
    }
    is_fragmented.then_some(walk.check)
}

/// Position of the next fragment in these bytes: a `moof` box that starts with an `mfhd` box.
fn next_fragment(bytes: &[u8]) -> Option<usize> {
    bytes.windows(16).skip(1).position(|window| &window[4..8] == b"moof" && &window[12..16] == b"mfhd").map(|before| before + 1)
}

/// State of the check.
#[derive(Default)]
struct Walk {
    check: FragmentCheck,
    track: u32,
    defaults: SampleDefaults,
    half_second: u64,
    /// End of the last fragment in decoding time, and the duration of its samples.
    expected: Option<(u64, u64)>,
    sequence: Option<u32>,
    /// Bytes that the last fragment lists, until its samples are found.
    listed: Option<u64>,
    is_open: bool,
    /// Samples may be missing since the last fragment of the track.
    is_in_doubt: bool,
}

impl Walk {
    fn fragment(&mut self, moof: &[u8]) {
        let (track, defaults) = (self.track, self.defaults);
        let fragment = MovieFragment::read(moof, |of| if of == track { defaults } else { SampleDefaults::default() });
        let is_next = self.sequence.is_none_or(|last| fragment.sequence.is_none_or(|sequence| sequence <= last.saturating_add(1)));
        if fragment.sequence.is_some() {
            self.sequence = fragment.sequence;
        }
        self.check.errors += u64::from(fragment.is_broken);
        (self.listed, self.is_open) = (Some(fragment.bytes()), true);
        for part in fragment.tracks.iter().filter(|part| part.track == track) {
            if let (Some(start), Some((expected, step))) = (part.start, self.expected) {
                // A gap alone is a pause, and writers may number fragments by their own rules; both together are a loss.
                let missing = (start.saturating_sub(expected) + step / 2).checked_div(step).unwrap_or(0);
                if (self.is_in_doubt || !is_next) && (1..=MAX_GAP_FRAMES).contains(&missing) {
                    self.check.packets += missing;
                    self.check.errors += u64::from(!self.is_in_doubt);
                }
            }
            let samples: u64 = part.runs.iter().map(|run| u64::from(run.samples)).sum();
            let duration: u64 = part.runs.iter().map(|run| run.duration).sum();
            self.check.packets += samples;
            self.is_in_doubt = false;
            if let Some(start) = part.start.or(self.expected.map(|(expected, _)| expected)) {
                let step = duration.checked_div(samples).or(self.expected.map(|(_, step)| step)).filter(|step| *step <= self.half_second);
                self.expected = step.map(|step| (start.saturating_add(duration), step));
            }
        }
        self.is_in_doubt |= fragment.is_broken;
    }

    /// Checks the samples of the last fragment.
    fn samples(&mut self, bytes: u64) {
        // Auxiliary data of encrypted samples may be there too, so this is only a hint.
        self.is_in_doubt |= self.listed.take().is_some_and(|listed| listed < bytes);
        self.is_open = false;
    }
}
