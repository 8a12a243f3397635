//! Sources that the program opens itself instead of FFmpeg.

use std::{fmt, sync::Arc};

use framerail_media::CustomSource;

use crate::frame_input::{FrameGivers, GiveFrames};

/// Returns the opener of an address; `None` leaves it to FFmpeg. Called on threads of the run; opens nothing yet.
pub type FindSource = Arc<dyn Fn(&str) -> Option<CustomSource> + Send + Sync>;

/// How the addresses of a pipeline are opened; by FFmpeg by default.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    find: Option<FindSource>,
    frames: FrameGivers,
}

impl Sources {
    pub(crate) fn new(find: Option<FindSource>, frames: FrameGivers) -> Self {
        Self { find, frames }
    }

    /// The opener of this address, if it is not FFmpeg.
    pub(crate) fn find(&self, address: &str) -> Option<CustomSource> {
        self.find.as_ref().and_then(|find| find(address))
    }

    /// Where the frames of this address come from, if the program hands them in.
    pub(crate) fn frames(&self, address: &str) -> Option<&Arc<dyn GiveFrames>> {
        self.frames.get(address)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { find, frames } = self;
        f.debug_struct("Sources").field("find", &find.is_some()).field("frames", &frames.keys()).finish()
    }
}
