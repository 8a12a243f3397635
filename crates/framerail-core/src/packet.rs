//! A compressed unit that travels beside the frames: sound and subtitles on their way to the output.

use std::{any::Any, sync::Arc};

use crate::{Pts, StreamId, TimeBase};

/// A packet of a side stream (sound, subtitles, data), copied from input to output untouched.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The video stream that it accompanies.
    pub stream: StreamId,
    /// Index into [`crate::StreamInfo::side_streams`].
    pub side_stream: usize,
    /// Presentation time in ticks of `time_base`, when the container states one: the time that is written. What moves the frames
    /// of its stream moves it too.
    pub pts: Option<Pts>,
    /// Seconds per tick.
    pub time_base: TimeBase,
    /// Size of the payload.
    pub size_bytes: usize,
    /// The packet itself, as the crate that reads and writes containers holds it.
    pub payload: Arc<dyn Any + Send + Sync>,
}
