//! `sample`, `tee`, `null` and `draw`.

mod stages_support;

use std::time::{Duration, Instant};

use framerail::{
    core::{DetectionOrigin, Rational, StreamId},
    pipeline::{Description, Item, RunOptions, check},
};
use stages_support::{STEP, end, face, frame, interleaved, run, seen, stream, try_run, whole};

#[test]
fn every_nth_frame_of_each_stream_is_kept() {
    let ran = run("sample every=3 ! collect", interleaved(whole(0, "a", 10), whole(1, "b", 7)));
    assert_eq!(ran.frames()[&0], [0, 3, 6, 9]);
    assert_eq!(ran.frames()[&1], [0, 3, 6]);
    assert_eq!(ran.counter("frames_skipped"), 10);
    let starts: Vec<_> = ran.items.iter().filter_map(|item| if let Item::StreamStart(info) = item { Some(info) } else { None }).collect();
    assert_eq!(starts[1].frame_rate, Rational::new(25, 3));
    assert_eq!(starts[1].frames_estimate, Some(34));
}

#[test]
fn frames_are_taken_by_time() {
    // 25 frames/s.
    let ran = run("sample fps=5 ! collect", interleaved(whole(0, "a", 12), whole(1, "b", 6)));
    assert_eq!(ran.frames()[&0], [0, 5, 10]);
    assert_eq!(ran.frames()[&1], [0, 5]);
    let ends = ran.items.iter().filter(|item| matches!(item, Item::StreamEnd(_))).count();
    assert_eq!(ends, 2);
    let Some(Item::Frame(second)) = ran.items.iter().filter(|item| item.is_frame()).nth(2) else { panic!("no third frame") };
    assert_eq!(second.frame.pts.0, 5 * STEP, "times stay");
    let ran = run("sample fps=50 ! collect", whole(0, "a", 9));
    assert_eq!(ran.frames()[&0], (0..9).collect::<Vec<_>>(), "a slower stream passes whole");
    assert_eq!(ran.counter("frames_skipped"), 0);
}

#[test]
fn a_count_ends_the_only_stream_and_spares_the_others() {
    let ran = run("sample start=2 every=2 count=2 ! collect", whole(0, "a", 1000));
    assert_eq!(ran.frames()[&0], [2, 4]);
    assert!(matches!(ran.items.last(), Some(Item::StreamEnd(end)) if end.id == StreamId(0)));
    let read = ran.outcome.stats.stage("given").expect("there").frames_out;
    assert!(read < 100, "the source gave {read} frames although 5 were enough");
    let ran = run("sample count=2 ! collect", [whole(0, "a", 5), whole(1, "b", 5)].concat());
    assert_eq!(ran.frames().into_values().collect::<Vec<_>>(), [[0, 1], [0, 1]]);
    let ran = run("sample fps=5 count=2 ! collect", whole(0, "a", 1000));
    assert_eq!(ran.frames()[&0], [0, 5]);
}

#[test]
fn options_of_sample_that_do_not_fit_are_refused() {
    let problem = |text: &str| try_run(text, Vec::new(), Some(1)).err().unwrap_or_default();
    assert!(problem("sample every=2 fps=3 ! collect").contains("every and fps are both given"));
    assert!(problem("sample ! collect").contains("neither every nor fps is given"));
    assert!(problem("sample every=0 ! collect").contains("out of range"));
}

#[test]
fn branches_share_frames_until_one_draws() {
    let items = || vec![Item::StreamStart(stream(0, "a")), seen(0, 0, vec![face(0.9, None, DetectionOrigin::Detected)]).into(), end(0)];
    let ran = run("tee ( null ) ( null ) ! collect", items());
    let stats = &ran.outcome.stats;
    assert_eq!((stats.stages.len(), stats.stage("null-2").expect("there").frames_in), (5, 1));
    assert!(stats.stages.iter().all(|stage| stage.copies.is_empty()));
    // The collected frame outlives the drawing, so drawing has to copy.
    let ran = run("tee ( collect ) ! draw ! tee ( null )", items());
    let drawn = &ran.outcome.stats.stage("draw").expect("there").copies;
    assert!(drawn.iter().all(|copy| copy.bytes == 64 * 48 * 3 / 2), "{drawn:?}");
    let Some(Item::Frame(kept)) = ran.items.iter().find(|item| item.is_frame()) else { panic!("no frame") };
    assert!(kept.frame.surface.host().expect("on host").plane(0).iter().all(|luma| *luma == 40), "the other branch's frame is drawn on");
}

#[test]
fn detections_are_drawn_as_asked() {
    let lit = |options: &str| {
        let items = vec![Item::StreamStart(stream(0, "a")), seen(0, 0, vec![face(0.9, None, DetectionOrigin::Detected)]).into(), end(0)];
        let ran = run(&format!("draw {options} ! collect"), items);
        let Some(Item::Frame(drawn)) = ran.items.iter().find(|item| item.is_frame()) else { panic!("no frame") };
        let host = drawn.frame.surface.host().expect("on host").clone();
        (0..48).map(|row| host.row(0, row).iter().filter(|luma| **luma != 40).count()).sum::<usize>()
    };
    let box_only = lit("labels=no scores=no landmarks=no");
    // The box covers 21 by 25 pixels.
    assert_eq!(box_only, 2 * 21 + 2 * 23);
    assert!(lit("labels=no scores=no") > box_only);
    assert!(lit("labels=no scores=no landmarks=no line_width=3") > 2 * box_only);
    assert_eq!(lit("only=plate"), 0);
    assert_eq!(lit("only=plate,face labels=no scores=no landmarks=no"), box_only);
    let problem = try_run("draw only=cat ! collect", Vec::new(), Some(1)).err().expect("no such class");
    assert!(problem.contains("no class `cat`; it has face, plate"), "{problem}");
}

#[test]
fn null_takes_everything_and_keeps_to_the_clips_speed_when_asked() {
    let ran = run("null", whole(0, "a", 50));
    assert_eq!(ran.outcome.stats.stage("null").expect("there").frames_in, 50);
    let began = Instant::now();
    let ran = run("null sync=true", whole(0, "a", 6));
    assert!(began.elapsed() >= Duration::from_millis(5 * STEP as u64), "the sixth frame is due after 200 ms");
    assert!(ran.outcome.result.is_ok());
    assert!(ran.outcome.stats.stage("null").expect("there").counters.contains_key("late_max_ms"));
}

#[test]
fn a_paced_sink_stops_at_once() {
    // The second frame is due after 40 s.
    let items = vec![Item::StreamStart(stream(0, "a")), frame(0, 0).into(), frame(0, 1000).into(), end(0)];
    let mut registry = framerail::registry();
    stages_support::register_given(&mut registry, items, Some(1));
    let description = Description::parse("given ! null sync=true").expect("well formed");
    let mut plan = check(&description, &registry).expect("fits");
    plan.link().expect("fits");
    let handle = plan.into_graph().expect("a graph").graph.start(RunOptions::default()).expect("starts");
    while handle.stats().stage("null").expect("there").frames_in == 0 {
        std::thread::yield_now();
    }
    handle.stop();
    assert!(handle.wait_for(Duration::from_secs(20)), "still asleep");
    let outcome = handle.wait();
    assert!(outcome.result.is_ok());
}
