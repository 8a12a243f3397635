//! Runs frames, or parts of them, through the model, with batches in flight on a GPU.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use framerail_core::{Device, Frame, StreamId};
use framerail_infer::{InferError, Prediction, Predictor, Task, View};
use framerail_pipeline::{Emitter, ErrorKind, Flow, FrameItem, Item, Replace, Setting, SettingSpec, Stage, StageContext, StageError};

use super::{
    super::settings::written,
    answers::{Answer, Answers},
    counters::Counters,
    kept::KeptAttributes,
    lanes::{Due, Lanes, Viewed},
    same_boxes::SameBoxes,
    swap::Followed,
};
use crate::{convert::model_error, parts::FrameParts};

/// Items of one call, until all of their results have arrived.
struct UnderWay {
    /// Number of the first item; the others follow.
    first: u64,
    items: Vec<Item>,
}

impl UnderWay {
    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }
}

/// Settings that can be changed during the run.
struct Settings {
    confidence: Setting,
    iou: Option<Setting>,
}

pub(super) struct Infer {
    model: String,
    lanes: Lanes,
    answers: Answers,
    kept: KeptAttributes,
    same_boxes: SameBoxes,
    looks_at_parts: bool,
    every: u64,
    /// Number of frames of each stream so far; only used when frames are skipped.
    seen: HashMap<StreamId, u64>,
    under_way: VecDeque<UnderWay>,
    /// Number of calls whose results may wait while the next one is submitted.
    calls_under_way: usize,
    /// Number of the next item.
    next: u64,
    /// Results of items that are not due yet.
    ready: HashMap<u64, Vec<Answer>>,
    /// Notices from linking.
    notices: Vec<String>,
    counters: Option<Counters>,
    settings: Option<Settings>,
    /// Source of a replacement model.
    followed: Option<Followed>,
}

impl Infer {
    /// `predictors` are the same model on several devices, one each.
    pub(super) fn new(model: &str, predictors: Vec<Predictor>, answers: Answers, kept: KeptAttributes, every: u64) -> Self {
        let lanes = Lanes::new(predictors);
        Self {
            model: model.to_owned(),
            calls_under_way: lanes.calls_under_way(),
            lanes,
            next: 0,
            ready: HashMap::new(),
            answers,
            kept,
            same_boxes: SameBoxes::default(),
            looks_at_parts: false,
            every,
            seen: HashMap::new(),
            under_way: VecDeque::new(),
            notices: Vec::new(),
            counters: None,
            settings: None,
            followed: None,
        }
    }

    /// The same with a model that can be replaced.
    pub(super) fn with_swap(self, followed: Option<Followed>) -> Self {
        Self { followed, ..self }
    }

    /// The same for frames with parts.
    pub(super) fn with_parts(self, looks_at_parts: bool) -> Self {
        Self { looks_at_parts, ..self }
    }

    /// The same with notices for the user.
    pub(super) fn with_notices(self, notices: Vec<String>) -> Self {
        Self { notices, ..self }
    }
}

impl Stage for Infer {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.notices.drain(..).for_each(|notice| context.notice(notice));
        self.counters = Some(Counters::new(context, self.lanes.is_on_gpu(), self.looks_at_parts));
        let Some((thresholds, task)) = self.lanes.first().map(|predictor| (predictor.thresholds(), predictor.task())) else {
            return Err(StageError::new(ErrorKind::Internal, "no model was loaded"));
        };
        let setting = |name: &str, help: &str, value: f32| {
            let spec = SettingSpec::new(name, 0.0..=1.0).help(help);
            context.setting(spec, written(value))
        };
        let iou = |()| setting("iou", "NMS IoU threshold", thresholds.iou);
        if !matches!(task, Task::Segmentation | Task::Embedding) && !task.is_dense() {
            let confidence = setting("confidence", "minimum score of a detection or other result", thresholds.confidence);
            self.settings = Some(Settings { confidence, iou: (task == Task::Detection).then_some(()).map(iou) });
        }
        if let Some(followed) = &self.followed {
            context.replaceable_model(Arc::clone(&followed.swap) as Arc<dyn Replace>);
        }
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.change_over(out)?;
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
        let first = self.next;
        let views = due.iter().flat_map(|place| views_of(&items, *place).map(move |part| (first + *place as u64, part))).collect();
        self.next += items.len() as u64;
        self.under_way.push_back(UnderWay { first, items });
        self.submit(views)?;
        while self.under_way.len() > self.calls_under_way {
            self.idle(out)?;
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(end) = self.under_way.front().map(UnderWay::end) else { return Ok(Flow::More) };
        while let Some(due) = self.lanes.due(end) {
            match due {
                Due::Submit(lane) => self.put_to_work(lane)?,
                Due::Collect(lane) => self.collect(lane)?,
            }
        }
        let Some(call) = self.under_way.pop_front() else { return Ok(Flow::More) };
        let mut items = call.items;
        for (number, item) in (call.first..).zip(&mut items) {
            match item {
                Item::Frame(item) => {
                    let answers = self.ready.remove(&number).unwrap_or_default();
                    self.put(item, answers);
                }
                Item::StreamEnd(end) => {
                    self.kept.forget(end.id);
                    self.lanes.forget(end.id);
                }
                _ => {}
            }
        }
        if let Some(counters) = &mut self.counters {
            counters.models(self.lanes.predictors());
        }
        items.into_iter().try_for_each(|item| out.push(item))?;
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

    /// Switches to a replacement model once the current one has returned all results.
    fn change_over(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        let newer = self.followed.as_mut().and_then(|followed| followed.swap.newer_than(&mut followed.generation));
        let Some(mut predictor) = newer else { return Ok(()) };
        while self.has_work_under_way() {
            self.idle(out)?;
        }
        if let Some(before) = self.lanes.first().map(Predictor::thresholds) {
            predictor.set_confidence(before.confidence).map_err(model_error)?;
            predictor.set_iou(before.iou).map_err(model_error)?;
        }
        self.answers.model = Arc::from(predictor.card().name.as_str());
        self.model = predictor.card().name.clone();
        self.lanes = Lanes::new(vec![predictor]);
        if let Some(counters) = &self.counters {
            counters.context.counter("models_replaced").add(1);
        }
        Ok(())
    }

    fn take_settings(&mut self) -> Result<(), StageError> {
        let Some(settings) = &mut self.settings else { return Ok(()) };
        if let Some(confidence) = settings.confidence.take_change() {
            self.lanes.each(|predictor| predictor.set_confidence(confidence as f32)).map_err(model_error)?;
        }
        if let Some(iou) = settings.iou.as_mut().and_then(Setting::take_change) {
            self.lanes.each(|predictor| predictor.set_iou(iou as f32)).map_err(model_error)?;
        }
        Ok(())
    }

    /// Submits frames or parts: at once with one device, in whole batches per device with several.
    fn submit(&mut self, views: Vec<Viewed>) -> Result<(), StageError> {
        if self.lanes.is_one() {
            return self.submit_to(0, views);
        }
        for viewed in views {
            let device = match item_of(&self.under_way, viewed.0) {
                Some(Item::Frame(item)) => item.frame.surface.device(),
                _ => Device::Cpu,
            };
            if let Some(lane) = self.lanes.wait_on(device, viewed) {
                self.put_to_work(lane)?;
            }
        }
        Ok(())
    }

    /// Submits inputs that wait for their batch to fill.
    fn put_to_work(&mut self, lane: usize) -> Result<(), StageError> {
        let views = self.lanes.take_waiting(lane);
        self.submit_to(lane, views)
    }

    fn submit_to(&mut self, lane: usize, viewed: Vec<Viewed>) -> Result<(), StageError> {
        if viewed.is_empty() {
            return Ok(());
        }
        let views: Option<Vec<View<'_>>> = viewed.iter().map(|viewed| view_of(&self.under_way, viewed)).collect();
        let views = views.ok_or_else(|| StageError::new(ErrorKind::Internal, "a frame for the model is missing"))?;
        match self.lanes.submit(lane, &viewed, &views) {
            Ok(()) => Ok(()),
            Err(error) if error.is_recoverable() => self.leave_out(lane, viewed, &error),
            Err(error) => Err(model_error(error)),
        }
    }

    /// Frames that cannot be made into a model input pass as not analysed; the others of the batch are tried one by one.
    fn leave_out(&mut self, lane: usize, viewed: Vec<Viewed>, error: &InferError) -> Result<(), StageError> {
        if viewed.len() > 1 {
            return viewed.into_iter().try_for_each(|viewed| self.submit_to(lane, vec![viewed]));
        }
        let is_part = viewed.iter().any(|(_, part)| part.is_some());
        if let Some(counters) = self.counters.as_ref().filter(|counters| counters.failed(is_part)) {
            let what = if is_part { "a part of a frame" } else { "a frame" };
            counters.context.notice(format_args!("{} did not run on {what}: {error}", self.model));
        }
        Ok(())
    }

    /// Collects the results of a device's oldest submission; waits for it.
    fn collect(&mut self, lane: usize) -> Result<(), StageError> {
        let missing = || StageError::new(ErrorKind::Internal, format!("{} returned no results for some frames", self.model));
        let (viewed, ready) = self.lanes.collect(lane).map_err(model_error)?.ok_or_else(missing)?;
        for ((number, part), prediction) in viewed.into_iter().zip(ready) {
            self.ready.entry(number).or_default().push((part, prediction));
        }
        Ok(())
    }

    /// Attaches the results of a frame.
    fn put(&mut self, item: &mut FrameItem, answers: Vec<Answer>) {
        let parts = answers.iter().filter(|(part, _)| part.is_some()).count();
        let was_looked_at = !answers.is_empty();
        if let [(None, Prediction::Detections(found))] = answers.as_slice()
            && self.same_boxes.is_stuck(&item.frame, found)
            && let Some(counters) = &self.counters
        {
            counters.context.notice(format_args!(
                "{} returns the same boxes for different frames: check name, layout and scale of the input in its model card",
                self.model
            ));
        }
        item.analysed |= was_looked_at && self.answers.marks_analysed;
        let put = self.answers.put(item, answers, &mut self.kept);
        if let Some(counters) = &self.counters {
            counters.analysed.add(u64::from(was_looked_at));
            counters.put(parts, put);
        }
    }
}

/// A frame's parts, or the whole frame.
fn views_of(items: &[Item], place: usize) -> impl Iterator<Item = Option<usize>> + use<> {
    let parts = match items.get(place) {
        Some(Item::Frame(item)) => item.attachments.get::<FrameParts>().map(|parts| parts.parts.len()),
        _ => Some(0),
    };
    let whole = parts.is_none().then_some(None);
    whole.into_iter().chain((0..parts.unwrap_or(0)).map(Some))
}

/// An item in flight by its number.
fn item_of(under_way: &VecDeque<UnderWay>, number: u64) -> Option<&Item> {
    let place = under_way.partition_point(|call| call.end() <= number);
    let call = under_way.get(place)?;
    call.items.get(usize::try_from(number.checked_sub(call.first)?).ok()?)
}

fn view_of<'a>(under_way: &'a VecDeque<UnderWay>, (number, part): &Viewed) -> Option<View<'a>> {
    let Some(Item::Frame(item)) = item_of(under_way, *number) else { return None };
    let frame: &Frame = &item.frame;
    match part {
        None => Some(View::whole(frame)),
        Some(part) => item.attachments.get::<FrameParts>()?.parts.get(*part).map(|part| View::part(frame, part.area)),
    }
}
