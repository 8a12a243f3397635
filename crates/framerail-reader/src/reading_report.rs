//! Reports how a file will be read, and what would make reading it faster.

use framerail_core::FramePool;
use framerail_media::{FactsReader, Input, InputOptions, MediaError, PacketKind, RandomAccess, facts::PacketFacts};
use serde::Serialize;

use crate::{
    Reading,
    host::{HostOptions, plan_of},
    plan::{self, MIN_PIECE_PACKETS, Sequence},
    threads::Threads,
};

/// How a file will be read on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadingReport {
    /// Parallel decoders; 1 when a single decoder processes the packets in order.
    pub decoders: usize,
    /// Threads per decoder; 0 when FFmpeg chooses.
    pub threads: usize,
    /// Why a single decoder is used, if it is.
    pub reason: Option<String>,
    /// Number of video packets.
    pub packets: usize,
    /// Exact random access points.
    pub starts: usize,
    /// Of these, open GOPs: frames after them also need earlier data.
    pub open_starts: usize,
    /// Keyframes at which decoding cannot start exactly.
    pub inexact_keyframes: usize,
    /// Maximum number of packets between two starts.
    pub longest: usize,
    /// Number of pieces decoded in parallel.
    pub pieces: usize,
    /// Memory for frames that wait for their turn, in bytes.
    pub memory_bytes: u64,
    /// Suggestions for faster reading.
    pub advice: Vec<String>,
}

/// Reads every packet of a file, without decoding, and reports how it will be read. `options.threads` limits the threads.
///
/// # Errors
/// As [`Input::open`].
pub fn reading_report(options: &InputOptions) -> Result<ReadingReport, MediaError> {
    let host = HostOptions::new(&FramePool::new(0));
    let mut input = Input::open(options)?;
    let planned = plan_of(&mut input, options, &host)?;
    let info = input.info().clone();
    let mut scan = Scan { facts: FactsReader::new(input.parameters()), ..Scan::default() };
    scan.read(&mut input)?;
    let memory_bytes = host.memory_bytes.unwrap_or_else(plan::default_memory_bytes);
    let threads = Threads::of(options.threads, &input);
    let frame_bytes = plan::frame_bytes(info.width, info.height, info.pixel_format);
    // The packets are more precise than the header.
    let sequence =
        Sequence { threads, piece_frames: scan.longest_piece.max(1), pieces: Some(scan.pieces), frame_bytes, memory_bytes, least: 2 };
    let planned = planned.and_then(|_| if scan.lacks_pts { Err("packets without timestamps".to_owned()) } else { sequence.plan() });
    let reading = planned.clone().map_or_else(Reading::Sequential, Reading::Pieces);
    let advice = scan.advice(&info.codec, &info.container, &sequence, &reading);
    let (decoders, threads, memory_bytes) =
        planned.as_ref().map_or((1, options.threads, 0), |plan| (plan.decoders, plan.threads, plan.frames as u64 * frame_bytes));
    Ok(ReadingReport {
        decoders,
        threads,
        reason: planned.err(),
        packets: scan.packets,
        starts: scan.starts,
        open_starts: scan.open_starts,
        inexact_keyframes: scan.inexact,
        longest: scan.longest.max(scan.packets - scan.last_start),
        pieces: scan.pieces,
        memory_bytes,
        advice,
    })
}

#[derive(Default)]
struct Scan {
    facts: Option<FactsReader>,
    packets: usize,
    starts: usize,
    open_starts: usize,
    inexact: usize,
    last_start: usize,
    longest: usize,
    /// First packet of the current piece.
    piece: usize,
    pieces: usize,
    longest_piece: usize,
    lacks_pts: bool,
}

impl Scan {
    fn read(&mut self, input: &mut Input) -> Result<(), MediaError> {
        while let Some(packet) = input.next_packet()? {
            if packet.kind == PacketKind::Video {
                let facts = self.facts.as_mut().map_or(PacketFacts::UNKNOWN, |facts| facts.read(&packet));
                self.lacks_pts |= packet.pts().is_none();
                self.note(facts, packet.is_keyframe());
            }
        }
        self.longest_piece = self.longest_piece.max(self.packets - self.piece);
        self.pieces += usize::from(self.packets > self.piece);
        Ok(())
    }

    fn note(&mut self, facts: PacketFacts, is_keyframe: bool) {
        if facts.random_access.is_exact() {
            self.starts += 1;
            self.open_starts += usize::from(facts.random_access == RandomAccess::OpenGop);
            self.longest = self.longest.max(self.packets - self.last_start);
            self.last_start = self.packets;
            if self.packets - self.piece >= MIN_PIECE_PACKETS {
                self.longest_piece = self.longest_piece.max(self.packets - self.piece);
                self.pieces += 1;
                self.piece = self.packets;
            }
        } else {
            self.inexact += usize::from(is_keyframe);
        }
        self.packets += 1;
    }

    fn advice(&self, codec: &str, container: &str, sequence: &Sequence, reading: &Reading) -> Vec<String> {
        let mut advice = Vec::new();
        if self.facts.is_none() {
            advice.push(format!("{codec} does not mark where decoding can start; H.264, HEVC, VP9 and AV1 do"));
        } else if self.inexact > 0 && self.starts < 2 {
            advice.push("its keyframes are not exact starts; encode without intra refresh, with closed GOPs".into());
        } else if self.pieces < sequence.threads.cores && self.packets >= 2 * MIN_PIECE_PACKETS {
            advice.push(format!(
                "{} pieces for {} threads: more keyframes, such as one every 60 frames (-g 60)",
                self.pieces, sequence.threads.cores
            ));
        }
        if let Reading::Pieces(plan) = reading
            && plan.decoders < sequence.threads.cores.min(self.pieces)
        {
            let frames = self.longest_piece;
            advice
                .push(format!("memory holds {} pieces of {frames} frames: more memory=, or keyframes closer to each other", plan.decoders));
        }
        if self.open_starts > 1 {
            advice.push("open GOPs cost one more decoded frame per piece; closed ones do not (x264: the default; x265: open-gop=0)".into());
        }
        if self.lacks_pts {
            advice.push("its packets have no presentation timestamps; copy it to MP4 or Matroska (ffmpeg -c copy)".into());
        }
        if !container.starts_with("mov") {
            advice.push("frames by number need one read of the whole file; an MP4's tables avoid it".into());
        }
        advice
    }
}
