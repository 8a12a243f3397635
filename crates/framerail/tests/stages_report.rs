//! `report`: content of the page, and escaping.

mod stages_support;

use std::{fs, path::Path, sync::Arc};

use framerail::{
    core::{Detection, DetectionOrigin, StreamInfo},
    pipeline::{Item, StreamEnd},
};
use stages_support::{end, face, files, frame, interleaved, run, seen, stream, try_run, whole};

const SEEN: DetectionOrigin = DetectionOrigin::Detected;
const BETWEEN: DetectionOrigin = DetectionOrigin::Interpolated;
const HELD: DetectionOrigin = DetectionOrigin::Held;

/// A stream of frames with these faces each: track, score and origin.
fn clip(id: u32, name: &str, faces: &[&[(u64, f32, DetectionOrigin)]]) -> Vec<Item> {
    let found = |faces: &[(u64, f32, DetectionOrigin)]| -> Vec<Detection> {
        faces.iter().map(|(track, score, origin)| face(*score, Some(*track), *origin)).collect()
    };
    let frames = (0u64..).zip(faces).map(|(index, faces)| Item::from(seen(id, index, found(faces))));
    [Item::StreamStart(stream(id, name))].into_iter().chain(frames).chain([end(id)]).collect()
}

fn page(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs `report` on items; returns the page.
fn page_of(options: &str, items: Vec<Item>) -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("page.html");
    let frames = items.iter().filter(|item| item.is_frame()).count();
    let ran = run(&format!("report {} {options} ! collect", path.display()), items);
    assert_eq!(ran.error(), "none");
    assert_eq!(ran.items.iter().filter(|item| item.is_frame()).count(), frames, "frames pass on");
    assert_eq!(files(folder.path()), ["page.html"]);
    page(&path)
}

fn has_tile(page: &str, value: &str, label: &str) -> bool {
    page.contains(&format!("<b>{value}</b> <span>{label}"))
}

#[test]
fn gaps_scores_and_single_sightings_are_reported() {
    let page = page_of(
        "",
        clip(
            0,
            "clip",
            &[
                &[(1, 0.9, SEEN)],
                &[(1, 0.9, BETWEEN), (3, 0.8, SEEN)],
                &[(1, 0.9, BETWEEN), (3, 0.8, HELD)],
                &[(1, 0.9, SEEN)],
                // Lost for two frames, one of them without a box.
                &[(1, 0.9, HELD)],
                &[],
                &[(1, 0.31, SEEN)],
                &[],
            ],
        ),
    );
    assert!(has_tile(&page, "8", "frames, 8 analysed"), "{page}");
    assert!(has_tile(&page, "6", "frames with detections (75.0%)"));
    assert!(has_tile(&page, "3", "frames with a filled-in box"));
    assert!(has_tile(&page, "1", "gaps filled between two detections, the longest of 2 frames"));
    assert!(has_tile(&page, "1", "gaps left open: 1 frame without a box"));
    assert!(has_tile(&page, "1", "detections seen in only one frame"));
    assert!(has_tile(&page, "0.31", "lowest score"));
    for reason in ["no box on 1 frame from here on", "filled in over 2 frames", "score 0.80"] {
        assert!(page.contains(reason), "{reason}");
    }
    assert!(page.contains("0:00.200 · frame 5"), "the first frame without a box");
    assert!(page.contains("The images on this page are not blurred."));
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,/9j/").count(), page.matches("<img ").count());
    assert!(page.matches("<img ").count() == 8, "two for each doubt");
}

#[test]
fn a_stretch_without_a_box_between_two_identities_is_an_open_gap_and_comes_first() {
    // Output of `hold` for a face that is lost for longer than its reach: the second part has a new identity.
    let faces: [&[_]; 9] =
        [&[(1, 0.9, SEEN)], &[(1, 0.9, SEEN)], &[(1, 0.9, HELD)], &[], &[], &[], &[(2, 0.9, HELD)], &[(2, 0.9, SEEN)], &[(2, 0.3, SEEN)]];
    let page = page_of("", clip(0, "clip", &faces));
    assert!(has_tile(&page, "1", "gaps left open: 3 frames without a box"), "{page}");
    assert!(has_tile(&page, "1", "different"), "it is one thing");
    let first = page.find("no box on 3 frames from here on").expect("listed");
    assert!(page.contains("0:00.120 · frame 3") && page.find("#2, score 0.30").is_some_and(|low| first < low));
    // No gap where boxes meet, or where another object appears elsewhere.
    let faces: [&[_]; 4] = [&[(1, 0.9, SEEN)], &[(1, 0.9, HELD)], &[(2, 0.9, HELD)], &[(2, 0.9, SEEN)]];
    let page = page_of("", clip(0, "clip", &faces));
    assert!(has_tile(&page, "0", "gaps left open") && has_tile(&page, "1", "longer gaps covered from both sides"), "{page}");
}

#[test]
fn frames_that_the_model_skipped_are_no_gaps() {
    let mut items = vec![Item::StreamStart(stream(0, "clip"))];
    for index in 0..9 {
        let analysed = index % 3 == 0;
        let origin = if analysed { SEEN } else { BETWEEN };
        let mut item = seen(0, index, vec![face(0.9, Some(1), origin)]);
        item.analysed = analysed;
        items.push(item.into());
    }
    items.push(end(0));
    let page = page_of("", items);
    assert!(has_tile(&page, "9", "frames, 3 analysed") && has_tile(&page, "6", "frames with a filled-in box"));
    assert!(has_tile(&page, "0", "gaps filled between two detections") && has_tile(&page, "0", "gaps left open"));
}

#[test]
fn without_identities_things_are_followed_all_the_same() {
    let mut items = vec![Item::StreamStart(stream(0, "clip"))];
    for index in 0..10 {
        let faces = if (4..6).contains(&index) { Vec::new() } else { vec![face(0.9, None, SEEN)] };
        items.push(seen(0, index, faces).into());
    }
    items.push(end(0));
    let page = page_of("", items);
    assert!(has_tile(&page, "1", "gaps left open: 2 frames without a box"), "{page}");
    assert!(has_tile(&page, "0", "detections seen in only one frame"));
}

#[test]
fn thumbnails_are_as_many_as_asked() {
    let faces: Vec<Vec<(u64, f32, DetectionOrigin)>> = (0..400u16).map(|index| vec![(1, 0.2 + f32::from(index) / 1000.0, SEEN)]).collect();
    let faces: Vec<&[(u64, f32, DetectionOrigin)]> = faces.iter().map(Vec::as_slice).collect();
    let few = page_of("thumbnails=3", clip(0, "clip", &faces));
    assert_eq!((few.matches("<li>\n<div class=\"pair\">").count(), few.matches("<img ").count()), (3, 6));
    let none = page_of("thumbnails=0", clip(0, "clip", &faces));
    assert!(!none.contains("<img ") && !none.contains("not blurred") && none.contains("score 0.20"));
}

#[test]
fn text_from_files_is_escaped() {
    let evil = "<script>alert('x')</script>\"&";
    let mut items = clip(0, "clip", &[&[(1, 0.9, SEEN)]]);
    items[0] = Item::StreamStart(Arc::new(StreamInfo { name: evil.into(), source: evil.into(), ..(*stream(0, "clip")).clone() }));
    if let Item::Frame(item) = &mut items[1] {
        item.detections[0].label.name = evil.into();
    }
    items[2] = Item::StreamEnd(StreamEnd { ended_early: Some(evil.into()), ..StreamEnd::default() });
    let page = page_of("", items);
    assert!(!page.contains("<script") && !page.contains("'x'"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
    for outside in ["http://", "https://", "src=\"/", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn streams_share_a_page_or_have_their_own() {
    let items = || interleaved(clip(0, "first", &[&[(1, 0.9, SEEN)], &[]]), clip(1, "second", &[&[(1, 0.4, SEEN)], &[]]));
    let both = page_of("", items());
    assert!(both.contains("<a href=\"#stream-1\">second</a>") && has_tile(&both, "2", "frames with detections"));
    let folder = tempfile::tempdir().expect("temporary folder");
    let ran = run(&format!("report {}/{{name}}.html ! null", folder.path().display()), items());
    assert_eq!((ran.error().as_str(), files(folder.path())), ("none", vec!["first.html".into(), "second.html".into()]));
    let second = page(&folder.path().join("second.html"));
    assert!(second.contains("second.mp4") && !second.contains("first.mp4"));
}

#[test]
fn nothing_found_is_reported() {
    let page = page_of("", whole(0, "clip", 3));
    assert!(page.contains("Nothing: the model found no detections.") && has_tile(&page, "–", "lowest score"));
}

#[test]
fn what_cannot_be_written_is_refused_before_the_start() {
    let folder = tempfile::tempdir().expect("temporary folder");
    fs::write(folder.path().join("there.html"), "precious").expect("written");
    let problem = |name: &str| {
        let text = format!("report {} ! null", folder.path().join(name).display());
        try_run(&text, whole(0, "clip", 1), Some(1)).err().unwrap_or_default()
    };
    assert!(problem("there.html").contains("overwrite=true"));
    assert_eq!(problem("made/page.html"), "", "folders are made");
    let dash = try_run("report - ! null", whole(0, "clip", 1), Some(1)).err().unwrap_or_default();
    assert!(dash.contains("name a file"));
    let mut items = whole(0, "clip", 1);
    items.insert(2, frame(5, 0).into());
    let ran = run(&format!("report {} ! null", folder.path().join("page.html").display()), items);
    assert!(ran.error().contains("before the stream's start"));
    assert_eq!(files(folder.path()), ["made", "there.html"], "nothing else remains");
}
