//! Frames of a video stream, and the packets that travel beside it, in the order in which the file holds them.

use std::collections::VecDeque;

use framerail_core::{Frame, FramePool, Packet, StreamInfo};

use crate::{
    Damage, Input, InputOptions, MediaError,
    decoder::{Conversion, Decoded, Decoder},
    packet::{InputPacket, PacketKind},
    sides::SidePackets,
};

/// Packets after which a live stream that shows no keyframe is decoded as it comes: some encoders refresh the picture
/// piece by piece and never mark one. Half a minute at 30 frames/s.
const MAX_WAIT_PACKETS: u64 = 900;

/// What a reader delivers.
// Moved once from reader to queue; boxing frames would cost an allocation each.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum MediaItem {
    /// A decoded picture.
    Frame(Frame),
    /// A packet of a side stream.
    Packet(Packet),
}

/// Reads one video stream: frames in presentation order with strictly increasing PTS, and its side packets between them.
///
/// Timestamps are the file's own, also for selections; a writer moves them to zero.
pub struct MediaReader {
    input: Input,
    decoder: Decoder,
    info: StreamInfo,
    /// Items read while looking for the first frame.
    queue: VecDeque<MediaItem>,
    next_index: u64,
    is_drained: bool,
    is_past_end: bool,
    sides: SidePackets,
    waits_for_keyframe: bool,
    packets_before_keyframe: u64,
}

impl MediaReader {
    /// Opens a source and decodes up to its first frame. `pool` serves frames that must be copied (turned, converted).
    ///
    /// # Errors
    /// Everything that keeps the source from giving a frame: see [`Input::open`]; `Damaged` when there is none in it;
    /// `BadOption` when the selection lies beyond its end.
    pub fn open(options: &InputOptions, pool: &FramePool) -> Result<Self, MediaError> {
        let input = Input::open(options)?;
        let decoder = Decoder::open(&input, pool)?;
        let info = input.info().clone();
        let sides = SidePackets::new(&input);
        let mut reader = Self {
            input,
            decoder,
            info,
            queue: VecDeque::new(),
            next_index: 0,
            is_drained: false,
            is_past_end: false,
            sides,
            waits_for_keyframe: options.waits_for_keyframe,
            packets_before_keyframe: 0,
        };
        reader.read_first_frame()?;
        Ok(reader)
    }

    fn read_first_frame(&mut self) -> Result<(), MediaError> {
        loop {
            match self.advance()? {
                Some(MediaItem::Frame(frame)) => {
                    self.adopt(&frame);
                    self.queue.push_back(MediaItem::Frame(frame));
                    return Ok(());
                }
                Some(packet) => self.queue.push_back(packet),
                None => return Err(self.no_frame()),
            }
        }
    }

    /// The first frame knows better than the header.
    fn adopt(&mut self, frame: &Frame) {
        (self.info.width, self.info.height) = (frame.width, frame.height);
        if let Ok(surface) = frame.surface.host() {
            self.info.pixel_format = surface.format();
        }
        self.info.color = frame.color;
        self.info.rotation = frame.rotation;
        self.info.sample_aspect_ratio = frame.sample_aspect_ratio;
    }

    fn no_frame(&self) -> MediaError {
        let source_name = self.info.source.to_string();
        let damage = self.damage();
        let selected = self.input.start().is_some() || self.input.end().is_some();
        if selected && !damage.is_any() {
            let length = self.info.duration_secs.map(|secs| format!(", which is {secs:.3} s long")).unwrap_or_default();
            let reason = format!("no frame of {source_name} lies within the selection{length}");
            return MediaError::BadOption { name: "start".into(), reason, nearest: None };
        }
        let ended = damage.ended_early.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let pipe = if source_name == "-" {
            "; a pipe cannot be sought, so an MP4 needs its index in front (faststart); or send mkv or ts"
        } else {
            ""
        };
        let reason = format!("its headers can be read, but no frame can be decoded{ended}{pipe}");
        MediaError::Damaged { source_name, reason }
    }

    /// The stream: size, format and colour as the first frame has them.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// The next frame or packet; `None` at the end, also when the source broke off (see [`MediaReader::damage`]).
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`, `Unsupported`. Damaged packets are no error but counted.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<MediaItem>, MediaError> {
        match self.queue.pop_front() {
            Some(item) => Ok(Some(item)),
            None => self.advance(),
        }
    }

    /// What was not as it should be, so far.
    pub fn damage(&self) -> Damage {
        let mut damage = self.input.damage().merged(self.decoder.damage());
        damage.packets_before_keyframe = self.packets_before_keyframe;
        damage
    }

    /// Conversions that were needed because core does not list the decoder's pixel format, so far.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.decoder.conversions()
    }

    fn advance(&mut self) -> Result<Option<MediaItem>, MediaError> {
        loop {
            if !self.is_past_end {
                match self.decoder.receive()? {
                    Decoded::Frame(frame) => match self.selected(frame) {
                        Some(frame) => return Ok(Some(MediaItem::Frame(frame))),
                        None => continue,
                    },
                    Decoded::End => return Ok(None),
                    Decoded::NeedsPacket => {}
                }
            } else if !self.sides.may_come() {
                return Ok(None);
            }
            match self.input.next_packet()? {
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

    /// The frame, numbered, if it lies within the selection.
    fn selected(&mut self, mut frame: Frame) -> Option<Frame> {
        let secs = frame.seconds();
        if self.input.end().is_some_and(|end| secs >= end) {
            self.is_past_end = true;
            return None;
        }
        if self.input.start().is_some_and(|start| secs < start) {
            return None;
        }
        frame.index = self.next_index;
        self.next_index += 1;
        Some(frame)
    }

    /// Whether a live stream's first keyframe is still to come.
    fn is_before_keyframe(&mut self, packet: &InputPacket) -> bool {
        self.waits_for_keyframe &= !packet.is_keyframe() && self.packets_before_keyframe < MAX_WAIT_PACKETS;
        self.waits_for_keyframe
    }

    /// Sends video to the decoder; gives back a side packet if it lies within the selection.
    fn route(&mut self, packet: InputPacket) -> Result<Option<Packet>, MediaError> {
        match packet.kind {
            PacketKind::Video if self.is_past_end => self.sides.pass(&packet),
            PacketKind::Video if self.is_before_keyframe(&packet) => self.packets_before_keyframe += 1,
            PacketKind::Video => self.decoder.send(Some(&packet))?,
            PacketKind::Side(side) => return Ok(self.sides.select(side, packet)),
        }
        Ok(None)
    }
}
