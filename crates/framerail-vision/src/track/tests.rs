//! The tracker on detections: frames that are not analysed, gaps, cuts.

use std::sync::Arc;

use framerail_core::{BBox, Label, Point};

use super::*;

fn at(x: f32, y: f32) -> Detection {
    let mut found = Detection::new(BBox::from_cxcywh(x, y, 40.0, 80.0), 0.9, Label { id: 0, name: Arc::from("person") });
    found.landmarks = vec![Point { x, y: y - 20.0 }];
    found
}

fn both() -> [TrackerOptions; 2] {
    let algorithms = [
        TrackAlgorithm::ByteTrack(ByteTrackOptions::default()),
        TrackAlgorithm::OcSort(OcSortOptions { min_hits: 1, ..Default::default() }),
    ];
    algorithms.map(|algorithm| TrackerOptions { algorithm, ..Default::default() })
}

fn ids(detections: &[Detection]) -> Vec<Option<u64>> {
    detections.iter().map(|detection| detection.track_id).collect()
}

#[test]
fn frames_that_no_model_processed_have_predicted_boxes() {
    for options in both() {
        let mut tracker = Tracker::new(options);
        for frame in 0..90u16 {
            let x = 50.0 + 4.0 * f32::from(frame);
            let mut detections = vec![at(x, 100.0)];
            if frame % 3 == 0 {
                tracker.track(&mut detections, 1.0);
                assert!(frame < 10 || ids(&detections) == [Some(1)], "frame {frame} of {options:?}");
            } else if frame > 15 {
                let predicted = tracker.predict(1.0);
                assert_eq!((ids(&predicted), predicted[0].origin), (vec![Some(1)], DetectionOrigin::Held), "frame {frame}");
                assert!(predicted[0].bbox.iou(&detections[0].bbox) > 0.85, "{:?} at {x}", predicted[0].bbox);
                let (point, bbox) = (predicted[0].landmarks[0], predicted[0].bbox);
                assert!((point.x - bbox.center().x).abs() < 1e-3 && ((point.y - bbox.y1) / bbox.height() - 0.25).abs() < 1e-3);
            } else {
                tracker.predict(1.0);
            }
        }
        let stats = tracker.stats();
        assert_eq!((stats.tracks_begun, stats.tracks_ended), (1, 0));
        assert!(stats.boxes_predicted > 45 && stats.detections_tracked > 25, "{stats:?}");
    }
}

#[test]
fn a_longer_interval_moves_the_prediction_farther() {
    for options in both() {
        let mut tracker = Tracker::new(options);
        let mut time = 0.0f32;
        for step in 0..40u16 {
            // From frame 20 on, intervals vary; the box moves by up to its own width, twice.
            let frames = if step < 20 { 1.0 } else { [1.0, 7.0, 2.5, 5.0][usize::from(step) % 4] };
            time += frames;
            let mut detections = vec![at(100.0 + 12.0 * time, 100.0)];
            tracker.track(&mut detections, f64::from(frames));
            assert!(step < 3 || ids(&detections) == [Some(1)], "step {step} of {options:?}");
        }
    }
}

#[test]
fn classes_are_separate_by_default() {
    for options in both() {
        for across_classes in [false, true] {
            let mut tracker = Tracker::new(TrackerOptions { across_classes, ..options });
            let mut last = Vec::new();
            for frame in 0..12u16 {
                let mut found = at(100.0, 100.0);
                found.label.id = u32::from(frame >= 6);
                last = vec![found];
                tracker.track(&mut last, 1.0);
            }
            assert_eq!(ids(&last), [Some(if across_classes { 1 } else { 2 })]);
        }
    }
}

#[test]
fn identities_end_at_a_cut_and_their_numbers_are_not_given_again() {
    for options in both() {
        let mut tracker = Tracker::new(options);
        let look = |tracker: &mut Tracker| {
            let mut found = vec![at(100.0, 100.0), at(300.0, 100.0)];
            (0..3).for_each(|_| {
                found.truncate(2);
                tracker.track(&mut found, 1.0);
            });
            ids(&found)
        };
        assert_eq!(look(&mut tracker), [Some(1), Some(2)]);
        tracker.forget();
        assert_eq!(tracker.stats().tracks_ended, 2);
        assert!(tracker.predict(1.0).is_empty());
        assert_eq!(look(&mut tracker), [Some(3), Some(4)]);
        assert_eq!((tracker.stats().tracks_begun, tracker.stats().tracks_ended), (4, 2));
    }
}

#[test]
fn a_track_continues_unseen_for_the_configured_time_and_is_found_again() {
    for options in both() {
        let mut tracker = Tracker::new(TrackerOptions { coast_frames: 4, ..options });
        let mut counts = Vec::new();
        for frame in 0..30u16 {
            let mut detections = Vec::new();
            if !(10..20).contains(&frame) {
                detections.push(at(50.0 + 3.0 * f32::from(frame), 100.0));
            }
            tracker.track(&mut detections, 1.0);
            counts.push(detections.len());
            assert!(detections.iter().all(|found| found.track_id.is_none_or(|id| id == 1)), "frame {frame}");
        }
        assert_eq!(counts[10..20], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], "{options:?}");
        assert_eq!((tracker.stats().tracks_begun, tracker.stats().boxes_predicted), (1, 4));
    }
}

#[test]
fn a_long_absence_ends_a_track() {
    for options in both() {
        let mut tracker = Tracker::new(options);
        let mut look = |frames: f64, seen: bool| {
            let mut found = if seen { vec![at(100.0, 100.0)] } else { Vec::new() };
            tracker.track(&mut found, frames);
            tracker.stats()
        };
        (0..5).for_each(|_| {
            look(1.0, true);
        });
        assert_eq!(look(25.0, false).tracks_ended, 0);
        assert_eq!(look(10.0, false).tracks_ended, 1, "{options:?}");
    }
}

#[test]
fn broken_and_doubtful_detections_pass_without_identity() {
    for options in both() {
        let mut tracker = Tracker::new(options);
        for _ in 0..5 {
            let (mut broken, mut empty, mut doubtful) = (at(10.0, 10.0), at(200.0, 10.0), at(400.0, 300.0));
            broken.bbox.x1 = f32::NAN;
            empty.bbox.x2 = empty.bbox.x1;
            doubtful.score = 0.2;
            let mut detections = vec![broken, empty, doubtful, at(600.0, 300.0)];
            detections[0].track_id = Some(77);
            tracker.track(&mut detections, f64::NAN);
            assert_eq!(ids(&detections), [None, None, None, Some(1)]);
        }
        assert_eq!((tracker.stats().detections_tracked, tracker.stats().detections_untracked), (5, 15));
    }
}

#[test]
fn filtered_boxes_are_steadier() {
    for options in both() {
        let roughness = |filtered_boxes: bool| {
            let mut tracker = Tracker::new(TrackerOptions { filtered_boxes, ..options });
            let (mut before, mut sum) = (None, 0.0);
            for frame in 0..60u16 {
                let jitter = if frame % 2 == 0 { 3.0 } else { -3.0 };
                let mut detections = vec![at(200.0 + jitter, 100.0)];
                tracker.track(&mut detections, 1.0);
                let x = detections[0].bbox.center().x;
                sum += before.map_or(0.0, |before: f32| (x - before).abs());
                before = Some(x);
            }
            sum
        };
        assert!(roughness(true) < 0.8 * roughness(false), "{options:?}");
    }
}

#[test]
fn masks_and_landmarks_of_further_models_go_along_with_predicted_boxes() {
    use framerail_core::{Attribute, AttributeValue, InstanceMask};
    let mut tracker = Tracker::new(TrackerOptions::default());
    let mut last = Vec::new();
    for frame in 0..6 {
        let mut found = at(100.0 + 5.0 * frame as f32, 100.0);
        let mask = InstanceMask::new(found.bbox, 1, 2, vec![0, 255]).expect("a mask");
        let values = [AttributeValue::Mask(Arc::new(mask)), AttributeValue::Landmarks(vec![found.bbox.center()])];
        found.attributes = values.map(|value| Attribute { model: Arc::from("second"), value }).into();
        last = vec![found];
        tracker.track(&mut last, 1.0);
    }
    for _ in 0..3 {
        let predicted = tracker.predict(1.0);
        let [Attribute { value: AttributeValue::Mask(mask), .. }, Attribute { value: AttributeValue::Landmarks(points), .. }] =
            &predicted[0].attributes[..]
        else {
            panic!("{predicted:?}")
        };
        let bbox = predicted[0].bbox;
        assert!(bbox.x1 > last[0].bbox.x1 + 2.0, "moved on");
        assert!(mask.bbox().iou(&bbox) > 0.999 && mask.coverage() == [0, 255], "{:?} for {bbox:?}", mask.bbox());
        assert!((points[0].x - bbox.center().x).abs() < 0.01, "{points:?} in {bbox:?}");
    }
}
