//! What travels along an edge.

use std::sync::Arc;

use framerail_core::{Detection, Frame, Packet, StreamId, StreamInfo};

/// A frame with what is known about it so far.
#[derive(Clone, Debug)]
pub struct FrameItem {
    /// The picture.
    pub frame: Frame,
    /// What was found in it.
    pub detections: Vec<Detection>,
    /// Whether a model has looked at this frame; `false` between the frames of `infer every=N`.
    pub analysed: bool,
}

impl FrameItem {
    /// A frame that no model has seen.
    pub fn new(frame: Frame) -> Self {
        Self { frame, detections: Vec::new(), analysed: false }
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
}

impl From<FrameItem> for Item {
    fn from(item: FrameItem) -> Self {
        Item::Frame(Box::new(item))
    }
}
