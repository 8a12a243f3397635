//! Commands that do not run a pipeline, and exit codes for wrong commands.

mod common;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use common::{Place, carphone, home};
use framerail_testkit::{AudioCodec, ClipSpec, damage, ffprobe_packets, stream_hashes};
use serde_json::Value;

#[test]
fn help_shows_commands_examples_and_exit_codes() {
    let place = Place::new();
    let help = place.framerail().arg("--help").run();
    help.assert_success();
    for words in ["blur-faces", "inspect", "doctor", "Examples:", "Exit codes:", "130  interrupted"] {
        assert!(help.stdout.contains(words), "'{words}' is missing\n{help}");
    }
    for command in ["run", "blur-faces", "inspect", "probe", "join", "card", "quantize", "doctor", "completions", "man"] {
        let help = place.framerail().args([command, "--help"]).run();
        help.assert_success();
        assert!(help.stdout.contains("Usage: framerail"), "{help}");
    }
}

/// Every command with its help, as `docs/cli.md` shows it.
#[test]
fn the_reference_of_commands_is_current() {
    let place = Place::new();
    let help = |command: &[&str]| {
        let help = place.framerail().args(command).arg("--help").env("COLUMNS", "120").run();
        help.assert_success();
        let lines: Vec<&str> = help.stdout.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    };
    let mut page =
        "# Command line\n\nThe output of `--help`. After a change: `UPDATE_DOCS=1 cargo test -p framerail-cli --test commands`.\n"
            .to_owned();
    for command in ["", "run", "blur-faces", "inspect", "probe", "join", "card", "quantize", "doctor", "completions", "man"] {
        let arguments: &[&str] = if command.is_empty() { &[] } else { &[command] };
        let title = format!("framerail {command}");
        page += &format!("\n## {}\n\n```text\n{}\n```\n", title.trim_end(), help(arguments));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/cli.md is not current: run `UPDATE_DOCS=1 cargo test -p framerail-cli --test commands`");
}

#[test]
fn manual_pages_and_completions_cover_every_command() {
    let place = Place::new();
    let folder = place.path("man");
    place.framerail().arg("man").arg(&folder).run().assert_success();
    let page = fs::read_to_string(folder.join("framerail-blur-faces.1")).expect("a page for each command");
    assert!(page.contains("detect\\-every"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = place.framerail().args(["completions", shell]).run();
        assert!(script.stdout.contains("blur-faces") && script.stdout.contains("detect-every"), "{shell}");
    }
}

#[test]
fn version_names_ffmpeg() {
    let version = Place::new().framerail().arg("--version").run();
    version.assert_success();
    assert!(version.stdout.starts_with("framerail ") && version.stdout.contains("(FFmpeg "), "{version}");
}

#[test]
fn every_option_of_deface_is_there() {
    let help = Place::new().framerail().args(["blur-faces", "--help"]).run();
    let names = "--output --thresh --scale --preview --boxes --draw-scores --mask-scale --replacewith --replaceimg --mosaicsize \
                 --keep-audio --ffmpeg-config --backend --execution-provider --ep --keep-metadata";
    for name in names.split_whitespace() {
        assert!(help.stdout.contains(name), "{name} is missing\n{help}");
    }
}

#[test]
fn a_wrong_command_or_option_gets_the_nearest_name() {
    let place = Place::new();
    place.framerail().arg("blur-face").run().assert_code(2).assert_stderr_contains("blur-faces");
    place.framerail().args(["blur-faces", "in.mp4", "--treshold", "0.5"]).run().assert_code(2).assert_stderr_contains("--thresh");
    place.framerail().args(["run"]).run().assert_code(2);
}

#[test]
fn inspect_lists_stages_and_shows_one() {
    let place = Place::new();
    let list = place.framerail().arg("inspect").run();
    list.assert_success();
    for stage in ["read", "infer", "hold", "blur", "write"] {
        assert!(list.stdout.lines().any(|line| line.starts_with(stage)), "{list}");
    }
    let blur = place.framerail().args(["inspect", "blur"]).run();
    assert!(blur.stdout.contains("mask_scale=") && blur.stdout.contains("default 1.3"), "{blur}");
    let json = place.framerail().args(["inspect", "blur", "--json"]).run();
    let spec: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(spec["name"], "blur");
    place.framerail().args(["inspect", "blurr"]).run().assert_code(2).assert_stderr_contains("did you mean `blur`?");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_framerail"))
        .args(["inspect", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    for arguments in [["--help"].as_slice(), &["--version"], &["run", "--help"], &["help", "run"], &["doctor"], &["completions", "bash"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("opened");
        let done = Command::new(env!("CARGO_BIN_EXE_framerail")).args(arguments).stdout(full).output().expect("started");
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), errors.matches("error:").count()), (Some(4), 1), "{arguments:?}: {errors}");
        assert!(errors.contains("cannot write to standard output"), "{arguments:?}: {errors}");
    }
}

#[test]
fn probe_says_what_a_file_holds() {
    let clip = ClipSpec::default().audio(AudioCodec::Aac).title("A title").make();
    let place = Place::new();
    let probe = |arguments: &[&str]| place.framerail().arg("probe").args(arguments).arg(clip.path()).run();
    let json = probe(&["--json", "--count"]);
    json.assert_success();
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(report["streams"][0]["codec"], "h264");
    assert_eq!(report["streams"][0]["video"]["width"], 160);
    assert_eq!(report["streams"][1]["kind"], "audio");
    assert_eq!(report["scan"]["packets"], 16);
    let table = probe(&[]);
    assert!(table.stdout.contains("160x120 yuv420p, 25 frames/s") && table.stdout.contains("title = A title"), "{table}");
}

#[test]
fn pieces_are_joined_as_if_written_at_once() {
    let clip = ClipSpec::default().frames(48).gop(12).b_frames(2).audio(AudioCodec::Aac).title("A title").make();
    let place = Place::new();
    let write = |name: &str, range: &str, options: &str| {
        let text = format!("read {} {range} ! write {name} preset=ultrafast crf=0 {options}", clip.path().display());
        place.framerail().args(["run", "--no-progress", &text]).run().assert_success();
    };
    write("whole.mp4", "", "");
    write("1.mp4", "end=0.48", "audio=no keep_start=yes");
    write("2.mp4", "start=0.48 end=1.16", "audio=no keep_start=yes");
    write("3.mp4", "start=1.16", "audio=no keep_start=yes");
    let join = |arguments: &[&str]| {
        place.framerail().arg("join").args(arguments).args(["--source".as_ref(), clip.path().as_os_str()]).args(["-o", "joined.mp4"]).run()
    };
    let joined = join(&["1.mp4", "2.mp4", "3.mp4"]);
    joined.assert_success();
    assert!(joined.stderr.contains("48 frames of 3 pieces"), "{joined}");
    let (whole, parts) = (place.path("whole.mp4"), place.path("joined.mp4"));
    let times = |path: &Path| ffprobe_packets(path, "v").iter().map(|packet| packet.pts).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(times(&whole), times(&parts));
    assert_eq!(stream_hashes(&whole, "a"), stream_hashes(&parts, "a"));
    join(&["1.mp4"]).assert_code(4).assert_stderr_contains("joined.mp4");
    join(&["1.mp4", "none.mp4", "--overwrite"]).assert_code(3).assert_stderr_contains("none.mp4");
    write("other.mp4", "start=0.48", "audio=no keep_start=yes size=64x48");
    join(&["1.mp4", "other.mp4", "--overwrite"]).assert_code(3).assert_stderr_contains("other settings than the first");
    assert_eq!(times(&whole), times(&parts), "what was there stays");
}

#[test]
fn probe_goes_on_after_a_file_that_is_no_media() {
    let place = Place::new();
    let output = place.framerail().arg("probe").arg(damage::text_file("mp4")).arg("missing.mp4").arg(carphone()).arg("--json").run();
    output.assert_code(3).assert_stderr_contains("missing.mp4: no such file");
    let reports: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(reports.as_array().map(Vec::len), Some(1));
    assert_eq!(output.stderr.lines().count(), 2, "{output}");
}

#[test]
fn doctor_says_what_is_there_and_what_is_missing() {
    let place = Place::new();
    let well = place.framerail().arg("doctor").run();
    well.assert_success();
    for words in ["ok    FFmpeg", "ok    ONNX Runtime", "centerface", "GPU"] {
        assert!(well.stdout.contains(words), "'{words}' is missing\n{well}");
    }
    let bare = place.bare_framerail().arg("doctor").run();
    bare.assert_code(1).assert_stderr_contains("not ready: ");
    assert!(bare.stdout.contains("FAIL  model") && bare.stdout.contains("make setup"), "{bare}");
    let json = place.framerail().args(["doctor", "--json"]).run();
    assert!(serde_json::from_str::<Value>(&json.stdout).is_ok_and(|findings| findings.is_array()), "{json}");
}

#[test]
fn completions_know_the_commands() {
    let script = Place::new().framerail().args(["completions", "bash"]).run();
    script.assert_success();
    assert!(script.stdout.contains("blur-faces"), "{script}");
}

#[test]
fn a_card_is_written_for_a_model_and_tried() {
    let place = Place::new();
    place.copy(&home().join("models/centerface.onnx"), "faces.onnx");
    let written = place.framerail().args(["card", "faces.onnx", "--try"]).arg(carphone()).run();
    written.assert_success();
    for words in ["faces.onnx -> faces.toml", "heatmap: scores", "unknown: input.channel_order", "detections in 120 frames", "faces.png"] {
        assert!(written.stderr.contains(words), "'{words}' is missing\n{written}");
    }
    let card = fs::read_to_string(place.path("faces.toml")).expect("written");
    assert!(card.contains("# UNKNOWN: ") && card.contains("file = \"faces.onnx\""), "{card}");
    assert!(fs::read(place.path("faces.png")).expect("written").starts_with(b"\x89PNG"));
    // Existing files are not replaced, and unrecognised outputs are listed.
    place.framerail().args(["card", "faces.onnx"]).run().assert_code(4).assert_stderr_contains("faces.toml");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/skin.onnx"), place.path("skin.onnx")).expect("copied");
    place.framerail().args(["card", "skin.onnx", "-o", "a.txt"]).run().assert_code(2).assert_stderr_contains(".toml");
    place.framerail().args(["card", "none.onnx"]).run().assert_code(5).assert_stderr_contains("none.onnx");
    place.framerail().args(["card", "skin.onnx"]).run().assert_success();
}

/// Python with ONNX Runtime's quantisation tools, from what set-up installed; `None` where it did not have to convert models.
fn quantization_python() -> Option<(PathBuf, OsString)> {
    let python = home().join("convert-venv/bin/python");
    let packages = |venv: &str| {
        let lib = fs::read_dir(home().join(venv).join("lib")).ok()?;
        lib.flatten().map(|entry| entry.path().join("site-packages")).find(|packages| packages.is_dir())
    };
    let path = env::join_paths([packages("venv")?, packages("python-venv")?]).ok()?;
    let works = Command::new(&python).args(["-c", "import onnxruntime.quantization"]).env("PYTHONPATH", &path).output();
    works.is_ok_and(|output| output.status.success()).then_some((python, path))
}

/// Generated footage of a real face: int8 finds what float32 finds, and `precision=int8` finds the model.
#[test]
fn a_quantised_model_agrees_with_float32() {
    let Some((python, packages)) = quantization_python() else {
        eprintln!("NOT TESTED: no Python with ONNX Runtime's quantisation tools; `make setup` makes one when it converts models");
        return;
    };
    let place = Place::new();
    place.copy(&carphone(), "in.mp4");
    place.copy(&home().join("models/centerface.onnx"), "face.onnx");
    let card = include_str!("../../../models/centerface.toml").replace("centerface.onnx", "face.onnx");
    place.write("face.toml", &card);
    let quantize = |more: &[&str]| {
        let quantize = ["quantize", "face.toml", "--clips", "in.mp4", "--frames", "8", "--json"];
        let command = place.framerail().args(quantize).args(more).arg("--python").arg(&python).env("PYTHONPATH", &packages);
        command.time_limit(Duration::from_secs(300)).run()
    };
    let done = quantize(&["--contact-sheet", "sheet.png"]);
    done.assert_success();
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert!(report["recall"].as_f64() >= Some(0.99) && report["precision"].as_f64() >= Some(0.98), "{report}");
    assert!(report["agreement"]["worst_iou"].as_f64() > Some(0.8) && report["calibration_frames"] == 4, "{report}");
    // The layers of the scores stay in float32, and the margin is at least the usual difference of scores.
    let layers = report["float_layers"].as_array().expect("layers");
    assert!(layers.len() >= 5 && layers.iter().any(|layer| layer.as_str().is_some_and(|layer| layer.starts_with("Sigmoid"))), "{report}");
    assert!(report["recheck_margin"].as_f64() > Some(0.0) && report["rechecked_frames"] == 0, "{report}");
    assert_eq!(place.names(), ["face-int8.onnx", "face-int8.toml", "face.onnx", "face.toml", "in.mp4", "sheet.png"]);
    quantize(&[]).assert_code(4).assert_stderr_contains("face-int8.toml exists");

    let run = |options: &str| {
        let pipeline = format!("read in.mp4 ! sample every=20 ! infer face.toml {options} ! null");
        place.framerail().args(["run", &pipeline, "--device", "cpu", "--stats", "s.json", "--overwrite"]).run()
    };
    run("precision=int8").assert_success();
    let stats: Value = serde_json::from_slice(&fs::read(place.path("s.json")).expect("statistics")).expect("JSON");
    assert_eq!(
        (&stats["stages"][2]["counters"]["analysed_in_int8"], &stats["stages"][2]["counters"]["detections"]),
        (&6.into(), &6.into())
    );
    assert_eq!(stats["stages"][2]["counters"]["rechecked_in_fp32"], 0, "no score is close to the threshold");
    // The float32 model has changed since.
    place.write("face.toml", &card.lines().filter(|line| !line.starts_with("sha256")).collect::<Vec<_>>().join("\n"));
    let mut model = fs::read(place.path("face.onnx")).expect("model");
    // A producer's name, as another export would have it.
    model.extend([0x12, 1, b'x']);
    fs::write(place.path("face.onnx"), model).expect("written");
    run("precision=int8").assert_code(5).assert_stderr_contains("run `framerail quantize face.toml` again");
}

#[test]
fn what_quantising_lacks_is_one_line() {
    let place = Place::new();
    place.copy(&carphone(), "in.mp4");
    let quantize = |python: &Path| {
        let quantize = ["quantize", "centerface", "--clips", "in.mp4", "-o", "int8.toml"];
        place.framerail().args(quantize).arg("--python").arg(python).run()
    };
    quantize(Path::new("/none/python")).assert_code(2).assert_stderr_contains("name it with --python");
    let script = place.write("python", "#!/bin/sh\necho '{\"missing\": \"onnx is missing in /usr/bin/python3\"}'\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    quantize(&script).assert_code(5).assert_stderr_contains("onnx is missing in /usr/bin/python3; `pip install onnxruntime onnx`");
    let script = place.write("python", "#!/bin/sh\nexit 3\n");
    quantize(&script).assert_code(5).assert_stderr_contains("Python ended without an answer (exit status: 3): with too little memory");
    assert_eq!(place.names(), ["in.mp4", "python"], "nothing half-written");
}

#[test]
fn precisions_and_providers_that_are_not_there_are_one_line() {
    let place = Place::new();
    place.copy(&carphone(), "in.mp4");
    let run = |options: &str| {
        let pipeline = format!("read in.mp4 ! infer centerface {options} ! null");
        place.framerail().args(["run", &pipeline]).env_remove("VIRTUAL_ENV").run()
    };
    run("precision=int8").assert_code(5).assert_stderr_contains("`framerail quantize centerface --clips YOUR.mp4`");
    if cfg!(target_arch = "x86_64") {
        run("precision=bf16").assert_code(2).assert_stderr_contains("add provider=openvino");
    }
    let openvino = run("provider=openvino");
    // A machine may have the plugin.
    if openvino.code != Some(0) {
        openvino.assert_code(5).assert_stderr_contains("pip install onnxruntime-ep-openvino");
    }
    run("precision=int4").assert_code(2).assert_stderr_contains("int8");
    place.framerail().args(["blur-faces", "in.mp4", "--precision", "int4"]).run().assert_code(2).assert_stderr_contains("int8");
}
