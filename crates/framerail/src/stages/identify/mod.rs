//! The `identify` stage: names faces by reference images.

pub(crate) mod people;
mod tracks;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use framerail_core::{Attribute, AttributeValue, Detection, DetectionOrigin, Label, ScoredLabel, StreamId};
use framerail_pipeline::{
    ArgumentSpec, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options, PlanError, Registry,
    RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use self::{
    people::{Person, Recogniser},
    tracks::{Rules, Seen, Tracks},
};
use super::link::{detections_of, input_of};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(IdentifyPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("identify", "names faces by reference images")
        .other_names(["recognize", "recognise"])
        .details(
            "Compares the embedding of each detection with those of the images and attaches the person's name as a class, which `draw` \
             shows, `save` records and `blur except_class=` leaves visible. `crop around=landmarks ! infer MODEL` before it makes the \
             embeddings; model= names the same model. An image must show one face; all images of a folder belong to one person, named \
             after the folder.\n\nAt most one face per frame gets a person's name: the most similar one. A face keeps its name for keep= \
             after the last frame in which it was similar enough, as long as its identity (`hold`, `track`) stays and it does not become \
             clearly different. Embeddings are removed from the detections afterwards, so that records hold no biometric data.",
        )
        .argument(
            ArgumentSpec::required("pictures", OptionKind::Path, "images with one face each, or folders of images of one person").many(),
        )
        .option(OptionSpec::text("model").required().help("the embedding model: its name or card, as in the `infer` before this stage"))
        .option(OptionSpec::text("detector").default("centerface").help("model that finds the faces in the images"))
        .option(
            OptionSpec::float("similarity", 0.0..=1.0)
                .default(0.5)
                .help("minimum cosine similarity; a higher value confuses fewer people and recognises fewer"),
        )
        .option(OptionSpec::time("keep").default("1s").help("how long a face keeps its name while it is not recognised"))
        .option(OptionSpec::switch("keep_embeddings").default("no").help("whether embeddings stay on the detections"))
        .example(
            "read in.mp4 ! infer centerface ! hold ! crop around=landmarks ! infer sface.toml ! identify anna.jpg model=sface.toml ! \
             blur except_class=anna ! write out.mp4",
            "every face is blurred but Anna's",
        )
        .example(
            "read in.mp4 ! infer centerface ! track ! crop around=landmarks ! infer sface.toml ! identify people/anna people/ben \
             model=sface.toml ! save who.jsonl",
            "record who is seen, by folders of images",
        )
}

struct IdentifyPlan {
    images: Vec<PathBuf>,
    model: String,
    detector: String,
    rules: Rules,
    keep_embeddings: bool,
    /// The model's name and the persons, once linked.
    known: Option<(Arc<str>, Vec<Person>)>,
}

impl IdentifyPlan {
    fn new(options: &Options) -> Self {
        let rules = Rules { similarity: options.float("similarity") as f32, keep_secs: options.time("keep").as_secs_f64() };
        Self {
            images: options.paths("pictures"),
            model: options.text("model").to_owned(),
            detector: options.text("detector").to_owned(),
            rules,
            keep_embeddings: options.switch("keep_embeddings"),
            known: None,
        }
    }
}

impl StagePlan for IdentifyPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        detections_of(input)?;
        if self.known.is_none() {
            let mut recogniser = Recogniser::load(&self.detector, &self.model)?;
            let people = recogniser.people(&self.images, &context.files)?;
            self.known = Some((recogniser.model_name(), people));
        }
        Ok(Some(input.clone()))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (model, people) = self.known.unwrap_or_else(|| (Arc::from(""), Vec::new()));
        let identify = Identify {
            model,
            people,
            rules: self.rules,
            keep_embeddings: self.keep_embeddings,
            streams: HashMap::new(),
            frames_without: 0,
            counters: None,
        };
        Ok(Work::Stages(vec![Box::new(identify)]))
    }
}

struct Counters {
    context: StageContext,
    recognised: Counter,
    kept: Counter,
    compared: Counter,
}

struct Identify {
    /// Name of the embedding model.
    model: Arc<str>,
    people: Vec<Person>,
    rules: Rules,
    keep_embeddings: bool,
    streams: HashMap<StreamId, Tracks>,
    /// Frames with detections none of which has an embedding.
    frames_without: u64,
    counters: Option<Counters>,
}

/// Frames with detections but without any embedding after which a notice is due.
const FRAMES_UNTIL_NOTICE: u64 = 25;

impl Stage for Identify {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            context: context.clone(),
            recognised: context.counter("faces_recognised"),
            kept: context.counter("names_kept"),
            compared: context.counter("faces_compared"),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.identify(&mut item);
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Item::StreamEnd(end) = &item {
            self.streams.remove(&end.id);
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        if let Some(counters) = self.counters.as_ref().filter(|counters| counters.compared.value() == 0 && self.frames_without > 0) {
            notice_without(&counters.context, &self.model);
        }
        Ok(())
    }
}

fn notice_without(context: &StageContext, model: &str) {
    context.notice(format_args!(
        "no detection has an embedding of {model}, so nobody is recognised; put `crop around=landmarks ! infer {model}` before `identify`"
    ));
}

impl Identify {
    fn identify(&mut self, item: &mut FrameItem) {
        let seen: Vec<Seen> = item.detections.iter().map(|found| self.seen(found)).collect();
        let compared = seen.iter().filter(|seen| !seen.similarities.is_empty()).count() as u64;
        let tracks = self.streams.entry(item.frame.stream).or_default();
        let names = tracks.name(&seen, item.frame.seconds(), self.rules);
        let (mut recognised, mut kept) = (0, 0);
        for (found, name) in item.detections.iter_mut().zip(names) {
            if !self.keep_embeddings {
                let is_embedding = |attribute: &Attribute| matches!(attribute.value, AttributeValue::Embedding(_));
                found.attributes.retain(|attribute| !(attribute.model == self.model && is_embedding(attribute)));
            }
            let Some((person, similarity)) = name else { continue };
            recognised += u64::from(similarity >= self.rules.similarity);
            kept += u64::from(similarity < self.rules.similarity);
            if let Some(known) = self.people.get(person) {
                let label = Label { id: u32::try_from(person).unwrap_or(u32::MAX), name: Arc::clone(&known.name) };
                let value = AttributeValue::Classes(vec![ScoredLabel { label, score: similarity.clamp(0.0, 1.0) }]);
                found.attributes.push(Attribute { model: Arc::from("identify"), value });
            }
        }
        let Some(counters) = &self.counters else { return };
        counters.recognised.add(recognised);
        counters.kept.add(kept);
        counters.compared.add(compared);
        self.frames_without += u64::from(compared == 0 && !item.detections.is_empty());
        if counters.compared.value() == 0 && self.frames_without == FRAMES_UNTIL_NOTICE {
            notice_without(&counters.context, &self.model);
        }
    }

    /// The detection's track, and its similarity to each person.
    fn seen(&self, found: &Detection) -> Seen {
        let vector = found.attributes.iter().rev().find_map(|attribute| match &attribute.value {
            AttributeValue::Embedding(vector) if attribute.model == self.model => Some(vector),
            _ => None,
        });
        // The pixels of a filled-in box may show something else.
        let counts = found.origin == DetectionOrigin::Detected;
        let similarities = vector.filter(|_| counts).map(|vector| self.people.iter().map(|person| person.similarity(vector)).collect());
        Seen { track: found.track_id, similarities: similarities.unwrap_or_default() }
    }
}
