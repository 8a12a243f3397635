//! What is served: a run with its pictures, or pictures alone.

use std::sync::Arc;

use framerail_core::StreamId;
use framerail_pipeline::{GraphPicture, RunStats, RunSwitch, SettingInfo};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    Pictures,
    access::Access,
    door::Door,
    guesses::Guesses,
    health::{Health, RunState},
    history::{History, Sample},
    sources::AllowedSources,
};

/// A stream as far as a picture of it can be asked for.
#[derive(Clone, Debug, Serialize)]
pub struct NamedStream {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// What a server shows.
pub enum Content {
    /// A run: everything.
    Run {
        /// The run.
        run: RunSwitch,
        /// The stage whose frames are shown; `None` where there are no pictures.
        view: Option<String>,
        /// What the page is called.
        title: String,
    },
    /// Pictures alone, of the streams of this list.
    Pictures(Arc<Mutex<Vec<NamedStream>>>),
}

/// Everything that the answers are made of.
pub(crate) struct Site {
    pub(crate) access: Access,
    pub(crate) door: Door,
    pub(crate) sources: AllowedSources,
    pub(crate) guesses: Guesses,
    pub(crate) content: Content,
    pub(crate) pictures: Pictures,
    pub(crate) history: Mutex<History>,
    /// Turns true when the server is about to close.
    pub(crate) closing: watch::Sender<bool>,
}

/// What the page is told once a second.
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
    sample: Sample,
}

impl Site {
    pub(crate) fn run(&self) -> Option<&RunSwitch> {
        match &self.content {
            Content::Run { run, .. } => Some(run),
            Content::Pictures(_) => None,
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
            view_failure: self.pictures.failure(),
            settings: run.settings(),
            stats,
            sample,
        })
    }

    pub(crate) fn graph(&self) -> Option<String> {
        self.run().map(|run| GraphPicture::from_stats(&run.stats()).svg())
    }

    /// The stream of this name, else of this number.
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
            Content::Pictures(streams) => streams.lock().clone(),
        }
    }

    /// Whether more pictures may come.
    pub(crate) fn is_live(&self) -> bool {
        !*self.closing.borrow() && self.run().is_none_or(|run| !run.is_over())
    }
}
