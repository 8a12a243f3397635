//! Frames through the model, with batches in flight on a card.

use std::collections::{HashMap, VecDeque};

use framerail_core::{Device, Frame, StreamId};
use framerail_cuda::Traffic;
use framerail_infer::{Detector, InferError};
use framerail_pipeline::{Counter, Emitter, ErrorKind, Flow, FrameItem, Item, Stage, StageContext, StageError};

use crate::{convert::model_error, devices::account};

struct Counters {
    context: StageContext,
    analysed: Counter,
    detections: Counter,
    failed: Counter,
    non_finite: Counter,
    over_limit: Counter,
    card: Option<CardCounters>,
}

/// Counted when the model runs on a card.
struct CardCounters {
    runs: Counter,
    padded: Counter,
    uploaded: Counter,
    partly_on_cpu: Counter,
    decoded_on_host: Counter,
    weights_clamped: Counter,
}

/// Items of one call, with the places of the frames of each submission among them.
struct UnderWay {
    items: Vec<Item>,
    submitted: VecDeque<Vec<usize>>,
}

pub(super) struct Infer {
    model: String,
    detector: Detector,
    every: u64,
    /// Frames of each stream so far; only kept when frames are skipped.
    seen: HashMap<StreamId, u64>,
    under_way: VecDeque<UnderWay>,
    /// Calls whose results may wait while the next is put to work.
    calls_under_way: usize,
    /// What was decided while linking and the user should know.
    notices: Vec<String>,
    counters: Option<Counters>,
}

impl Infer {
    pub(super) fn new(model: &str, detector: Detector, every: u64, notices: Vec<String>) -> Self {
        let calls_under_way = usize::from(detector.device() != Device::Cpu);
        let (seen, under_way) = (HashMap::new(), VecDeque::new());
        Self { model: model.to_owned(), detector, every, seen, under_way, calls_under_way, notices, counters: None }
    }
}

impl Stage for Infer {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.notices.drain(..).for_each(|notice| context.notice(notice));
        let card = (self.detector.device() != Device::Cpu).then(|| CardCounters {
            runs: context.counter("runs"),
            padded: context.counter("places_empty"),
            uploaded: context.counter("frames_uploaded"),
            partly_on_cpu: context.counter("sessions_partly_on_cpu"),
            decoded_on_host: context.counter("sessions_decoded_on_host"),
            weights_clamped: context.counter("weights_clamped"),
        });
        self.counters = Some(Counters {
            context: context.clone(),
            analysed: context.counter("frames_analysed"),
            detections: context.counter("detections"),
            failed: context.counter("frames_not_analysed"),
            non_finite: context.counter("boxes_not_finite"),
            over_limit: context.counter("boxes_over_limit"),
            card,
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let mut chosen = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match item {
                Item::Frame(item) if self.is_due(item.frame.stream) => chosen.push(place),
                Item::StreamEnd(end) => {
                    self.seen.remove(&end.id);
                }
                _ => {}
            }
        }
        let mut call = UnderWay { items, submitted: VecDeque::new() };
        self.submit(&mut call, chosen)?;
        self.under_way.push_back(call);
        while self.under_way.len() > self.calls_under_way {
            self.idle(out)?;
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(mut call) = self.under_way.pop_front() else { return Ok(Flow::More) };
        while let Some(places) = call.submitted.pop_front() {
            self.collect(&mut call.items, &places)?;
        }
        self.count();
        call.items.into_iter().try_for_each(|item| out.push(item))?;
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while self.has_work_under_way() {
            self.idle(out)?;
        }
        Ok(())
    }
}

impl Infer {
    fn is_due(&mut self, stream: StreamId) -> bool {
        if self.every == 1 {
            return true;
        }
        let seen = self.seen.entry(stream).or_insert(0);
        *seen += 1;
        (*seen - 1).is_multiple_of(self.every)
    }

    /// Puts frames to work.
    fn submit(&mut self, call: &mut UnderWay, chosen: Vec<usize>) -> Result<(), StageError> {
        let frames: Vec<&Frame> = chosen.iter().filter_map(|place| frame_of(call.items.get(*place)?)).collect();
        if frames.is_empty() {
            return Ok(());
        }
        match self.detector.submit(&frames) {
            Ok(()) => call.submitted.push_back(chosen),
            Err(error) if error.is_recoverable() => return self.leave_out(call, chosen, &error),
            Err(error) => return Err(model_error(error)),
        }
        Ok(())
    }

    /// A frame that cannot be made into a model input passes as not analysed; in a batch, the others are tried alone.
    fn leave_out(&mut self, call: &mut UnderWay, chosen: Vec<usize>, error: &InferError) -> Result<(), StageError> {
        if chosen.len() > 1 {
            return chosen.into_iter().try_for_each(|place| self.submit(call, vec![place]));
        }
        if let Some(counters) = &self.counters {
            counters.failed.add(1);
            if counters.failed.value() == 1 {
                counters.context.notice(format_args!("{} did not look at a frame: {error}", self.model));
            }
        }
        Ok(())
    }

    /// Attaches what was found in the frames of the oldest submission; waits for it.
    fn collect(&mut self, items: &mut [Item], places: &[usize]) -> Result<(), StageError> {
        let missing = || StageError::new(ErrorKind::Internal, format!("{} gave no results for frames that it was given", self.model));
        let found = self.detector.collect().map_err(model_error)?.filter(|found| found.len() == places.len()).ok_or_else(missing)?;
        if let Some(counters) = &self.counters {
            counters.analysed.add(found.len() as u64);
            counters.detections.add(found.iter().map(|detections| detections.len() as u64).sum());
        }
        for (place, detections) in places.iter().zip(found) {
            if let Some(Item::Frame(item)) = items.get_mut(*place) {
                item.detections = detections;
                item.analysed = true;
            }
        }
        Ok(())
    }

    fn count(&self) {
        let Some(counters) = &self.counters else { return };
        let stats = self.detector.stats();
        counters.non_finite.set(stats.non_finite);
        counters.over_limit.set(stats.over_limit + stats.over_max_detections);
        if let Some(card) = &counters.card {
            account(&counters.context, Traffic::take());
            counters.context.memory(self.detector.device(), self.detector.device_bytes() as u64);
            card.runs.set(stats.runs);
            card.padded.set(stats.padded);
            card.uploaded.set(stats.uploaded);
            card.partly_on_cpu.set(stats.sessions_partly_on_cpu);
            card.decoded_on_host.set(stats.sessions_decoded_on_host);
            card.weights_clamped.set(stats.weights_clamped);
        }
    }
}

fn frame_of(item: &Item) -> Option<&Frame> {
    match item {
        Item::Frame(item) => Some(&item.frame),
        _ => None,
    }
}
