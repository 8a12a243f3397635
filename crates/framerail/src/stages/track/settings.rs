//! Thresholds of `track` that may be changed while it runs.

use framerail_pipeline::{Setting, SettingSpec, StageContext};
use framerail_vision::TrackAlgorithm;

/// A number of an algorithm by its name.
type Place = (&'static str, fn(&mut TrackAlgorithm) -> Option<&mut f32>, &'static str);

const PLACES: [Place; 5] = [
    (
        "track_thresh",
        |algorithm| byte_track(algorithm).map(|options| &mut options.track_thresh),
        "score above which detections are matched first",
    ),
    ("new_thresh", |algorithm| byte_track(algorithm).map(|options| &mut options.new_thresh), "score at which a new track begins"),
    ("match_thresh", |algorithm| byte_track(algorithm).map(|options| &mut options.match_thresh), "greatest cost of a first match"),
    ("det_thresh", |algorithm| oc_sort(algorithm).map(|options| &mut options.det_thresh), "score above which detections are followed"),
    ("iou_threshold", |algorithm| oc_sort(algorithm).map(|options| &mut options.iou_threshold), "least overlap of a match"),
];

fn byte_track(algorithm: &mut TrackAlgorithm) -> Option<&mut framerail_vision::ByteTrackOptions> {
    match algorithm {
        TrackAlgorithm::ByteTrack(options) => Some(options),
        TrackAlgorithm::OcSort(_) => None,
    }
}

fn oc_sort(algorithm: &mut TrackAlgorithm) -> Option<&mut framerail_vision::OcSortOptions> {
    match algorithm {
        TrackAlgorithm::OcSort(options) => Some(options),
        TrackAlgorithm::ByteTrack(_) => None,
    }
}

/// Those of the algorithm at work.
pub(super) struct TrackSettings(Vec<(Place, Setting)>);

impl TrackSettings {
    pub(super) fn new(context: &StageContext, algorithm: &TrackAlgorithm) -> Self {
        let mut algorithm = *algorithm;
        let setting = |place: Place| {
            let (name, find, help) = place;
            let value = f64::from(*find(&mut algorithm)?);
            // As it was written, not as the nearest number of half the bits shows.
            let value = (value * 1e6).round() / 1e6;
            Some((place, context.setting(SettingSpec::new(name, 0.0..=1.0).help(help), value)))
        };
        Self(PLACES.into_iter().filter_map(setting).collect())
    }

    /// Puts changed values in their places; says whether there are any.
    pub(super) fn take_changes(&mut self, algorithm: &mut TrackAlgorithm) -> bool {
        let mut is_changed = false;
        for ((_, find, _), setting) in &mut self.0 {
            if let (Some(value), Some(place)) = (setting.take_change(), find(algorithm)) {
                *place = value as f32;
                is_changed = true;
            }
        }
        is_changed
    }
}
