//! The stage fed by hand.

use std::sync::Arc;

use framerail_core::{
    Attribute, AttributeValue, BBox, Detection, DetectionOrigin, Frame, FramePool, Label, PixelFormat, Pts, Rational, TimeBase,
};
use framerail_pipeline::StreamEnd;

use super::*;

/// Ticks per second.
const TICKS: i64 = 1000;

fn frame(stream: u32, index: u64, pts: i64, brightness: u8) -> Frame {
    let mut surface = FramePool::new(1).surface(PixelFormat::Gray8, 64, 48).expect("size in range");
    surface.planes_mut().expect("fresh memory").plane(0).fill(brightness);
    Frame { stream: StreamId(stream), index, pts: Pts(pts), time_base: TimeBase::new(1, TICKS).expect("positive"), ..Frame::of(surface) }
}

fn person(x: f32) -> Detection {
    Detection::new(BBox::from_cxcywh(x, 100.0, 40.0, 80.0), 0.9, Label { id: 0, name: Arc::from("person") })
}

fn plan() -> TrackPlan {
    TrackPlan {
        options: TrackerOptions::default(),
        appearance: None,
        shared: None,
        follows_camera: false,
        fill: true,
        cut: NEVER,
        has_gaps: true,
    }
}

fn detections(item: &Item) -> &[Detection] {
    let Item::Frame(item) = item else { panic!("a frame") };
    &item.detections
}

/// A stage whose streams have 25 frames/s.
fn stage(plan: TrackPlan, streams: u32) -> Track {
    let mut stage = Track::new(plan);
    for id in 0..streams {
        stage.streams.insert(StreamId(id), Track::stream(&plan, FrameClock::new(Rational::new(25, 1))));
    }
    stage
}

fn give(stage: &mut Track, frame: Frame, found: Option<Vec<Detection>>) -> Item {
    let mut out = Vec::new();
    let item = FrameItem { analysed: found.is_some(), detections: found.unwrap_or_default(), ..FrameItem::new(frame) };
    stage.frame(item, &mut out).expect("tracked");
    out.remove(0)
}

#[test]
fn frames_between_looks_of_the_model_are_filled_or_left_alone() {
    for fill in [true, false] {
        let mut stage = stage(TrackPlan { fill, ..plan() }, 1);
        for index in 0..60u16 {
            let x = 50.0 + 5.0 * f32::from(index);
            let found = (index % 3 == 0).then(|| vec![person(x)]);
            let item = give(&mut stage, frame(0, index.into(), i64::from(index) * 40, 0), found);
            match detections(&item) {
                [] => assert!(!fill && index % 3 != 0, "frame {index}"),
                [one] => {
                    let expected = if index % 3 == 0 { DetectionOrigin::Detected } else { DetectionOrigin::Held };
                    assert_eq!((one.track_id, one.origin), (Some(1), expected), "frame {index}");
                    assert!(index < 12 || one.bbox.iou(&person(x).bbox) > 0.8, "frame {index}");
                }
                more => panic!("frame {index}: {more:?}"),
            }
        }
    }
}

#[test]
fn times_count_where_frames_are_missing() {
    let mut stage = stage(plan(), 1);
    let mut index = 0;
    for step in 0..40u16 {
        // The rate is uneven from the twentieth frame on, which frame numbers do not show.
        let frames = if step < 20 { 1 } else { [1, 6, 3, 5][usize::from(step) % 4] };
        index += frames;
        let item = give(&mut stage, frame(0, step.into(), index * 40, 0), Some(vec![person(50.0 + 13.0 * index as f32)]));
        assert_eq!(detections(&item)[0].track_id, Some(1), "step {step}");
    }
}

#[test]
fn each_stream_counts_for_itself_and_ends_with_its_end() {
    let mut stage = stage(plan(), 2);
    for index in 0..10 {
        for stream in 0..2u32 {
            let item = give(&mut stage, frame(stream, index, index as i64 * 40, 0), Some(vec![person(100.0 + 300.0 * stream as f32)]));
            assert_eq!(detections(&item)[0].track_id, Some(1));
        }
    }
    let mut out = Vec::new();
    stage.control(Item::StreamEnd(StreamEnd { id: StreamId(0), ended_early: None }), &mut out).expect("ended");
    assert_eq!((stage.ended.tracks_ended, stage.streams.len()), (1, 1));
    stage.finish(&mut out).expect("ended");
    assert_eq!((stage.ended.tracks_begun, stage.ended.tracks_ended, stage.ended.detections_tracked), (2, 2, 20));
}

#[test]
fn a_person_seen_by_two_cameras_has_one_identity() {
    let of = |x: f32, embedding: [f32; 2]| {
        let mut found = person(x);
        let value = AttributeValue::Embedding(embedding.into());
        found.attributes = vec![Attribute { model: Arc::from("reid"), value }];
        found
    };
    let options = TrackerOptions { appearance: true, ..TrackerOptions::default() };
    let mut stage = stage(TrackPlan { options, shared: Some(SharedOptions::default()), ..plan() }, 2);
    let (anna, ben) = ([1.0, 0.1], [0.1, 1.0]);
    for index in 0..20u16 {
        let pts = i64::from(index) * 40;
        let near = 100.0 + 5.0 * f32::from(index);
        let first = give(&mut stage, frame(0, index.into(), pts, 0), Some(vec![of(near, anna), of(500.0, ben)]));
        assert_eq!(detections(&first).iter().map(|one| one.track_id).collect::<Vec<_>>(), [Some(1), Some(2)], "frame {index}");
        let second = give(&mut stage, frame(1, index.into(), pts, 0), Some(vec![of(300.0, ben)]));
        assert_eq!(detections(&second)[0].track_id, Some(2), "frame {index}");
    }
    let mut out = Vec::new();
    stage.control(Item::StreamEnd(StreamEnd { id: StreamId(0), ended_early: None }), &mut out).expect("ended");
    let third = give(&mut stage, frame(7, 0, 0, 0), Some(vec![of(50.0, anna)]));
    assert_eq!(detections(&third)[0].track_id, Some(1), "a camera that is added later");
    assert_eq!(stage.shared.as_ref().map(SharedIdentities::recognised), Some(2));
}

#[test]
fn tracks_end_at_a_cut_if_cuts_are_detected() {
    for (cut, last) in [(0.5, 2), (NEVER, 1)] {
        let mut stage = stage(TrackPlan { cut, ..plan() }, 1);
        let mut ids = Vec::new();
        for index in 0..20 {
            let image = frame(0, index, index as i64 * 40, if index < 10 { 30 } else { 200 });
            ids.push(detections(&give(&mut stage, image, Some(vec![person(100.0)])))[0].track_id);
        }
        assert_eq!((ids[9], ids[10], ids[19], stage.cuts), (Some(1), Some(last), Some(last), u64::from(cut < NEVER)));
    }
}

#[test]
fn clocks_take_times_where_they_make_sense() {
    let elapsed = |rate: Option<Rational>, from: (u64, i64), to: (u64, i64)| {
        let mut clock = FrameClock::new(rate);
        assert_eq!(clock.frames_since_last(&frame(0, from.0, from.1, 0)), 1.0);
        clock.frames_since_last(&frame(0, to.0, to.1, 0))
    };
    let rate = Rational::new(30, 1);
    assert_eq!(elapsed(rate, (0, 0), (1, 33)), 1.0, "rounded to milliseconds");
    assert_eq!(elapsed(rate, (0, 0), (3, 100)), 3.0);
    assert!((elapsed(rate, (0, 0), (1, 50)) - 1.5).abs() < 1e-9);
    assert_eq!(elapsed(rate, (0, 100), (2, 100)), 2.0, "a clock that stands still");
    assert_eq!(elapsed(rate, (5, 5000), (6, 10)), 1.0, "a clock that jumps back");
    assert_eq!(elapsed(None, (0, 0), (4, 1000)), 4.0, "no rate");
    assert_eq!(elapsed(Rational::new(90_000, 1), (0, 0), (1, 40)), 1.0, "a rate that is none");
}
