//! Opens the sources of a `read`, on the threads that read them.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, OnceLock},
};

use framerail_core::{SourceUrl, StreamId};
use framerail_pipeline::{ErrorKind, StageError, StreamLine, StreamOpener, StreamReader, StreamRequest};
use parking_lot::Mutex;

use super::{counters::Counters, policy::Liveness, reader::SourceReader, source::Opener};
use crate::inputs::expand_sources;

/// The source that stands for standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// What the readers of one `read` share.
pub(super) struct Shared {
    counters: OnceLock<Counters>,
    has_card: bool,
    /// What was decided while linking and the user should know.
    notices: Mutex<Vec<String>>,
}

impl Shared {
    /// The counters; the first reader to ask makes them, and tells what is to be told.
    pub(super) fn counters(&self, line: &StreamLine) -> &Counters {
        let counters = self.counters.get_or_init(|| Counters::new(&line.context, self.has_card));
        for notice in self.notices.lock().drain(..) {
            line.context.notice(notice);
        }
        counters
    }
}

pub(super) struct SourceOpener {
    opener: Opener,
    liveness: Liveness,
    shared: Arc<Shared>,
    /// Names of streams so far: no two are the same.
    names: Mutex<BTreeSet<String>>,
}

impl SourceOpener {
    pub(super) fn new(opener: Opener, liveness: Liveness, requests: &[StreamRequest], notices: Vec<String>) -> Self {
        let names = requests.iter().map(|request| request.name.clone()).collect();
        let shared = Shared { counters: OnceLock::new(), has_card: opener.card.is_some(), notices: Mutex::new(notices) };
        Self { opener, liveness, shared: Arc::new(shared), names: Mutex::new(names) }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// A name that no other stream has: the wanted one, or with the stream's number behind it.
    fn free_name(&self, wanted: String, id: StreamId) -> String {
        let mut names = self.names.lock();
        let name = if names.contains(&wanted) { format!("{wanted}-{id}") } else { wanted };
        names.insert(name.clone());
        name
    }
}

impl StreamOpener for SourceOpener {
    fn admit(&self, source: &str, id: StreamId) -> Result<StreamRequest, StageError> {
        let mut sources = expand_sources(&[source])?;
        let one = sources.pop().filter(|_| sources.is_empty());
        let one = one.ok_or_else(|| {
            StageError::new(ErrorKind::Usage, format!("{}: names several files; add them one by one", SourceUrl::new(source)))
        })?;
        if one.source == STANDARD_INPUT {
            return Err(StageError::new(ErrorKind::Usage, "standard input cannot be added to a run; start the run with it"));
        }
        let is_live = self.liveness.is_live(one.source.reveal());
        let is_file = !is_live && !one.source.reveal().contains(['%', ':', '*', '?', '[']);
        if is_file && !Path::new(one.source.reveal()).exists() {
            return Err(StageError::new(ErrorKind::Input, format!("{}: no such file or stream; check the name", one.source)));
        }
        Ok(StreamRequest { id, name: self.free_name(one.name, id), source: one.source, is_live })
    }

    fn open(&self, request: &StreamRequest, line: &StreamLine) -> Result<Box<dyn StreamReader>, StageError> {
        let open = self.opener.open(request, &line.cancel)?;
        Ok(Box::new(SourceReader::new(open, request.is_live, self.shared())))
    }
}
