//! Every pipeline file and program of the examples runs and gives the documented result.

mod records_support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use framerail::pipeline::{Chain, Description, DeviceChoice, Origin, RunOptions, check};
use framerail_testkit::models;
use records_support::{Broker, HttpServer, Kafka, RedisServer};
use tempfile::TempDir;

#[allow(dead_code)]
#[path = "../examples/01_run_a_line.rs"]
mod run_a_line;

#[allow(dead_code)]
#[path = "../examples/02_probe_an_edge.rs"]
mod probe_an_edge;

/// Frames of the clip that the examples read: a second of a real one, with a face on each.
const FRAMES: u64 = 30;

/// A folder with the clip that the examples read.
static CLIP: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (from, to) = (framerail_testkit::real_clip("carphone_pristine.mp4"), folder.path().join("clip.mp4"));
    let text = format!("read '{}' duration=1s ! write '{}' preset=veryfast", from.display(), to.display());
    assert_eq!(framerail::run(&text).expect("written").stats.counter("frames_written"), FRAMES);
    folder
});

fn clip() -> PathBuf {
    CLIP.path().join("clip.mp4")
}

/// The pipeline files, by name.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let entries = fs::read_dir(&folder).expect("the folder of examples").map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    assert!(files.len() > 5, "there are examples");
    files
}

/// A pipeline file with these folders instead of the working directory, and the zones file beside it.
fn placed(file: &Path, out: &Path) -> Description {
    parsed(file, placed_text(file, out))
}

fn parsed(file: &Path, text: String) -> Description {
    Description::from_toml(Origin::file(file, text)).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

/// Servers that receive records instead of those named by a pipeline file.
#[derive(Default)]
struct Servers {
    http: Option<HttpServer>,
    _broker: Option<Broker>,
    kafka: Option<Kafka>,
    redis: Option<RedisServer>,
}

impl Servers {
    /// Starts the servers that a file needs and changes its text to name them. `None` if one is missing and may be.
    fn start(text: &mut String) -> Option<Self> {
        let mut servers = Self::default();
        let wanted = ["port = 1883", "http://127.0.0.1:8000/records", "127.0.0.1:9092", "port = 6379"].map(|place| text.contains(place));
        let mut place = |from: &str, to: String| *text = text.replace(from, &to);
        if wanted[0] {
            let broker = Broker::start("allow_anonymous true")?;
            place("port = 1883", format!("port = {}", broker.port));
            servers._broker = Some(broker);
        }
        if wanted[1] {
            let http = HttpServer::start(&[]);
            place("http://127.0.0.1:8000/records", http.url());
            servers.http = Some(http);
        }
        if wanted[2] {
            let kafka = Kafka::start(&["faces:1"])?;
            place("127.0.0.1:9092", kafka.address.clone());
            servers.kafka = Some(kafka);
        }
        if wanted[3] {
            let redis = RedisServer::start(&[])?;
            place("port = 6379", format!("port = {}", redis.port));
            servers.redis = Some(redis);
        }
        Some(servers)
    }

    /// Each has received records.
    fn check(&self, shown: &dyn std::fmt::Display) {
        if let Some(http) = &self.http {
            let posted: usize = http.requests().iter().map(|request| request.frames().len()).sum();
            assert!(posted > 0, "{shown}: nothing was posted");
        }
        if let Some(kafka) = &self.kafka {
            assert!(!kafka.read("faces").is_empty(), "{shown}: Kafka got nothing");
        }
        if let Some(redis) = &self.redis {
            assert!(!redis.read("faces:clip").is_empty(), "{shown}: Redis got nothing");
        }
    }
}

fn placed_text(file: &Path, out: &Path) -> String {
    let text = fs::read_to_string(file).expect("readable");
    let clip_in_text = format!("\"{}\"", clip().display());
    // Tests run in parallel: each uses a free port.
    let text = text.replace("127.0.0.1:8090", "127.0.0.1:0");
    let text = text.replace("\"clip.mp4\"", &clip_in_text).replace("\"out/", &format!("\"{}/", out.display()));
    let zones = format!("\"{}/zones/", file.parent().expect("a folder").display());
    let models = zones.replace("/zones/", "/models/");
    text.replace("\"zones/", &zones).replace("\"models/", &models)
}

/// Outputs of a pipeline file below the output folder; for names with placeholders, their folders.
fn outputs(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("readable");
    let place = |name: &str| match name.split_once('{') {
        Some((before, _)) => before.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned()),
        None => name.to_owned(),
    };
    text.split("\"out/").skip(1).filter_map(|rest| rest.split('"').next().map(place)).collect()
}

fn is_filled(path: &Path) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    }
    fs::metadata(path).is_ok_and(|found| found.len() > 0)
}

fn stages_of<'a>(chain: &'a Chain, names: &mut BTreeSet<&'a str>) {
    for stage in &chain.stages {
        names.insert(&stage.stage.text);
        stage.branches.iter().for_each(|branch| stages_of(branch, names));
    }
}

#[test]
fn every_file_runs_and_writes_what_it_names() {
    let statistics = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/statistics.md")).expect("readable");
    for file in files() {
        let out = tempfile::tempdir().expect("temporary folder");
        let shown = file.display();
        let mut text = placed_text(&file, out.path());
        let Some(servers) = Servers::start(&mut text) else { continue };
        let description = parsed(&file, text);
        let device = description.device.unwrap_or_default();
        if device != DeviceChoice::Auto && framerail::cuda::device_count().is_err() {
            eprintln!("GPU TESTS DID NOT RUN: {shown} asks for {device}, and this machine has no card");
            continue;
        }
        let checked = check(&description, &framerail::registry_for(device));
        let mut plan = checked.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        plan.link().unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let outcome = plan.into_graph().expect("linked").graph.start(RunOptions::default()).expect("started").wait();
        outcome.result.unwrap_or_else(|error| panic!("{shown}: {error}"));
        let (stages, edges) = (&outcome.stats.stages, &outcome.stats.edges);
        for sink in stages.iter().filter(|stage| !edges.iter().any(|edge| edge.from == stage.name)) {
            assert!(sink.frames_in > 0, "{shown}: {} got no frame", sink.name);
        }
        for (stage, counter) in stages.iter().flat_map(|stage| stage.counters.keys().map(|counter| (&stage.name, counter))) {
            assert!(statistics.contains(&format!("`{counter}`")), "docs/statistics.md lacks {counter} of {stage}");
        }
        for output in outputs(&file) {
            assert!(is_filled(&out.path().join(&output)), "{shown}: there is no {output}");
        }
        servers.check(&shown);
    }
}

/// The text of the Python programs.
fn python_programs() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python");
    let entries = fs::read_dir(&folder).expect("the folder of programs").map(|entry| entry.expect("readable").path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .map(|path| fs::read_to_string(path).expect("readable"))
        .collect()
}

#[test]
fn the_models_of_the_examples_are_those_of_the_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    for model in [models::colour_classifier(), models::brightness_depth(), models::lucas_kanade_flow()] {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            model.save_in(&folder);
        }
        let found = |ending: &str| fs::read(folder.join(format!("{}.{ending}", model.name))).unwrap_or_default();
        assert!(found("onnx") == model.onnx && found("toml") == model.card.as_bytes(), "run this test with UPDATE_DOCS=1");
    }
}

#[test]
fn every_stage_has_an_example() {
    let descriptions: Vec<Description> = files().iter().map(|file| placed(file, Path::new("/nowhere"))).collect();
    let mut used = BTreeSet::new();
    descriptions.iter().for_each(|description| stages_of(&description.chain, &mut used));
    // Python-only features are shown there; python/tests runs those programs.
    let programs = python_programs();
    let registry = framerail::registry();
    let is_in_python = |name: &str| matches!(name, "torch" | "python") && programs.contains(&format!(" ! {name} "));
    // `load` needs the records of another run, `identify` an embedding model and pictures of persons; other tests cover them.
    let is_shown = |name: &str| used.contains(name) || is_in_python(name) || matches!(name, "load" | "identify");
    let missing: Vec<&str> = registry.names().filter(|name| !is_shown(name)).collect();
    assert!(missing.is_empty(), "without an example: {missing:?}");
}

#[test]
fn every_file_reads_back_from_its_own_toml() {
    for file in files() {
        let description = placed(&file, Path::new("/nowhere"));
        let again = Description::from_toml(Origin::text(description.to_toml())).expect("its own TOML");
        assert_eq!(again, description, "{}", file.display());
        let text = Description::parse(&description.to_string()).expect("its own text");
        assert_eq!(text.chain, description.chain, "{}", file.display());
    }
}

#[test]
fn the_first_program_runs_a_line() {
    assert_eq!(run_a_line::run(&format!("read '{}' ! sample every=3 ! null", clip().display())).expect("runs"), FRAMES / 3);
}

#[test]
fn the_second_program_sees_detections_and_drops_frames_without() {
    let (kept, dropped) = probe_an_edge::run(&format!("read '{}' ! infer centerface ! null", clip().display())).expect("runs");
    assert_eq!((kept, dropped), (FRAMES, 0), "there is a face on every frame");
    let text = format!("read '{}' ! infer centerface every=2 ! null", clip().display());
    assert_eq!(probe_an_edge::run(&text).expect("runs"), (FRAMES / 2, FRAMES / 2));
    let error = probe_an_edge::run(&format!("read '{}' ! null", clip().display())).expect_err("no infer");
    assert!(error.to_string().contains("no `infer`"), "{error}");
}
