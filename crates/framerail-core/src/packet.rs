//! Packets of side streams, such as audio and subtitles, passed from input to output.

use std::{any::Any, sync::Arc};

use crate::{Pts, StreamId, TimeBase};

/// A packet of a side stream (audio, subtitles, data), copied from input to output unchanged.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The video stream it accompanies.
    pub stream: StreamId,
    /// Index into [`crate::StreamInfo::side_streams`].
    pub side_stream: usize,
    /// Presentation time in ticks of `time_base`, if the container specifies one. The writer uses this time; any shift of the video
    /// stream's timestamps is applied to it too.
    pub pts: Option<Pts>,
    /// Seconds per tick.
    pub time_base: TimeBase,
    /// Size of the payload.
    pub size_bytes: usize,
    /// The packet itself, in the representation of the crate that reads and writes containers.
    pub payload: Arc<dyn Any + Send + Sync>,
}
