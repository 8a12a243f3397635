//! The content of a server: a run with its images, or images only.

use std::sync::Arc;

use framerail_core::StreamId;
use framerail_pipeline::{GraphDrawing, ModelInfo, RunStats, RunSwitch, SettingInfo};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    LiveImages,
    access::Access,
    door::Door,
    guesses::Guesses,
    health::{Health, RunState},
    history::{History, Sample},
    sources::AllowedSources,
};

/// A stream whose images can be requested.
#[derive(Clone, Debug, Serialize)]
pub struct NamedStream {
    /// Stream ID.
    pub id: u32,
    /// Stream name.
    pub name: String,
}

/// What a server serves.
pub enum Content {
    /// A run, with statistics and controls.
    Run {
        /// The run.
        run: RunSwitch,
        /// The stage whose frames are shown; `None` without images.
        view: Option<String>,
        /// Title of the page.
        title: String,
    },
    /// Only images, of the streams in this list.
    LiveImages(Arc<Mutex<Vec<NamedStream>>>),
}

/// State shared by all requests.
pub(crate) struct Site {
    pub(crate) access: Access,
    pub(crate) door: Door,
    pub(crate) sources: AllowedSources,
    pub(crate) guesses: Guesses,
    pub(crate) content: Content,
    pub(crate) images: LiveImages,
    pub(crate) history: Mutex<History>,
    /// Becomes true when the server is about to close.
    pub(crate) closing: watch::Sender<bool>,
}

/// The report sent to the page once a second.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    version: &'static str,
    title: &'a str,
    state: RunState,
    reasons: Vec<String>,
    view: Option<&'a str>,
    view_failure: Option<String>,
    stats: RunStats,
    settings: Vec<SettingInfo>,
    models: Vec<ModelInfo>,
    sample: Sample,
}

impl Site {
    pub(crate) fn run(&self) -> Option<&RunSwitch> {
        match &self.content {
            Content::Run { run, .. } => Some(run),
            Content::LiveImages(_) => None,
        }
    }

    pub(crate) fn report(&self) -> Option<Report<'_>> {
        let Content::Run { run, view, title } = &self.content else { return None };
        let (stats, health) = (run.stats(), Health::of(run));
        let sample = Sample::of(&stats);
        Some(Report {
            version: env!("CARGO_PKG_VERSION"),
            title,
            state: health.state,
            reasons: health.reasons,
            view: view.as_deref(),
            view_failure: self.images.failure(),
            settings: run.settings(),
            models: run.models(),
            stats,
            sample,
        })
    }

    pub(crate) fn graph(&self) -> Option<String> {
        self.run().map(|run| GraphDrawing::from_stats(&run.stats()).svg())
    }

    /// Finds a stream by name or, failing that, by ID.
    pub(crate) fn stream(&self, wanted: &str) -> Option<StreamId> {
        let streams = self.streams();
        let named = streams.iter().find(|stream| stream.name == wanted);
        let numbered = || wanted.parse().ok().and_then(|id: u32| streams.iter().find(|stream| stream.id == id));
        named.or_else(numbered).map(|stream| StreamId(stream.id))
    }

    pub(crate) fn streams(&self) -> Vec<NamedStream> {
        match &self.content {
            Content::Run { run, .. } => {
                let streams = run.streams().stats();
                streams.into_iter().map(|stream| NamedStream { id: stream.id, name: stream.name }).collect()
            }
            Content::LiveImages(streams) => streams.lock().clone(),
        }
    }

    /// Whether more images may follow.
    pub(crate) fn is_live(&self) -> bool {
        !*self.closing.borrow() && self.run().is_none_or(|run| !run.is_over())
    }
}
