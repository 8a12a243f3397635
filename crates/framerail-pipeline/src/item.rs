//! What travels along an edge.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use framerail_core::{Detection, Frame, Packet, StreamId, StreamInfo};

use crate::{Attachments, FrameLease};

/// A frame with what is known about it so far.
#[derive(Clone, Debug)]
pub struct FrameItem {
    /// The picture.
    pub frame: Frame,
    /// What was found in it.
    pub detections: Vec<Detection>,
    /// Whether a model has looked at this frame; `false` between the frames of `infer every=N`.
    pub analysed: bool,
    /// When it came in, for live and paced streams; `None` for files read as fast as they go.
    pub arrival: Option<Arrival>,
    /// Its share of the run's memory for frames, while it is under way in one.
    pub lease: Option<Arc<FrameLease>>,
    /// What stages hung on it beside detections.
    pub attachments: Attachments,
}

/// When a frame of a live or paced stream came in, and by when it should be through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// On the run's clock: when it was decoded, or, for a paced file, when it was due.
    pub at: Instant,
    /// The same on the wall clock of this machine.
    pub wall: SystemTime,
    /// The stream's latency budget, counted from `at`; `None` for no budget.
    pub budget: Option<Duration>,
    /// Whether it is dropped where it waits once its budget is over; otherwise it is only counted as late.
    pub may_drop: bool,
}

impl Arrival {
    /// Whether the frame is over its budget at an instant.
    pub fn is_late(&self, now: Instant) -> bool {
        self.budget.is_some_and(|budget| now.saturating_duration_since(self.at) > budget)
    }

    /// Whether a frame that has waited in one place since an instant should be dropped there. One that was late when it came there
    /// was held back on purpose, and has its budget once more.
    pub(crate) fn is_expired(&self, since: Instant, now: Instant) -> bool {
        let from = if self.is_late(since) { since } else { self.at };
        self.may_drop && self.budget.is_some_and(|budget| now.saturating_duration_since(from) > budget)
    }
}

impl FrameItem {
    /// A frame that no model has seen.
    pub fn new(frame: Frame) -> Self {
        Self { frame, detections: Vec::new(), analysed: false, arrival: None, lease: None, attachments: Attachments::default() }
    }
}

/// The last word of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamEnd {
    /// The stream that ends.
    pub id: StreamId,
    /// Why it ended before its time, when it did.
    pub ended_early: Option<String>,
}

/// What stages take and give. Within a stream: its start, frames and packets in order, its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// A stream begins.
    StreamStart(Arc<StreamInfo>),
    /// A picture.
    Frame(Box<FrameItem>),
    /// A packet of sound or subtitles on its way to the output.
    Packet(Packet),
    /// A stream ends.
    StreamEnd(StreamEnd),
}

impl Item {
    /// Whether this is a picture.
    pub fn is_frame(&self) -> bool {
        matches!(self, Item::Frame(_))
    }

    /// The stream that it belongs to.
    pub fn stream(&self) -> StreamId {
        match self {
            Item::StreamStart(info) => info.id,
            Item::Frame(item) => item.frame.stream,
            Item::Packet(packet) => packet.stream,
            Item::StreamEnd(end) => end.id,
        }
    }
}

impl From<FrameItem> for Item {
    fn from(item: FrameItem) -> Self {
        Item::Frame(Box::new(item))
    }
}
