//! Items that travel on an edge.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use framerail_core::{Detection, Frame, Packet, StreamId, StreamInfo};

use crate::{Attachments, FrameLease};

/// A frame with its results so far.
#[derive(Clone, Debug)]
pub struct FrameItem {
    /// The frame.
    pub frame: Frame,
    /// Detections in the frame.
    pub detections: Vec<Detection>,
    /// Whether a model ran on this frame; `false` for the skipped frames of `infer every=N`.
    pub analysed: bool,
    /// When it arrived, for live and paced streams; `None` for files read at full speed.
    pub arrival: Option<Arrival>,
    /// Its share of the run's frame memory, while it is in flight.
    pub lease: Option<Arc<FrameLease>>,
    /// Values that stages attached in addition to detections.
    pub attachments: Attachments,
}

/// When a frame of a live or paced stream arrived, and its latency budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Arrival on the run's clock: when the frame was decoded or, for a paced file, when it was due.
    pub at: Instant,
    /// The same on the machine's wall clock.
    pub wall: SystemTime,
    /// The stream's latency budget, counted from `at`; `None` when there is none.
    pub budget: Option<Duration>,
    /// Whether the frame is dropped from a queue once it is over budget; if `false`, it is only counted as late.
    pub may_drop: bool,
}

impl Arrival {
    /// Whether the frame is over budget at `now`.
    pub fn is_late(&self, now: Instant) -> bool {
        self.budget.is_some_and(|budget| now.saturating_duration_since(self.at) > budget)
    }

    /// Whether a frame that has waited in one place since `since` should be dropped there. A frame that was already late on arrival in this
    /// place was delayed on purpose, and gets its budget again.
    pub(crate) fn is_expired(&self, since: Instant, now: Instant) -> bool {
        let from = if self.is_late(since) { since } else { self.at };
        self.may_drop && self.budget.is_some_and(|budget| now.saturating_duration_since(from) > budget)
    }
}

impl FrameItem {
    /// A frame that has not been analysed by a model.
    pub fn new(frame: Frame) -> Self {
        Self { frame, detections: Vec::new(), analysed: false, arrival: None, lease: None, attachments: Attachments::default() }
    }
}

/// The end of a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamEnd {
    /// The stream that ends.
    pub id: StreamId,
    /// Why it ended early, if it did.
    pub ended_early: Option<String>,
}

/// Items that stages process. Within a stream: its start, frames and packets in order, its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// A stream begins.
    StreamStart(Arc<StreamInfo>),
    /// A frame.
    Frame(Box<FrameItem>),
    /// A packet of audio or subtitles for the output.
    Packet(Packet),
    /// A stream ends.
    StreamEnd(StreamEnd),
}

impl Item {
    /// Whether this is a frame.
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
