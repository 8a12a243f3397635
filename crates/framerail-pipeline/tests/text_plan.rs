//! From a checked text to a graph.
#![allow(clippy::unwrap_used)]

mod text_support;

use std::time::Duration;

use framerail_core::Rational;
use framerail_pipeline::{ArgumentSpec, Description, OptionKind, OptionSpec, Plan, Registry, RegistryError, StageSpec, check};
use text_support::{blur_spec, registry, video};

fn plan(text: &str) -> (Plan, Vec<String>) {
    let (registry, asked) = registry();
    let description = Description::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let mut plan = check(&description, &registry).unwrap_or_else(|errors| panic!("{errors}"));
    plan.link().unwrap_or_else(|errors| panic!("{errors}"));
    let asked = asked.lock().unwrap().clone();
    (plan, asked)
}

#[test]
fn names_differ_and_given_ones_stay() {
    let (plan, _) = plan("read a ! tee ( null ) ( null name=null-2 ) ( null ) ! null name=end");
    let names: Vec<&str> = plan.stages().iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["read", "tee", "null", "null-2", "null-3", "end"]);
    assert!(plan.stages().iter().all(|stage| stage.span.is_some()));
}

#[test]
fn formats_go_down_the_tree() {
    let (plan, _) = plan("read a ! tee ( null ) ! infer c ! blur ! null");
    let detections = |index: usize| plan.stages()[index].input.as_ref().map(|format| format.detections.is_some());
    assert_eq!((0..6).map(detections).collect::<Vec<_>>(), [None, Some(false), Some(false), Some(false), Some(true), Some(true)]);
    assert_eq!(plan.stages()[0].output, Some(video()));
    assert_eq!(plan.stages()[5].output, None);
}

#[test]
fn packets_are_asked_for_only_on_the_way_to_who_writes_them() {
    let (_, asked) = plan("read a ! tee ( sample every=2 ! null ) ! infer c ! write out.mp4");
    assert_eq!(asked, ["read", "tee", "infer"]);
    let (_, asked) = plan("read a ! tee ( save b ) ! null");
    assert!(asked.is_empty(), "{asked:?}");
}

#[test]
fn a_drawing_is_available_before_the_run() {
    let (plan, _) = plan("read a ! tee ( null ) ! null");
    let drawing = plan.drawing();
    assert_eq!(drawing.nodes.len(), 4);
    let edges: Vec<(&str, &str)> = drawing.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str())).collect();
    assert_eq!(edges, [("read", "tee"), ("tee", "null"), ("tee", "null-2")]);
    assert!(drawing.edges.iter().all(|edge| edge.format == "1280x720 yuv420p 25 fps on cpu"));
}

#[test]
fn options_have_the_type_that_the_specification_says() {
    let options = blur_spec().read_options("strength=0.5 kind=mosaic color=#ff8000").unwrap();
    assert_eq!((options.float("strength"), options.choice("kind"), options.count("cells")), (0.5, "mosaic", 8));
    assert_eq!((options.color("color"), options.word("size"), options.optional_size("size")), ([255, 128, 0], Some("auto"), None));
    assert!(options.is_given("strength") && !options.is_given("cells"));
    assert_eq!((options.workers(), options.optional_text("name")), (1, None));
    let sized = blur_spec().read_options("size=64x48 workers=3").unwrap();
    assert_eq!((sized.size("size"), sized.word("size"), sized.workers()), ((64, 48), None, 3));
    assert!(blur_spec().read_options("strength=3").is_err());

    let spec = StageSpec::source("clips", "Reads.")
        .argument(ArgumentSpec::required("inputs", OptionKind::Path, "Videos.").many())
        .option(OptionSpec::time("start").default("1:30"))
        .option(OptionSpec::rate("fps"))
        .option(OptionSpec::switch("loop").default(false))
        .option(OptionSpec::paths("also"))
        .option(OptionSpec::key_values("with"));
    let options = spec.read_options("a.mp4 fps=30000/1001 b.mp4 also='c d,e' loop=yes with=a=1,b=2").unwrap();
    assert_eq!(options.paths("inputs").len(), 2);
    assert_eq!(options.paths("also"), ["c d", "e"].map(std::path::PathBuf::from));
    assert_eq!((options.time("start"), options.optional_rate("fps")), (Duration::from_secs(90), Rational::new(30000, 1001)));
    assert!(options.switch("loop"));
    assert_eq!(options.key_values("with"), [("a".into(), "1".into()), ("b".into(), "2".into())]);
}

#[test]
#[should_panic(expected = "stage `blur` asks for option `speed`, which is not in its specification")]
fn a_stage_that_asks_for_what_it_did_not_specify_is_reported() {
    blur_spec().read_options("").unwrap().float("speed");
}

#[test]
fn a_registry_refuses_what_contradicts_itself() {
    let refused = |spec: StageSpec| {
        let (mut registry, _) = registry();
        registry.register_with(spec, |_| unreachable!("never configured")).unwrap_err().to_string()
    };
    assert_eq!(refused(StageSpec::sink("null", "")), "a stage called `null` is registered already");
    let wrong = |problem: &str| format!("the specification of stage `s` is wrong: {problem}");
    let with = |option: OptionSpec| refused(StageSpec::sink("s", "").option(option));
    assert_eq!(with(OptionSpec::integer("n", 1..=3).default(4)), wrong("the default n=4 is out of range; it must be from 1 to 3"));
    assert_eq!(with(OptionSpec::text("queue")), wrong("the option name `queue` is taken"));
    assert_eq!(with(OptionSpec::text("a b")), wrong("the option name `a b` must be a word of letters, digits and `_`"));
    let twice = StageSpec::sink("s", "").option(OptionSpec::text("a")).option(OptionSpec::text("a"));
    assert_eq!(refused(twice), wrong("`a` is there twice"));
    assert!(matches!(Registry::new().register_with(StageSpec::sink("a b", ""), |_| unreachable!()), Err(RegistryError::Spec { .. })));
}
