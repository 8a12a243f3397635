//! Selects the side packets that belong to a selection, and detects when no more can come.

use std::sync::Arc;

use framerail_core::{MediaKind, Packet, Pts, StreamId, TimeBase};

use crate::{
    Input, MediaError,
    packet::{InputPacket, SidePayload},
    video_side,
};

/// Seconds read beyond a selection's end for side packets that are stored late in the file.
const SIDE_LAG_SECS: f64 = 10.0;

/// Picks the side packets that lie within an input's selection.
pub struct SidePackets {
    stream: StreamId,
    video_base: TimeBase,
    bases: Vec<TimeBase>,
    start: Option<f64>,
    end: Option<f64>,
    /// Side streams that may still have packets within the selection.
    open: Vec<bool>,
    /// The side stream of the video's own packets, and the DTS of the last one returned.
    video: Option<usize>,
    last_video: Option<i64>,
}

impl SidePackets {
    /// Creates a selector for the side streams of an input.
    pub fn new(input: &Input) -> Self {
        let info = input.info();
        let (start, end) = input.selection();
        Self {
            stream: info.id,
            video_base: info.time_base,
            bases: info.side_streams.iter().map(|side| side.time_base).collect(),
            start,
            end,
            open: info.side_streams.iter().map(|side| side.codec != "chapters" && side.kind != MediaKind::Video).collect(),
            video: video_side(info),
            last_video: None,
        }
    }

    /// Converts a packet for delivery beside the frames; `None` if it lies outside the selection.
    pub fn select(&mut self, side: usize, packet: InputPacket) -> Option<Packet> {
        let time_base = self.bases.get(side).copied().unwrap_or(TimeBase::MICROS);
        let pts = packet.pts().or(packet.dts());
        let secs = pts.map(|ticks| time_base.seconds(ticks));
        if secs.zip(self.end).is_some_and(|(secs, end)| secs >= end) {
            if let Some(open) = self.open.get_mut(side) {
                *open = false;
            }
            return None;
        }
        if secs.zip(self.start).is_some_and(|(secs, start)| secs < start) {
            return None;
        }
        Some(Packet {
            stream: self.stream,
            side_stream: side,
            pts: pts.map(Pts),
            time_base,
            size_bytes: packet.data().len(),
            payload: Arc::new(SidePayload(packet.packet)),
        })
    }

    /// Converts a video packet for delivery beside the frames, if requested. A packet that was delivered before, and is decoded again,
    /// is not delivered twice.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub fn of_video(&mut self, packet: &InputPacket) -> Result<Option<Packet>, MediaError> {
        let Some(side_stream) = self.video else { return Ok(None) };
        let dts = packet.dts();
        if dts.zip(self.last_video).is_some_and(|(dts, last)| dts <= last) {
            return Ok(None);
        }
        self.last_video = dts.or(self.last_video);
        Ok(Some(Packet {
            stream: self.stream,
            side_stream,
            pts: packet.pts().or(dts).map(Pts),
            time_base: self.video_base,
            size_bytes: packet.data().len(),
            payload: Arc::new(SidePayload(packet.share()?.packet)),
        }))
    }

    /// Records a video packet after the end: sparse streams (subtitles) may have nothing there, and video far beyond
    /// the end closes them.
    pub fn pass(&mut self, video: &InputPacket) {
        let secs = video.dts().or(video.pts()).map(|ticks| self.video_base.seconds(ticks));
        if secs.zip(self.end).is_some_and(|(secs, end)| secs > end + SIDE_LAG_SECS) {
            self.open.fill(false);
        }
    }

    /// Whether more packets within the selection may come.
    pub fn may_come(&self) -> bool {
        self.open.contains(&true)
    }
}
