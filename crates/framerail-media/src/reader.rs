//! Reads frames of a video stream and the packets of its side streams, in file order.

use std::collections::VecDeque;

use framerail_core::{Frame, FramePool, Packet, StreamInfo};

use crate::{
    Break, Damage, Input, InputOptions, LossMeter, MediaError,
    decoder::{Conversion, Decoded, Decoder, FrameLoad},
    log,
    packet::{InputPacket, PacketKind},
    sides::SidePackets,
};

/// Number of packets after which a live stream without a keyframe is decoded anyway: some encoders use gradual refresh
/// and never mark keyframes. Half a minute at 30 frames/s.
const MAX_WAIT_PACKETS: u64 = 900;

/// An item delivered by a reader.
// Moved once from reader to queue; boxing frames would cost an allocation each.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum MediaItem {
    /// A decoded frame.
    Frame(Frame),
    /// A packet of a side stream.
    Packet(Packet),
}

/// Updates stream information from the first frame, which is more reliable than the header.
pub fn adopt(info: &mut StreamInfo, frame: &Frame) {
    (info.width, info.height) = (frame.width, frame.height);
    if let Ok(surface) = frame.surface.host() {
        info.pixel_format = surface.format();
    }
    info.color = frame.color;
    info.rotation = frame.rotation;
    info.sample_aspect_ratio = frame.sample_aspect_ratio;
    info.field_order = frame.field_order;
    info.hdr = info.hdr.or(frame.hdr.as_deref().copied().unwrap_or_default());
}

/// The error for a source without a frame in its selection. Call it on the thread that read the source.
pub fn no_frame(input: &Input, info: &StreamInfo, damage: &Damage) -> MediaError {
    let source_name = info.source.to_string();
    let (start, end) = input.selection();
    if (start.is_some() || end.is_some()) && !damage.is_any() {
        let length = info.duration_secs.map(|secs| format!(", which is {secs:.3} s long")).unwrap_or_default();
        let reason = format!("no frame of {source_name} lies within the selection{length}");
        return MediaError::BadOption { name: "start".into(), reason, nearest: None };
    }
    let ended = damage.ended_early.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    if input.lacks_index_in_front() {
        let reason = "its index is at the end, and a pipe cannot seek; save it to a file first, or write it with the index at the start \
                      (faststart), or as mkv or ts";
        return MediaError::Unsupported { what: source_name, reason: reason.into() };
    }
    if let Some((width, height)) = log::take_refused_size() {
        let load = FrameLoad::of(input.parameters(), info.container == "image2");
        if let Err(error) = input.options().check_image(width, height, load.pixel_bytes, load.at_once) {
            return error;
        }
    }
    let reason = format!("its headers can be read, but no frame can be decoded{ended}");
    MediaError::Damaged { source_name, reason }
}

/// Reads one video stream: frames in presentation order with strictly increasing PTS, interleaved with packets of side streams.
///
/// Timestamps are the file's own, also for selections; a writer shifts them to zero.
pub struct MediaReader {
    input: Input,
    decoder: Decoder,
    info: StreamInfo,
    /// Items read while searching for the first frame.
    queue: VecDeque<MediaItem>,
    next_index: u64,
    /// PTS of the last frame that was delivered elsewhere.
    last_pts: Option<i64>,
    is_drained: bool,
    is_past_end: bool,
    sides: SidePackets,
    waits_for_keyframe: bool,
    packets_before_keyframe: u64,
    /// The decoder has returned its last frame.
    is_over: bool,
    losses: LossMeter,
}

impl MediaReader {
    /// Opens a source and decodes up to its first frame. `pool` provides frames that must be copied (rotated, converted).
    ///
    /// # Errors
    /// Everything that prevents a first frame: see [`Input::open`]; `Damaged` if the source has no frame;
    /// `BadOption` if the selection lies beyond its end.
    pub fn open(options: &InputOptions, pool: &FramePool) -> Result<Self, MediaError> {
        Self::of_input(Input::open(options)?, pool)
    }

    /// As [`MediaReader::open`], for an open input at its first packet.
    ///
    /// # Errors
    /// As [`MediaReader::open`].
    pub fn of_input(input: Input, pool: &FramePool) -> Result<Self, MediaError> {
        let mut reader = Self::new(input, pool)?;
        reader.read_first_frame()?;
        Ok(reader)
    }

    /// Continues an input whose frames were decoded elsewhere up to a PTS in ticks: decoding starts at the next packet, frames up to
    /// that PTS are dropped, and later ones are numbered from `next_index`. `last` is the PTS and that index.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn resume(
        input: Input,
        sides: SidePackets,
        pool: &FramePool,
        info: &StreamInfo,
        last: (Option<i64>, u64),
    ) -> Result<Self, MediaError> {
        let (last_pts, next_index) = last;
        let mut reader = Self { sides, info: info.clone(), last_pts, next_index, ..Self::new(input, pool)? };
        last_pts.into_iter().for_each(|pts| reader.losses.pass(pts, None));
        Ok(reader)
    }

    fn new(input: Input, pool: &FramePool) -> Result<Self, MediaError> {
        let decoder = Decoder::open(&input, pool)?;
        let info = input.info().clone();
        let sides = SidePackets::new(&input);
        Ok(Self {
            losses: LossMeter::of(&info),
            is_over: false,
            waits_for_keyframe: input.options().waits_for_keyframe,
            input,
            decoder,
            info,
            queue: VecDeque::new(),
            next_index: 0,
            last_pts: None,
            is_drained: false,
            is_past_end: false,
            sides,
            packets_before_keyframe: 0,
        })
    }

    fn read_first_frame(&mut self) -> Result<(), MediaError> {
        loop {
            match self.advance()? {
                Some(MediaItem::Frame(frame)) => {
                    adopt(&mut self.info, &frame);
                    self.queue.push_back(MediaItem::Frame(frame));
                    return Ok(());
                }
                Some(packet) => self.queue.push_back(packet),
                None => return Err(no_frame(&self.input, &self.info, &self.damage())),
            }
        }
    }

    /// Stream information, with size, format and colour of the first frame.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Returns the next frame or packet; `None` at the end, also if the source broke off (see [`MediaReader::damage`]).
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`, `Unsupported`. Damaged packets are counted, not an error.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<MediaItem>, MediaError> {
        match self.queue.pop_front() {
            Some(item) => Ok(Some(item)),
            None => self.advance(),
        }
    }

    /// Damage found so far.
    pub fn damage(&self) -> Damage {
        let mut damage = self.input.damage().merged(self.decoder.damage());
        damage.packets_before_keyframe = self.packets_before_keyframe;
        let stated = self.input.stated_frames().filter(|_| self.is_over);
        damage.with_frames_lost(stated, self.next_index, self.losses.lost())
    }

    /// Conversions so far that were needed because core does not support the decoder's pixel format.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.decoder.conversions()
    }

    /// The input being read.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Start and end (exclusive) of the selection, in absolute seconds on the file's clock.
    pub fn selection(&self) -> (Option<f64>, Option<f64>) {
        self.input.selection()
    }

    fn advance(&mut self) -> Result<Option<MediaItem>, MediaError> {
        loop {
            if !self.is_past_end {
                let received = self.decoder.receive()?;
                self.decoder.take_breaks().into_iter().for_each(|pts| self.losses.note(Break::Loss(pts)));
                match received {
                    Decoded::Frame(frame) => match self.selected(frame) {
                        Some(frame) => return Ok(Some(MediaItem::Frame(frame))),
                        None => continue,
                    },
                    Decoded::End => {
                        self.is_over = true;
                        return Ok(None);
                    }
                    Decoded::NeedsPacket => {}
                }
            } else if !self.sides.may_come() {
                return Ok(None);
            }
            let packet = self.input.next_packet()?;
            self.input.take_breaks().into_iter().for_each(|found| self.losses.note(found));
            match packet {
                None if self.is_past_end || self.is_drained => return Ok(None),
                None => {
                    self.is_drained = true;
                    self.decoder.send(None)?;
                }
                Some(packet) => {
                    if let Some(packet) = self.route(packet)? {
                        return Ok(Some(MediaItem::Packet(packet)));
                    }
                }
            }
        }
    }

    /// Numbers the frame and returns it if it lies within the selection.
    fn selected(&mut self, mut frame: Frame) -> Option<Frame> {
        let secs = frame.seconds();
        if self.input.end().is_some_and(|end| secs >= end) {
            self.is_past_end = true;
            return None;
        }
        if self.last_pts.is_some_and(|last| frame.pts.0 <= last) {
            return None;
        }
        if self.input.start().is_some_and(|start| secs < start) {
            self.losses.pass(frame.pts.0, frame.duration);
            return None;
        }
        frame.index = self.next_index;
        self.next_index += 1;
        self.losses.frame(frame.pts.0, frame.duration);
        Some(frame)
    }

    /// Whether a live stream's first keyframe has not come yet.
    fn is_before_keyframe(&mut self, packet: &InputPacket) -> bool {
        self.waits_for_keyframe &= !packet.is_keyframe() && self.packets_before_keyframe < MAX_WAIT_PACKETS;
        self.waits_for_keyframe
    }

    /// Sends video to the decoder; returns a side packet if it lies within the selection.
    fn route(&mut self, packet: InputPacket) -> Result<Option<Packet>, MediaError> {
        match packet.kind {
            PacketKind::Video if self.is_past_end => self.sides.pass(&packet),
            PacketKind::Video if self.is_before_keyframe(&packet) => self.packets_before_keyframe += 1,
            PacketKind::Video => {
                self.decoder.send(Some(&packet))?;
                return self.sides.of_video(&packet);
            }
            PacketKind::Side(side) => return Ok(self.sides.select(side, packet)),
        }
        Ok(None)
    }
}
