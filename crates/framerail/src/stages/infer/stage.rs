//! Frames, or parts of them, through the model, with batches in flight on a card.

use std::collections::{HashMap, VecDeque};

use framerail_core::{Device, Frame, StreamId};
use framerail_infer::{InferError, Predictor, Task, View};
use framerail_pipeline::{Emitter, ErrorKind, Flow, FrameItem, Item, Setting, SettingSpec, Stage, StageContext, StageError};

use super::{
    super::settings::written,
    answers::{Answer, Answers},
    counters::Counters,
    kept::KeptAttributes,
};
use crate::{convert::model_error, parts::FrameParts};

/// A frame, by its place among the items, or a part of it.
#[derive(Clone, Copy, Debug)]
struct Look {
    place: usize,
    part: Option<usize>,
}

/// Items of one call, with what of them was put to work.
struct UnderWay {
    items: Vec<Item>,
    submitted: VecDeque<Vec<Look>>,
}

/// What may be changed while it runs.
struct Settings {
    confidence: Setting,
    iou: Option<Setting>,
}

pub(super) struct Infer {
    model: String,
    predictor: Predictor,
    answers: Answers,
    kept: KeptAttributes,
    looks_at_parts: bool,
    every: u64,
    /// Frames of each stream so far; only kept when frames are skipped.
    seen: HashMap<StreamId, u64>,
    under_way: VecDeque<UnderWay>,
    /// Calls whose results may wait while the next is put to work.
    calls_under_way: usize,
    /// What was decided while linking and the user should know.
    notices: Vec<String>,
    counters: Option<Counters>,
    settings: Option<Settings>,
}

impl Infer {
    pub(super) fn new(model: &str, predictor: Predictor, answers: Answers, kept: KeptAttributes, every: u64) -> Self {
        Self {
            model: model.to_owned(),
            calls_under_way: usize::from(predictor.device() != Device::Cpu),
            predictor,
            answers,
            kept,
            looks_at_parts: false,
            every,
            seen: HashMap::new(),
            under_way: VecDeque::new(),
            notices: Vec::new(),
            counters: None,
            settings: None,
        }
    }

    /// The same for frames whose parts are looked at.
    pub(super) fn with_parts(self, looks_at_parts: bool) -> Self {
        Self { looks_at_parts, ..self }
    }

    /// The same with something to tell the user.
    pub(super) fn with_notices(self, notices: Vec<String>) -> Self {
        Self { notices, ..self }
    }
}

impl Stage for Infer {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.notices.drain(..).for_each(|notice| context.notice(notice));
        self.counters = Some(Counters::new(context, self.predictor.device(), self.looks_at_parts));
        let (thresholds, task) = (self.predictor.thresholds(), self.predictor.task());
        let setting = |name: &str, help: &str, value: f32| {
            let spec = SettingSpec::new(name, 0.0..=1.0).help(help);
            context.setting(spec, written(value))
        };
        let iou = |()| setting("iou", "NMS IoU threshold", thresholds.iou);
        if !matches!(task, Task::Segmentation | Task::Embedding) {
            let confidence = setting("confidence", "minimum score of a detection or other result", thresholds.confidence);
            self.settings = Some(Settings { confidence, iou: (task == Task::Detection).then_some(()).map(iou) });
        }
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.take_settings()?;
        let mut due = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match item {
                Item::Frame(item) if self.is_due(item.frame.stream) => due.push(place),
                Item::StreamEnd(end) => {
                    self.seen.remove(&end.id);
                }
                _ => {}
            }
        }
        let looks = due.iter().flat_map(|place| looks_of(&items, *place)).collect();
        let mut call = UnderWay { items, submitted: VecDeque::new() };
        self.submit(&mut call, looks)?;
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
        let mut answers: HashMap<usize, Vec<Answer>> = HashMap::new();
        while let Some(looks) = call.submitted.pop_front() {
            self.collect(&looks, &mut answers)?;
        }
        for (place, item) in call.items.iter_mut().enumerate() {
            match item {
                Item::Frame(item) => self.put(item, answers.remove(&place).unwrap_or_default()),
                Item::StreamEnd(end) => self.kept.forget(end.id),
                _ => {}
            }
        }
        if let Some(counters) = &self.counters {
            counters.model(&self.predictor);
        }
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

    fn take_settings(&mut self) -> Result<(), StageError> {
        let Some(settings) = &mut self.settings else { return Ok(()) };
        if let Some(confidence) = settings.confidence.take_change() {
            self.predictor.set_confidence(confidence as f32).map_err(model_error)?;
        }
        if let Some(iou) = settings.iou.as_mut().and_then(Setting::take_change) {
            self.predictor.set_iou(iou as f32).map_err(model_error)?;
        }
        Ok(())
    }

    /// Puts frames or parts to work.
    fn submit(&mut self, call: &mut UnderWay, looks: Vec<Look>) -> Result<(), StageError> {
        if looks.is_empty() {
            return Ok(());
        }
        let views: Option<Vec<View<'_>>> = looks.iter().map(|look| view_of(&call.items, look)).collect();
        let views = views.ok_or_else(|| StageError::new(ErrorKind::Internal, "a frame for the model is missing"))?;
        match self.predictor.submit(&views) {
            Ok(()) => call.submitted.push_back(looks),
            Err(error) if error.is_recoverable() => return self.leave_out(call, looks, &error),
            Err(error) => return Err(model_error(error)),
        }
        Ok(())
    }

    /// What cannot be made into a model input passes as not analysed; in a batch, the others are tried alone.
    fn leave_out(&mut self, call: &mut UnderWay, looks: Vec<Look>, error: &InferError) -> Result<(), StageError> {
        if looks.len() > 1 {
            return looks.into_iter().try_for_each(|look| self.submit(call, vec![look]));
        }
        let is_part = looks.iter().any(|look| look.part.is_some());
        if let Some(counters) = self.counters.as_ref().filter(|counters| counters.failed(is_part)) {
            let what = if is_part { "a part of a frame" } else { "a frame" };
            counters.context.notice(format_args!("{} did not run on {what}: {error}", self.model));
        }
        Ok(())
    }

    /// Takes what was said in the oldest submission; waits for it.
    fn collect(&mut self, looks: &[Look], answers: &mut HashMap<usize, Vec<Answer>>) -> Result<(), StageError> {
        let missing = || StageError::new(ErrorKind::Internal, format!("{} returned no results for some frames", self.model));
        let said = self.predictor.collect().map_err(model_error)?.filter(|said| said.len() == looks.len()).ok_or_else(missing)?;
        for (look, prediction) in looks.iter().zip(said) {
            answers.entry(look.place).or_default().push((look.part, prediction));
        }
        Ok(())
    }

    /// Puts on a frame what was said of it.
    fn put(&mut self, item: &mut FrameItem, answers: Vec<Answer>) {
        let parts = answers.iter().filter(|(part, _)| part.is_some()).count();
        let was_looked_at = !answers.is_empty();
        item.analysed |= was_looked_at && self.answers.marks_analysed;
        let put = self.answers.put(item, answers, &mut self.kept);
        if let Some(counters) = &self.counters {
            counters.analysed.add(u64::from(was_looked_at));
            counters.put(parts, put);
        }
    }
}

/// A frame's parts, or the whole frame.
fn looks_of(items: &[Item], place: usize) -> Vec<Look> {
    match items.get(place) {
        Some(Item::Frame(item)) => match item.attachments.get::<FrameParts>() {
            Some(parts) => (0..parts.parts.len()).map(|part| Look { place, part: Some(part) }).collect(),
            None => vec![Look { place, part: None }],
        },
        _ => Vec::new(),
    }
}

fn view_of<'a>(items: &'a [Item], look: &Look) -> Option<View<'a>> {
    let Some(Item::Frame(item)) = items.get(look.place) else { return None };
    let frame: &Frame = &item.frame;
    match look.part {
        None => Some(View::whole(frame)),
        Some(part) => item.attachments.get::<FrameParts>()?.parts.get(part).map(|part| View::part(frame, part.area)),
    }
}
