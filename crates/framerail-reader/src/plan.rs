//! Plans how a video is read: which frames to decode in order to reach the wanted ones, with how many decoders, and how far ahead.
//!
//! All such decisions are made here: for the host and for GPUs, for sequences and for single frames.

use std::collections::BTreeMap;

use framerail_core::PixelFormat;
use framerail_media::KeyframeSpacing;

use crate::{
    ReadMode,
    assembly::MIN_REACH,
    frame_index::{Access, FrameIndex},
    piece_source::{Wanted, span},
    threads::Threads,
};

/// Visiting GOPs separately must reduce the frames to decode to less than this fraction of a sequential read.
const WORTH_SEEKING: f64 = 0.75;
/// Number of pixels to decode below which starting a multi-threaded decoder does not pay off.
const FEW_PIXELS: u64 = 4 << 20;
/// Memory for frames that wait for their turn: this fraction of the available memory, and at most this number of bytes.
const MEMORY_SHARE: u64 = 4;
const MAX_DEFAULT_BYTES: u64 = 4 << 30;
/// Fraction of that memory for the next batches, if it does not hold all.
const BATCHES_SHARE: u64 = 3;
/// Frames that a decoder holds for reference and reordering.
const HELD_BY_DECODER: usize = 6;
/// What FFmpeg allocates for a frame besides its pixels: padding of planes, motion vectors, structures (measured: 9 KiB at 32×32).
const FRAME_OVERHEAD_BYTES: u64 = 8 << 10;

/// Minimum number of packets per piece.
pub(crate) const MIN_PIECE_PACKETS: usize = 32;
/// The same for codecs whose frames are all keyframes: their decoders have nothing to lose at a new piece, and fewer frames wait.
pub(crate) const MIN_INTRA_PACKETS: usize = 4;
/// A stream without a random access point within this many packets is decoded as one.
pub(crate) const MAX_PIECE_PACKETS: usize = 1500;

/// Plan for a sequence decoded in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PiecePlan {
    /// Parallel decoders, each working on one piece.
    pub decoders: usize,
    /// Threads per decoder.
    pub threads: usize,
    /// Maximum number of frames that wait for their turn.
    pub frames: usize,
}

/// Properties of a sequence known before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    pub(crate) threads: Threads,
    /// Number of frames in the longest piece.
    pub(crate) piece_frames: usize,
    /// Number of pieces; `None` when unknown.
    pub(crate) pieces: Option<usize>,
    /// Size of a waiting frame in bytes.
    pub(crate) frame_bytes: u64,
    /// Memory for decoders and waiting frames, in bytes.
    pub(crate) memory_bytes: u64,
    /// Minimum number of decoders worth using: 2 for a file that is read alone, 1 for files that are read in parallel and share memory.
    pub(crate) least: usize,
}

impl Sequence {
    /// One decoder per thread, if memory holds the frames that wait for their turn; otherwise fewer decoders with several threads each.
    /// `Err` has the reason why one decoder with FFmpeg's own threads is as good.
    pub(crate) fn plan(&self) -> Result<PiecePlan, String> {
        let least = self.least.max(1);
        if self.threads.cores < least {
            return Err("one thread decodes".into());
        }
        let most = self.pieces.unwrap_or(usize::MAX).min(self.threads.cores);
        if most < least {
            return Err("it is a single piece: keyframes are too far apart, or it is short".into());
        }
        let room = usize::try_from(self.memory_bytes / self.frame_bytes.saturating_add(FRAME_OVERHEAD_BYTES)).unwrap_or(usize::MAX);
        // When the first of them finishes, the second nearly has, and so on: half of all frames wait.
        let waiting = |decoders: usize| self.piece_frames.saturating_mul(decoders - 1).div_ceil(2);
        let needs = |decoders: usize| waiting(decoders).saturating_add(self.held(decoders));
        let Some(decoders) = (least..=most).rev().find(|decoders| needs(*decoders) <= room) else {
            let megabytes = self.memory_bytes >> 20;
            return Err(format!("{megabytes} MiB of memory do not hold two pieces of {} frames", self.piece_frames));
        };
        // Frames of more than one piece per decoder would only wait for a consumer that is slower than decoding.
        let frames = (room - self.held(decoders)).min(self.piece_frames.max(1).saturating_mul(decoders));
        Ok(PiecePlan { decoders, threads: self.threads.each(decoders), frames })
    }

    /// Frames in decoders: references, and one for each further thread.
    fn held(&self, decoders: usize) -> usize {
        decoders * (HELD_BY_DECODER + self.threads.each(decoders) - 1)
    }
}

/// Plan for the batches of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchPlan {
    pub(crate) pieces: PiecePlan,
    /// Number of batches, counted from the next one to return, whose frames are converted right after decoding.
    pub(crate) reach: usize,
    /// Whether these batches hold everything that is decoded ahead.
    pub(crate) is_early: bool,
}

/// Properties of a batch sequence known before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSequence {
    pub(crate) threads: Threads,
    /// Number of frames in the longest piece.
    pub(crate) piece_frames: usize,
    pub(crate) pieces: usize,
    /// Size in bytes of a decoded frame, and of a converted frame.
    pub(crate) decoded_bytes: u64,
    pub(crate) image_bytes: u64,
    /// Frames per batch.
    pub(crate) batch: usize,
    /// Memory for decoders, waiting frames and batches, in bytes.
    pub(crate) memory_bytes: u64,
}

impl BatchSequence {
    /// If memory holds the batches of all pieces in progress, frames are converted while still in the CPU cache. Otherwise the next few
    /// batches get a share of it, and frames further ahead wait unconverted.
    pub(crate) fn plan(&self) -> Result<BatchPlan, String> {
        let batch = self.batch.max(1);
        let batch_bytes = self.image_bytes.saturating_mul(batch as u64).max(1);
        let sequence = |frame_bytes, memory_bytes| Sequence {
            threads: self.threads,
            piece_frames: self.piece_frames,
            pieces: Some(self.pieces),
            frame_bytes,
            memory_bytes,
            least: 2,
        };
        if let Ok(pieces) = sequence(self.image_bytes, self.memory_bytes).plan() {
            let frames = pieces.decoders.saturating_mul(self.piece_frames);
            let reach = frames.div_ceil(batch) + 1;
            let held = self.decoded_bytes.saturating_mul((pieces.decoders * HELD_BY_DECODER) as u64);
            if pieces.threads == 1 && batch_bytes.saturating_mul(reach as u64).saturating_add(held) <= self.memory_bytes {
                return Ok(BatchPlan { pieces: PiecePlan { frames, ..pieces }, reach, is_early: true });
            }
        }
        let share = self.memory_bytes / BATCHES_SHARE;
        let reach = usize::try_from(share / batch_bytes).unwrap_or(usize::MAX).max(MIN_REACH);
        let pieces = sequence(self.decoded_bytes, self.memory_bytes - share).plan()?;
        Ok(BatchPlan { pieces, reach, is_early: false })
    }
}

/// Number of frames in the longest piece of at least `least` packets, and the number of such pieces.
pub(crate) fn pieces_of(spacing: KeyframeSpacing, least: usize) -> (usize, usize) {
    // A piece ends at the first start after its minimum length.
    let frames = if spacing.longest >= least { spacing.longest } else { least + spacing.longest };
    (frames, spacing.packets.div_ceil(frames.max(1)).min(spacing.keyframes))
}

/// Size of a decoded frame on the host, in bytes.
pub fn frame_bytes(width: u32, height: u32, format: PixelFormat) -> u64 {
    let planes = (0..format.planes()).map(|plane| format.plane_size(plane, width, height));
    planes.map(|(row, rows)| row as u64 * rows as u64).sum()
}

/// Default number of bytes for frames decoded ahead.
pub fn default_memory_bytes() -> u64 {
    available_bytes().map_or(MAX_DEFAULT_BYTES, |bytes| (bytes / MEMORY_SHARE).min(MAX_DEFAULT_BYTES))
}

/// Memory that this process may still use, according to Linux.
fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let kibibytes = |line: &str| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    let machine = read("/proc/meminfo").and_then(|text| text.lines().find_map(kibibytes)).map(|kibibytes| kibibytes << 10);
    let bytes = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let group = bytes("/sys/fs/cgroup/memory.max").map(|most| most.saturating_sub(bytes("/sys/fs/cgroup/memory.current").unwrap_or(0)));
    [machine, group].into_iter().flatten().min()
}

/// How to read a selection in batches: GOP by GOP, or sequentially.
pub(crate) fn mode(asked: ReadMode, index: &FrameIndex, numbers: &[usize]) -> ReadMode {
    let is_rising = numbers.is_sorted();
    if index.access == Access::Counted && is_rising {
        return ReadMode::Stream;
    }
    match asked {
        _ if !is_rising => ReadMode::Seek,
        ReadMode::Auto if index.access == Access::ByTime => {
            let (anew, on) = (index.frames_decoded_afresh(numbers), index.frames_between(numbers));
            if (anew as f64) < WORTH_SEEKING * on as f64 { ReadMode::Seek } else { ReadMode::Stream }
        }
        ReadMode::Auto => ReadMode::Stream,
        asked => asked,
    }
}

/// Whether a decoder just before these GOPs, with `on` frames left to decode up to their last wanted frame, should continue instead of
/// starting again for each GOP.
pub(crate) fn goes_on(groups: &BTreeMap<usize, Wanted>, on: Option<usize>) -> bool {
    let anew: usize = groups.iter().map(|(start, wanted)| span(*start, wanted)).sum();
    groups.len() <= 1 || on.is_some_and(|on| on <= anew)
}

/// Number of decoders, and of threads per decoder, for GOPs decoded in parallel. `longest`: frames of the longest GOP.
pub(crate) fn for_groups(threads: Threads, groups: usize, longest: usize, pixels: u64) -> (usize, usize) {
    let (decoders, each) = threads.among(groups);
    let is_little = pixels.saturating_mul(longest as u64) < FEW_PIXELS || longest < 3;
    (decoders, if is_little { 1 } else { each })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hd(threads: usize, piece_frames: usize, memory_mib: u64) -> Sequence {
        let frame_bytes = frame_bytes(1920, 1080, PixelFormat::Yuv420p);
        Sequence { threads: Threads::limited(threads), piece_frames, pieces: None, frame_bytes, memory_bytes: memory_mib << 20, least: 2 }
    }

    #[test]
    fn as_many_decoders_as_threads_while_memory_lasts() {
        let plan =
            |threads, piece_frames, memory_mib| hd(threads, piece_frames, memory_mib).plan().map(|plan| (plan.decoders, plan.threads)).ok();
        assert_eq!(plan(2, 60, 2048), Some((2, 1)));
        assert_eq!(plan(16, 60, 2048), Some((16, 1)));
        assert_eq!(plan(16, 60, 850), Some((8, 2)));
        assert_eq!(plan(16, 250, 2048), Some((6, 3)));
        assert_eq!((plan(1, 60, 2048), plan(16, 600, 512)), (None, None));
    }

    #[test]
    fn waiting_frames_and_decoders_keep_to_the_memory() {
        for (threads, piece_frames, memory_mib) in [(2, 12, 64), (16, 60, 700), (64, 32, 4096), (16, 600, 2048), (3, 250, 1000)] {
            let sequence = hd(threads, piece_frames, memory_mib);
            let Ok(plan) = sequence.plan() else { continue };
            let frames = (plan.frames + sequence.held(plan.decoders)) as u64;
            assert!(frames * sequence.frame_bytes <= sequence.memory_bytes, "{plan:?}");
            assert!(plan.decoders * plan.threads >= threads && plan.decoders <= threads, "{plan:?}");
        }
    }

    #[test]
    fn small_frames_are_not_decoded_further_ahead_than_decoders_need() {
        let frame_bytes = frame_bytes(32, 32, PixelFormat::Yuv420p);
        let sequence =
            Sequence { threads: Threads::limited(4), piece_frames: 250, pieces: None, frame_bytes, memory_bytes: 4 << 30, least: 2 };
        assert_eq!(sequence.plan(), Ok(PiecePlan { decoders: 4, threads: 1, frames: 1000 }));
        let little = Sequence { memory_bytes: 8 << 20, ..sequence }.plan().expect("pieces");
        assert!(little.frames * 8 < 8 << 10, "{little:?}");
    }

    #[test]
    fn frames_are_converted_early_while_memory_lasts() {
        let (decoded, rgb) = (frame_bytes(1920, 1080, PixelFormat::Yuv420p), 3 * 1920 * 1080);
        let batches = |threads, piece_frames, image_bytes, memory_mib: u64| {
            let sequence = BatchSequence {
                threads: Threads::limited(threads),
                piece_frames,
                pieces: 100,
                decoded_bytes: decoded,
                image_bytes,
                batch: 32,
                memory_bytes: memory_mib << 20,
            };
            sequence.plan().expect("pieces")
        };
        let early = |plan: BatchPlan| (plan.is_early, plan.pieces.decoders, plan.reach);
        assert_eq!(early(batches(2, 60, rgb, 2048)), (true, 2, 5));
        assert_eq!(early(batches(8, 60, rgb, 4096)), (true, 8, 16));
        assert_eq!(early(batches(16, 60, rgb, 4096)), (false, 16, 7));
        assert_eq!(early(batches(16, 60, 3 * 224 * 224, 2048)), (true, 16, 31));
        for (threads, piece_frames, image_bytes, memory_mib) in
            [(2, 12, rgb, 512), (16, 60, rgb, 4096), (16, 250, rgb, 4096), (64, 60, rgb, 4096), (16, 600, 3 * 224 * 224, 4096)]
        {
            let plan = batches(threads, piece_frames, image_bytes, memory_mib);
            let of_batches = plan.reach as u64 * 32 * image_bytes;
            let of_frames = if plan.is_early { 0 } else { (plan.pieces.frames + plan.pieces.decoders * HELD_BY_DECODER) as u64 * decoded };
            assert!(of_batches + of_frames <= memory_mib << 20, "{plan:?}");
        }
    }

    #[test]
    fn files_of_one_piece_stay_with_one_decoder() {
        let spacing = KeyframeSpacing { keyframes: 1, packets: 48, longest: 48 };
        assert_eq!(pieces_of(spacing, 32), (48, 1));
        assert!(Sequence { pieces: Some(1), ..hd(16, 48, 2048) }.plan().is_err());
        let beside = Sequence { pieces: Some(1), least: 1, ..hd(1, 48, 2048) }.plan().expect("one decoder");
        assert_eq!((beside.decoders, beside.threads), (1, 1), "beside other files");
        assert_eq!(pieces_of(KeyframeSpacing { keyframes: 960, packets: 960, longest: 1 }, 32), (33, 30), "frames that all stand alone");
    }
}
