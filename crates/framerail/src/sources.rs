//! Sources that the program opens itself instead of FFmpeg.

use std::{fmt, sync::Arc};

use framerail_media::CustomSource;

/// Returns the opener of an address; `None` leaves it to FFmpeg. Called on threads of the run; opens nothing yet.
pub type FindSource = Arc<dyn Fn(&str) -> Option<CustomSource> + Send + Sync>;

/// How the addresses of a pipeline are opened; by FFmpeg by default.
#[derive(Clone, Default)]
pub(crate) struct Sources(Option<FindSource>);

impl Sources {
    pub(crate) fn new(find: Option<FindSource>) -> Self {
        Self(find)
    }

    /// The opener of this address, if it is not FFmpeg.
    pub(crate) fn find(&self, address: &str) -> Option<CustomSource> {
        self.0.as_ref().and_then(|find| find(address))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Sources(given)" } else { "Sources" })
    }
}
