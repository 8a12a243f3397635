//! The `track` stage in a pipeline.

mod stages_support;

use framerail::core::{DetectionOrigin, StreamId};
use framerail::pipeline::Item;
use stages_support::{end, face, run, seen, stream, try_run};

fn clip(frames: u64) -> Vec<Item> {
    let start = [Item::StreamStart(stream(0, "a"))];
    let frames = (0..frames).map(|index| {
        let mut faces = vec![face(0.9, None, DetectionOrigin::Detected), face(0.05, Some(9), DetectionOrigin::Detected)];
        faces[1].bbox.x1 += 30.0;
        faces[1].bbox.x2 += 30.0;
        seen(0, index, faces).into()
    });
    start.into_iter().chain(frames).chain([end(0)]).collect()
}

#[test]
fn identities_are_given_and_counted() {
    let ran = run("track ! collect", clip(10));
    assert_eq!(ran.error(), "none");
    for item in &ran.items {
        if let Item::Frame(item) = item {
            let ids: Vec<_> = item.detections.iter().map(|found| found.track_id).collect();
            assert_eq!((item.frame.stream, ids), (StreamId(0), vec![Some(1), None]));
        }
    }
    let counted = ["tracks_begun", "tracks_ended", "detections_tracked", "detections_untracked"].map(|name| ran.counter(name));
    assert_eq!(counted, [1, 1, 10, 10]);
}

#[test]
fn algorithms_have_their_own_options() {
    assert_eq!(run("track algorithm=ocsort min_hits=1 classes=together boxes=filtered coast=3 ! collect", clip(5)).error(), "none");
    let reported = |text: &str| try_run(&format!("{text} ! collect"), clip(1), Some(1)).err().unwrap_or_default();
    assert!(reported("track min_hits=3").contains("`min_hits` is an option of ocsort"), "{}", reported("track min_hits=3"));
    let text = "track algorithm=ocsort track_buffer=3";
    assert!(reported(text).contains("`track_buffer` is an option of bytetrack"), "{}", reported(text));
    assert!(reported("track low_thresh=0.7").contains("low_thresh is above track_thresh"));
}
