//! Counters of an `infer` stage.

use framerail_cuda::Traffic;
use framerail_infer::{DetectorStats, Precision, Predictor};
use framerail_pipeline::{Counter, StageContext};

use super::answers::Put;
use crate::devices::account;

pub(super) struct Counters {
    pub(super) context: StageContext,
    pub(super) analysed: Counter,
    pub(super) failed: Counter,
    detections: Counter,
    attributes: Counter,
    non_finite: Counter,
    without_area: Counter,
    scores_above_one: Counter,
    over_limit: Counter,
    parts: Option<PartCounters>,
    /// Views that went through a model in an arithmetic other than float32.
    lower_precision: Option<Counter>,
    /// Views that a float32 model decided instead of a quantised one.
    rechecked: Option<Counter>,
    card: Option<GpuCounters>,
}

/// Used if the model runs on parts.
struct PartCounters {
    analysed: Counter,
    failed: Counter,
    kept: Counter,
    merged: Counter,
    outside: Counter,
}

/// Used if the model runs on a GPU.
struct GpuCounters {
    runs: Counter,
    padded: Counter,
    uploaded: Counter,
    partly_on_cpu: Counter,
    decoded_on_host: Counter,
    weights_clamped: Counter,
}

impl Counters {
    pub(super) fn new(context: &StageContext, is_on_gpu: bool, has_parts: bool) -> Self {
        let card = || GpuCounters {
            runs: context.counter("runs"),
            padded: context.counter("places_empty"),
            uploaded: context.counter("frames_uploaded"),
            partly_on_cpu: context.counter("sessions_partly_on_cpu"),
            decoded_on_host: context.counter("sessions_decoded_on_host"),
            weights_clamped: context.counter("weights_clamped"),
        };
        let parts = || PartCounters {
            analysed: context.counter("parts_analysed"),
            failed: context.counter("parts_not_analysed"),
            kept: context.counter("attributes_kept"),
            merged: context.counter("detections_merged"),
            outside: context.counter("detections_outside"),
        };
        Self {
            context: context.clone(),
            analysed: context.counter("frames_analysed"),
            detections: context.counter("detections"),
            attributes: context.counter("attributes"),
            failed: context.counter("frames_not_analysed"),
            non_finite: context.counter("boxes_not_finite"),
            without_area: context.counter("boxes_without_area"),
            scores_above_one: context.counter("scores_above_one"),
            over_limit: context.counter("boxes_over_limit"),
            parts: has_parts.then(parts),
            lower_precision: None,
            rechecked: None,
            card: is_on_gpu.then(card),
        }
    }

    /// Counts a view on which the model failed; returns whether it is the first.
    pub(super) fn failed(&self, is_part: bool) -> bool {
        let counter = self.parts.as_ref().filter(|_| is_part).map_or(&self.failed, |parts| &parts.failed);
        counter.add(1);
        counter.value() == 1
    }

    /// Counts an analysed frame, its parts, and the attached results.
    pub(super) fn put(&self, parts: usize, put: Put) {
        self.detections.add(put.detections);
        self.attributes.add(put.attributes);
        if let Some(counters) = &self.parts {
            counters.analysed.add(parts as u64);
            counters.kept.add(put.kept);
            counters.merged.add(put.merged);
            counters.outside.add(put.outside);
        }
    }

    /// Adds the model's own counts, over all its devices.
    pub(super) fn models<'a>(&mut self, predictors: impl Iterator<Item = &'a Predictor>) {
        let (mut stats, mut name, mut precision, mut rechecks) = (DetectorStats::default(), "", None, false);
        if self.card.is_some() {
            account(&self.context, Traffic::take());
        }
        for predictor in predictors {
            stats = stats.plus(&predictor.stats());
            name = &predictor.card().name;
            precision = Some(predictor.precision());
            rechecks = predictor.rechecks();
            if self.card.is_some() {
                self.context.memory(predictor.device(), predictor.device_bytes() as u64);
            }
        }
        if let Some(precision) = precision.filter(|precision| !matches!(precision, Precision::Auto | Precision::Fp32)) {
            let context = &self.context;
            self.lower_precision.get_or_insert_with(|| context.counter(&format!("analysed_in_{precision}"))).set(stats.frames);
            if rechecks {
                self.rechecked.get_or_insert_with(|| context.counter("rechecked_in_fp32")).set(stats.rechecked);
            }
        }
        self.non_finite.set(stats.non_finite);
        let (turned, above) = (stats.without_area, stats.scores_above_one);
        if turned > 0 && self.without_area.value() == 0 {
            self.context.notice(format_args!(
                "{name} returns boxes with x2 <= x1 or y2 <= y1, which are dropped: check the order of the corners in its model card"
            ));
        }
        if above > 0 && self.scores_above_one.value() == 0 {
            self.context.notice(format_args!("{name} returns scores above 1: check the activation of the scores in its model card"));
        }
        self.without_area.set(turned);
        self.scores_above_one.set(above);
        self.over_limit.set(stats.over_limit + stats.over_max_detections);
        if let Some(card) = &self.card {
            card.runs.set(stats.runs);
            card.padded.set(stats.padded);
            card.uploaded.set(stats.uploaded);
            card.partly_on_cpu.set(stats.sessions_partly_on_cpu);
            card.decoded_on_host.set(stats.sessions_decoded_on_host);
            card.weights_clamped.set(stats.weights_clamped);
        }
    }
}
