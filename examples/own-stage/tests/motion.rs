//! The stage in a pipeline, on generated clips.

use std::{path::Path, sync::Arc};

use framerail::pipeline::{Description, RunOptions, RunStats, Verdict, check};
use framerail_motion::Motion;
use framerail_testkit::{Clip, ClipSpec, Codec, Container};
use parking_lot::Mutex;

const FRAMES: u32 = 20;

/// A clip in which every frame moves.
fn clip() -> Clip {
    ClipSpec::new(Codec::H264, Container::Mp4).frames(FRAMES).make()
}

/// Stream, number and moving share of each frame after the stage.
type Seen = Vec<(u32, u64, f64)>;

/// Runs `read CLIPS ! movement OPTIONS ! null`; returns what was attached to the frames.
fn run(clips: &[&Path], options: &str) -> Result<(RunStats, Seen), String> {
    let mut registry = framerail::registry();
    framerail_motion::register(&mut registry).expect("a new name");
    let clips: Vec<String> = clips.iter().map(|clip| format!("'{}'", clip.display())).collect();
    let text = format!("read {} streams=all ! movement {options} ! null", clips.join(" "));
    let description = Description::parse(&text).map_err(|problem| problem.to_string())?;
    let mut plan = check(&description, &registry).map_err(|problems| problems.render(false))?;
    plan.link().map_err(|problems| problems.render(false))?;
    let mut planned = plan.into_graph().map_err(|problem| problem.to_string())?;
    let edge = planned.edges.last().expect("null follows").id;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let note = Arc::clone(&seen);
    planned.graph.probe(
        edge,
        Arc::new(move |item| {
            let motion = item.attachments.get::<Motion>().expect("hangs on each frame");
            note.lock().push((item.frame.stream.0, item.frame.index, motion.share));
            Verdict::Keep
        }),
    );
    let outcome = planned.graph.start(RunOptions::default()).map_err(|problem| problem.to_string())?.wait();
    outcome.result.map_err(|problem| problem.to_string())?;
    let seen = seen.lock().clone();
    Ok((outcome.stats, seen))
}

#[test]
fn what_moves_is_told_for_each_stream() {
    let clip = clip();
    let (stats, seen) = run(&[clip.path(), clip.path()], "").expect("runs");
    assert_eq!((seen.len() as u32, stats.counter("frames_still")), (2 * FRAMES, 0));
    for stream in [0, 1] {
        let own: Vec<_> = seen.iter().filter(|(id, ..)| *id == stream).collect();
        assert_eq!(own.first().map(|(_, index, share)| (*index, *share)), Some((0, 0.0)), "nothing comes before the first");
        assert!(own.iter().skip(1).all(|(.., share)| *share > 0.0 && *share <= 1.0), "streams are not mixed up: {own:?}");
    }
}

#[test]
fn still_frames_are_left_out_and_counted() {
    let clip = clip();
    let (stats, seen) = run(&[clip.path()], "keep=moving least=1.0 change=255").expect("runs");
    assert_eq!(seen.iter().map(|(_, index, _)| *index).collect::<Vec<_>>(), [0], "no pixel goes from black to white");
    assert_eq!(stats.counter("frames_still"), u64::from(FRAMES) - 1);
    let (stats, seen) = run(&[clip.path()], "keep=moving least=0.0").expect("runs");
    assert_eq!((seen.len() as u32, stats.counter("frames_still")), (FRAMES, 0));
}

#[test]
fn mistakes_are_told_as_for_built_in_stages() {
    let told = |options: &str| run(&[clip().path()], options).expect_err("a mistake");
    assert!(told("leest=1").contains("did you mean `least`?"), "{}", told("leest=1"));
    assert!(told("least=2").contains("least"), "{}", told("least=2"));
    assert!(told("keep=some").contains("moving"), "{}", told("keep=some"));
}
