//! Bad input to the program: exit code, one clear line, nothing left behind.

mod common;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use common::{Place, SMALL};
use framerail_testkit::{Cli, CliOutput, Clip, ClipSpec, Codec, Container, damage, ffprobe_frames, free_port, real_clip};

fn clip() -> Clip {
    ClipSpec::default().frames(48).fast_start().make()
}

/// A folder with an intact clip, `in.mp4`.
fn place() -> Place {
    let place = Place::new();
    place.copy(clip().path(), "in.mp4");
    place
}

/// Fails unless the program ended with this code, printed one line with these words, and left the folder unchanged.
#[track_caller]
fn refused(place: &Place, cli: Cli, code: i32, words: &[&str]) {
    let before = contents(place);
    let output = cli.run();
    output.assert_code(code);
    assert!(output.stdout.is_empty(), "{output}");
    assert_one_line(&output);
    // The pipeline's text follows, which contains every name.
    let stated: String = output.stderr.lines().filter(|line| line.starts_with("error: ") || line.starts_with("  help: ")).collect();
    for word in words {
        assert!(stated.contains(word), "'{word}' is missing\n{output}");
    }
    assert!(contents(place) == before, "something was left behind, or changed\n{output}");
}

/// One `error:` line, followed at most by the pipeline's text with the position underlined, and a hint.
#[track_caller]
fn assert_one_line(output: &CliOutput) {
    let mut lines = output.stderr.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("error: ")), "{output}");
    assert!(lines.all(|line| line.starts_with("  ")), "{output}");
    for noise in ["os error", "panicked", "Error {", "RUST_BACKTRACE"] {
        assert!(!output.stderr.contains(noise), "{output}");
    }
}

/// Every name in the folder, with the bytes of its files.
fn contents(place: &Place) -> Vec<(String, Option<Vec<u8>>)> {
    place.names().into_iter().map(|name| (name.clone(), fs::read(place.path(&name)).ok())).collect()
}

fn run(place: &Place, pipeline: &str) -> Cli {
    place.framerail().args(["run", "-q", pipeline])
}

#[test]
fn bad_inputs_end_with_3() {
    let place = place();
    place.copy(&damage::text_file("mp4"), "text.mp4");
    place.copy(&damage::empty_file("mp4"), "empty.mp4");
    place.copy(&damage::sound_only(Container::Mp4), "sound.mp4");
    place.copy(&damage::cut(clip().path(), 0.01), "cut.mp4");
    fs::create_dir(place.path("folder")).expect("created");
    for (name, words) in [
        ("none.mp4", "check the name"),
        ("text.mp4", "give a video file"),
        ("empty.mp4", "empty"),
        ("sound.mp4", "no video stream"),
        ("cut.mp4", "cut.mp4"),
        ("folder", "no video"),
    ] {
        refused(&place, run(&place, &format!("read {name} ! write out.mp4")), 3, &[name, words]);
        refused(&place, place.framerail().args(["blur-faces", "-q", name, "-o", "out.mp4"]), 3, &[name, words]);
    }
}

#[test]
fn names_that_are_not_utf8_are_taken_as_arguments() {
    let place = Place::new();
    let name = OsStr::from_bytes(b"not \xff utf-8.mp4");
    fs::copy(ClipSpec::default().frames(2).make().path(), place.path("a.mp4")).expect("copied");
    fs::rename(place.path("a.mp4"), place.path("").join(name)).expect("renamed");
    place.framerail().args([OsStr::new("probe"), name]).run().assert_success();
    let [output, records] = [b"o\xffut{name}.mp4".as_slice(), b"r\xff.jsonl"].map(OsStr::from_bytes);
    let options = ["blur-faces", "-q", SMALL[0], SMALL[1], "-o"].map(OsStr::new);
    place.framerail().args(options.into_iter().chain([output, OsStr::new("--save"), records, name])).run().assert_success();
    for written in [output, records] {
        assert!(place.path("").join(written).is_file(), "{}", written.display());
    }
    let name = framerail::core::run_files::file_address(&place.path("").join(name));
    let url = format!("file://{}", place.path("a%20b.mp4").display());
    place.framerail().args(["run", "-q", &format!("read {name} ! write {url}")]).run().assert_success();
    assert!(place.path("a b.mp4").is_file(), "the URL of a file is that file");
}

#[test]
fn damaged_files_are_done_as_far_as_they_go() {
    let place = place();
    place.copy(&damage::cut(clip().path(), 0.5), "half.mp4");
    let output = place.framerail().args(["run", "read half.mp4 ! write out.mp4 preset=ultrafast"]).run();
    output.assert_success().assert_stderr_contains("half.mp4").assert_stderr_contains("decoded as far as possible");
    assert!((10..40).contains(&ffprobe_frames(&place.path("out.mp4")).len()));
    let strict = ["run", "--strict", "read half.mp4 ! write strict.mp4 preset=ultrafast"];
    place.framerail().args(strict).run().assert_code(7).assert_stderr_contains("damage");
    assert!(place.path("strict.mp4").exists(), "it is kept all the same");
}

#[test]
fn standard_input_is_read_and_its_faults_are_named() {
    let place = Place::new();
    let spec = ClipSpec::new(Codec::H264, Container::Mkv).frames(20);
    let bytes = |clip: &Clip| fs::read(clip.path()).expect("readable");
    let read = |stdin: Vec<u8>| run(&place, "read - ! write out.mp4 preset=ultrafast").stdin(stdin);
    refused(&place, read(Vec::new()), 3, &["-: "]);
    refused(&place, read(b"This is no video.\n".repeat(500)), 3, &["-: "]);
    read(bytes(&spec.make())).run().assert_success();
    assert_eq!(ffprobe_frames(&place.path("out.mp4")).len(), 20);
    fs::remove_file(place.path("out.mp4")).expect("removed");
    read(bytes(&clip())).run().assert_success();
    assert_eq!(ffprobe_frames(&place.path("out.mp4")).len(), 48);
}

#[test]
fn outputs_that_cannot_be_written_end_with_4() {
    let place = place();
    place.write("there.mp4", "somebody's work");
    symlink("in.mp4", place.path("symbolic.mp4")).expect("linked");
    fs::hard_link(place.path("in.mp4"), place.path("hard.mp4")).expect("linked");
    for (output, words) in [
        ("there.mp4/out.mp4", "there.mp4 is not a folder"),
        ("there.mp4", "there.mp4"),
        ("in.mp4", "in.mp4"),
        ("symbolic.mp4", "symbolic.mp4"),
        ("hard.mp4", "hard.mp4"),
    ] {
        refused(&place, run(&place, &format!("read in.mp4 ! write {output}")), 4, &[output, words]);
        refused(&place, place.framerail().args(["blur-faces", "-q", "in.mp4", "-o", output]), 4, &[output]);
    }
    for output in ["in.mp4", "symbolic.mp4", "hard.mp4"] {
        refused(&place, run(&place, &format!("read in.mp4 ! write {output} overwrite=true")), 4, &[output, "the same file"]);
    }
    refused(&place, run(&place, "read in.mp4 ! write /dev/full format=mpegts overwrite=true"), 4, &["/dev/full", "no space left"]);
}

/// A run whose files may not grow beyond some kilobytes, as on a full disk.
fn limited(place: &Place, kilobytes: u32, pipeline: &str) -> Cli {
    let script = format!("ulimit -f {kilobytes}; exec \"$0\" run -q \"$@\"");
    let clip = real_clip("carphone_pristine.mp4");
    let home = clip.ancestors().nth(2).expect("clips lie in the home folder");
    let shell = Cli::new("bash").arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_framerail")).arg(pipeline);
    shell.current_dir(place.path("")).env("FRAMERAIL_HOME", home)
}

#[test]
fn a_disk_that_fills_up_ends_with_4_and_nothing_is_kept() {
    let place = place();
    for (pipeline, output) in [
        ("read in.mp4 ! write out.mkv codec=ffv1", "out.mkv"),
        ("read in.mp4 ! write out.mp4 options=crf=0", "out.mp4"),
        ("read in.mp4 ! write out.avi codec=rawvideo", "out.avi"),
    ] {
        let run = limited(&place, 20, pipeline).run();
        run.assert_code(4).assert_stderr_contains(output).assert_stderr_contains("no space left");
        // The part that is kept has another name than requested, can be played, and is reported.
        for name in place.names().into_iter().filter(|name| name != "in.mp4") {
            assert!(name.contains(".unfinished.") && !ffprobe_frames(&place.path(&name)).is_empty(), "{name}");
            run.assert_stderr_contains(&name);
            fs::remove_file(place.path(&name)).expect("removed");
        }
    }
    refused(&place, limited(&place, 0, "read in.mp4 ! infer centerface ! save out.jsonl"), 4, &["out.jsonl"]);
    for more in ["--stats s.json", "--graph g.svg"] {
        refused(&place, limited(&place, 1, "read in.mp4 ! null").args(more.split(' ')), 4, &[&more[8..], "no space left"]);
    }
    refused(&place, limited(&place, 1, "read in.mp4 ! infer centerface confidence=0.01 ! save out.parquet"), 4, &["out.parquet"]);
}

#[test]
fn unfit_models_and_runtimes_end_with_5() {
    let place = place();
    place.write("text.so", "this is text\n");
    place.write("text.onnx", "This is no model.\n");
    let card = "name = \"t\"\nfile = \"text.onnx\"\nlicence = \"MIT\"\nsource = \"this test\"\nlabels = [\"thing\"]\n\n[input]\nwidth = 32\nheight = 32\n\n[output.boxes]\nboxes = \"b\"\n";
    place.write("text.toml", card);
    place.write("absent.toml", &card.replace("text.onnx", "absent.onnx"));
    place.write("key.toml", &card.replace("width", "widht"));
    let infer = |model: &str| run(&place, &format!("read in.mp4 ! infer {model} ! hold ! blur ! write out.mp4"));
    refused(&place, infer("centreface"), 5, &["'centreface' not found", "did you mean 'centerface'"]);
    refused(&place, infer("absent.toml"), 5, &["absent.onnx not found"]);
    refused(&place, infer("text.toml"), 5, &["text.onnx", "is not an ONNX model"]);
    refused(&place, infer("key.toml"), 5, &["key.toml line 8", "unknown key 'widht'", "did you mean 'width'"]);
    for library in ["none/lib.so", "text.so"] {
        let library = place.path(library).display().to_string();
        refused(&place, infer("centerface").env("ORT_DYLIB_PATH", &library), 5, &[&library, "make setup"]);
        let faces = place.framerail().args(["blur-faces", "-q", "in.mp4", "-o", "out.mp4"]);
        refused(&place, faces.env("ORT_DYLIB_PATH", &library), 5, &[&library, "make setup"]);
    }
    let bare = place.bare_framerail().args(["blur-faces", "-q", "in.mp4", "-o", "out.mp4"]);
    refused(&place, bare, 5, &["not found", "make setup"]);
}

#[test]
fn mistakes_in_the_command_end_with_2() {
    let place = place();
    for (pipeline, words) in [
        ("read in.mp4 ! blurr ! write out.mp4", ["no stage is called `blurr`", "did you mean `blur`"]),
        ("read in.mp4 ! write out.mp4 crff=3", ["no option `crff`", "did you mean `crf`"]),
        ("read in.mp4 ! write out.mp4 crf=99", ["crf=99 is out of range", "from 0 to 63"]),
        ("read in.mp4 ! hold ! write out.mp4", ["`hold` needs frames with detections; `read` gives 160x120", "infer centerface"]),
        ("read in.mp4 ! write out", ["out", "extension"]),
        ("read in.mp4 ! write out.xyz", ["out.xyz", "format"]),
        ("read in.mp4 ! write out.mp4 codec=libx246", ["libx246", "did you mean 'libx264'"]),
    ] {
        refused(&place, run(&place, pipeline), 2, &words);
    }
}

/// Hostile input: messages and files never contain the secrets of addresses.
#[test]
fn secrets_of_addresses_are_in_no_output() {
    let place = place();
    let port = free_port();
    let host = format!("127.0.0.1:{port}");
    let addresses = [
        format!("rtsp://s3cr3t-user:s3cr3t-word@{host}/cam?token=s3cr3t-token#s3cr3t"),
        format!("rtsp://{host}/user=admin&password=s3cr3t-word&channel=1"),
        format!("rtsp://me:s3cr3t/word@{host}/cam"),
        format!("rtmp://{host}/app/s3cr3t-key"),
        format!("srt://{host}?passphrase=s3cr3t-phrase&streamid=s3cr3t-id&connect_timeout=300"),
        format!("http://me:s3cr3t-word@{host}/a.m3u8?X-Amz-Signature=s3cr3t-sig&key=s3cr3t-key"),
        "http://me:s3cr3t-word@no-such-host.invalid/s.mp4?sig=s3cr3t-sig".to_owned(),
    ];
    let is_kept_to_itself = |what: &str, text: &str| assert!(!text.contains("s3cr3t"), "{what}\n{text}");
    let all: String = addresses.iter().map(|address| format!("'{address}' ")).collect();
    for (input, log) in [("", "-v"), ("live=no", "-vvv")] {
        let pipeline = format!("read in.mp4 {all} on_error=end timeout=1s {input} streams=all ! null");
        let output = place
            .framerail()
            .args(["run", log, &pipeline, "--stats", &format!("log{log}.json"), "--graph", &format!("log{log}.svg"), "--no-progress"])
            .run();
        let text = format!("{output}").replace(&pipeline, "");
        is_kept_to_itself(log, &text);
        assert!(text.contains("rtmp://") && text.contains("srt://"), "each was tried: {text}");
    }
    for name in place.names() {
        let text = fs::read(place.path(&name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        is_kept_to_itself(&name, &text);
        assert!(!name.contains("s3cr3t"), "{name}");
    }
    let pushed = |address: &&String| ["rtsp://", "rtmp://", "srt://"].iter().any(|scheme| address.starts_with(scheme));
    let writes: String = addresses.iter().filter(pushed).map(|address| format!("( write '{address}' timeout=1s ) ")).collect();
    let output = run(&place, &format!("read in.mp4 ! tee {writes}")).run();
    output.assert_stderr_contains("was never reached");
    is_kept_to_itself("write", &output.stderr);
    for address in &addresses {
        let output = place.framerail().args(["probe", address]).run();
        output.assert_code(3);
        is_kept_to_itself(address, &output.stderr);
        for mistake in [format!("read '{address}' no_such=1 ! null"), format!("read in.mp4 ! write '{address}' no_such=1")] {
            let mistake = run(&place, &mistake).run();
            mistake.assert_code(2);
            is_kept_to_itself(address, &mistake.stderr);
        }
    }
}

/// Hostile input: escape sequences in names and tags stay text.
#[test]
fn escape_sequences_do_not_reach_the_terminal() {
    let place = place();
    let evil = "a\x1b]0;owned\x07\x1b[2J\u{9b}31mb";
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i", "in.mp4", "-c", "copy", "-metadata", &format!("title={evil}"), "tagged.mkv"]);
    assert!(ffmpeg.current_dir(place.path("")).status().expect("the ffmpeg program").success());
    fs::copy(place.path("tagged.mkv"), place.path(&format!("{evil}.mkv"))).expect("copied");
    let name = format!("{evil}.mkv");
    for cli in [
        place.framerail().args(["probe", &name]),
        place.framerail().args(["probe", "tagged.mkv"]),
        place.framerail().args(["probe", &format!("none-{name}")]),
        run(&place, &format!("read 'none-{name}' ! null")),
        run(&place, &format!("read '{name}' ! write '{evil}.xyz'")),
        place.framerail().args(["run", "-vvv", &format!("read '{name}' ! null")]),
    ] {
        let output = cli.run();
        for (what, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let is_bad = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
            assert!(!text.contains(is_bad), "{what}: {text:?}");
        }
    }
}
