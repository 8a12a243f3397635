//! Copies between devices that the planner inserts automatically.
#![allow(clippy::unwrap_used)]

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use framerail_core::*;
use framerail_pipeline::*;

/// Fake GPU memory.
#[derive(Debug)]
struct FakeMemory(Device);

impl DeviceSurface for FakeMemory {
    fn device(&self) -> Device {
        self.0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn drawing() -> HostSurface {
    FramePool::new(0).surface(PixelFormat::Gray8, 4, 2).unwrap()
}

fn surface_on(device: Device) -> Surface {
    match device {
        Device::Cpu => Surface::Host(drawing()),
        gpu => Surface::Device(Arc::new(FakeMemory(gpu))),
    }
}

fn frame_on(device: Device, index: u64) -> Frame {
    Frame { surface: surface_on(device), index, pts: Pts(index as i64), ..Frame::of(drawing()) }
}

/// Context that each stage got while linking, and the device of its input frames.
#[derive(Default)]
struct Log {
    reported: Vec<(String, bool, Option<u32>)>,
    seen: Vec<(String, Device)>,
}

type SharedLog = Arc<Mutex<Log>>;

/// A stage that accepts frames on one device or on any, and outputs them there or on another.
#[derive(Clone)]
struct Plain {
    name: String,
    needs: Option<Device>,
    gives: Option<Device>,
    /// Further devices that hold a source's frames.
    others: Vec<Device>,
    is_sink: bool,
    reads: bool,
    tensor: Option<u32>,
    log: SharedLog,
}

impl StagePlan for Plain {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        if let (Some(device), Some(input)) = (self.needs, input)
            && input.device != device
        {
            return Err(PlanError::NeedsDevice(device));
        }
        let tensor = context.tensor_wanted.as_ref().and_then(|request| request.downcast_ref::<u32>()).copied();
        self.log.lock().unwrap().reported.push((self.name.clone(), context.pixels_wanted, tensor));
        let device = self.gives.unwrap_or_default();
        let given = EdgeFormat { device, other_devices: self.others.clone(), ..EdgeFormat::default() };
        Ok((!self.is_sink).then(|| self.gives.map_or_else(|| input.cloned().unwrap_or_default(), |_| given)))
    }

    fn reads_pixels(&self) -> bool {
        self.reads
    }

    fn takes_device_frames(&self) -> bool {
        self.name != "brightness"
    }

    fn takes_several_devices(&self) -> bool {
        self.name != "blur"
    }

    fn wants_tensor(&self) -> Option<TensorRequest> {
        self.tensor.map(|number| Arc::new(number) as TensorRequest)
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        match self.name.as_str() {
            "read" => Ok(Work::Source(Box::new(Numbers { device: self.gives.unwrap_or_default(), next: 0 }))),
            _ => Ok(Work::Stages(vec![Box::new(Mover { plan: *self, context: None })])),
        }
    }
}

struct Numbers {
    device: Device,
    next: u64,
}

impl Source for Numbers {
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        out.push(FrameItem::new(frame_on(self.device, self.next)).into())?;
        self.next += 1;
        Ok(if self.next == 5 { Flow::Done } else { Flow::More })
    }
}

struct Mover {
    plan: Plain,
    context: Option<StageContext>,
}

impl Stage for Mover {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let device = item.frame.surface.device();
        self.plan.log.lock().unwrap().seen.push((self.plan.name.clone(), device));
        if let Some(to) = self.plan.gives.filter(|to| *to != device) {
            let kind = if to == Device::Cpu { CopyKind::Download } else { CopyKind::Upload };
            self.context.as_ref().unwrap().count_copy(kind, 8);
            item.frame.surface = surface_on(to);
        }
        if !self.plan.is_sink {
            out.push(item.into())?;
        }
        Ok(Flow::More)
    }
}

fn registry(with_copies: bool) -> (Registry, SharedLog) {
    let log = SharedLog::default();
    let mut registry = Registry::new();
    let mut add = |spec: StageSpec, plan: Plain| {
        let (device, others) = (OptionSpec::text("device"), OptionSpec::text("others"));
        registry
            .register_with(spec.option(device).option(others), move |options| {
                let device = options.optional_text("device").map(|text| text.parse::<Device>().unwrap());
                let mut plan = plan.clone();
                plan.others = options.optional_text("others").map(|text| vec![text.parse().unwrap()]).unwrap_or_default();
                match options.stage() {
                    "read" | "upload" => plan.gives = device.or(plan.gives),
                    _ => plan.needs = device.or(plan.needs),
                }
                Ok(Box::new(plan))
            })
            .unwrap();
    };
    let plan = |name: &str| Plain {
        name: name.into(),
        needs: None,
        gives: None,
        others: Vec::new(),
        is_sink: false,
        reads: false,
        tensor: None,
        log: Arc::clone(&log),
    };
    add(StageSpec::source("read", "Reads."), Plain { gives: Some(Device::Cuda(0)), ..plan("read") });
    add(StageSpec::transform("pass", "Passes."), plan("pass"));
    add(StageSpec::transform("infer", "Detects."), Plain { reads: true, tensor: Some(300), ..plan("infer") });
    add(StageSpec::transform("blur", "Covers."), Plain { reads: true, ..plan("blur") });
    add(StageSpec::transform("brightness", "Knows nothing of devices."), Plain { reads: true, ..plan("brightness") });
    add(StageSpec::transform("tee", "Branches.").branches(), plan("tee"));
    add(StageSpec::sink("save", "Writes boxes."), Plain { is_sink: true, ..plan("save") });
    add(StageSpec::sink("write", "Writes video."), Plain { needs: Some(Device::Cpu), is_sink: true, reads: true, ..plan("write") });
    if with_copies {
        add(StageSpec::transform("download", "To the host."), Plain { gives: Some(Device::Cpu), ..plan("download") });
        add(StageSpec::transform("upload", "To a device."), plan("upload"));
    }
    (registry, log)
}

fn linked(text: &str, with_copies: bool) -> (Result<Plan, Diagnostics>, SharedLog) {
    let (registry, log) = registry(with_copies);
    let mut plan = check(&Description::parse(text).unwrap(), &registry).unwrap();
    let result = plan.link().map(|()| plan);
    (result, log)
}

fn edges(plan: &Plan) -> Vec<String> {
    plan.drawing().edges.iter().map(|edge| format!("{}>{}", edge.from, edge.to)).collect()
}

#[test]
fn a_copy_is_put_in_where_a_stage_needs_it() {
    let (plan, log) = linked("read ! pass ! write", true);
    let plan = plan.unwrap();
    assert_eq!(edges(&plan), ["read>pass", "pass>download", "download>write"]);
    let inserted: Vec<&str> = plan.stages().iter().filter(|stage| stage.is_inserted).map(|stage| stage.name.as_str()).collect();
    assert_eq!(inserted, ["download"]);
    let outcome = plan.into_graph().unwrap().graph.start(RunOptions::default()).unwrap().wait();
    outcome.result.unwrap();
    let stage = outcome.stats.stage("download").unwrap();
    assert_eq!((stage.frames_in, stage.frames_out, stage.copies[0].kind, stage.copies[0].count), (5, 5, CopyKind::Download, 5));
    let seen = |name: &str| log.lock().unwrap().seen.iter().filter(|(stage, _)| stage == name).map(|(_, at)| *at).collect::<Vec<_>>();
    assert_eq!((seen("pass"), seen("write")), (vec![Device::Cuda(0); 5], vec![Device::Cpu; 5]));
}

#[test]
fn branches_share_one_copy_and_need_none_where_they_take_the_device() {
    let (plan, _) = linked("read ! tee ( write ) ( save ) ( pass ! write ) ! write", true);
    let expected =
        ["read>tee", "tee>download", "download>write", "tee>save", "tee>pass", "pass>download-2", "download-2>write-2", "download>write-3"];
    assert_eq!(edges(&plan.unwrap()), expected);
}

#[test]
fn frames_go_up_and_from_gpu_to_gpu() {
    let (plan, _) = linked("read device=cpu ! blur device=cuda:1 ! write", true);
    assert_eq!(edges(&plan.unwrap()), ["read>upload", "upload>blur", "blur>download", "download>write"]);
    let (plan, _) = linked("read ! blur device=cuda:1 ! save", true);
    assert_eq!(edges(&plan.unwrap()), ["read>upload", "upload>blur", "blur>save"]);
}

#[test]
fn frames_on_several_devices_are_brought_together_only_for_a_stage_that_takes_one() {
    let (plan, _) = linked("read others=cuda:1 ! infer ! save", true);
    let plan = plan.unwrap();
    assert_eq!(edges(&plan), ["read>infer", "infer>save"]);
    assert!(plan.drawing().edges[0].format.ends_with("on cuda:0, cuda:1"), "{:?}", plan.drawing().edges[0]);
    let (plan, _) = linked("read others=cuda:1 ! tee ( pass ! save ) ! blur ! write", true);
    assert_eq!(
        edges(&plan.unwrap()),
        ["read>tee", "tee>pass", "pass>save", "tee>upload", "upload>blur", "blur>download", "download>write"]
    );
    let (plan, _) = linked("read others=cuda:1 ! write", true);
    assert_eq!(edges(&plan.unwrap()), ["read>download", "download>write"]);
}

#[test]
fn a_stage_that_knows_nothing_of_devices_gets_frames_on_the_host() {
    let (plan, _) = linked("read ! pass ! brightness ! save", true);
    assert_eq!(edges(&plan.unwrap()), ["read>pass", "pass>download", "download>brightness", "brightness>save"]);
}

#[test]
fn names_given_by_the_author_stay() {
    let (plan, _) = linked("read ! pass name=download ! write", true);
    assert_eq!(edges(&plan.unwrap()), ["read>download", "download>download-2", "download-2>write"]);
}

#[test]
fn without_a_stage_that_copies_the_cure_is_named() {
    let (plan, _) = linked("read ! pass ! write", false);
    let problems = plan.map(drop).unwrap_err();
    let expected = "\
error: `write` needs frames on cpu; `pass` gives frames of any size on cuda:0
  read ! pass ! write
                ^^^^^
  help: put `download` before it";
    assert_eq!(problems.to_string(), expected);
    let (plan, _) = linked("read device=cpu ! blur device=cuda:1 ! save", false);
    assert!(plan.map(drop).unwrap_err().to_string().contains("help: put `upload device=cuda:1` before it"));
}

#[test]
fn a_source_knows_who_reads_its_pixels() {
    let reported = |text: &str| {
        let (plan, log) = linked(text, true);
        plan.unwrap();
        let (name, pixels, tensor) = log.lock().unwrap().reported[0].clone();
        assert_eq!(name, "read");
        (pixels, tensor)
    };
    assert_eq!(reported("read ! pass ! save"), (false, None));
    assert_eq!(reported("read ! pass ! infer ! save"), (true, Some(300)));
    assert_eq!(reported("read ! tee ( save ) ! infer ! save"), (true, Some(300)));
    assert_eq!(reported("read ! infer ! blur ! save"), (true, None), "two stages read pixels");
    assert_eq!(reported("read ! tee ( infer ! save ) ! infer ! save"), (true, None));
    assert_eq!(reported("read ! blur ! save"), (true, None), "that stage takes frames");
}
