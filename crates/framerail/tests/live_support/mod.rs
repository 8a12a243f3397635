//! Observes running pipelines.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use framerail::pipeline::{FrameItem, RunHandle, RunOptions, RunStats, StreamStats, Verdict};
use parking_lot::Mutex;

/// Far longer than any step takes.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Observations of each frame.
pub type Seen<T> = Arc<Mutex<Vec<T>>>;

/// Starts a pipeline; records what `look` returns for each frame of its source.
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

/// Waits until a run's statistics satisfy a condition.
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

/// Makes a video of black frames, with a white one and a click in the audio at 0.2 s and every 0.4 s from there.
pub fn flash_and_click(path: &Path, secs: f64, audio: &[&str]) -> PathBuf {
    let flashes = "color=black:size=160x120:rate=25,drawbox=color=white:thickness=fill:enable='eq(mod(n,10),5)'";
    let clicks = "aevalsrc='if(lt(mod(t+0.2,0.4),0.04),0.8*sin(2*PI*1000*t),0)':sample_rate=48000";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", flashes, "-f", "lavfi", "-i", clicks])
        .args(["-t", &secs.to_string(), "-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-pix_fmt", "yuv420p"])
        .args(audio)
        .arg(path)
        .status();
    assert!(made.is_ok_and(|status| status.success()), "{} was not made", path.display());
    path.to_owned()
}

/// Checks that each flash in a file has a click within 40 ms, except where a cut removed one of the two.
#[track_caller]
pub fn assert_in_step(path: &Path, at_least: usize, cuts: usize) {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostats", "-i"])
        .arg(path)
        .args(["-vf", "blackdetect=d=0.01:pix_th=0.3", "-af", "silencedetect=n=-30dB:d=0.05", "-f", "null", "-"])
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{} cannot be played", path.display());
    let text = String::from_utf8_lossy(&output.stderr);
    let times = |key: &str| -> Vec<f64> {
        let number = |rest: &str| rest.split([' ', '\n']).next()?.parse().ok();
        text.split(key).skip(1).filter_map(number).collect()
    };
    let (flashes, clicks) = (times("black_end:"), times("silence_end: "));
    let apart = |flash: &f64| clicks.iter().map(|click| (click - flash).abs()).fold(f64::MAX, f64::min);
    let in_step = flashes.iter().filter(|flash| apart(flash) < 0.04).count();
    let seen = format!("{}: {in_step} in step; flashes {flashes:?}, clicks {clicks:?}", path.display());
    // The end of the file looks like a flash.
    assert!(in_step >= at_least && in_step + cuts + 1 >= flashes.len() && in_step + cuts + 1 >= clicks.len(), "{seen}");
}
