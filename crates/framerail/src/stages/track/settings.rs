//! Thresholds of `track` that can be changed during the run.

use framerail_vision::{ByteTrackOptions, OcSortOptions, TrackAlgorithm};

use super::super::settings::{Number, Place};

pub(super) const PLACES: [Place<TrackAlgorithm>; 7] = [
    place("track_thresh", "score above which detections are matched first", |algorithm| byte_track(algorithm, |it| &mut it.track_thresh)),
    place("low_thresh", "score above which detections are matched second", |algorithm| byte_track(algorithm, |it| &mut it.low_thresh)),
    place("new_thresh", "score at which a new track begins", |algorithm| byte_track(algorithm, |it| &mut it.new_thresh)),
    place("match_thresh", "maximum cost of a first match", |algorithm| byte_track(algorithm, |it| &mut it.match_thresh)),
    place("det_thresh", "minimum score of tracked detections", |algorithm| oc_sort(algorithm, |it| &mut it.det_thresh)),
    place("low_thresh", "score above which detections are matched second", |algorithm| match algorithm {
        TrackAlgorithm::OcSort(options) if options.use_byte => Some(Number::Real(&mut options.low_thresh)),
        _ => None,
    }),
    place("iou_threshold", "minimum IoU of a match", |algorithm| oc_sort(algorithm, |it| &mut it.iou_threshold)),
];

const fn place(name: &'static str, help: &'static str, find: fn(&mut TrackAlgorithm) -> Option<Number<'_>>) -> Place<TrackAlgorithm> {
    Place { name, range: 0.0..=1.0, unit: "", help, find }
}

fn byte_track(algorithm: &mut TrackAlgorithm, find: fn(&mut ByteTrackOptions) -> &mut f32) -> Option<Number<'_>> {
    match algorithm {
        TrackAlgorithm::ByteTrack(options) => Some(Number::Real(find(options))),
        TrackAlgorithm::OcSort(_) => None,
    }
}

fn oc_sort(algorithm: &mut TrackAlgorithm, find: fn(&mut OcSortOptions) -> &mut f32) -> Option<Number<'_>> {
    match algorithm {
        TrackAlgorithm::OcSort(options) => Some(Number::Real(find(options))),
        TrackAlgorithm::ByteTrack(_) => None,
    }
}
