//! A quantised model beside the float32 model that it was made from: frames with a score close to the threshold are decided by the latter.

use crate::{InferError, Prediction, Predictor, View, card::Thresholds};

/// The float32 model, and where it decides.
pub(crate) struct Recheck {
    /// Largest distance of a doubtful score from the threshold.
    margin: f32,
    float: Predictor,
}

/// What became of a batch.
pub(crate) struct Decided {
    pub(crate) predictions: Vec<Prediction>,
    /// Views on which the float32 model ran.
    pub(crate) rechecked: usize,
    /// Detections of the quantised model that are not part of the result, and those that the float32 model put in their place.
    pub(crate) removed: usize,
    pub(crate) added: usize,
}

impl Recheck {
    pub(crate) fn new(margin: f32, float: Predictor) -> Self {
        Self { margin, float }
    }

    pub(crate) fn fork(&self) -> Self {
        Self { margin: self.margin, float: self.float.fork() }
    }

    pub(crate) fn share(&self) -> Self {
        Self { margin: self.margin, float: self.float.share() }
    }

    /// Thresholds for the quantised model: low enough to return what it may have scored too low.
    pub(crate) fn lowered(&self, thresholds: Thresholds) -> Thresholds {
        Thresholds { confidence: (thresholds.confidence - self.margin).max(0.0), ..thresholds }
    }

    /// The result for views, from what the quantised model found with lowered thresholds. Suppression goes from high scores to low ones,
    /// so what is above the threshold does not depend on what is below.
    pub(crate) fn decide(&mut self, views: &[View<'_>], found: Vec<Prediction>, thresholds: Thresholds) -> Result<Decided, InferError> {
        let mut decided = Decided { predictions: Vec::with_capacity(found.len()), rechecked: 0, removed: 0, added: 0 };
        for (view, mut prediction) in views.iter().zip(found) {
            if let Prediction::Detections(detections) = &mut prediction {
                let before = detections.len();
                if detections.iter().any(|found| (found.score - thresholds.confidence).abs() <= self.margin) {
                    decided.rechecked += 1;
                    decided.removed += before;
                    self.float.set_thresholds(thresholds);
                    for prediction in self.float.predict(std::slice::from_ref(view))? {
                        decided.added += if let Prediction::Detections(detections) = &prediction { detections.len() } else { 0 };
                        decided.predictions.push(prediction);
                    }
                    continue;
                }
                detections.retain(|found| found.score > thresholds.exclusive_confidence());
                decided.removed += before - detections.len();
            }
            decided.predictions.push(prediction);
        }
        Ok(decided)
    }
}
