//! Bad inputs, models, outputs and pipelines: one clear line each, and no partial files.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use framerail::{
    Error,
    pipeline::{ErrorKind, RunStats},
};
use framerail_testkit::{AudioCodec, Clip, ClipSpec, Codec, Container, damage};
use tempfile::TempDir;

/// A folder for one test, with an intact clip.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("temporary folder") };
        fs::copy(clip().path(), place.at("in.mp4")).expect("copied");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.at(name), text).expect("written");
        self.at(name)
    }

    fn copy(&self, from: &Path, name: &str) -> PathBuf {
        fs::copy(from, self.at(name)).expect("copied");
        self.at(name)
    }

    /// Every file below the folder with its bytes.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(self.folder.path(), &mut files);
        files.sort();
        files
    }

    /// A pipeline's text; `@` stands for the folder.
    fn text(&self, text: &str) -> String {
        text.replace('@', &self.folder.path().display().to_string())
    }

    /// Runs a pipeline that must be refused with this kind and a line with these words; the folder stays unchanged.
    #[track_caller]
    fn refused(&self, kind: ErrorKind, text: &str, words: &[&str]) {
        let before = self.content();
        let text = self.text(text);
        let error = framerail::run(&text).err().unwrap_or_else(|| panic!("ran: {text}"));
        let (line, stated) = (line_of(&error), stated(&error));
        assert_eq!(error.kind(), kind, "{text}\n{error}");
        for word in words {
            let word = self.text(word);
            assert!(stated.contains(&word), "'{word}' is missing:\n{error}");
        }
        assert!(!line.contains('\n') && !line.is_empty(), "one line: {line}");
        assert!(!line.contains("os error") && !line.contains("Error {") && !line.contains("panicked"), "plain words: {line}");
        assert!(self.content() == before, "something was left behind, or changed: {text}");
    }

    /// Runs a pipeline that must succeed.
    #[track_caller]
    fn runs(&self, text: &str) -> RunStats {
        let text = self.text(text);
        framerail::run(&text).unwrap_or_else(|error| panic!("{text}\n{error}")).stats
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            files.push((path, bytes));
        }
    }
}

/// The message, without the pipeline's text.
fn line_of(error: &Error) -> String {
    match error {
        Error::Pipeline(diagnostics) => {
            assert_eq!(diagnostics.len(), 1, "{diagnostics}");
            diagnostics.first().expect("never empty").message.clone()
        }
        other => other.to_string(),
    }
}

/// The message and its hint.
fn stated(error: &Error) -> String {
    match error {
        Error::Pipeline(diagnostics) => {
            let help = diagnostics.first().and_then(|diagnostic| diagnostic.help.clone());
            format!("{}\n{}", line_of(error), help.unwrap_or_default())
        }
        other => other.to_string(),
    }
}

fn clip() -> Clip {
    ClipSpec::default().frames(48).audio(AudioCodec::Aac).fast_start().make()
}

#[test]
fn inputs_that_are_missing() {
    let place = Place::new();
    fs::create_dir(place.at("empty")).expect("created");
    fs::create_dir(place.at("texts")).expect("created");
    place.write("texts/notes.txt", "no video");
    let refused = |source: &str, words: &[&str]| place.refused(ErrorKind::Input, &format!("read {source} ! write @/out.mp4"), words);
    refused("@/none.mp4", &["@/none.mp4: no such file", "check the name"]);
    refused("@/none/in.mp4", &["@/none/in.mp4"]);
    refused("@/in.mp4/in.mp4", &["@/in.mp4/in.mp4"]);
    refused("@/empty", &["@/empty: the folder contains no video"]);
    refused("@/texts", &["@/texts: the folder contains no video"]);
    refused("'@/*.mkv'", &["@/*.mkv"]);
    refused("'@/img%04d.png'", &["@/img%04d.png"]);
    place.refused(ErrorKind::Input, "read @/in.mp4 @/none.mp4 ! write '@/out-{stream}.mp4' preset=ultrafast", &["@/none.mp4"]);
}

#[test]
fn inputs_that_are_no_video() {
    let place = Place::new();
    place.copy(&damage::text_file("mp4"), "text.mp4");
    place.copy(&damage::empty_file("mp4"), "empty.mp4");
    place.copy(&damage::sound_only(Container::Mp4), "sound.mp4");
    place.copy(&damage::sound_only(Container::Mkv), "sound.mkv");
    place.write("noise.mkv", (0..9000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
    let refused = |name: &str, words: &[&str]| {
        place.refused(ErrorKind::Input, &format!("read @/{name} ! write @/out.mp4"), &[&format!("@/{name}: ")]);
        place.refused(ErrorKind::Input, &format!("read @/{name} ! write @/out.mp4"), words);
    };
    refused("text.mp4", &["give a video file"]);
    refused("empty.mp4", &["empty"]);
    refused("sound.mp4", &["no video stream; it holds", "aac"]);
    refused("sound.mkv", &["no video stream"]);
    refused("noise.mkv", &["noise.mkv"]);
}

#[test]
fn a_bad_input_among_good_ones_can_be_skipped() {
    let place = Place::new();
    fs::create_dir(place.at("clips")).expect("created");
    fs::create_dir(place.at("outputs")).expect("created");
    place.copy(clip().path(), "clips/a.mp4");
    place.copy(&damage::text_file("mp4"), "clips/b.mp4");
    place.copy(clip().path(), "clips/c.mp4");
    let stats = place.runs("read @/clips on_error=end ! write '@/outputs/{name}.mp4' preset=ultrafast");
    assert_eq!((stats.counter("streams_failed"), stats.counter("files_written")), (1, 2));
    let notices = &stats.stage("read").expect("a stage").notices;
    assert!(notices.iter().any(|notice| notice.contains("ends after an error") && notice.contains("b.mp4")), "{notices:?}");
    assert!(!place.at("outputs/b.mp4").exists());
    let error = framerail::run(&place.text("read @/clips ! null")).expect_err("the second is bad");
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(line_of(&error).contains("b.mp4"), "{error}");
}

#[test]
fn a_file_cut_short_is_decoded_as_far_as_it_goes() {
    let place = Place::new();
    place.copy(&damage::cut(clip().path(), 0.01), "cut-1.mp4");
    place.refused(ErrorKind::Input, "read @/cut-1.mp4 ! write @/out.mp4", &["@/cut-1.mp4"]);
    for (percent, least, most) in [(50, 10, 40), (99, 40, 48)] {
        let name = format!("cut-{percent}");
        place.copy(&damage::cut(clip().path(), f64::from(percent) / 100.0), &format!("{name}.mp4"));
        let stats = place.runs(&format!("read @/{name}.mp4 ! write @/{name}-out.mp4 preset=ultrafast"));
        let frames = stats.counter("frames_written");
        assert!((least..=most).contains(&frames), "{percent}%: {frames} frames");
        assert_eq!(framerail_testkit::ffprobe_frames(&place.at(&format!("{name}-out.mp4"))).len() as u64, frames);
        assert_eq!(stats.counter("frames_expected"), 48);
        let notices = &stats.stage("read").expect("a stage").notices;
        assert!(notices.iter().any(|notice| notice.contains(&name) && notice.contains("decoded as far as possible")), "{notices:?}");
    }
}

#[test]
fn flipped_bytes_are_decoded_and_counted() {
    let place = Place::new();
    let clips = [
        ClipSpec::default().frames(48).make(),
        ClipSpec::new(Codec::Mpeg2, Container::Ts).frames(32).make(),
        ClipSpec::new(Codec::Mjpeg, Container::Avi).frames(32).make(),
    ];
    for (clip, seed) in clips.iter().zip(1..) {
        let name = format!("flipped-{seed}.{}", clip.path().extension().expect("an extension").display());
        place.copy(&damage::flip_bytes(clip.path(), seed, 60), &name);
        let stats = place.runs(&format!("read @/{name} ! write @/out-{seed}.mkv codec=ffv1"));
        let read = stats.stage("read").expect("a stage");
        let damage = ["packets_corrupt", "packets_dropped", "frames_repaired", "frames_dropped", "decode_errors"];
        let counted: u64 = damage.iter().filter_map(|name| read.counters.get(*name)).sum();
        assert!(counted > 0 && !read.notices.is_empty(), "{name}: {:?}", read.counters);
        assert!(stats.counter("frames_written") > 0, "{name}");
        assert_eq!(stats.counter("frames_written"), read.frames_out, "{name}");
    }
}

/// A model card for an ONNX file of this name.
fn card(file: &str) -> String {
    let head = format!("name = \"test\"\nfile = \"{file}\"\nlicence = \"MIT\"\nsource = \"this test\"\nlabels = [\"thing\"]\n");
    format!("{head}\n[input]\nwidth = 32\nheight = 32\n\n[output.boxes]\nboxes = \"boxes\"\nsuppressed = true\n")
}

/// An ONNX file whose only node passes its input to `output`.
fn onnx(input: (&str, &[u8]), output: (&str, &[u8])) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("a short message")];
        field.extend_from_slice(bytes);
        field
    };
    let value = |(name, dims): (&str, &[u8])| {
        let shape: Vec<u8> = dims.iter().flat_map(|dim| field(1, &[1 << 3, *dim])).collect();
        let tensor = [vec![1 << 3, 1], field(2, &shape)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let node = [field(1, input.0.as_bytes()), field(2, output.0.as_bytes()), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value(input)), field(12, &value(output))].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 13])].concat()
}

#[test]
fn models_that_are_missing_or_unfit() {
    let place = Place::new();
    let refused = |model: &str, words: &[&str]| {
        place.refused(ErrorKind::Model, &format!("read @/in.mp4 ! infer {model} ! hold ! blur ! write @/out.mp4"), words);
    };
    refused("centreface", &["card 'centreface' not found", "did you mean 'centerface'"]);
    refused("@/none.toml", &["@/none.toml"]);
    place.write("absent.toml", card("absent.onnx"));
    refused("@/absent.toml", &["absent.onnx not found", "@/absent.onnx"]);
    place.write("text.toml", card("text.onnx"));
    place.write("text.onnx", "This is not a model.\nIt only has a model's name.\n");
    refused("@/text.toml", &["@/text.onnx", "is not an ONNX model"]);
    refused("@/text.onnx", &["@/text.onnx", "is not an ONNX model"]);
    place.write("alone.onnx", "This is not a model.");
    refused("@/alone.onnx", &["@/alone.toml", "write a model card"]);
    place.write("input.toml", card("input.onnx"));
    place.write("input.onnx", onnx(("image", &[1, 1, 32, 32]), ("boxes", &[1, 1, 6])));
    refused("@/input.toml", &["has 1 channels", "card"]);
    place.write("output.toml", card("output.onnx"));
    place.write("output.onnx", onnx(("image", &[1, 3, 32, 32]), ("scores", &[1, 1, 6])));
    refused("@/output.toml", &["output 'boxes' is not in the model; it has: scores"]);
    place.write("key.toml", card("text.onnx").replace("width", "widht"));
    refused("@/key.toml", &["@/key.toml line 8", "unknown key 'widht'", "did you mean 'width'"]);
    place.write("value.toml", card("text.onnx").replace("32\nheight", "0\nheight"));
    refused("@/value.toml", &["@/value.toml line 8", "must be 1 to 32768"]);
    place.write("no-text.toml", [0xff, 0xfe, 0, 1]);
    refused("@/no-text.toml", &["@/no-text.toml"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    place.write("there.mp4", "somebody's work");
    place.write("file", "x");
    fs::create_dir(place.at("folder")).expect("created");
    fs::create_dir(place.at("folder.mp4")).expect("created");
    let refused = |output: &str, words: &[&str]| place.refused(ErrorKind::Output, &format!("read @/in.mp4 ! write {output}"), words);
    refused("@/file/out.mp4", &["@/file/out.mp4", "@/file is not a folder"]);
    refused("@/folder", &["@/folder", "is a folder", "name a file"]);
    refused("@/folder.mp4 overwrite=true", &["@/folder.mp4", "is a folder"]);
    refused("@/there.mp4", &["@/there.mp4 exists", "overwrite=true"]);
    place.runs("read @/in.mp4 end=0.2 ! write @/there.mp4 overwrite=true preset=ultrafast");
    assert_eq!(framerail_testkit::ffprobe_frames(&place.at("there.mp4")).len(), 5);
    refused("'@/file/{name}/out.mp4'", &["@/file is not a folder"]);
}

#[test]
fn the_input_is_never_overwritten() {
    let place = Place::new();
    symlink(place.at("in.mp4"), place.at("symbolic.mp4")).expect("linked");
    fs::hard_link(place.at("in.mp4"), place.at("hard.mp4")).expect("linked");
    fs::create_dir(place.at("below")).expect("created");
    for name in ["in.mp4", "symbolic.mp4", "hard.mp4", "below/../in.mp4"] {
        for option in ["", "overwrite=true"] {
            place.refused(ErrorKind::Output, &format!("read @/in.mp4 ! write @/{name} {option}"), &[&format!("@/{name}")]);
            place.refused(ErrorKind::Output, &format!("read @/symbolic.mp4 ! write @/{name} {option}"), &[&format!("@/{name}")]);
        }
    }
    place.refused(ErrorKind::Output, "read @/in.mp4 ! write '@/{name}.mp4' overwrite=true", &["@/in.mp4", "the same file"]);
    place.refused(ErrorKind::Output, "read @/in.mp4 ! write @/hard.mp4 overwrite=true", &["the same file", "another name"]);
}

#[test]
fn an_image_is_written_whole_or_not_at_all() {
    let place = Place::new();
    let image = ClipSpec::new(Codec::Png, Container::Images).frames(1).make();
    place.copy(&image.path().join("00000.png"), "in.png");
    place.copy(&image.path().join("00000.png"), "there.png");
    let refused = |kind, output: &str, words: &[&str]| place.refused(kind, &format!("read @/in.png ! write {output}"), words);
    refused(ErrorKind::Output, "@/in.png overwrite=true", &["@/in.png: output and input are the same file"]);
    refused(ErrorKind::Output, "'@/{name}.png' overwrite=true", &["@/in.png: output and input are the same file"]);
    refused(ErrorKind::Output, "@/there.png", &["@/there.png exists", "overwrite=true"]);
    place.refused(ErrorKind::Usage, "read @/in.mp4 ! write @/out.png", &["@/out.png", "more than one frame", "`frames`"]);
    assert_eq!(place.runs("read @/in.png ! write @/out.png").counter("files_written"), 1);
    assert!(place.at("out.png").is_file());
    place.copy(&place.at("in.png"), "in.bmp");
    place.refused(ErrorKind::Output, "read @/in.bmp ! write '@/{name}.png'", &["@/in.png exists"]);
}

#[test]
fn output_names_and_encoders_that_do_not_fit() {
    let place = Place::new();
    let refused = |output: &str, words: &[&str]| place.refused(ErrorKind::Usage, &format!("read @/in.mp4 ! write {output}"), words);
    refused("@/out", &["out", "format"]);
    refused("@/out.xyz", &["out.xyz", "format"]);
    refused("@/out.mp4 codec=libx246", &["libx246", "did you mean 'libx264'"]);
    refused("@/out.mp4 format=mp5", &["mp5"]);
    // Only the encoder knows its presets.
    place.refused(ErrorKind::Output, "read @/in.mp4 ! write @/out.mp4 preset=sluggish", &["@/out.mp4", "sluggish", "libx264"]);
    refused("@/out.mp4 options=no_such_option=1", &["no_such_option"]);
    refused("@/out.mp4 crf=20 bitrate=1000", &["crf and bitrate are both given", "leave one out"]);
    refused("@/out.mp4 pixel_format=yuv421p", &["yuv421p", "yuv420p"]);
}

#[test]
fn a_full_disk_is_named() {
    let place = Place::new();
    place.refused(ErrorKind::Output, "read @/in.mp4 ! write /dev/full format=mpegts overwrite=true", &["/dev/full", "no space left"]);
}

#[test]
fn several_streams_never_share_a_file() {
    let place = Place::new();
    place.copy(clip().path(), "in2.mp4");
    place.refused(
        ErrorKind::Usage,
        "read @/in.mp4 @/in2.mp4 ! write @/out.mp4",
        &["all 2 streams", "@/out.mp4", "{name}", "{name}-out.mp4"],
    );
}

/// A mistake in a pipeline: the whole message, with the position underlined.
#[track_caller]
fn shown(place: &Place, text: &str, expected: &[&str]) {
    let before = place.content();
    let error = framerail::run(&place.text(text)).expect_err("a mistake");
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    let shown = error.to_string();
    let expected: Vec<String> = expected.iter().map(|line| place.text(line)).collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "\n{shown}");
    assert!(place.content() == before);
}

#[test]
fn mistakes_in_a_pipeline_are_underlined() {
    // A relative name, so that columns do not depend on the temporary folder: mistakes are found before it is opened.
    let place = Place::new();
    shown(
        &place,
        "read in.mp4 ! blurr ! null",
        &["error: no stage is called `blurr`", "  read in.mp4 ! blurr ! null", "                ^^^^^", "  help: did you mean `blur`?"],
    );
    shown(
        &place,
        "read in.mp4 ! infer centerface ! blur strenght=2 ! null",
        &[
            "error: `blur` has no option `strenght`",
            "  read in.mp4 ! infer centerface ! blur strenght=2 ! null",
            "                                        ^^^^^^^^",
            "  help: did you mean `strength`?",
        ],
    );
    shown(
        &place,
        "read in.mp4 ! infer centerface confidence=1.5 ! null",
        &[
            "error: confidence=1.5 is out of range; it must be from 0 to 1",
            "  read in.mp4 ! infer centerface confidence=1.5 ! null",
            "                                 ^^^^^^^^^^^^^^",
            "  help: confidence: minimum score of a detection or other result; default: the model card's",
        ],
    );
    shown(
        &place,
        "read in.mp4 start=2 end=1 ! null",
        &[
            "error: `read`: start is not before end",
            "  read in.mp4 start=2 end=1 ! null",
            "                          ^",
            "  help: give an end after the start",
        ],
    );
}

#[test]
fn stages_that_do_not_fit_name_both_formats() {
    let place = Place::new();
    let text = place.text("read @/in.mp4 ! blur ! write @/out.mp4");
    let error = framerail::run(&text).expect_err("no detections");
    assert_eq!(error.kind(), ErrorKind::Usage);
    let shown = error.to_string();
    for part in ["`read`", "`blur`", "160x120 yuv420p 25 fps", "frames with detections", "infer centerface", "^^^^"] {
        assert!(shown.contains(part), "'{part}' is missing:\n{shown}");
    }
    place.refused(ErrorKind::Usage, "read @/in.mp4 ! hold ! write @/out.mp4", &["frames with detections"]);
}

/// A folder in which even root cannot create files.
#[test]
fn a_folder_that_cannot_be_written() {
    let place = Place::new();
    place.refused(ErrorKind::Output, "read @/in.mp4 ! write /sys/out.mp4", &["/sys/out.mp4"]);
    place.refused(ErrorKind::Output, "read @/in.mp4 ! frames /sys/pictures", &["/sys/pictures"]);
}
