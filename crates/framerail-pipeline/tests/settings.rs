//! Settings that are changed during a run.

mod engine_support;

use std::sync::mpsc::{Receiver, Sender, channel};

use engine_support::frame;
use framerail_core::*;
use framerail_pipeline::*;

/// Outputs a frame for each message that it receives.
struct OnDemand(Receiver<u64>);

impl Source for OnDemand {
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match self.0.recv() {
            Ok(index) => out.push(frame(StreamId(0), index, index as i64).into())?,
            Err(_) => return Ok(Flow::Done),
        }
        Ok(Flow::More)
    }
}

/// Reports its threshold for every frame.
struct Threshold {
    setting: Option<Setting>,
    seen: Sender<f64>,
}

impl Stage for Threshold {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let spec = SettingSpec::new("threshold", 0.0..=1.0).help("least score");
        self.setting = Some(context.setting(spec, 0.5));
        Ok(())
    }

    fn frame(&mut self, _: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let value = self.setting.as_ref().map_or(f64::NAN, Setting::value);
        self.seen.send(value).expect("the test listens");
        Ok(Flow::More)
    }
}

#[test]
fn a_threshold_is_changed_while_frames_flow() {
    let ((ask, asked), (seen, values)) = (channel(), channel());
    let mut graph = Graph::new();
    let source = graph.add("source", Work::Source(Box::new(OnDemand(asked))), NodeOptions::default());
    let workers = (0..2).map(|_| Box::new(Threshold { setting: None, seen: seen.clone() }) as Box<dyn Stage>).collect();
    let stage = graph.add("judge", Work::Stages(workers), NodeOptions::default());
    graph.connect(source, stage, EdgeFormat::default());
    let handle = graph.start(RunOptions::default()).expect("a valid graph");
    let switch = handle.switch();
    let value_of_next = |index| {
        ask.send(index).expect("the source listens");
        values.recv().expect("the stage answers")
    };

    assert_eq!(value_of_next(0), 0.5);
    let settings = switch.settings();
    assert_eq!(settings.len(), 1, "workers share it: {settings:?}");
    assert_eq!((settings[0].stage.as_str(), settings[0].name.as_str(), settings[0].value), ("judge", "threshold", 0.5));
    switch.set_setting("judge", "threshold", 0.25).expect("in range");
    assert_eq!((value_of_next(1), value_of_next(2)), (0.25, 0.25));
    for (stage, name, value, words) in [
        ("judge", "threshold", 1.5, "threshold of judge must be from 0 to 1, not 1.5"),
        ("judge", "treshold", 0.5, "judge has no setting `treshold`; it has threshold"),
        ("source", "threshold", 0.5, "source has no settings that can be changed during the run"),
        ("juge", "threshold", 0.5, "there is no stage `juge`; did you mean `judge`?"),
    ] {
        let error = handle.set_setting(stage, name, value).expect_err("refused");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Usage, words));
    }
    assert_eq!(value_of_next(3), 0.25);
    drop(ask);
    let stats = handle.wait().stats;
    assert_eq!(stats.stage("judge").expect("listed").settings["threshold"], 0.25);
    assert!(switch.is_over() && switch.stats().wall_secs == stats.wall_secs);
    let late = switch.set_setting("judge", "threshold", 0.5).expect_err("too late");
    assert_eq!(late.message, "the run has ended; threshold of judge can no longer be changed");
}
