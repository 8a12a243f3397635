//! `blur` in whole pipelines on generated frames: contours, fixed areas.

mod stages_support;

use std::{fs, sync::Arc};

use framerail::{
    core::{Attribute, AttributeValue, BBox, Detection, DetectionOrigin, InstanceMask, Point},
    pipeline::{FrameItem, Item},
};
use stages_support::{Ran, end, frame, interleaved, run, seen, stream, try_run};

/// A face with the result of a second model.
fn face(bbox: BBox, value: Option<AttributeValue>) -> Detection {
    let mut face = Detection { bbox, landmarks: Vec::new(), ..stages_support::face(0.9, None, DetectionOrigin::Detected) };
    face.attributes = value.map(|value| Attribute { model: Arc::from("second"), value }).into_iter().collect();
    face
}

/// The left half of a box.
fn left_half(bbox: BBox) -> Option<AttributeValue> {
    InstanceMask::new(bbox, 2, 1, vec![255, 0]).map(|mask| AttributeValue::Mask(Arc::new(mask))).ok()
}

const BOX: BBox = BBox { x1: 20.0, y1: 12.0, x2: 40.0, y2: 36.0 };

fn clip(frames: Vec<FrameItem>) -> Vec<Item> {
    let start = [Item::StreamStart(stream(0, "clip"))];
    start.into_iter().chain(frames.into_iter().map(Item::from)).chain([end(0)]).collect()
}

/// Luma of the frame with this number.
fn luma(ran: &Ran, index: u64) -> impl Fn(usize, usize) -> u8 + '_ {
    let frames = ran.items.iter().filter_map(|item| if let Item::Frame(item) = item { Some(&item.frame) } else { None });
    let frame = frames.into_iter().find(|frame| frame.index == index).expect("a frame of this number");
    let surface = frame.surface.host().expect("on the host");
    move |x, y| surface.row(0, y)[x]
}

/// White in the code values of video.
const WHITE: u8 = 235;

#[test]
fn only_what_the_mask_holds_is_hidden() {
    let faces = vec![face(BOX, left_half(BOX))];
    let ran = run("blur kind=solid color=white shape=contour feather=0 mask_scale=1 ! collect", clip(vec![seen(0, 0, faces)]));
    let at = luma(&ran, 0);
    assert_eq!([at(20, 12), at(29, 24), at(25, 35)], [WHITE; 3]);
    assert_eq!([at(30, 24), at(19, 24), at(25, 11), at(25, 36), at(39, 20)], [40; 5], "as it was");
    assert_eq!([ran.counter("faces_hidden"), ran.counter("contours_missing"), ran.counter("contours_too_small")], [1, 0, 0]);
    assert!(ran.outcome.stats.stages.iter().all(|stage| stage.notices.is_empty()));
}

#[test]
fn a_contour_grows_by_a_tenth_and_is_soft_by_default() {
    let faces = || vec![seen(0, 0, vec![face(BOX, left_half(BOX))])];
    let ran = run("blur kind=solid color=white shape=contour ! collect", clip(faces()));
    let reported = run("blur kind=solid color=white shape=contour mask_scale=1.1 feather=0.05 ! collect", clip(faces()));
    // A tenth of the mean of 10 and 24 is 1.7, and half a pixel more is touched.
    let at = luma(&ran, 0);
    assert_eq!((at(31, 24), at(18, 24)), (WHITE, WHITE));
    assert!(at(32, 24) > 40 && at(32, 24) < WHITE && at(36, 24) == 40, "{} {}", at(32, 24), at(36, 24));
    for (x, y) in (0..48).flat_map(|y| (0..64).map(move |x| (x, y))) {
        assert_eq!(at(x, y), luma(&reported, 0)(x, y), "{x},{y}");
    }
}

#[test]
fn a_face_without_a_contour_is_hidden_by_the_ellipse_counted_and_reported_once() {
    let bare = |index| seen(0, index, vec![face(BOX, None)]);
    let contour = run("blur kind=solid color=white shape=contour ! collect", clip(vec![bare(0), bare(1), bare(2)]));
    let ellipse = run("blur kind=solid color=white ! collect", clip(vec![bare(0)]));
    for (x, y) in (0..48).flat_map(|y| (0..64).map(move |x| (x, y))) {
        assert_eq!(luma(&contour, 0)(x, y), luma(&ellipse, 0)(x, y), "{x},{y}");
    }
    assert_eq!((contour.counter("contours_missing"), contour.counter("faces_hidden")), (3, 3));
    let notices: Vec<&String> = contour.outcome.stats.stages.iter().flat_map(|stage| &stage.notices).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("no contour") && notices[0].contains("ellipse"), "{notices:?}");

    // Five points are features of a face, not its outline.
    let five = [(26.0, 20.0), (34.0, 20.0), (30.0, 25.0), (27.0, 30.0), (33.0, 30.0)].map(|(x, y)| Point { x, y });
    let few = || clip(vec![seen(0, 0, vec![face(BOX, Some(AttributeValue::Landmarks(five.into())))])]);
    let ran = run("blur kind=solid shape=contour ! collect", few());
    assert_eq!((ran.counter("contours_missing"), ran.counter("contours_too_small")), (0, 1));
    let ran = run("blur kind=solid shape=contour contour_share=0.1 ! collect", few());
    assert_eq!((ran.counter("contours_missing"), ran.counter("contours_too_small")), (0, 0));
}

#[test]
fn frames_between_two_sightings_are_hidden_by_the_mask_that_goes_along() {
    let moved = |by: f32| BBox { x1: BOX.x1 + by, x2: BOX.x2 + by, ..BOX };
    let sighting = |index, by: f32| seen(0, index, vec![face(moved(by), left_half(moved(by)))]);
    let empty = |index| seen(0, index, Vec::new());
    let frames = vec![sighting(0, 0.0), empty(1), empty(2), empty(3), sighting(4, 8.0), empty(5)];
    let ran = run("hold frames=4 ! blur kind=solid color=white shape=contour feather=0 mask_scale=1 ! collect", clip(frames));
    for (index, left) in [(0, 20), (1, 22), (2, 24), (3, 26), (4, 28)] {
        let (at, grey) = (luma(&ran, index), 40 + index as u8);
        let row: Vec<u8> = (left - 1..left + 11).map(|x| at(x, 24)).collect();
        assert_eq!((row[0], &row[1..11], row[11]), (grey, &[WHITE; 10][..], grey), "frame {index}");
    }
    // Held: the box covers where the face was and may be, and the mask fills its left half.
    let at = luma(&ran, 5);
    assert_eq!([at(28, 24), at(36, 24)], [WHITE; 2]);
    assert_eq!((ran.counter("faces_hidden"), ran.counter("contours_missing")), (6, 0));
}

#[test]
fn every_kind_keeps_to_the_contour() {
    for kind in ["gaussian", "box", "mosaic cell=6", "solid color=white"] {
        let mut item = seen(0, 0, vec![face(BOX, left_half(BOX))]);
        let mut planes = item.frame.surface.host_mut().expect("on the host").planes_mut().expect("its only holder");
        let stripes = |x: usize, y: usize| if (x + y).is_multiple_of(2) { 60 } else { 200 };
        (0..48).for_each(|y| planes.row(0, y).iter_mut().take(64).enumerate().for_each(|(x, value)| *value = stripes(x, y)));
        let ran = run(&format!("blur kind={kind} shape=contour feather=0 mask_scale=1 ! collect"), clip(vec![item]));
        let at = luma(&ran, 0);
        for (x, y) in (0..48).flat_map(|y| (0..64).map(move |x| (x, y))) {
            let is_inside = (20..30).contains(&x) && (12..36).contains(&y);
            assert_eq!(at(x, y) != stripes(x, y), is_inside, "{kind} at {x},{y}: {}", at(x, y));
        }
    }
}

#[test]
fn masks_are_drawn_by_default() {
    let items = || clip(vec![seen(0, 0, vec![face(BOX, left_half(BOX))])]);
    let options = "boxes=no labels=no scores=no color=white line_width=1";
    let ran = run(&format!("draw {options} ! collect"), items());
    let at = luma(&ran, 0);
    assert_eq!((at(20, 24), at(40, 24)), (WHITE, 40), "the outline");
    assert!(at(25, 24) > 60 && at(25, 24) < 150, "tinted: {}", at(25, 24));
    let ran = run(&format!("draw {options} masks=no ! collect"), items());
    assert_eq!((luma(&ran, 0)(20, 24), luma(&ran, 0)(25, 24)), (40, 40));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let problem = stages_support::try_run("blur contour_share=0.1 ! collect", clip(Vec::new()), Some(1)).err().expect("refused");
    assert!(problem.contains("shape=contour"), "{problem}");
}

#[test]
fn the_example_model_gives_a_contour_of_each_face_of_a_real_clip() {
    let clip = framerail_testkit::real_clip("carphone_pristine.mp4");
    let card = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/skin.toml");
    let text = format!(
        "read '{}' duration=1s ! infer centerface ! hold ! crop margin=0.1 ! infer '{}' ! blur shape=contour ! null",
        clip.display(),
        card.display()
    );
    let stats = framerail::run(&text).expect("a whole run").stats;
    let counters = ["frames_changed", "faces_hidden", "contours_missing", "contours_too_small"].map(|name| stats.counter(name));
    assert_eq!(counters, [30, 30, 0, 0]);
}

#[test]
fn a_contour_on_a_gpu_is_that_of_the_host() {
    if !framerail::cuda::device_count().is_ok_and(|count| count > 0) {
        eprintln!("GPU TESTS DID NOT RUN: there is no card");
        assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, and there is no GPU");
        return;
    }
    let blur = "blur kind=solid color=white shape=contour";
    let items = || clip(vec![seen(0, 0, vec![face(BOX, left_half(BOX)), face(BOX, None)])]);
    let (host, card) = (run(&format!("{blur} ! collect"), items()), run(&format!("upload ! {blur} ! download ! collect"), items()));
    for (x, y) in (0..48).flat_map(|y| (0..64).map(move |x| (x, y))) {
        assert!(luma(&host, 0)(x, y).abs_diff(luma(&card, 0)(x, y)) <= 1, "{x},{y}");
    }
    assert_eq!((card.counter("faces_hidden"), card.counter("contours_missing")), (2, 1));
    let blur = card.outcome.stats.stages.iter().find(|stage| stage.name == "blur").expect("the stage");
    // A byte for each pixel of the region.
    assert!(blur.copies.iter().any(|copy| copy.count == 1 && copy.bytes > 240 && copy.bytes < 3072), "{:?}", blur.copies);
}

/// Columns of white in a row of a frame.
fn white_columns(ran: &Ran, index: u64, y: usize) -> Vec<usize> {
    let at = luma(ran, index);
    (0..64).filter(|x| at(*x, y) == WHITE).collect()
}

#[test]
fn areas_are_hidden_in_every_frame_to_the_pixel_and_need_no_model() {
    let frames = || clip(vec![frame(0, 0), frame(0, 1)]);
    let ran = run("blur kind=solid color=white also='stamp:4,2,10,6;50%,50%,25%,25%' ! collect", frames());
    for index in [0, 1] {
        assert_eq!(white_columns(&ran, index, 1), [0; 0]);
        assert_eq!(white_columns(&ran, index, 2), (4..14).collect::<Vec<_>>());
        assert_eq!(white_columns(&ran, index, 7), (4..14).collect::<Vec<_>>());
        assert_eq!(white_columns(&ran, index, 24), (32..48).collect::<Vec<_>>());
    }
    assert_eq!([ran.counter("areas_hidden"), ran.counter("frames_changed"), ran.counter("faces_hidden")], [4, 2, 0]);
    for kind in ["gaussian", "box", "mosaic"] {
        assert_eq!(run(&format!("blur kind={kind} also=0,0,64,48 ! collect"), frames()).counter("areas_hidden"), 2, "{kind}");
    }
    // A polygon covers what it touches.
    let ran = run("blur kind=solid color=white also=0,0,40,0,0,40 ! collect", frames());
    assert_eq!(white_columns(&ran, 0, 10), (0..30).collect::<Vec<_>>());
}

#[test]
fn areas_choose_among_detections_by_their_middle() {
    let at = |x: f32| face(BBox { x1: x, y1: 12.0, x2: x + 8.0, y2: 20.0 }, None);
    let frames = || clip(vec![seen(0, 0, vec![at(4.0), at(24.0), at(50.0)])]);
    let hidden = |options: &str| {
        let ran = run(&format!("blur kind=solid color=white shape=rectangle mask_scale=1 feather=0 {options} ! collect"), frames());
        (white_columns(&ran, 0, 15), ran.counter("detections_left_visible"))
    };
    let columns = |ranges: &[std::ops::Range<usize>]| ranges.iter().flat_map(Clone::clone).collect::<Vec<_>>();
    assert_eq!(hidden("only_inside=0,0,30,48"), (columns(&[4..12, 24..32]), 1));
    assert_eq!(hidden("except=20,0,20,48"), (columns(&[4..12, 50..58]), 1));
    assert_eq!(hidden("only_inside=0,0,30,48 except=20,0,20,48"), ((4..12).collect(), 2));
    // Everything except an area: faces whose centre lies in it stay visible.
    assert_eq!(hidden("also=0,0,64,48 except=20,0,20,48"), (columns(&[0..20, 40..64]), 1));
}

#[test]
fn areas_of_a_file_are_for_streams_and_for_a_time() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("areas.toml");
    let zone = |name: &str, rest: &str| format!("[[zone]]\nname='{name}'\npoints=[[0,0],[8,0],[8,48],[0,48]]\nunits='pixels'\n{rest}\n");
    fs::write(&path, zone("a", "streams=['a', 'gone']\nstart=0.08\nend='120ms'") + &zone("b", "streams=['b']")).expect("written");
    let start = |id, name| Item::StreamStart(stream(id, name));
    let items = |id, name| [start(id, name)].into_iter().chain((0..4).map(move |index| frame(id, index).into())).chain([end(id)]).collect();
    let text = format!("blur kind=solid color=white also='{}' workers=2 ! collect", path.display());
    let ran = run(&text, interleaved(items(0, "a"), items(1, "b")));
    let white: Vec<(u32, u64)> = ran
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(item) if item.frame.surface.host().expect("on the host").row(0, 5)[0] == WHITE => {
                Some((item.frame.stream.0, item.frame.index))
            }
            _ => None,
        })
        .collect();
    let mut white = white;
    white.sort_unstable();
    assert_eq!(white, [(0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]);
    let notices: Vec<&String> = ran.outcome.stats.stages.iter().flat_map(|stage| &stage.notices).collect();
    assert_eq!(notices, ["the area `a` is for stream `gone`, which did not come"]);
    // The same time range in the pipeline's text; times count from the start of what is read.
    let mut late = (*stream(0, "a")).clone();
    late.start_offset_micros = -80_000;
    let items = [Item::StreamStart(Arc::new(late))].into_iter().chain((2..5).map(|index| frame(0, index).into())).chain([end(0)]).collect();
    let ran = run("blur kind=solid color=white also=0,0,8,48@40ms-80ms ! collect", items);
    assert_eq!([2, 3, 4].map(|index| white_columns(&ran, index, 5).len()), [0, 8, 0]);
}

#[test]
fn areas_that_cannot_be_meant_are_refused_before_the_start() {
    let refused = |text: &str| match try_run(&format!("{text} ! collect"), clip(vec![frame(0, 0)]), Some(1)) {
        Ok(ran) => panic!("{text} ran: {}", ran.error()),
        Err(problem) => problem,
    };
    assert!(refused("blur also=1,2,3").contains("x1,y1,x2,y2"));
    assert!(refused("blur also=0,0,9,9,9,0,0,9").contains("crosses itself"));
    assert!(refused("blur except=nowhere.toml").contains("nowhere.toml"));
    assert!(refused("blur only_inside=0,0,9,9@5-3").contains("ends before it starts"));
}
