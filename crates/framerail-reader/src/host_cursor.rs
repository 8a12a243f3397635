//! Reads frames in rising order with one decoder, which continues from its current position.

use std::{collections::VecDeque, sync::Arc};

use framerail_core::Frame;
use framerail_media::{Damage, Decoded, Decoder, Input, MediaError, MediaItem, MediaReader, PacketKind};

use crate::{
    IndexSource, ReaderError,
    frame_index::{Access, FrameIndex},
    host_frames::FrameKind,
    piece_source::PieceSource,
    video::{Deadline, Fault, Target, Video},
};

/// Gaps of up to this many packets between wanted frames are decoded instead of skipped.
const NEAR_PACKETS: usize = 8;
/// Without an index, frames up to this many seconds ahead are reached by decoding instead of seeking.
const NEAR_SECS: f64 = 2.0;

/// Result for a wanted frame.
// Moved once; boxing frames would cost an allocation each.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Found {
    /// The decoder output the frame.
    Frame(Frame),
    /// The decoder did not; contains the last frame output before it, if any.
    Missing(Option<Frame>),
}

/// Returns wanted frames in rising order.
pub(crate) enum HostCursor {
    Time(Box<TimeCursor>),
    Count(Box<CountCursor>),
    Rate(Box<RateCursor>),
}

impl HostCursor {
    /// A cursor that decodes with `threads` threads.
    pub(crate) fn new(video: &Arc<Video>, index: &Arc<FrameIndex>, threads: usize) -> Result<Self, ReaderError> {
        if index.source == IndexSource::Approximate {
            return Ok(HostCursor::Rate(Box::new(RateCursor::new(video, index, threads)?)));
        }
        Ok(match index.access {
            Access::ByTime => HostCursor::Time(Box::new(TimeCursor::new(video, index, threads)?)),
            Access::Counted => HostCursor::Count(Box::new(CountCursor::new(video, threads))),
        })
    }

    /// Returns the first frame of `upcoming`, which rises. `is_all`: no frames are wanted after them.
    pub(crate) fn next(&mut self, upcoming: &[usize], is_all: bool, deadline: &Deadline) -> Result<Found, Fault> {
        match self {
            HostCursor::Time(cursor) => cursor.next(upcoming, is_all, deadline),
            HostCursor::Count(cursor) => cursor.next(upcoming.first().copied().unwrap_or(0), deadline),
            HostCursor::Rate(cursor) => cursor.next(upcoming.first().copied().unwrap_or(0), deadline),
        }
    }

    /// Number of frames to decode until this frame comes out, if it can be reached without a seek.
    pub(crate) fn distance(&self, number: usize) -> Option<usize> {
        match self {
            HostCursor::Time(cursor) => cursor.distance(number),
            HostCursor::Count(cursor) => number.checked_sub(cursor.next_number),
            HostCursor::Rate(_) => Some(0),
        }
    }
}

/// Decodes from random access points and identifies frames by their timestamps.
pub(crate) struct TimeCursor {
    video: Arc<Video>,
    source: PieceSource,
    decoder: Decoder,
    threads: usize,
    /// Where decoding was last started.
    start: Option<usize>,
    /// Position of the first packet not yet sent.
    sent_to: usize,
    /// The end was sent: no more packets until decoding restarts.
    is_drained: bool,
    is_over: bool,
    /// Lowest frame number that can still come out.
    next_number: usize,
    ready: VecDeque<(usize, Frame)>,
    /// The last frame that came out and was skipped.
    passed: Option<Frame>,
    damage_at_start: Damage,
}

impl TimeCursor {
    fn new(video: &Arc<Video>, index: &Arc<FrameIndex>, threads: usize) -> Result<Self, ReaderError> {
        Ok(Self {
            source: PieceSource::new(video.open()?, Arc::clone(index)),
            decoder: Decoder::open_with(&video.decoder_setup(threads), &video.frames)?,
            video: Arc::clone(video),
            threads,
            start: None,
            sent_to: 0,
            is_drained: false,
            is_over: false,
            next_number: 0,
            ready: VecDeque::new(),
            passed: None,
            damage_at_start: Damage::default(),
        })
    }

    fn distance(&self, number: usize) -> Option<usize> {
        let place = self.source.index().place(number)?;
        let is_ahead = self.start.is_some() && number >= self.next_number && !self.is_over;
        if !is_ahead || (self.is_drained && place >= self.sent_to) {
            return None;
        }
        let gap = self.source.start_of(number).saturating_sub(self.sent_to);
        (gap <= NEAR_PACKETS).then(|| (place + 1).saturating_sub(self.sent_to))
    }

    fn next(&mut self, upcoming: &[usize], is_all: bool, deadline: &Deadline) -> Result<Found, Fault> {
        let Some(number) = upcoming.first().copied() else { return Ok(Found::Missing(None)) };
        let is_ready = self.ready.iter().any(|(ready, _)| *ready >= number) && number >= self.next_number;
        if !is_ready && self.distance(number).is_none() {
            self.begin(number)?;
        }
        let outcome = self.advance(number, upcoming, is_all, deadline);
        let (seeks, skipped) = self.source.take_counts();
        self.video.counters.seeks.add(seeks);
        self.video.counters.packets_skipped.add(skipped);
        outcome
    }

    fn begin(&mut self, number: usize) -> Result<(), Fault> {
        let start = loop {
            let start = self.source.start_of(number);
            if self.source.go_to(start)? {
                break start;
            }
        };
        // When references are missing, decoders fall back to data of earlier frames, even after a flush.
        if self.start.is_some() && !self.source.is_whole_start() {
            self.decoder = Decoder::open_with(&self.video.decoder_setup(self.threads), &self.video.frames)?;
        }
        self.decoder.flush();
        self.ready.clear();
        self.passed = None;
        let pts = self.source.index().packet(start).and_then(|packet| packet.pts).filter(|_| start > 0);
        self.next_number = pts.map_or(0, |pts| self.source.index().frames_before(pts));
        (self.start, self.sent_to, self.is_drained, self.is_over) = (Some(start), start, false, false);
        self.damage_at_start = self.decoder.damage().clone();
        Ok(())
    }

    fn advance(&mut self, number: usize, upcoming: &[usize], is_all: bool, deadline: &Deadline) -> Result<Found, Fault> {
        loop {
            while let Some((ready, frame)) = self.ready.pop_front() {
                if ready == number {
                    self.next_number = number + 1;
                    self.passed = Some(frame.clone());
                    return Ok(Found::Frame(frame));
                }
                if ready > number {
                    self.ready.push_front((ready, frame));
                    return self.missing(number);
                }
                self.passed = Some(frame);
            }
            if self.is_over {
                return self.missing(number);
            }
            match self.decoder.receive()? {
                Decoded::Frame(frame) => {
                    self.video.counters.pictures_decoded.add(1);
                    match self.source.index().number_of(frame.pts.0) {
                        Some(found) => self.ready.push_back((found, frame)),
                        None if self.is_undamaged() => return Err(Fault::IndexWrong),
                        None => {}
                    }
                }
                Decoded::End => self.is_over = true,
                Decoded::NeedsPacket => {
                    let state = || format!("waiting for frame {number}; the decoder is at packet {}", self.sent_to);
                    deadline.check(state)?;
                    self.feed(number, upcoming, is_all)?;
                }
            }
        }
    }

    fn missing(&mut self, number: usize) -> Result<Found, Fault> {
        if self.is_undamaged() {
            return Err(Fault::IndexWrong);
        }
        self.next_number = number + 1;
        Ok(Found::Missing(self.passed.clone()))
    }

    fn is_undamaged(&self) -> bool {
        is_undamaged(&self.damage_at_start, self.decoder.damage())
    }

    /// Sends the next packet, or the end if no frame soon after is wanted.
    fn feed(&mut self, number: usize, upcoming: &[usize], is_all: bool) -> Result<(), Fault> {
        if self.is_drained || self.is_stretch_over(number, upcoming, is_all) {
            self.is_drained = true;
            self.decoder.send(None)?;
            return Ok(());
        }
        let place = self.source.position();
        let Some((packet, facts)) = self.source.next_packet()? else {
            self.is_drained = true;
            self.decoder.send(None)?;
            return Ok(());
        };
        if self.source.changes_headers() {
            return Err(Fault::IndexWrong);
        }
        let place = place.unwrap_or(self.sent_to);
        self.sent_to = place + 1;
        let shown = self.source.index().number_at(place);
        let is_beyond = |shown: usize| !is_all && upcoming.last().is_none_or(|last| shown > *last);
        let is_wanted = shown.is_some_and(|shown| is_beyond(shown) || upcoming.binary_search(&shown).is_ok());
        if self.source.may_leave_out(facts) && !is_wanted && Some(place) != self.start {
            self.source.count_skipped();
            return Ok(());
        }
        self.decoder.send(Some(&packet))?;
        Ok(())
    }

    /// Whether the following packets are not needed for the next wanted frames.
    fn is_stretch_over(&self, number: usize, upcoming: &[usize], is_all: bool) -> bool {
        let needs = self.source.index().place(number);
        if needs.is_none_or(|place| place >= self.sent_to) {
            return false;
        }
        match upcoming.get(1) {
            Some(next) => self.source.start_of(*next) > self.sent_to.saturating_add(NEAR_PACKETS),
            None => is_all,
        }
    }
}

/// Whether no decoding errors occurred between two counts.
pub(crate) fn is_undamaged(before: &Damage, after: &Damage) -> bool {
    let count = |damage: &Damage| (damage.decode_errors, damage.packets_dropped, damage.frames_repaired, damage.frames_dropped);
    count(before) == count(after)
}

/// Counts frames from the start, for streams whose packets do not identify their frames.
pub(crate) struct CountCursor {
    video: Arc<Video>,
    threads: usize,
    reader: Option<MediaReader>,
    next_number: usize,
    passed: Option<Frame>,
}

impl CountCursor {
    pub(crate) fn new(video: &Arc<Video>, threads: usize) -> Self {
        Self { video: Arc::clone(video), threads, reader: None, next_number: 0, passed: None }
    }

    pub(crate) fn next(&mut self, number: usize, deadline: &Deadline) -> Result<Found, Fault> {
        if self.reader.is_none() || number < self.next_number {
            let options = framerail_media::InputOptions { threads: self.threads, ..self.video.input.clone() };
            self.video.counters.decoders_opened.add(1);
            self.reader = Some(MediaReader::open(&options, &self.video.frames)?);
            (self.next_number, self.passed) = (0, None);
        }
        loop {
            deadline.check(|| format!("waiting for frame {number}; the decoder is at frame {}", self.next_number))?;
            match self.reader.as_mut().map(MediaReader::next).transpose()?.flatten() {
                Some(MediaItem::Frame(frame)) => {
                    self.video.counters.pictures_decoded.add(1);
                    let found = self.next_number;
                    self.next_number += 1;
                    if found == number {
                        self.passed = Some(frame.clone());
                        return Ok(Found::Frame(frame));
                    }
                    self.passed = Some(frame);
                }
                Some(MediaItem::Packet(_)) => {}
                None => {
                    self.reader = None;
                    return Ok(Found::Missing(self.passed.take()));
                }
            }
        }
    }
}

/// Replaces the header's size and format by those of the first frame; returns the frame, if there is one.
pub(crate) fn adopt_first(video: &Arc<Video>, target: &mut Target) -> Result<Option<Frame>, Fault> {
    let first = match CountCursor::new(video, 1).next(0, &video.deadline())? {
        Found::Frame(frame) => Some(frame),
        Found::Missing(_) => None,
    };
    if let Some(frame) = &first {
        target.kind = FrameKind::of(frame.surface.host().map_err(MediaError::from)?);
    }
    target.is_seen = true;
    Ok(first)
}

/// Finds the frames on screen at the times given by the header's frame rate.
pub(crate) struct RateCursor {
    video: Arc<Video>,
    index: Arc<FrameIndex>,
    input: Input,
    decoder: Decoder,
    /// The frame that came out last, after the one that was or will be returned.
    ahead: Option<Frame>,
    /// The frame before it; `None` right after a seek.
    passed: Option<Frame>,
}

impl RateCursor {
    fn new(video: &Arc<Video>, index: &Arc<FrameIndex>, threads: usize) -> Result<Self, ReaderError> {
        Ok(Self {
            input: video.open()?,
            decoder: Decoder::open_with(&video.decoder_setup(threads), &video.frames)?,
            video: Arc::clone(video),
            index: Arc::clone(index),
            ahead: None,
            passed: None,
        })
    }

    fn seek(&mut self, secs: f64) -> Result<(), Fault> {
        self.input.seek_secs(secs)?;
        self.decoder.flush();
        self.video.counters.seeks.add(1);
        (self.ahead, self.passed) = (None, None);
        Ok(())
    }

    /// Returns the frame on screen at the wanted time, with its own timestamp.
    fn next(&mut self, number: usize, deadline: &Deadline) -> Result<Found, Fault> {
        let Some(wanted) = self.index.frames.get(number).copied() else { return Ok(Found::Missing(None)) };
        let base = self.index.time_base();
        // Timestamps are rounded to ticks, and so is the grid of the frame rate.
        let aim = wanted.pts.saturating_add(1);
        let is_near = self.passed.as_ref().is_some_and(|at| at.pts.0 <= aim && base.seconds(aim.saturating_sub(at.pts.0)) < NEAR_SECS);
        // Distance of the last seek before the aim, in seconds.
        let mut margin = None;
        if !is_near {
            self.seek(base.seconds(aim))?;
            margin = Some(0.0);
        }
        loop {
            if let Some(frame) = &self.ahead
                && frame.pts.0 > aim
            {
                if let Some(mut shown) = self.passed.clone() {
                    shown.duration = Some(frame.pts.0 - shown.pts.0);
                    return Ok(Found::Frame(shown));
                }
                // The seek landed after the aim, or inside a GOP: seek further back.
                let first = self.index.frames.first().map_or(0, |first| first.pts);
                match margin {
                    Some(back) if base.seconds(aim.saturating_sub(first)) >= back => {
                        let back = back * 2.0 + 1.0;
                        margin = Some(back);
                        self.seek((base.seconds(aim) - back).max(base.seconds(first)))?;
                        continue;
                    }
                    // There is no frame before the first one.
                    _ => return Ok(Found::Frame(frame.clone())),
                }
            }
            if let Some(frame) = self.ahead.take() {
                self.passed = Some(frame);
            }
            deadline.check(|| format!("waiting for frame {number}"))?;
            match self.decoder.receive()? {
                Decoded::Frame(frame) => {
                    self.video.counters.pictures_decoded.add(1);
                    self.ahead = Some(frame);
                }
                // The last frame stays on screen for its duration, or for one frame period if it has none.
                Decoded::End => {
                    let last = self.passed.take();
                    let is_shown = |last: &Frame| aim <= last.pts.0.saturating_add(last.duration.unwrap_or(wanted.duration));
                    return Ok(match last {
                        Some(last) if is_shown(&last) => Found::Frame(last),
                        last => Found::Missing(last),
                    });
                }
                Decoded::NeedsPacket => match self.input.next_packet()? {
                    Some(packet) if packet.kind == PacketKind::Video => self.decoder.send(Some(&packet))?,
                    Some(_) => {}
                    None => self.decoder.send(None)?,
                },
            }
        }
    }
}
