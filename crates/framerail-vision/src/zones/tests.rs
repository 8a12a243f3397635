//! Paths whose true crossings and stays are known.

use std::sync::Arc;

use framerail_core::{BBox, Detection, Label, random::SplitMix64};
use proptest::prelude::*;

use super::*;
use crate::VisionError;

/// Height of the boxes, in pixels.
const HEIGHT: f32 = 100.0;

/// A person who stands at a point.
fn standing(track_id: Option<u64>, x: f64, y: f64) -> Detection {
    let (x, y) = (x as f32, y as f32);
    let bbox = BBox::from_xyxy(x - 20.0, y - HEIGHT, x + 20.0, y);
    Detection { track_id, ..Detection::new(bbox, 0.9, Label { id: 0, name: Arc::from("person") }) }
}

fn shape(name: &str) -> ShapeSpec {
    ShapeSpec { name: name.into(), units: Units::Pixels, margin: 0.1, ..Default::default() }
}

fn point(x: f32, y: f32) -> Point {
    Point { x, y }
}

/// From (200, 300) to (600, 300): `In` is downwards.
fn line_map() -> ZoneMap {
    let line = LineSpec { shape: shape("door"), from: point(200.0, 300.0), to: point(600.0, 300.0) };
    ZoneMap { lines: vec![line], ..Default::default() }
}

/// A square from (200, 200) to (400, 400).
fn zone_map() -> ZoneMap {
    let points = vec![point(200.0, 200.0), point(400.0, 200.0), point(400.0, 400.0), point(200.0, 400.0)];
    ZoneMap { zones: vec![ZoneSpec { shape: shape("gate"), points }], ..Default::default() }
}

fn watcher(map: &ZoneMap) -> ZoneWatcher {
    map.watcher("cam", 800, 600).expect("a good map")
}

/// A path through points, in steps of at most `step` pixels, with each position off by up to `jitter` pixels.
fn walk(points: &[(f64, f64)], step: f64, jitter: f64, seed: u64) -> Vec<(f64, f64)> {
    let mut random = SplitMix64::new(seed);
    let mut places = Vec::new();
    for pair in points.windows(2) {
        let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
        let steps = ((x2 - x1).hypot(y2 - y1) / step).ceil().max(1.0);
        for index in 0..=steps as u32 {
            let part = f64::from(index) / steps;
            places.push((x1 + (x2 - x1) * part + random.between(-jitter, jitter), y1 + (y2 - y1) * part + random.between(-jitter, jitter)));
        }
    }
    places
}

fn crossings(events: &[ZoneEvent]) -> Vec<Direction> {
    let direction = |event: &ZoneEvent| if let ZoneEvent::Crossed { direction, .. } = event { Some(*direction) } else { None };
    events.iter().filter_map(direction).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Above, below, above and so on, across the line or around its ends, with jitter below the margin of 10 pixels.
    #[test]
    fn every_crossing_is_seen_once_and_nothing_else_is(
        legs in proptest::collection::vec((0u8..3, 15.0f64..90.0), 2..12), starts_above in any::<bool>(), step in 2.0f64..60.0,
        jitter in 0.0f64..4.5, seed in any::<u64>(),
    ) {
        let mut above = starts_above;
        let mut points = Vec::new();
        let mut expected = Vec::new();
        for (index, (way, depth)) in legs.iter().enumerate() {
            // Straight down or up at one position: over the middle of the line, or past one of its ends.
            let x = [400.0, 120.0, 680.0][usize::from(*way)];
            let y = |above: bool| if above { 300.0 - depth } else { 300.0 + depth };
            points.push((x, y(above)));
            if index > 0 {
                above = !above;
                points.push((x, y(above)));
                if *way == 0 {
                    expected.push(if above { Direction::Out } else { Direction::In });
                }
            }
        }
        let mut watcher = watcher(&line_map());
        let mut seen = Vec::new();
        for (index, (x, y)) in walk(&points, step, jitter, seed).into_iter().enumerate() {
            seen.extend(watcher.watch(&[standing(Some(7), x, y)], index as f64 / 25.0).events);
        }
        prop_assert_eq!(crossings(&seen), expected);
    }

    /// Loitering on the line is not a crossing.
    #[test]
    fn jitter_on_the_line_is_no_crossing(jitter in 0.0f64..9.9, seed in any::<u64>(), first in 20.0f64..80.0) {
        let mut watcher = watcher(&line_map());
        let mut places = vec![(400.0, 300.0 - first)];
        places.extend(walk(&[(400.0, 300.0), (400.0, 300.0)], 1.0, jitter, seed));
        for _ in 0..60 {
            places.extend(walk(&[(400.0, 300.0), (400.0, 300.0)], 1.0, jitter, seed ^ places.len() as u64));
        }
        let mut seen = Vec::new();
        for (index, (x, y)) in places.into_iter().enumerate() {
            seen.extend(watcher.watch(&[standing(Some(7), x, y)], index as f64 / 25.0).events);
        }
        prop_assert!(seen.is_empty(), "{:?}", seen);
    }

    /// In and out of the square `visits` times, with jitter below the margin: each stay is counted, with its true length.
    #[test]
    fn stays_are_counted_and_timed(visits in 1usize..6, jitter in 0.0f64..4.5, seed in any::<u64>(), step in 2.0f64..20.0) {
        let mut watcher = watcher(&zone_map());
        let (outside, inside) = ((300.0, 500.0), (300.0, 300.0));
        let mut points = vec![outside];
        (0..visits).for_each(|_| points.extend([inside, outside]));
        let places = walk(&points, step, jitter, seed);
        let (mut entered, mut left, mut dwelt, mut true_secs) = (0, 0, 0.0, 0.0);
        for (index, &(x, y)) in places.iter().enumerate() {
            let frame = watcher.watch(&[standing(Some(7), x, y)], index as f64 / 25.0);
            for event in &frame.events {
                match event {
                    ZoneEvent::Entered { track_id: 7, .. } => entered += 1,
                    ZoneEvent::Left { dwell_secs, vanished: false, .. } => {
                        left += 1;
                        dwelt += dwell_secs;
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            true_secs += f64::from(u8::from(y <= 400.0)) / 25.0;
            prop_assert_eq!(frame.zones[0].count, frame.zones[0].inside.len());
            prop_assert_eq!(frame.zones_of(7).count(), frame.zones[0].count);
        }
        prop_assert_eq!((entered, left), (visits, visits));
        // The margin, plus a step and the jitter at each edge.
        let doubt = visits as f64 * ((10.0 + 4.0 * jitter) / step + 4.0) / 25.0;
        prop_assert!((dwelt - true_secs).abs() <= doubt, "{} for {}", dwelt, true_secs);
    }

    /// Two people who walk at once do not disturb each other, and neither does a third without an identity.
    #[test]
    fn tracks_are_followed_apart(seed in any::<u64>()) {
        let mut watcher = watcher(&line_map());
        let down = walk(&[(300.0, 220.0), (300.0, 380.0)], 7.0, 3.0, seed);
        let up = walk(&[(500.0, 380.0), (500.0, 220.0)], 7.0, 3.0, !seed);
        let mut seen = Vec::new();
        for (index, (&(ax, ay), &(bx, by))) in down.iter().zip(&up).enumerate() {
            let detections = [standing(Some(1), ax, ay), standing(None, 400.0, ay), standing(Some(2), bx, by)];
            seen.extend(watcher.watch(&detections, index as f64 / 25.0).events);
        }
        seen.sort_by_key(|event| if let ZoneEvent::Crossed { track_id, .. } = event { *track_id } else { 0 });
        prop_assert_eq!(crossings(&seen), vec![Direction::In, Direction::Out]);
    }
}

#[test]
fn who_vanishes_has_left_when_last_seen() {
    let mut watcher = watcher(&zone_map());
    for index in 0..=50 {
        watcher.watch(&[standing(Some(3), 300.0, 300.0)], f64::from(index) / 25.0);
    }
    let mut events = Vec::new();
    for index in 51..200 {
        let frame = watcher.watch(&[], f64::from(index) / 25.0);
        assert_eq!((frame.zones[0].count, frame.zones[0].inside.len()), (0, 0));
        events.extend(frame.events);
    }
    let [ZoneEvent::Left { track_id: 3, dwell_secs, vanished: true, .. }] = events[..] else { panic!("{events:?}") };
    assert!((dwell_secs - 2.0).abs() < 1e-9);
}

#[test]
fn a_short_loss_does_not_end_a_stay_and_a_clock_that_jumps_back_does_no_harm() {
    let mut watcher = watcher(&zone_map());
    watcher.watch(&[standing(Some(3), 300.0, 300.0)], 100.0);
    watcher.watch(&[], 101.0);
    let frame = watcher.watch(&[standing(Some(3), 300.0, 300.0)], 102.0);
    assert_eq!((frame.events.len(), frame.zones[0].inside[0].dwell_secs), (0, 2.0));
    let frame = watcher.watch(&[standing(Some(3), 300.0, 300.0)], 5.0);
    assert_eq!((frame.events.len(), frame.zones[0].inside[0].dwell_secs), (0, 2.0));
}

#[test]
fn anchors_say_which_point_counts() {
    // The feet are below the square; the centre and the upper corners are inside.
    let detection = standing(None, 300.0, 430.0);
    let count = |anchor| {
        let mut map = zone_map();
        map.zones[0].shape.anchor = Some(anchor);
        watcher(&map).watch(std::slice::from_ref(&detection), 0.0).zones[0].count
    };
    assert_eq!([Anchor::Bottom, Anchor::Center, Anchor::Corners].map(count), [0, 1, 1]);
    let crossed_at = |anchor| {
        let mut map = line_map();
        map.lines[0].shape.anchor = Some(anchor);
        let mut watcher = watcher(&map);
        let crossed = |y: &i32| !watcher.watch(&[standing(Some(1), 400.0, f64::from(*y))], f64::from(*y)).events.is_empty();
        (200..500).find(crossed).expect("crossed")
    };
    assert_eq!([Anchor::Bottom, Anchor::Center, Anchor::Corners].map(crossed_at), [311, 361, 411], "10 pixels of margin beyond the line");
}

#[test]
fn classes_and_streams_choose() {
    let mut map = zone_map();
    map.zones[0].shape.classes = vec!["car".into()];
    map.zones.push(ZoneSpec { shape: ShapeSpec { streams: vec!["other".into()], ..shape("elsewhere") }, ..map.zones[0].clone() });
    let frame = watcher(&map).watch(&[standing(Some(1), 300.0, 300.0)], 0.0);
    assert_eq!((frame.zones.len(), frame.zones[0].count, frame.events.len()), (1, 0, 0));
    assert_eq!(map.watcher("other", 800, 600).expect("a good map").watch(&[], 0.0).zones.len(), 2);
}

#[test]
fn what_cannot_work_is_reported_in_a_line() {
    let reported = |map: &ZoneMap| match map.watcher("cam", 800, 600) {
        Err(VisionError::Zone(reported)) => reported,
        other => panic!("{other:?}"),
    };
    let zone = |points: &[(f32, f32)], units| {
        let points = points.iter().map(|(x, y)| point(*x, *y)).collect();
        ZoneMap { zones: vec![ZoneSpec { shape: ShapeSpec { units, ..shape("gate") }, points }], ..Default::default() }
    };
    let pixels = Units::Pixels;
    assert!(reported(&ZoneMap::default()).contains("there is no zone or line"));
    assert!(reported(&zone(&[(0.0, 0.0), (9.0, 9.0)], pixels)).contains("zone `gate` has 2 points"));
    let bow = reported(&zone(&[(0.0, 0.0), (9.0, 9.0), (9.0, 0.0), (0.0, 9.0)], pixels));
    assert!(bow.contains("zone `gate` crosses itself: its side from point 1 meets that from point 3"), "{bow}");
    assert!(reported(&zone(&[(0.0, 0.0), (4.0, 4.0), (9.0, 9.0)], pixels)).contains("gate"));
    let outside = reported(&zone(&[(0.0, 0.0), (900.0, 9.0), (9.0, 0.0)], pixels));
    assert!(outside.contains("point 2 at [900, 9], outside of the frame of 800x600"), "{outside}");
    assert!(reported(&zone(&[(0.0, 0.0), (1.0, 0.0), (0.5, 1.5)], Units::Normalized)).contains("go from 0 to 1"));
    assert!(reported(&zone(&[(0.0, 0.0), (f32::NAN, 0.0), (0.5, 1.0)], pixels)).contains("point 2"));
    let mut twice = zone_map();
    twice.lines = line_map().lines;
    twice.lines[0].shape.name = "gate".into();
    assert!(reported(&twice).contains("the name `gate` is used twice"));
    let mut short = line_map();
    short.lines[0].to = short.lines[0].from;
    assert!(reported(&short).contains("line `door` starts where it ends"));
    for problem in [reported(&twice), bow, outside] {
        assert_eq!(problem.lines().count(), 1);
    }
}

#[test]
fn zones_and_lines_are_drawn_where_they_are() {
    use crate::Sketch;
    use framerail_core::{ColorDescription, PixelFormat};

    let mut map = zone_map();
    map.lines = line_map().lines;
    map.lines[0].to = point(600.0, 500.0);
    let frame = watcher(&map).watch(&[], 0.0);
    let mut sketch = Sketch::new((800, 600), PixelFormat::Rgb24, &ColorDescription::default());
    sketch.zones(&frame, Some(2));
    let covered: usize = sketch.strokes().iter().map(|stroke| stroke.region.pixels()).sum();
    assert!(sketch.strokes().len() > 10 && covered < 60_000, "slanted lines come in pieces: {covered} pixels");
    let touches = |x: u32, y: u32| {
        sketch.strokes().iter().any(|stroke| {
            let region = stroke.region;
            (region.x..region.x + region.width).contains(&x) && (region.y..region.y + region.height).contains(&y)
        })
    };
    assert!(touches(300, 400) && touches(400, 300) && touches(400, 400) && !touches(300, 270));
}
