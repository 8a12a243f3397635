//! `framerail run`: diagnostics, exit codes, files.

mod common;
#[path = "common/s3.rs"]
mod s3;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use common::{Place, carphone, wait_until};
use framerail_testkit::{AudioCodec, ClipSpec, Codec, Container, damage, damage::Kind, ffprobe_packets};
use s3::{Fault, S3};
use serde_json::Value;

#[test]
fn mistakes_are_underlined() {
    let output = Place::new().framerail().args(["run", "read in.mp4 ! blurr ! null"]).run();
    output.assert_code(2);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(
        lines,
        ["error: no stage is called `blurr`", "  read in.mp4 ! blurr ! null", "                ^^^^^", "  help: did you mean `blur`?"]
    );
}

#[test]
fn a_file_is_named_with_line_and_column() {
    let place = Place::new();
    place.write("pipeline.toml", "[[stage]]\nuse = \"read\"\nargs = [\"in.mp4\"]\n\n[[stage]]\nuse = \"blurr\"\n");
    place.framerail().args(["run", "pipeline.toml"]).run().assert_code(2).assert_stderr_contains("pipeline.toml:6:7");
    place.framerail().args(["run", "missing.toml"]).run().assert_code(3).assert_stderr_contains("cannot read the pipeline file");
}

#[test]
fn errors_of_stages_that_do_not_fit_say_what_fixes_them() {
    let clip = ClipSpec::default().make();
    let text = format!("read {} ! blur ! write out.mp4", clip.path().display());
    let output = Place::new().framerail().args(["run", &text]).run();
    output.assert_code(2).assert_stderr_contains("needs frames with detections").assert_stderr_contains("infer centerface");
}

#[test]
fn single_frames_go_into_the_current_folder() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    place
        .framerail()
        .args(["run", "read in.mp4 ! tee ( frames still.jpg count=1 ) ( frames '{index}.png' every=10 )"])
        .run()
        .assert_success();
    assert_eq!(place.names(), ["0.png", "10.png", "in.mp4", "still.jpg"]);
}

#[test]
fn no_frame_waits_for_a_batch_or_a_buffer_of_a_stream_that_stays() {
    let place = Place::new();
    place.copy(ClipSpec::default().frames(5).make().path(), "in.mp4");
    let running = place.framerail().args(["run", "read in.mp4 stay=yes ! infer centerface batch=8 ! save -"]).start();
    wait_until(|| running.stdout().lines().filter(|line| line.contains("\"frame\"")).count() >= 5);
    running.signal("INT");
    running.wait().assert_code(130);
}

#[test]
fn images_of_one_kind_are_frames_in_a_folder_a_pattern_and_a_sequence() {
    let place = Place::new();
    let image = |shade: u8| [&b"P6 16 16 255\n"[..], &[shade; 16 * 16 * 3]].concat();
    std::fs::create_dir(place.path("set")).expect("made");
    (0..3u8).for_each(|number| fs::write(place.path(&format!("set/f{number:03}.ppm")), image(number * 100)).expect("written"));
    for source in ["set", "'set/*.ppm'", "set/f%03d.ppm"] {
        let words = format!("read {source} ! null");
        let output = place.framerail().args(["run", &words, "--stats", "stats.json", "--overwrite"]).run();
        output.assert_success();
        let stats: Value = serde_json::from_slice(&fs::read(place.path("stats.json")).expect("written")).expect("JSON");
        let streams = stats["streams"].as_array().expect("a list");
        assert_eq!((streams.len(), &stats["stages"][1]["frames_in"]), (1, &Value::from(3)), "{source}: {output}");
    }
}

#[test]
fn check_opens_everything_and_writes_nothing() {
    let place = Place::new();
    place.copy(&carphone(), "in.mp4");
    let output =
        place.framerail().args(["run", "--check", "--graph", "g.svg", "read in.mp4 ! infer centerface ! blur ! write out.mp4"]).run();
    output.assert_success();
    assert!(output.stdout.starts_with("OK: 4 stages") && output.stdout.contains("176x144 yuv420p"), "{output}");
    assert!(output.stdout.contains("  read: decoded on the "), "it says how: {output}");
    assert_eq!(place.names(), ["g.svg", "in.mp4"]);
}

#[test]
fn words_need_no_quotes_and_statistics_are_written() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "my in.mp4");
    let words = ["run", "read", "my in.mp4", "!", "write", "out.mp4", "--stats", "stats.json", "--graph", "graph.png"];
    let output = place.framerail().args(words).run();
    output.assert_success().assert_stderr_contains("frames/s");
    assert_eq!(ffprobe_packets(&place.path("out.mp4"), "v:0").len(), 16);
    let stats: Value = serde_json::from_slice(&std::fs::read(place.path("stats.json")).expect("written")).expect("JSON");
    assert_eq!(stats["stages"][0]["name"], "read");
    assert_eq!(stats["stages"][1]["frames_in"], 16);
    let png = std::fs::read(place.path("graph.png")).expect("written");
    assert_eq!(png.get(1..4), Some(b"PNG".as_slice()));
    assert!(output.stdout.is_empty(), "{output}");
}

#[test]
fn a_failed_run_still_leaves_its_statistics() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let output =
        place.framerail().args(["run", "read in.mp4 ! write out.mp4 options=nonsuch=1", "--stats", "s.json", "--graph", "g.dot"]).run();
    output.assert_code(2).assert_stderr_contains("nonsuch");
    assert_eq!(place.names(), ["g.dot", "in.mp4", "s.json"]);
}

#[test]
fn places_for_records_are_checked_first() {
    let place = Place::new();
    let run = |option: &str, file: &str| place.framerail().args(["run", "read missing.mp4 ! null", option, file]).run();
    run("--graph", "graph.jpeg").assert_code(2).assert_stderr_contains(".svg, .dot or .png");
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let run = |option: &str, file: &str| place.framerail().args(["run", "read in.mp4 ! null", option, file]).run();
    run("--stats", "in.mp4/stats.json").assert_code(4).assert_stderr_contains("in.mp4 is not a folder");
}

#[test]
fn each_kind_of_failure_has_its_code() {
    let place = Place::new();
    place.copy(&carphone(), "in.mp4");
    place.write("out.mp4", "here first");
    let run = |text: &str| place.framerail().args(["run", "-q", text]).run();
    run("read missing.mp4 ! null").assert_code(3).assert_stderr_contains("no such file");
    run("read in.mp4 ! write out.mp4").assert_code(4).assert_stderr_contains("exists");
    run("read in.mp4 ! write out.mp4/no.mp4").assert_code(4);
    run("read in.mp4 ! infer centreface ! null").assert_code(5).assert_stderr_contains("did you mean 'centerface'?");
    place.framerail().env("ORT_DYLIB_PATH", "no.so").args(["run", "read in.mp4 ! infer centerface ! null"]).run().assert_code(5);
    assert_eq!(place.names(), ["in.mp4", "out.mp4"]);
}

#[test]
fn a_gpu_that_is_missing_is_an_error_when_it_was_asked_for() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let run = |words: &[&str]| place.framerail().arg("run").args(words).run();
    let missing = "device=cuda:63 cannot be used: ";
    run(&["read in.mp4 ! null", "--device", "cuda:63"]).assert_code(6).assert_stderr_contains(missing).assert_stderr_contains("doctor");
    run(&["read in.mp4 device=cuda:63 ! null"]).assert_code(6).assert_stderr_contains(missing);
    run(&["read in.mp4 ! infer centerface device=cuda:63 ! null", "--device", "cpu"]).assert_code(6).assert_stderr_contains(missing);
    run(&["read in.mp4 device=cpu ! null", "--device", "cuda:63"]).assert_success();
    run(&["read in.mp4 ! null", "--device", "gpu"]).assert_code(2).assert_stderr_contains("cuda:N");
    place.write("card.toml", "device = \"cuda:63\"\n[[stage]]\nuse = \"read\"\nargs = [\"in.mp4\"]\n[[stage]]\nuse = \"null\"\n");
    run(&["card.toml"]).assert_code(6).assert_stderr_contains(missing);
    run(&["card.toml", "--device", "cpu"]).assert_success();
}

#[test]
fn a_machine_without_a_gpu_gets_no_notice() {
    if framerail::devices::is_gpu_present() {
        eprintln!("this machine has a card: not tested here");
        return;
    }
    let place = Place::new();
    place.copy(&carphone(), "in.mp4");
    let output = place
        .framerail()
        .args(["run", "--device", "auto", "read in.mp4 duration=0.2 ! infer centerface ! null", "--stats", "s.json"])
        .run();
    output.assert_success();
    assert!(!output.stderr.to_lowercase().contains("cuda"), "{output}");
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(place.path("s.json")).expect("written")).expect("JSON");
    assert_eq!((&stats["stages"][0]["syncs"], &stats["stages"][0]["memory"]), (&serde_json::json!(0), &serde_json::json!([])));
}

#[test]
fn quiet_says_nothing() {
    let clip = ClipSpec::default().make();
    let output = Place::new().framerail().args(["run", "-q", &format!("read {} ! null", clip.path().display())]).run();
    output.assert_success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}

#[test]
fn damage_fails_only_when_strict() {
    let clip = ClipSpec::default().frames(48).make();
    let damaged = damage::wreck_packets(clip.path(), &[5, 6, 7]);
    let text = format!("read {} ! null", damaged.display());
    let place = Place::new();
    place.framerail().args(["run", &text]).run().assert_success();
    place.framerail().args(["run", "--strict", &text]).run().assert_code(7).assert_stderr_contains("the input was damaged: ");
}

/// Counters of `read` for losses and repairs.
const DAMAGE: [&str; 11] = [
    "container_errors",
    "decode_errors",
    "frames_dropped",
    "frames_lost",
    "frames_repaired",
    "images_missing",
    "packets_corrupt",
    "packets_dropped",
    "packets_lost",
    "sources_ended_early",
    "timestamps_repaired",
];

/// A sample; `FRAMERAIL_DAMAGE_SEEDS` tries every kind of damage with that many seeds on each clip.
#[test]
fn strict_fails_exactly_when_something_was_lost() {
    let seeds: Option<u64> = std::env::var("FRAMERAIL_DAMAGE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let place = Place::new();
    let strict = |name: &str| {
        let text = format!("read {name} ! null");
        let output = place.framerail().args(["run", "-q", "--strict", &text, "--stats", "stats.json", "--overwrite"]).run();
        let code = output.code.expect("an exit code");
        let read = fs::read(place.path("stats.json")).ok().filter(|_| code == 0 || code == 7).map(|bytes| {
            let stats: Value = serde_json::from_slice(&bytes).expect("JSON");
            let counters = &stats["stages"][0]["counters"];
            let is_damaged = DAMAGE.iter().any(|name| counters[*name].as_u64().expect(name) > 0);
            (stats["stages"][0]["frames_out"].as_u64().expect("a count"), is_damaged)
        });
        (code, read)
    };
    let clips =
        [(Codec::H264, Container::Mp4), (Codec::Mpeg4, Container::Avi), (Codec::Mjpeg, Container::Mkv), (Codec::H264, Container::Ts)];
    for (at, (codec, container)) in clips.into_iter().enumerate() {
        let clip = ClipSpec::new(codec, container).frames(20).gop(5).make();
        let intact = fs::read(clip.path()).expect("made");
        let name = format!("clip.{}", clip.path().extension().expect("an ending").display());
        fs::write(place.path(&name), &intact).expect("written");
        assert_eq!(strict(&name), (0, Some((20, false))), "{name} is intact");
        let kinds = Kind::ALL.into_iter().skip(at).step_by(if seeds.is_some() { 1 } else { 4 });
        for (kind, seed) in kinds.flat_map(|kind| (0..seeds.unwrap_or(1)).map(move |seed| (kind, seed))) {
            fs::write(place.path(&name), kind.applied(&intact, seed)).expect("written");
            let (code, read) = strict(&name);
            let Some((frames, is_damaged)) = read else {
                assert_eq!(code, 3, "{name}, {kind:?} {seed}");
                continue;
            };
            assert_eq!(code == 7, is_damaged, "{name}, {kind:?} {seed}");
            // A broadcast has no end, so frames that are cut off are not missed.
            let counts_frames = container != Container::Ts || kind != Kind::Half;
            assert!(code == 7 || frames == 20 || !counts_frames, "{name}, {kind:?} {seed}: {frames} frames and no word");
        }
    }
}

/// Encoders delay audio by a few milliseconds: usual, so there is no notice.
#[test]
fn streams_that_start_a_few_milliseconds_apart_are_no_notice() {
    let place = Place::new();
    let clip = ClipSpec::default().frames(25).audio(AudioCodec::Aac).make();
    for (offset, name) in [("0.023", "late.mp4"), ("-0.023", "early.mkv"), ("0", "plain.ts")] {
        let output = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y", "-i"])
            .arg(clip.path())
            .args(["-itsoffset", offset, "-i"])
            .arg(clip.path())
            .args(["-map", "0:v", "-map", "1:a", "-c", "copy"])
            .arg(place.path(name))
            .status();
        assert!(output.expect("ffmpeg is installed").success());
        let text = format!("read {name} ! tee ( write {name}.mp4 preset=ultrafast ) ( write {name}.mkv preset=ultrafast )");
        let output = place.framerail().args(["run", "-q", "--strict", &text, "--stats", "stats.json", "--overwrite"]).run();
        output.assert_success();
        assert_eq!(output.stderr, "", "{name}");
        let stats: Value = serde_json::from_slice(&fs::read(place.path("stats.json")).expect("written")).expect("JSON");
        for stage in stats["stages"].as_array().expect("stages") {
            assert!(stage["notices"].as_array().expect("notices").is_empty(), "{name}: {stage}");
        }
    }
}

#[test]
fn frames_that_were_not_sent_fail_only_when_strict() {
    let clip = ClipSpec::default().frames(100).make();
    for (strict, code) in [(false, 0), (true, 7)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = thread::spawn(move || {
            // The first connection breaks, the second receives everything.
            let first = listener.accept().expect("a connection").0;
            first.take(20_000).read_to_end(&mut Vec::new()).expect("readable");
            listener.accept().expect("another").0.read_to_end(&mut Vec::new()).expect("readable");
        });
        let text = format!("read {} ! write tcp://127.0.0.1:{port} retry_wait=50ms buffer=10", clip.path().display());
        let mut arguments = vec!["run", &text];
        arguments.extend(strict.then_some("--strict"));
        let output = Place::new().framerail().args(arguments).run();
        output.assert_code(code);
        output.assert_stderr_contains("dropped (write: not sent)");
        if strict {
            output.assert_stderr_contains("not everything could be sent: frames not sent");
        }
        server.join().expect("two connections");
    }
}

#[test]
fn a_stream_that_failed_fails_only_when_strict() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "good.mp4");
    place.write("bad.mp4", "no media at all");
    let text = "read good.mp4 bad.mp4 streams=all on_error=end ! null";
    place.framerail().args(["run", text]).run().assert_success();
    place.framerail().args(["run", "--strict", text]).run().assert_code(7).assert_stderr_contains("streams failed 1");
}

/// Runs; fails unless it exits with 4 and these words and leaves every file unchanged.
#[track_caller]
fn leaves_all_alone(place: &Place, arguments: &[&str], words: &str) {
    let contents = || place.names().into_iter().map(|name| (fs::read(place.path(&name)).ok(), name)).collect::<Vec<_>>();
    let before = contents();
    place.framerail().args(["run", "-q", "--overwrite"]).args(arguments).run().assert_code(4).assert_stderr_contains(words);
    assert!(contents() == before, "{arguments:?} changed something");
}

#[test]
fn nothing_that_a_run_reads_is_replaced() {
    let place = Place::new();
    let clip = ClipSpec::default().frames(4).make();
    for name in ["a/x.mp4", "b/x.mp4", "in.mp4"] {
        place.copy(clip.path(), name);
    }
    place.framerail().args(["run", "-q", "read in.mp4 ! frames . count=2"]).run().assert_success();
    place.framerail().args(["run", "-q", "read in.mp4 ! write cam.m3u8"]).run().assert_success();
    std::os::unix::fs::symlink("in.mp4", place.path("link.json")).expect("linked");
    place.write("p.toml", "[[stage]]\nuse = \"read\"\nargs = [\"in.mp4\"]\n[[stage]]\nuse = \"null\"\n");
    let same = "output and input are the same file";
    let b = fs::read(place.path("b/x.mp4")).expect("there");
    leaves_all_alone(&place, &["read a/x.mp4 b/x.mp4 ! write b/{name}.mp4"], same);
    assert_eq!(fs::read(place.path("b/x.mp4")).expect("there"), b);
    for arguments in [
        &["read in.mp4 ! null", "--stats", "in.mp4"][..],
        &["read in.mp4 ! null", "--stats", "link.json"],
        &["read in-%06d.png ! null", "--graph", "in-000001.png"],
        &["read in-*.png ! frames in-{index:06}.png"],
        &["p.toml", "--stats", "p.toml"],
        &["read cam.m3u8 ! write cam.m3u8"],
        &["read cam-00000.ts ! write cam.m3u8"],
        &["read cam.m3u8 ! null", "--stats", "cam-00000.ts"],
    ] {
        leaves_all_alone(&place, arguments, same);
    }
    // Standard input comes from a file.
    let script = format!("exec '{}' run -q --overwrite 'read - ! write in.mp4' < in.mp4", env!("CARGO_BIN_EXE_framerail"));
    let before = fs::read(place.path("in.mp4")).expect("there");
    let output = framerail_testkit::Cli::new("bash").args(["-c", &script]).current_dir(place.path("")).run();
    output.assert_code(4).assert_stderr_contains(same);
    assert_eq!(fs::read(place.path("in.mp4")).expect("there"), before);
}

#[test]
fn no_two_outputs_of_a_run_meet() {
    let place = Place::new();
    place.copy(ClipSpec::default().frames(4).make().path(), "in.mp4");
    let two = "two outputs of this run have this name";
    leaves_all_alone(&place, &["read in.mp4 ! tee ( write o/x.mp4 ) ! write ./o/../o/x.mp4"], two);
    leaves_all_alone(&place, &["read in.mp4 ! tee ( frames o/ ) ! frames o"], two);
    leaves_all_alone(&place, &["read in.mp4 ! write o.mp4", "--stats", "o.mp4"], two);
    leaves_all_alone(&place, &["read in.mp4 ! null", "--stats", "o.svg", "--graph", "o.svg"], two);
    place
        .framerail()
        .args(["run", "-q", "read in.mp4 ! tee ( write /dev/null format=mpegts overwrite=yes ) ! null"])
        .run()
        .assert_success();
}

#[test]
fn records_that_exist_are_replaced_only_when_asked_and_folders_are_made() {
    let place = Place::new();
    place.copy(ClipSpec::default().frames(4).make().path(), "in.mp4");
    let run = |more: &[&str]| {
        place
            .framerail()
            .args(["run", "-q", "read in.mp4 ! write o/{name}.mp4", "--stats", "r/s.json", "--graph", "r/g.svg"])
            .args(more)
            .run()
    };
    run(&[]).assert_success();
    assert_eq!(
        (place.names(), common::names(&place.path("r"))),
        (vec!["in.mp4".into(), "o".into(), "r".into()], vec!["g.svg".into(), "s.json".into()])
    );
    run(&[]).assert_code(4).assert_stderr_contains("r/s.json exists");
    run(&["--overwrite"]).assert_success();
}

fn has_partial(place: &Place) -> bool {
    place.names().iter().any(|name| name.starts_with(".out.partial-"))
}

#[test]
fn a_file_that_appears_meanwhile_costs_neither_it_nor_the_new_one() {
    let place = Place::new();
    assert!(std::process::Command::new("mkfifo").arg(place.path("in.y4m")).status().expect("mkfifo").success());
    let running = place.framerail().args(["run", "read in.y4m ! write out.mp4 preset=ultrafast"]).start();
    let mut input = fs::OpenOptions::new().write(true).open(place.path("in.y4m")).expect("a reader");
    input.write_all(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n").expect("taken");
    (0..25).for_each(|_| input.write_all(&[&b"FRAME\n"[..], &[99; 64 * 48 * 3 / 2]].concat()).expect("taken"));
    wait_until(|| has_partial(&place));
    place.write("out.mp4", "another's work");
    drop(input);
    running.wait().assert_code(4).assert_stderr_contains("out-2.mp4");
    assert_eq!(fs::read(place.path("out.mp4")).expect("there"), b"another's work");
    assert_eq!(ffprobe_packets(&place.path("out-2.mp4"), "v:0").len(), 25);
    assert_eq!(place.names(), ["in.y4m", "out-2.mp4", "out.mp4"]);
}

#[test]
fn ctrl_c_does_not_replace_an_older_file() {
    let place = Place::new();
    place.write("out.mp4", "an older complete file");
    place.copy(ClipSpec::default().frames(250).make().path(), "in.mp4");
    let running = place.framerail().args(["run", "read in.mp4 realtime=yes ! write out.mp4 preset=ultrafast", "--overwrite"]).start();
    wait_until(|| has_partial(&place));
    running.signal("INT");
    running.wait().assert_code(130).assert_stderr_contains("out.unfinished.mp4");
    assert_eq!(fs::read(place.path("out.mp4")).expect("there"), b"an older complete file");
    assert_eq!(place.names(), ["in.mp4", "out.mp4", "out.unfinished.mp4"]);
    assert!(ffprobe_packets(&place.path("out.unfinished.mp4"), "v:0").len() < 250);
}

#[test]
fn a_stream_goes_from_standard_input_to_standard_output() {
    let place = Place::new();
    let clip = ClipSpec::default().frames(8).make();
    let through = |output: &str| {
        place.framerail().args(["run", "-q", &format!("read - ! {output}")]).stdin(fs::read(clip.path()).expect("there")).run()
    };
    for format in ["matroska", "mp4", "mpegts"] {
        let output = through(&format!("write - format={format} preset=ultrafast"));
        output.assert_success();
        fs::write(place.path("o"), &output.stdout_bytes).expect("written");
        assert_eq!(ffprobe_packets(&place.path("o"), "v:0").len(), 8, "{format}");
    }
    through("write -").assert_code(2).assert_stderr_contains("format=");
}

#[test]
fn a_killed_run_leaves_what_it_wrote_for_the_next_to_keep() {
    let place = Place::new();
    place.copy(ClipSpec::default().frames(250).make().path(), "in.mp4");
    let running = place.framerail().args(["run", "-q", "read in.mp4 realtime=yes ! write out.mp4 crash_safe=yes low_latency=yes"]).start();
    let partial = || place.names().into_iter().find(|name| name.starts_with(".out.partial-") && name.ends_with(".mp4"));
    wait_until(|| partial().is_some_and(|name| fs::metadata(place.path(&name)).is_ok_and(|found| found.len() > 4000)));
    running.signal("KILL");
    running.wait();
    let name = partial().expect("left");
    let frames = ffprobe_packets(&place.path(&name), "v:0").len();
    assert!(frames > 0, "playable under its partial name");
    let next = place.framerail().args(["run", "read in.mp4 end=0.2 ! write out.mp4"]).run();
    next.assert_success().assert_stderr_contains("out.unfinished.mp4");
    assert_eq!(place.names(), ["in.mp4", "out.mp4", "out.unfinished.mp4"]);
    assert_eq!(ffprobe_packets(&place.path("out.unfinished.mp4"), "v:0").len(), frames);
}

#[test]
fn objects_are_read_and_written_like_files() {
    let (place, storage) = (Place::new(), S3::start());
    let clip = ClipSpec::default().frames(30).make();
    // Keys are names, not URLs.
    let key = "in/a b%20\u{e9}#1?x=y.mp4";
    storage.put(key, fs::read(clip.path()).expect("a clip"));
    let run =
        |arguments: &[&str]| storage.reached_by(place.framerail()).env("TMPDIR", place.path("")).args(["run", "-q"]).args(arguments).run();
    let text = format!(
        "read 's3://bucket/{key}' ! infer centerface size=128x96 every=10 ! tee ( save s3://bucket/out/x.parquet ) ! write s3://bucket/out/{{name}}.mp4"
    );
    run(&[&text, "--stats", "s3://bucket/stats.json"]).assert_success();
    assert_eq!(storage.keys(), [key, "out/a b%20\u{e9}#1?x=y.mp4", "out/x.parquet", "stats.json"]);
    let written = place.path("out.mp4");
    fs::write(&written, storage.get("out/a b%20\u{e9}#1?x=y.mp4").expect("there")).expect("written");
    assert_eq!(ffprobe_packets(&written, "v").len(), 30);
    let stats: Value = serde_json::from_slice(&storage.get("stats.json").expect("there")).expect("JSON");
    let counters = &stats["stages"][0]["counters"];
    assert!(counters["requests"].as_u64() > Some(0) && counters["requests_repeated"] == 0, "{counters}");
    assert!(counters["bytes_fetched"].as_u64() >= Some(fs::metadata(clip.path()).expect("a clip").len()), "{counters}");
    // Existing objects are kept, and an input is never replaced.
    run(&[&text]).assert_code(4).assert_stderr_contains("exists; choose another name");
    run(&[&text, "--overwrite"]).assert_success();
    let same = format!("read 's3://bucket/{key}' ! write 's3://bucket/{key}'");
    run(&[&same, "--overwrite"]).assert_code(4).assert_stderr_contains("output and input are the same file");
    fs::remove_file(&written).expect("there");
    let is_left = |name: &String| ["partial", "mp4", "parquet", "json"].iter().any(|part| name.contains(part));
    assert!(!place.names().iter().any(is_left), "nothing stays on this machine: {:?}", place.names());
}

#[test]
fn folders_and_patterns_of_object_storage_are_their_videos() {
    let (place, storage) = (Place::new(), S3::start());
    let clip = fs::read(ClipSpec::default().frames(5).make().path()).expect("a clip");
    for key in ["v/2.mp4", "v/10.mp4", "v/below/3.mp4", "v/notes.txt", "v/[1].mkv", "w/empty.mp4"] {
        storage.put(key, if key.starts_with('w') { Vec::new() } else { clip.clone() });
    }
    let run = |text: &str| storage.reached_by(place.framerail()).args(["run", "-q", text]).run();
    for (source, files) in [
        ("s3://bucket/v/", &["10.mkv", "2.mkv", "1].mkv"][..]),
        ("s3://bucket/v/*.mp4", &["10.mkv", "2.mkv"]),
        ("s3://bucket/v/*/*.mp4", &["3.mkv"]),
        ("s3://bucket/v/[1].mkv", &["1].mkv"]),
    ] {
        run(&format!("read '{source}' ! write out/{{name}}.mkv")).assert_success();
        let names = common::names(&place.path("out"));
        assert!(names.len() == files.len() && names.iter().zip(files).all(|(name, end)| name.ends_with(end)), "{source}: {names:?}");
        fs::remove_dir_all(place.path("out")).expect("there");
    }
    for (source, words) in [
        ("s3://bucket/none/", "the folder contains no video"),
        ("s3://bucket/v/*.avi", "no object matches"),
        ("s3://bucket/v/4.mp4", "no such"),
        ("s3://other/v/4.mp4", "the bucket does not exist"),
        ("s3://other/v/", "the bucket does not exist"),
        ("s3://bucket/w/empty.mp4", "the object is empty"),
        ("s3:///v/4.mp4", "the address has no bucket"),
        ("s3://me:secret@bucket/v/4.mp4", "credentials in an address are not used"),
        ("s3://bucket/v//4.mp4", "its key has an empty part"),
        ("hf://me/model", "not a file of a repository"),
    ] {
        let output = run(&format!("read '{source}' ! null"));
        output.assert_code(3).assert_stderr_contains(words);
        assert!(!output.stderr.contains("secret"), "{output}");
    }
}

#[test]
fn faults_of_object_storage_are_waited_out_or_reported_at_once() {
    let (place, storage) = (Place::new(), S3::start());
    storage.put("in.mp4", fs::read(ClipSpec::default().frames(30).make().path()).expect("a clip"));
    let run = |text: &str| {
        storage
            .reached_by(place.framerail())
            .env("TMPDIR", place.path(""))
            .args(["run", "-q", text, "--stats", "s.json", "--overwrite"])
            .run()
    };
    storage.fail("GET", [Fault::Busy, Fault::Cut, Fault::Slow]);
    run("read s3://bucket/in.mp4 ! null").assert_success();
    let stats: Value = serde_json::from_str(&fs::read_to_string(place.path("s.json")).expect("written")).expect("JSON");
    assert!(stats["stages"][0]["counters"]["requests_repeated"].as_u64() >= Some(2), "{stats}");
    storage.fail("GET", [Fault::Expired; 20]);
    run("read s3://bucket/in.mp4 ! null").assert_code(3).assert_stderr_contains("ExpiredToken: The provided token has expired.");
    assert!(storage.faults_left() > 15, "it was tried again");
    storage.fail("GET", [Fault::Busy; 20]);
    run("read s3://bucket/in.mp4 ! null").assert_code(3).assert_stderr_contains("SlowDown");
    storage.fail("GET", []);
    fs::remove_file(place.path("s.json")).expect("there");

    // More than one part, with a busy storage.
    storage.put("large.mp4", fs::read(ClipSpec::default().size(1280, 720).frames(8).make().path()).expect("a clip"));
    let large = "read s3://bucket/large.mp4 ! write s3://bucket/out/raw.nut codec=rawvideo";
    storage.fail("PUT", [Fault::Busy, Fault::Cut, Fault::Busy]);
    run(large).assert_success();
    assert!(storage.get("out/raw.nut").is_some_and(|object| object.len() > 8 << 20) && storage.parts() == 0 && storage.faults_left() == 0);
    // What cannot be uploaded is kept locally, and nothing of it remains in the storage.
    for text in [large.replace("raw.nut", "no.nut"), "read s3://bucket/in.mp4 ! write s3://bucket/out/no.mp4".to_owned()] {
        storage.fail("PUT", [Fault::Expired; 50]);
        let output = run(&text);
        output
            .assert_code(4)
            .assert_stderr_contains("cannot be uploaded")
            .assert_stderr_contains("ExpiredToken")
            .assert_stderr_contains("kept as");
        assert!(storage.keys().iter().all(|key| !key.contains("no.")) && storage.parts() == 0, "{:?}", storage.keys());
    }
    let kept = |name: &str| ffprobe_packets(&place.path(name), "v").len();
    assert!(kept("no.not-uploaded.mp4") == 30 && kept("no.not-uploaded.nut") == 8, "{:?}", place.names());
    // Whether the storage can be reached is known before anything is decoded.
    place.copy(ClipSpec::default().frames(5).make().path(), "in.mp4");
    for target in ["other.mp4", "{name}.mp4"] {
        storage.fail("GET", [Fault::Expired; 5]);
        run(&format!("read in.mp4 ! write s3://bucket/out/{target}")).assert_code(4).assert_stderr_contains("ExpiredToken");
        assert_eq!(storage.faults_left(), 4);
    }
    storage.fail("GET", []);
    run("read s3://bucket/in.mp4 ! write hf://datasets/me/x/out.mp4").assert_code(4).assert_stderr_contains("read only");
}

#[test]
fn buckets_of_google_are_read_and_written_through_faults() {
    let (place, storage) = (Place::new(), S3::start());
    storage.put("in/a b%.mp4", fs::read(ClipSpec::default().frames(30).make().path()).expect("a clip"));
    storage.put("large.mp4", fs::read(ClipSpec::default().size(1280, 720).frames(8).make().path()).expect("a clip"));
    let run = |text: &str| storage.reached_by(place.framerail()).env("TMPDIR", place.path("")).args(["run", "-q", text]).run();
    storage.fail("GET", [Fault::Busy, Fault::Cut, Fault::Slow]);
    run("read gs://bucket/in/*.mp4 ! write gs://bucket/out/{name}.mp4").assert_success();
    // More than one part.
    let large = "read gs://bucket/large.mp4 ! write gs://bucket/out/raw.nut codec=rawvideo";
    storage.fail("PUT", [Fault::Busy, Fault::Cut, Fault::Busy]);
    run(large).assert_success();
    assert_eq!(storage.keys(), ["in/a b%.mp4", "large.mp4", "out/a b%.mp4", "out/raw.nut"]);
    assert!(storage.get("out/raw.nut").is_some_and(|object| object.len() > 8 << 20) && storage.parts() == 0 && storage.faults_left() == 0);
    run(large).assert_code(4).assert_stderr_contains("gs://bucket/out/raw.nut exists");
    for (source, words) in [
        ("gs://bucket/none.mp4", "no such"),
        ("gs://other/a.mp4", "the bucket does not exist"),
        ("gs:///a.mp4", "write it as gs://bucket/folder/name"),
    ] {
        run(&format!("read {source} ! null")).assert_code(3).assert_stderr_contains(words);
    }
    let without_key = storage.reached_by(place.framerail()).env("GOOGLE_SERVICE_ACCOUNT_KEY", "{}");
    let refused = without_key.args(["run", "-q", "read gs://bucket/large.mp4 ! null"]).run();
    refused.assert_code(3).assert_stderr_contains("the credentials in the environment cannot be used: Unable to decode");
    assert!(!refused.stderr.contains("Generic"), "{refused}");
}

/// Segments are uploaded before the playlist that lists them; a playlist that slides removes what it no longer lists.
#[test]
fn a_playlist_in_a_bucket_is_whole_at_every_moment() {
    let (place, storage) = (Place::new(), S3::start());
    place.copy(ClipSpec::default().frames(100).make().path(), "in.mp4");
    let run = |text: &str| {
        let _ = fs::remove_file(place.path("s.json"));
        storage.reached_by(place.framerail()).env("TMPDIR", place.path("")).args(["run", "-q", text, "--stats", "s.json"]).run()
    };
    let keys = |folder: &str| storage.keys().into_iter().filter(|key| key.starts_with(folder)).collect::<Vec<_>>();
    let playlist = |name: &str| String::from_utf8(storage.get(name).expect("there")).expect("text");

    storage.fail("PUT", [Fault::Busy, Fault::Cut]);
    let text = "read in.mp4 ! write s3://bucket/all/cam.m3u8 segment=1s preset=ultrafast";
    run(text).assert_success();
    assert_eq!(keys("all/").len(), 5, "{:?}", keys("all/"));
    assert!(playlist("all/cam.m3u8").contains("cam-00003.ts") && playlist("all/cam.m3u8").contains("#EXT-X-ENDLIST"));
    fs::create_dir(place.path("all")).expect("a folder");
    keys("all/").iter().for_each(|key| fs::write(place.path(key), storage.get(key).expect("there")).expect("written"));
    run("read all/cam.m3u8 ! null").assert_success();
    let stats: Value = serde_json::from_str(&fs::read_to_string(place.path("s.json")).expect("written")).expect("JSON");
    assert_eq!(stats["stages"][0]["frames_out"], 100);
    run(text).assert_code(4).assert_stderr_contains("exists");
    run(&format!("{text} overwrite=yes")).assert_success();
    assert!(playlist("all/cam.m3u8").contains("cam-00004.ts") && !keys("all/").contains(&"all/cam-00000.ts".to_owned()));

    run("read in.mp4 ! write s3://bucket/live/cam.m3u8 segment=400ms playlist=live segments=2 segment_format=fmp4 preset=ultrafast")
        .assert_success();
    let listed = playlist("live/cam.m3u8");
    assert!(listed.contains("cam-init.mp4") && keys("live/").contains(&"live/cam-init.mp4".to_owned()));
    assert_eq!(listed.lines().filter(|line| line.ends_with(".m4s")).count(), 2, "{listed}");
    assert!(keys("live/").len() <= 7, "{:?}", keys("live/"));

    // What cannot be uploaded at the end is kept.
    storage.fail("PUT", [Fault::Expired; 50]);
    let failed = run("read in.mp4 ! write s3://bucket/no/cam.m3u8 playlist=vod preset=ultrafast");
    failed.assert_code(4).assert_stderr_contains("ExpiredToken").assert_stderr_contains("kept as");
    assert!(keys("no/").is_empty());
}
