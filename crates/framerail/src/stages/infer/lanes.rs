//! One model on several devices: each frame goes to the device that holds it, and results are returned in frame order.

use std::collections::VecDeque;

use framerail_core::{Device, StreamId};
use framerail_infer::{InferError, Prediction, Predictor, View};

/// Batches in flight on each of several devices. Frames arrive in pieces, one device after the other, so each device must accept a
/// piece without waiting.
pub(super) const SLOTS_OF_SEVERAL: usize = 16;

/// A model input: an item by its number, or a part of its frame.
pub(super) type Viewed = (u64, Option<usize>);

/// The inputs of a submission and their results.
type Said = (Vec<Viewed>, Vec<Prediction>);

/// The next step before an item can continue.
pub(super) enum Due {
    /// Submit the waiting inputs of this lane.
    Submit(usize),
    /// Collect the oldest submission of this lane.
    Collect(usize),
}

struct Lane {
    predictor: Predictor,
    /// Waits for its batch to fill.
    waiting: Vec<Viewed>,
    submitted: VecDeque<Vec<Viewed>>,
}

/// The devices of one model, in a fixed order.
pub(super) struct Lanes(Vec<Lane>);

impl Lanes {
    pub(super) fn new(predictors: Vec<Predictor>) -> Self {
        let lane = |predictor| Lane { predictor, waiting: Vec::new(), submitted: VecDeque::new() };
        Self(predictors.into_iter().map(lane).collect())
    }

    pub(super) fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    pub(super) fn first(&self) -> Option<&Predictor> {
        self.0.first().map(|lane| &lane.predictor)
    }

    pub(super) fn predictors(&self) -> impl Iterator<Item = &Predictor> {
        self.0.iter().map(|lane| &lane.predictor)
    }

    pub(super) fn is_on_gpu(&self) -> bool {
        self.first().is_some_and(|predictor| predictor.device() != Device::Cpu)
    }

    /// Number of calls whose results may wait while the next one is submitted.
    pub(super) fn calls_under_way(&self) -> usize {
        match self.0.len() {
            0 | 1 => usize::from(self.is_on_gpu()),
            lanes => lanes * SLOTS_OF_SEVERAL,
        }
    }

    /// Forgets the last frame of a stream that ended.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.0.iter_mut().for_each(|lane| lane.predictor.forget(stream));
    }

    pub(super) fn each(&mut self, mut change: impl FnMut(&mut Predictor) -> Result<(), InferError>) -> Result<(), InferError> {
        self.0.iter_mut().try_for_each(|lane| change(&mut lane.predictor))
    }

    /// Adds a view to the lane of its device, or the first lane for frames on the host; returns the lane if its batch is full.
    pub(super) fn wait_on(&mut self, device: Device, viewed: Viewed) -> Option<usize> {
        let lane = self.0.iter().position(|lane| lane.predictor.device() == device).unwrap_or(0);
        let found = self.0.get_mut(lane)?;
        found.waiting.push(viewed);
        (found.waiting.len() >= found.predictor.batch()).then_some(lane)
    }

    pub(super) fn take_waiting(&mut self, lane: usize) -> Vec<Viewed> {
        self.0.get_mut(lane).map(|lane| std::mem::take(&mut lane.waiting)).unwrap_or_default()
    }

    /// Submits views to a lane.
    ///
    /// # Errors
    /// As [`Predictor::submit`].
    pub(super) fn submit(&mut self, lane: usize, viewed: &[Viewed], views: &[View<'_>]) -> Result<(), InferError> {
        let Some(lane) = self.0.get_mut(lane) else { return Ok(()) };
        lane.predictor.submit(views)?;
        lane.submitted.push_back(viewed.to_vec());
        Ok(())
    }

    /// The next step for items before this number.
    pub(super) fn due(&self, end: u64) -> Option<Due> {
        let is_before = |viewed: Option<&Viewed>| viewed.is_some_and(|(number, _)| *number < end);
        self.0.iter().enumerate().find_map(|(place, lane)| {
            if is_before(lane.submitted.front().and_then(|viewed| viewed.first())) {
                Some(Due::Collect(place))
            } else if is_before(lane.waiting.first()) {
                Some(Due::Submit(place))
            } else {
                None
            }
        })
    }

    /// The oldest submission of a lane with its results; `None` if results are missing.
    ///
    /// # Errors
    /// As [`Predictor::collect`].
    pub(super) fn collect(&mut self, lane: usize) -> Result<Option<Said>, InferError> {
        let Some(lane) = self.0.get_mut(lane) else { return Ok(None) };
        let (Some(viewed), Some(predictions)) = (lane.submitted.pop_front(), lane.predictor.collect()?) else { return Ok(None) };
        Ok((viewed.len() == predictions.len()).then_some((viewed, predictions)))
    }
}
