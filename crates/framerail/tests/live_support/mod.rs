//! Runs that are watched while they go on.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use framerail::pipeline::{FrameItem, RunHandle, RunOptions, RunStats, StreamStats, Verdict};
use parking_lot::Mutex;

/// Far beyond what any step takes.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What was noted of each frame.
pub type Seen<T> = Arc<Mutex<Vec<T>>>;

/// Starts a pipeline; notes what `look` finds in each frame that leaves its source.
pub fn start<T: Send + 'static>(text: &str, look: impl Fn(&FrameItem) -> T + Send + Sync + 'static) -> (RunHandle, Seen<T>) {
    let mut planned = framerail::plan(text).expect("valid").into_graph().expect("linked");
    let edge = planned.edges.first().expect("the source has a follower").id;
    let seen = Seen::default();
    let note = Arc::clone(&seen);
    planned.graph.probe(
        edge,
        Arc::new(move |item| {
            note.lock().push(look(item));
            Verdict::Keep
        }),
    );
    (planned.graph.start(RunOptions::default()).expect("started"), seen)
}

/// Waits until a run's figures are as they should be.
pub fn wait_for(handle: &RunHandle, what: &str, is_so: impl Fn(&RunStats) -> bool) -> RunStats {
    let began = Instant::now();
    loop {
        let stats = handle.stats();
        if is_so(&stats) {
            return stats;
        }
        let goes_on = began.elapsed() < PATIENCE && !handle.wait_for(Duration::from_millis(20));
        assert!(goes_on, "{what} never came: {:?}, {:?}", handle.switch().error(), handle.stats());
    }
}

/// The same for those of its first stream.
pub fn wait_for_stream(handle: &RunHandle, what: &str, is_so: impl Fn(&StreamStats) -> bool) -> StreamStats {
    let of = |stats: &RunStats| stats.stream(0).cloned().unwrap_or_default();
    of(&wait_for(handle, what, |stats| is_so(&of(stats))))
}
