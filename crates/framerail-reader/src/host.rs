//! Decodes a video stream on the host: with one decoder that uses FFmpeg's threads, or in pieces decoded in parallel.

use std::{collections::VecDeque, sync::Arc};

use framerail_core::{Frame, FramePool, StreamInfo};
use framerail_media::{
    Conversion, Damage, DecodeBufferPool, FactsReader, Input, InputOptions, LossMeter, MediaError, MediaItem, MediaReader, PacketKind,
    facts::PacketFacts,
    reader::{adopt, no_frame},
};

use crate::{
    CpuPieces, MakeDecoder, PacketReader, ParallelDecoder, PieceCounts, PiecePlan, ReaderError,
    frame_source::{FrameSource, Reading, SourceStats, until_first_frame},
    parallel::Ahead,
    piece_stream::{PieceStream, Step},
    plan::{self, MAX_PIECE_PACKETS, MIN_INTRA_PACKETS, MIN_PIECE_PACKETS, Sequence},
    threads::{Threads, default_threads},
};

/// Options for reading on the host.
#[derive(Clone)]
pub struct HostOptions {
    /// Provides memory for frames that must be copied (rotated or converted frames).
    pub pool: FramePool,
    /// Memory of frames decoded in pieces; shared by sources that are read with clones of these options.
    pub images: DecodeBufferPool,
    /// Memory for frames decoded ahead of their turn; default: a quarter of the available memory, at most 4 GiB.
    pub memory_bytes: Option<u64>,
    /// Whether a file may be decoded in pieces.
    pub in_pieces: bool,
    /// Threads of a single decoder; `None` = `InputOptions::threads`. For sources that are decoded while others are.
    pub threads_alone: Option<usize>,
    /// Minimum number of packets per piece: a new piece begins at the next exact random access point.
    pub piece_packets: usize,
}

impl HostOptions {
    /// All options at their defaults.
    pub fn new(pool: &FramePool) -> Self {
        Self {
            pool: pool.clone(),
            images: DecodeBufferPool::new(),
            memory_bytes: None,
            in_pieces: true,
            threads_alone: None,
            piece_packets: MIN_PIECE_PACKETS,
        }
    }
}

enum Mode {
    /// One decoder, and the reason.
    Sequential(Box<MediaReader>, String),
    Pieces(Box<PieceStream<CpuPieces>>, PiecePlan),
    /// Placeholder while the mode changes.
    Changing,
}

/// Reads one video stream on the host. `InputOptions::threads` limits its decoding threads; 0 = one per CPU core.
///
/// A file with exact random access points is decoded in pieces. Other sources, and the rest of a file after damage, are decoded by one
/// decoder with FFmpeg's threads. Both ways return the frames of a decode from the start.
pub struct HostReader {
    mode: Mode,
    info: StreamInfo,
    pool: FramePool,
    /// Frames and packets to return first.
    ready: VecDeque<MediaItem>,
    next_index: u64,
    last_pts: Option<i64>,
    is_past_end: bool,
    /// All frames were returned.
    is_over: bool,
    counts: PieceCounts,
    /// Statistics of the pieces, once they have ended.
    stats: SourceStats,
    /// Of the pieces' frames: gaps in sources that report no damage.
    losses: LossMeter,
}

impl HostReader {
    /// Opens a source and decodes up to its first frame.
    ///
    /// # Errors
    /// As [`MediaReader::open`].
    pub fn open(options: &InputOptions, host: &HostOptions) -> Result<Self, ReaderError> {
        let threads = host.threads_alone.unwrap_or(options.threads);
        let mut input = Input::open(&InputOptions { threads, ..options.clone() })?;
        let planned = plan_of(&mut input, options, host)?;
        let is_image = input.info().container == "image2" || input.info().container.ends_with("_pipe");
        if threads == 0 && is_local_file(options) && !is_image && input.has_frame_threads() {
            input.set_decoder_threads(Threads::of(0, &input).alone());
        }
        match planned {
            Ok(plan) => Self::in_pieces(input, plan, host),
            Err(reason) => {
                let reader = MediaReader::of_input(input, &host.pool)?;
                let info = reader.info().clone();
                Ok(Self::new(Mode::Sequential(Box::new(reader), reason), info, &host.pool))
            }
        }
    }

    fn new(mode: Mode, info: StreamInfo, pool: &FramePool) -> Self {
        Self {
            mode,
            pool: pool.clone(),
            ready: VecDeque::new(),
            next_index: 0,
            last_pts: None,
            is_past_end: false,
            is_over: false,
            counts: PieceCounts::default(),
            stats: SourceStats::default(),
            losses: LossMeter::of(&info),
            info,
        }
    }

    fn in_pieces(input: Input, plan: PiecePlan, host: &HostOptions) -> Result<Self, ReaderError> {
        let (mut setup, info) = (input.decoder_setup(), input.info().clone());
        setup.threads = plan.threads;
        setup.images = Some(host.images.clone());
        let (pool, counts) = (host.pool.clone(), PieceCounts::default());
        let of_pieces = counts.clone();
        let make: MakeDecoder<CpuPieces> = Arc::new(move || Ok(CpuPieces::new(&setup, &pool)?.strict(&of_pieces)));
        let ahead = Ahead { workers: plan.decoders, frames: plan.frames, adapts: true };
        let least = piece_packets(&input, host);
        let stream = PieceStream::new(PacketReader::new(input), ParallelDecoder::new(ahead, make), least).of_timed();
        let mut reader = Self::new(Mode::Pieces(Box::new(stream), plan), info, &host.pool);
        reader.counts = counts;
        reader.read_first_frame()?;
        Ok(reader)
    }

    fn read_first_frame(&mut self) -> Result<(), ReaderError> {
        let (mut items, first) = until_first_frame(self)?;
        let Some(frame) = first else {
            return Err(match self.input() {
                Some(input) => no_frame(input, &self.info, &self.damage()).into(),
                None => ReaderError::Closed,
            });
        };
        adopt(&mut self.info, &frame);
        items.append(&mut self.ready);
        self.ready = items;
        Ok(())
    }

    fn input(&self) -> Option<&Input> {
        match &self.mode {
            Mode::Pieces(stream, _) => Some(stream.packets().input()),
            Mode::Sequential(reader, _) => Some(reader.input()),
            Mode::Changing => None,
        }
    }

    fn selection(&self) -> (Option<f64>, Option<f64>) {
        self.input().map_or((None, None), Input::selection)
    }

    /// Numbers a frame of a piece; `None` if it lies outside of the selection, an error if timestamps do not rise between pieces.
    fn placed(&mut self, mut frame: Frame) -> Result<Option<Frame>, NotInOrder> {
        let (start, end) = self.selection();
        if self.last_pts.is_some_and(|last| frame.pts.0 <= last) {
            return Err(NotInOrder);
        }
        let secs = frame.seconds();
        self.is_past_end |= end.is_some_and(|end| secs >= end);
        self.last_pts = Some(frame.pts.0);
        if self.is_past_end || start.is_some_and(|start| secs < start) {
            return Ok(None);
        }
        frame.index = self.next_index;
        self.next_index += 1;
        self.losses.frame(frame.pts.0, frame.duration);
        Ok(Some(frame))
    }

    /// Continues with one decoder, from the start of the previous piece, so that it has the same context as a decode from the start.
    fn go_on_as_one(&mut self, reason: &str) -> Result<(), ReaderError> {
        self.stats = self.stats();
        let Mode::Pieces(stream, _) = std::mem::replace(&mut self.mode, Mode::Changing) else { return Ok(()) };
        let (packets, undecoded, sides) = stream.into_packets()?;
        let (mut input, side_packets) = packets.into_parts();
        undecoded.into_iter().rev().for_each(|packet| input.unread(packet.packet));
        self.ready.extend(sides.into_iter().map(MediaItem::Packet));
        let reader = MediaReader::resume(input, side_packets, &self.pool, &self.info, (self.last_pts, self.next_index))?;
        self.mode = Mode::Sequential(Box::new(reader), reason.to_owned());
        Ok(())
    }
}

/// Timestamps do not order the frames of the pieces.
struct NotInOrder;

impl FrameSource for HostReader {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            let stream = match &mut self.mode {
                Mode::Sequential(reader, _) => return Ok(reader.next()?),
                Mode::Pieces(stream, _) => stream,
                Mode::Changing => return Ok(None),
            };
            let reached = self.last_pts.map_or(f64::NEG_INFINITY, |pts| self.info.time_base.seconds(pts));
            if let Some(packet) = stream.side_due(reached) {
                return Ok(Some(MediaItem::Packet(packet)));
            }
            let step = if self.is_past_end { Step::End } else { stream.next()? };
            match step {
                Step::End => {
                    self.is_over = !self.is_past_end;
                    return Ok(stream.next_side()?.map(MediaItem::Packet));
                }
                Step::AsOne => self.go_on_as_one("damage, or a very long span without a keyframe")?,
                Step::Decoded(tagged) => match self.placed(tagged.image) {
                    Ok(Some(frame)) => return Ok(Some(MediaItem::Frame(frame))),
                    Ok(None) => {}
                    Err(NotInOrder) => self.go_on_as_one("its timestamps do not increase")?,
                },
            }
        }
    }

    fn damage(&self) -> Damage {
        match &self.mode {
            Mode::Sequential(reader, _) => {
                let mut damage = reader.damage();
                if reader.input().stated_frames().is_none() {
                    damage.frames_lost += self.losses.lost();
                }
                damage
            }
            Mode::Pieces(stream, _) => {
                let input = stream.packets().input();
                let stated = input.stated_frames().filter(|_| self.is_over);
                input.damage().clone().with_frames_lost(stated, self.next_index, self.losses.lost())
            }
            Mode::Changing => Damage::default(),
        }
    }

    fn conversions(&self) -> Vec<Conversion> {
        let mut conversions = self.counts.conversions();
        if let Mode::Sequential(reader, _) = &self.mode {
            conversions.extend(reader.conversions());
        }
        conversions
    }

    fn notice(&self) -> Option<&str> {
        self.input()?.notice()
    }

    fn stats(&self) -> SourceStats {
        let Mode::Pieces(stream, _) = &self.mode else { return self.stats };
        let (decoders, most_waiting) = stream.progress();
        SourceStats { decoders, most_waiting, pieces: stream.pieces(), ..SourceStats::default() }
    }

    fn reading(&self) -> Reading {
        match &self.mode {
            Mode::Pieces(_, plan) => Reading::Pieces(*plan),
            Mode::Sequential(_, reason) => Reading::Sequential(reason.clone()),
            Mode::Changing => Reading::Sequential(String::new()),
        }
    }
}

/// Plans how to read an input that is at its first packet; `Err` with the reason for using one decoder.
pub(crate) fn plan_of(input: &mut Input, options: &InputOptions, host: &HostOptions) -> Result<Result<PiecePlan, String>, MediaError> {
    if let Some(reason) = why_as_one(input, options, host) {
        return Ok(Err(reason.to_owned()));
    }
    let least = piece_packets(input, host);
    let (piece_frames, pieces) = match input.keyframe_spacing().map(|spacing| plan::pieces_of(spacing, least)) {
        Some((frames, pieces)) => (frames, Some(pieces)),
        None => match first_piece(input, least)? {
            Some(frames) => (frames, estimated_pieces(input.info().frames_estimate, frames)),
            None => return Ok(Err("it has no second place where decoding can start, or packets without timestamps".to_owned())),
        },
    };
    let info = input.info();
    let sequence = Sequence {
        threads: match host.threads_alone {
            Some(_) => Threads::limited(if options.threads == 0 { default_threads() } else { options.threads }),
            None => Threads::of(options.threads, input),
        },
        piece_frames,
        pieces,
        frame_bytes: plan::frame_bytes(info.width, info.height, info.pixel_format),
        memory_bytes: host.memory_bytes.unwrap_or_else(plan::default_memory_bytes),
        least: if host.threads_alone.is_some() { 1 } else { 2 },
    };
    Ok(sequence.plan())
}

/// Whether the source is a file on this machine, read for its frames and not for their time.
fn is_local_file(options: &InputOptions) -> bool {
    let is_file = || std::fs::metadata(options.source.reveal()).is_ok_and(|found| found.is_file());
    options.custom.is_none() && !options.waits_for_keyframe && is_file()
}

/// Minimum number of packets per piece of this input.
fn piece_packets(input: &Input, host: &HostOptions) -> usize {
    if input.is_intra_only() { host.piece_packets.min(MIN_INTRA_PACKETS) } else { host.piece_packets }
}

/// Number of pieces like the first one, if the header states or implies the number of frames.
fn estimated_pieces(frames: Option<u64>, piece_frames: usize) -> Option<usize> {
    let pieces = usize::try_from(frames?).ok()?.div_ceil(piece_frames.max(1));
    // A header that states less than there is must not keep all but one decoder idle.
    Some(pieces.max(2))
}

fn why_as_one(input: &Input, options: &InputOptions, host: &HostOptions) -> Option<&'static str> {
    if !host.in_pieces {
        return Some("other sources are read concurrently");
    }
    if !is_local_file(options) {
        return Some("it is not a local file");
    }
    if input.info().container == "image2" {
        return Some("it is a list of images");
    }
    if FactsReader::new(input.parameters()).is_none() {
        return Some("its codec does not mark where decoding can start");
    }
    None
}

/// Number of frames up to the second exact random access point; the input is at its first packet before and after.
fn first_piece(input: &mut Input, least: usize) -> Result<Option<usize>, MediaError> {
    let mut facts = FactsReader::new(input.parameters());
    let (mut packets, mut frames, mut found) = (Vec::new(), 0, None);
    while found.is_none() && frames < MAX_PIECE_PACKETS {
        let Some(packet) = input.next_packet()? else { break };
        if packet.kind == PacketKind::Video {
            let facts = facts.as_mut().map_or(PacketFacts::UNKNOWN, |facts| facts.read(&packet));
            let is_start = facts.random_access.is_exact() && frames >= least.max(1);
            found = is_start.then_some(Some(frames));
            if packet.pts().is_none() {
                found = Some(None);
            }
            frames += usize::from(facts.is_shown);
        }
        packets.push(packet);
    }
    packets.into_iter().rev().for_each(|packet| input.unread(packet));
    Ok(found.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_estimated_from_the_number_of_frames() {
        let of = |frames| estimated_pieces(frames, 60);
        assert_eq!([of(Some(960)), of(Some(961)), of(Some(3)), of(None)], [Some(16), Some(17), Some(2), None]);
    }
}
