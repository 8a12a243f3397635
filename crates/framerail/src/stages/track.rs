//! The `track` stage: assigns identities that persist over time.

mod clock;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use framerail_core::{BBox, StreamId, StreamInfo};
use framerail_cuda::Traffic;
use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, LinkMismatch, OptionSpec, Options, PlanError, Registry,
    RegistryError, Setting, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{
    ByteTrackOptions, CameraMotionEstimator, OcSortOptions, SceneDetector, SharedIdentities, SharedOptions, TrackAlgorithm, Tracker,
    TrackerOptions, TrackerStats,
};

use self::{clock::FrameClock, settings::PLACES};
use super::{
    hold::cuts::{GpuHistograms, cut_setting},
    link::{detections_of, host_frames, input_of},
    settings::OptionSettings,
};
use crate::{convert::cuda_error, devices::account};

/// The threshold at which no change counts as a cut.
const NEVER: f64 = 1.0;

/// Options of only one algorithm.
const BYTETRACK_OPTIONS: [&str; 6] =
    ["track_thresh", "new_thresh", "match_thresh", "track_buffer", "appearance_thresh", "proximity_thresh"];
const OCSORT_OPTIONS: [&str; 8] =
    ["det_thresh", "max_age", "min_hits", "iou_threshold", "delta_t", "inertia", "use_byte", "appearance_weight"];

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| TrackPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    let spec = StageSpec::transform("track", "gives detections an identity that persists over time")
        .other_names(["tracker", "sort"])
        .details(
            "Tracks detections with ByteTrack or OC-SORT, as published, separately per stream; the options have the published names and \
             defaults. Detections get a track_id, counted from 1 in each stream, or in all streams together with identities=shared. Detections with too low a score, or not seen often enough \
             yet, are kept without one. The statistics count both.\n\nFrames without a model run (`infer every=3`) get predicted boxes, \
             with origin held. Movement is computed from timestamps, so that dropped frames and uneven rates do not disturb it. Pixels are \
             not read, unless cut is below 1 or camera=moving.\n\nAfter `crop ! infer EMBEDDING`, detections are also matched by \
             appearance, as in BoT-SORT (bytetrack) and Deep OC-SORT (ocsort), and an object that was hidden gets its identity back \
             for up to `reidentify` frames.\n\nByteTrack needs low-score detections: use `infer` with confidence=0.1. The thresholds and \
             cut can be changed during the run.",
        )
        .option(
            OptionSpec::choice(
                "algorithm",
                &[
                    ("bytetrack", "uses low scores; for objects that are half hidden for a while"),
                    ("ocsort", "uses the direction of movement; for objects that turn, or are hidden completely"),
                ],
            )
            .default("bytetrack")
            .help("tracking algorithm"),
        );
    let spec = appearance_options(ocsort_options(bytetrack_options(spec)));
    spec.option(
        OptionSpec::choice("classes", &[("apart", "a track has one class"), ("together", "a track may change its class")])
            .default("apart")
            .help("whether classes are tracked separately"),
    )
    .option(
        OptionSpec::choice("boxes", &[("detected", "as detected by the model"), ("filtered", "smoothed, with a short lag")])
            .default("detected")
            .help("which boxes tracked detections have"),
    )
    .option(OptionSpec::switch("fill").default("yes").help("whether frames without a model run get predicted boxes"))
    .option(OptionSpec::integer("coast", 0..=1000).default(0).unit("frames").help("how long a lost track continues with predicted boxes"))
    .option(
        OptionSpec::float("cut", 0.0..=1.0)
            .default(1)
            .help("change of the brightness histogram that counts as a cut, at which all tracks end, such as 0.5; 1 = never"),
    )
    .example("read in.mp4 ! infer centerface confidence=0.1 ! track ! draw tracks=yes ! write out.mp4", "every face with its identity")
    .example(
        "read in.mp4 ! infer person.toml confidence=0.1 ! crop min_score=0.6 ! infer reid.toml ! track camera=moving ! save tracks.jsonl",
        "persons who keep their identity behind obstacles, filmed by hand",
    )
    .example(
        "read cam1.mp4 cam2.mp4 ! infer person.toml ! crop min_score=0.6 ! infer reid.toml batch=16 ! track \
         identities=shared ! save tracks.jsonl",
        "one identity for a person that several cameras show",
    )
    .example(
        "read in.mp4 ! infer centerface every=3 ! track algorithm=ocsort ! save tracks.jsonl",
        "model on every third frame, boxes on all",
    )
}

fn bytetrack_options(spec: StageSpec) -> StageSpec {
    let threshold = |name: &str| OptionSpec::float(name, 0.0..=1.0);
    spec.option(threshold("track_thresh").default(0.6).help("bytetrack: detections above this score are matched first"))
        .option(threshold("low_thresh").default(0.1).help(
            "detections above this score are matched second, to the remaining tracks (ocsort: \
                                                       with use_byte)",
        ))
        .option(
            threshold("new_thresh")
                .default("auto")
                .or_word("auto", "0.1 above track_thresh")
                .help("bytetrack: score at which a new track begins"),
        )
        .option(threshold("match_thresh").default(0.8).help("bytetrack: maximum cost of a first match, 1 - IoU * score"))
        .option(
            OptionSpec::integer("track_buffer", 0..=100_000)
                .default(30)
                .unit("frames at 30 frames/s")
                .help("bytetrack: how long a lost track is kept"),
        )
}

fn appearance_options(spec: StageSpec) -> StageSpec {
    let threshold = |name: &str| OptionSpec::float(name, 0.0..=1.0);
    spec.option(
        OptionSpec::choice(
            "appearance",
            &[
                ("auto", "if a model has attached embeddings to detections"),
                ("yes", "detections must have embeddings: put `crop ! infer EMBEDDING` before"),
                ("no", "by place and movement only"),
            ],
        )
        .default("auto")
        .help("whether detections are matched by appearance"),
    )
    .option(threshold("appearance_thresh").default(0.25).help("bytetrack: maximum distance of embeddings, (1 - cosine) / 2"))
    .option(threshold("proximity_thresh").default(0.5).help("bytetrack: maximum 1 - IoU at which appearance counts"))
    .option(OptionSpec::float("appearance_weight", 0.0..=10.0).default(0.75).help("ocsort: weight of appearance relative to the overlap"))
    .option(
        OptionSpec::integer("reidentify", 0..=100_000)
            .default(150)
            .unit("frames at 30 frames/s")
            .help("how long an object that is not seen keeps its identity for a new track of the same appearance"),
    )
    .option(threshold("reidentify_thresh").default(0.8).help("minimum cosine of two embeddings of the same object, for reidentify"))
    .option(
        OptionSpec::choice(
            "identities",
            &[
                ("streams", "each stream has its own"),
                ("shared", "an object that is recognised by its appearance has the same one in all streams; needs embeddings"),
            ],
        )
        .default("streams")
        .help("where identities are valid"),
    )
    .option(threshold("shared_thresh").default(0.8).help("minimum cosine of two embeddings of the same object, for identities=shared"))
    .option(
        OptionSpec::integer("shared_objects", 1..=100_000)
            .default(1000)
            .help("maximum number of objects that are remembered, for identities=shared; the one unseen longest is forgotten"),
    )
    .option(
        OptionSpec::choice(
            "camera",
            &[("still", "no compensation"), ("moving", "its motion is estimated on each frame, in host memory, and subtracted")],
        )
        .default("still")
        .help("whether tracks are moved with the image"),
    )
}

fn ocsort_options(spec: StageSpec) -> StageSpec {
    let threshold = |name: &str| OptionSpec::float(name, 0.0..=1.0);
    spec.option(threshold("det_thresh").default(0.6).help("ocsort: minimum score of tracked detections"))
        .option(OptionSpec::integer("max_age", 0..=100_000).default(30).unit("frames").help("ocsort: how long a lost track is kept"))
        .option(
            OptionSpec::integer("min_hits", 0..=1000)
                .default(3)
                .unit("frames")
                .help("ocsort: consecutive detections after the first before a track gets its identity"),
        )
        .option(threshold("iou_threshold").default(0.3).help("ocsort: minimum IoU of a match"))
        .option(
            OptionSpec::integer("delta_t", 1..=100)
                .default(3)
                .unit("frames")
                .help("ocsort: frames over which the direction of movement is computed"),
        )
        .option(threshold("inertia").default(0.2).help("ocsort: weight of the direction of movement relative to the overlap"))
        .option(OptionSpec::switch("use_byte").default("no").help("ocsort: whether low scores are matched second, as in ByteTrack"))
}

fn whole(options: &Options, name: &str) -> u32 {
    u32::try_from(options.integer(name)).unwrap_or(u32::MAX)
}

fn algorithm(options: &Options) -> Result<TrackAlgorithm, ConfigError> {
    let name = options.choice("algorithm");
    let foreign: &[&str] = if name == "ocsort" { &BYTETRACK_OPTIONS } else { &OCSORT_OPTIONS };
    if let Some(stray) = foreign.iter().find(|stray| options.is_given(stray)) {
        let other = if name == "ocsort" { "bytetrack" } else { "ocsort" };
        return Err(ConfigError::at(stray, format_args!("`{stray}` is an option of {other}, and the algorithm is {name}"))
            .help(format_args!("give algorithm={other}, or leave `{stray}` out")));
    }
    let low_thresh = options.float("low_thresh") as f32;
    if name == "ocsort" {
        return Ok(TrackAlgorithm::OcSort(OcSortOptions {
            det_thresh: options.float("det_thresh") as f32,
            max_age: whole(options, "max_age"),
            min_hits: whole(options, "min_hits"),
            iou_threshold: options.float("iou_threshold") as f32,
            delta_t: whole(options, "delta_t"),
            inertia: options.float("inertia") as f32,
            use_byte: options.switch("use_byte"),
            low_thresh,
            appearance_weight: options.float("appearance_weight") as f32,
        }));
    }
    let track_thresh = options.float("track_thresh");
    if options.is_given("low_thresh") && options.float("low_thresh") > track_thresh {
        return Err(ConfigError::at("low_thresh", format_args!("low_thresh is above track_thresh, {track_thresh}"))
            .help("what scores low is matched second, so low_thresh is the smaller of the two"));
    }
    Ok(TrackAlgorithm::ByteTrack(ByteTrackOptions {
        track_thresh: track_thresh as f32,
        low_thresh,
        new_thresh: options.optional_float("new_thresh").unwrap_or(track_thresh + 0.1) as f32,
        match_thresh: options.float("match_thresh") as f32,
        track_buffer: whole(options, "track_buffer"),
        appearance_thresh: options.float("appearance_thresh") as f32,
        proximity_thresh: options.float("proximity_thresh") as f32,
    }))
}

#[derive(Clone, Copy)]
struct TrackPlan {
    options: TrackerOptions,
    /// The user's choice; `None` for automatic.
    appearance: Option<bool>,
    /// For one identity in all streams.
    shared: Option<SharedOptions>,
    follows_camera: bool,
    fill: bool,
    cut: f64,
    /// Whether there are frames without a model run that no stage has filled yet; known after linking.
    has_gaps: bool,
}

impl TrackPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let tracker = TrackerOptions {
            algorithm: algorithm(options)?,
            across_classes: options.choice("classes") == "together",
            filtered_boxes: options.choice("boxes") == "filtered",
            coast_frames: whole(options, "coast"),
            reidentify_frames: whole(options, "reidentify"),
            reidentify_similarity: options.float("reidentify_thresh") as f32,
            ..TrackerOptions::default()
        };
        let shared = SharedOptions {
            similarity: options.float("shared_thresh") as f32,
            max_objects: options.count("shared_objects"),
            across_classes: tracker.across_classes,
        };
        let is_shared = options.choice("identities") == "shared";
        if let Some(stray) = ["shared_thresh", "shared_objects"].iter().find(|stray| !is_shared && options.is_given(stray)) {
            let error = ConfigError::at(stray, format_args!("`{stray}` is for identities=shared"));
            return Err(error.help(format_args!("give identities=shared, or leave `{stray}` out")));
        }
        if is_shared && options.choice("appearance") == "no" {
            let error = ConfigError::at("appearance", "identities=shared compares the appearance of objects");
            return Err(error.help("leave appearance out"));
        }
        Ok(Self {
            options: tracker,
            shared: is_shared.then_some(shared),
            appearance: Some(options.choice("appearance")).filter(|choice| *choice != "auto").map(|choice| choice == "yes"),
            follows_camera: options.choice("camera") == "moving",
            fill: options.switch("fill"),
            cut: options.float("cut"),
            has_gaps: true,
        })
    }
}

impl StagePlan for TrackPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = if self.follows_camera { host_frames(input)? } else { input_of(input)? };
        let found = detections_of(input)?;
        self.has_gaps = found.max_unanalysed_frames > 0;
        if (self.appearance == Some(true) || self.shared.is_some()) && !found.has_embeddings {
            let option = if self.shared.is_some() { "identities=shared" } else { "appearance=yes" };
            let (needs, hint) = (format!("detections with embeddings, for {option}"), "put `crop ! infer EMBEDDING` before it");
            return Err(PlanError::Link(LinkMismatch { needs, hint: hint.into() }));
        }
        self.options.appearance = self.appearance.unwrap_or(found.has_embeddings);
        let mut output = input.clone();
        if let Some(detections) = &mut output.detections {
            detections.has_identities = true;
            if self.fill {
                detections.max_unanalysed_frames = 0;
            }
        }
        Ok(Some(output))
    }

    /// Cut detection uses pixels if there are any, but does not request them.
    fn reads_pixels(&self) -> bool {
        self.follows_camera
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Track::new(*self))]))
    }
}

struct Stream {
    tracker: Tracker,
    clock: FrameClock,
    scenes: SceneDetector,
    camera: CameraMotionEstimator,
    /// Boxes of the last frame: what moves by itself.
    moving: Vec<BBox>,
}

struct Counters {
    begun: Counter,
    ended: Counter,
    tracked: Counter,
    untracked: Counter,
    predicted: Counter,
    reidentified: Counter,
    recognised: Counter,
    not_followed: Counter,
    cuts: Counter,
    unseen: Counter,
    context: StageContext,
}

struct Track {
    plan: TrackPlan,
    shared: Option<SharedIdentities>,
    streams: BTreeMap<StreamId, Stream>,
    /// For frames on a GPU.
    gpu: GpuHistograms,
    /// Totals of ended streams.
    ended: TrackerStats,
    cuts: u64,
    /// Frames on which the camera's motion could not be estimated.
    frames_not_followed: u64,
    /// Frames without pixels, which could not be checked for cuts.
    frames_unseen: u64,
    counters: Option<Counters>,
    settings: Option<OptionSettings<TrackAlgorithm>>,
    cut: Option<Setting>,
}

impl Stage for Track {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.settings = Some(OptionSettings::new(context, &PLACES, &mut self.plan.options.algorithm));
        self.cut = Some(cut_setting(context, self.plan.cut));
        self.counters = Some(Counters {
            begun: context.counter("tracks_begun"),
            ended: context.counter("tracks_ended"),
            tracked: context.counter("detections_tracked"),
            untracked: context.counter("detections_untracked"),
            predicted: context.counter("boxes_predicted"),
            reidentified: context.counter("tracks_reidentified"),
            recognised: context.counter("tracks_recognised"),
            not_followed: context.counter("frames_without_camera_motion"),
            cuts: context.counter("cuts_seen"),
            unseen: context.counter("frames_not_checked_for_cuts"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.take_changes();
        let mut item = Item::from(item);
        let histogram = self.histogram_on_gpu(&item)?;
        if let Item::Frame(item) = &mut item {
            self.track(item, histogram.as_ref());
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => self.begin(info),
            Item::StreamEnd(end) => self.end(end.id),
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.into_iter().for_each(|id| self.end(id));
        Ok(())
    }
}

impl Track {
    fn new(plan: TrackPlan) -> Self {
        Self {
            shared: plan.shared.map(SharedIdentities::new),
            plan,
            streams: BTreeMap::new(),
            gpu: GpuHistograms::default(),
            ended: TrackerStats::default(),
            cuts: 0,
            frames_not_followed: 0,
            frames_unseen: 0,
            counters: None,
            settings: None,
            cut: None,
        }
    }

    fn stream(plan: &TrackPlan, clock: FrameClock) -> Stream {
        let options = TrackerOptions { frames_per_second: clock.frames_per_second(), ..plan.options };
        Stream {
            tracker: Tracker::new(options),
            clock,
            scenes: SceneDetector::new(plan.cut as f32),
            camera: CameraMotionEstimator::default(),
            moving: Vec::new(),
        }
    }

    fn begin(&mut self, info: &StreamInfo) {
        self.end(info.id);
        self.streams.insert(info.id, Self::stream(&self.plan, FrameClock::new(info.frame_rate)));
    }

    fn end(&mut self, id: StreamId) {
        if let Some(mut stream) = self.streams.remove(&id) {
            stream.tracker.forget();
            self.ended += stream.tracker.stats();
            if let Some(shared) = &mut self.shared {
                shared.end(id);
            }
            self.count();
        }
    }

    /// Brightness counts of a frame on a GPU, if cuts are detected.
    fn histogram_on_gpu(&mut self, item: &Item) -> Result<Option<framerail_core::Histogram>, StageError> {
        if self.plan.cut >= NEVER {
            return Ok(None);
        }
        let counts = self.gpu.queue(std::slice::from_ref(item)).map_err(cuda_error)?;
        let mut histogram = None;
        for counts in counts {
            histogram = counts.wait().map_err(cuda_error)?.map(|(_, counted)| counted).next();
        }
        if let (Some(counters), Some((device, bytes))) = (&self.counters, self.gpu.memory()) {
            account(&counters.context, Traffic::take());
            counters.context.memory(device, bytes);
        }
        Ok(histogram)
    }

    /// Applies changed settings to current and future streams.
    fn take_changes(&mut self) {
        if let Some(settings) = &mut self.settings
            && settings.take_changes(&mut self.plan.options.algorithm)
        {
            self.streams.values_mut().for_each(|stream| stream.tracker.set_algorithm(self.plan.options.algorithm));
        }
        if let Some(cut) = self.cut.as_mut().and_then(Setting::take_change) {
            self.plan.cut = cut;
            self.streams.values_mut().for_each(|stream| stream.scenes.set_threshold(cut as f32));
        }
    }

    fn track(&mut self, item: &mut FrameItem, histogram: Option<&framerail_core::Histogram>) {
        let plan = self.plan;
        let stream = self.streams.entry(item.frame.stream).or_insert_with(|| Self::stream(&plan, FrameClock::new(None)));
        let frames = stream.clock.frames_since_last(&item.frame);
        if plan.cut < NEVER {
            let is_cut = match (item.frame.surface.host(), histogram) {
                (Ok(surface), _) => stream.scenes.changed(surface),
                (Err(_), Some(histogram)) => stream.scenes.histogram_changed(histogram),
                (Err(_), None) => {
                    self.frames_unseen += 1;
                    false
                }
            };
            if is_cut {
                self.cuts += 1;
                stream.tracker.forget();
            }
        }
        if plan.follows_camera
            && let Ok(surface) = item.frame.surface.host()
        {
            match stream.camera.motion(surface, &stream.moving) {
                Some(motion) => stream.tracker.move_camera(&motion),
                None => self.frames_not_followed += 1,
            }
        }
        if item.analysed || !plan.has_gaps {
            stream.tracker.track(&mut item.detections, frames);
        } else if plan.fill {
            item.detections.extend(stream.tracker.predict(frames));
        } else {
            stream.tracker.skip(frames);
        }
        if let Some(shared) = &mut self.shared {
            shared.assign(item.frame.stream, &mut item.detections);
        }
        if plan.follows_camera {
            stream.moving = item.detections.iter().map(|found| found.bbox).collect();
        }
        self.count();
    }

    fn count(&self) {
        let Some(counters) = &self.counters else { return };
        let mut stats = self.ended;
        self.streams.values().for_each(|stream| stats += stream.tracker.stats());
        counters.begun.set(stats.tracks_begun);
        counters.ended.set(stats.tracks_ended);
        counters.tracked.set(stats.detections_tracked);
        counters.untracked.set(stats.detections_untracked);
        counters.predicted.set(stats.boxes_predicted);
        counters.reidentified.set(stats.reidentified);
        counters.recognised.set(self.shared.as_ref().map_or(0, SharedIdentities::recognised));
        counters.not_followed.set(self.frames_not_followed);
        counters.cuts.set(self.cuts);
        if self.frames_unseen > 0 && counters.unseen.value() == 0 {
            let words = "frames become the model's input while they are decoded, so shot changes cannot be detected";
            counters.context.notice(format_args!("{words}; put `download` before `track` where that matters, or give cut=1"));
        }
        counters.unseen.set(self.frames_unseen);
    }
}
