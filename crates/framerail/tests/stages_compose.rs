//! Composing stages: text on frames, many streams in one frame, clips around events.

mod stages_support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use framerail::{
    core::{BBox, Detection, HostSurface},
    pipeline::{
        Description, DetectionFormat, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, PlanError, RunOptions, RunStats, Stage,
        StageError, StagePlan, StageSpec, Work, check,
    },
};
use framerail_testkit::{AudioCodec, ClipSpec, Codec, Container, ffprobe_stream};
use stages_support::{Ran, end, face, files, frame, gated, run, seen, stream, try_run, whole};

fn images(ran: &Ran) -> Vec<HostSurface> {
    let frames = ran.items.iter().filter_map(|item| if let Item::Frame(item) = item { Some(item) } else { None });
    frames.map(|item| item.frame.surface.host().expect("on the host").clone()).collect()
}

/// Luma samples that changed.
fn changed(surface: &HostSurface, luma: u8) -> Vec<(usize, usize)> {
    let rows = 0..surface.height() as usize;
    let of_row = |y| surface.row(0, y).iter().enumerate().filter(move |(_, value)| **value != luma).map(move |(x, _)| (x, y));
    rows.flat_map(of_row).filter(|(x, _)| *x < surface.width() as usize).collect()
}

#[test]
fn text_is_written_where_it_is_asked_for() {
    let marks = |options: &str| {
        let ran = run(&format!("text {options} ! collect"), whole(0, "a", 2));
        changed(&images(&ran)[1], 41)
    };
    let corner = marks("'{frame}' size=25 margin=0");
    assert!(!corner.is_empty() && corner.iter().all(|(x, y)| *x < 16 && *y < 18), "{corner:?}");
    let opposite = marks("'{frame}' size=25 margin=0 at=bottom-right");
    assert!(!opposite.is_empty() && opposite.iter().all(|(x, y)| *x > 48 && *y > 30), "{opposite:?}");
    let boxed = marks("'{frame}' size=25 margin=0 background=#000000 opacity=1 outline_width=0");
    assert!(boxed.contains(&(0, 0)) && boxed.len() > corner.len());
    // Names of streams and characters of XML are text like any other.
    assert!(marks("'<{stream}> & {{x}}' size=25").len() > corner.len());
}

#[test]
fn text_leaves_frames_of_other_branches_as_they_are() {
    let ran = run("tee ( text '{clock} {time}' size=30 ! null ) ( collect )", whole(0, "a", 3));
    assert!(images(&ran).iter().zip(0..).all(|(image, index)| changed(image, 40 + index).is_empty()));
    assert_eq!(ran.counter("frames_written") + ran.frames()[&0].len() as u64, 3);
}

#[test]
fn counts_in_text_are_of_classes_that_there_are() {
    let items = || vec![Item::StreamStart(stream(0, "a")), seen(0, 0, vec![face(0.9, None, Default::default())]).into(), end(0)];
    assert!(!changed(&images(&run("text '{count:face}' size=40 ! collect", items()))[0], 40).is_empty());
    for (text, why) in [
        ("{count:cat}", "the model has face, plate"),
        ("{streams}", "`{streams}` is not a placeholder"),
        ("{clock:%Q}", "not a format of strftime"),
    ] {
        let problem = try_run(&format!("text '{text}' ! collect"), items(), Some(1)).err().expect(text);
        assert!(problem.contains(why), "{problem}");
    }
    let problem = try_run("text x font=/dev/null ! collect", items(), Some(1)).err().expect("not a font");
    assert!(problem.contains("/dev/null: not a TrueType or OpenType font"), "{problem}");
}

/// The sample at a relative position of the frame.
fn luma_at(surface: &HostSurface, across: f32) -> u8 {
    surface.row(0, surface.height() as usize / 2)[(surface.width() as f32 * across) as usize]
}

#[test]
fn a_mosaic_shows_each_stream_in_its_cell_at_its_time() {
    let items = stages_support::interleaved(whole(0, "a", 10), whole(1, "b", 5));
    let ran = run("mosaic size=128x48 fps=25 labels=no gap=0 columns=2 ! collect", items);
    let images = images(&ran);
    assert_eq!(images.len(), 10);
    for (image, index) in images.iter().zip(0u8..) {
        assert!(luma_at(image, 0.1).abs_diff(40 + index) <= 1, "{index}: {}", luma_at(image, 0.1));
        let right = luma_at(image, 0.55);
        // Darkened once it has ended.
        assert!(if index < 5 { right.abs_diff(40 + index) <= 1 } else { right < 32 }, "{index}: {right}");
    }
    assert_eq!((ran.counter("frames_shown"), ran.counter("frames_skipped")), (15, 0));
    let streams: Vec<_> = ran.outcome.stats.streams.iter().map(|stream| (stream.name.as_str(), stream.frames_delivered)).collect();
    assert!(streams.contains(&("mosaic", 10)), "{streams:?}");
}

#[test]
fn files_of_a_mosaic_are_read_in_step() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let clip = |name: &str, spec: ClipSpec| -> PathBuf {
        let path = folder.path().join(name);
        fs::copy(spec.make().path(), &path).expect("copied");
        path
    };
    let slow = clip("slow.mp4", ClipSpec::default().frames(20).frame_rate(10, 1));
    let fast = clip("fast.mp4", ClipSpec::default().frames(90).frame_rate(30, 1));
    let out = folder.path().join("wall.mp4");
    let text = format!("read {} {} ! mosaic size=320x180 fps=30 ! write {}", slow.display(), fast.display(), out.display());
    let stats = framerail::run(&text).expect("written").stats;
    // The slow one is over after two seconds, the other after three.
    assert_eq!((stats.counter("pictures_made"), stats.counter("frames_shown"), stats.counter("frames_skipped")), (90, 110, 0));
    let stream = ffprobe_stream(&out, "v:0");
    assert_eq!((stream.width, stream.height), (320, 180));
}

#[test]
fn a_live_mosaic_goes_on_when_no_stream_gives_anything() {
    let (registry, give) = gated(EdgeFormat { is_live: true, ..EdgeFormat::default() });
    let description = Description::parse("gate ! mosaic size=64x48 fps=100 stale=20ms ! null").expect("well formed");
    let mut plan = check(&description, &registry).expect("a plan");
    plan.link().expect("fits");
    let handle = plan.into_graph().expect("a graph").graph.start(RunOptions::default()).expect("started");
    let made = |handle: &framerail::pipeline::RunHandle| handle.stats().counter("pictures_made");
    give.send(Item::StreamStart(stream(0, "cam"))).expect("open");
    give.send(frame(0, 0).into()).expect("open");
    let limit = Instant::now() + Duration::from_secs(20);
    while made(&handle) < 5 && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(made(&handle) >= 5);
    drop(give);
    let outcome = handle.wait();
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
}

/// What FFmpeg writes to its standard output and error, given an input and what follows it.
fn ffmpeg(path: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-i"]).arg(path).args(arguments).output().expect("ffmpeg");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Hashes of the bytes of each packet of a stream, in file order.
fn packet_hashes(path: &Path, stream: &str) -> Vec<String> {
    let text = ffmpeg(path, &["-map", &format!("0:{stream}"), "-c", "copy", "-f", "framemd5", "-"]);
    let hash = |line: &str| line.rsplit(',').next().map(|hash| hash.trim().to_owned());
    text.lines().filter(|line| !line.starts_with('#')).filter_map(hash).collect()
}

/// Marks every frame whose number is a multiple of so many, from the first such one on, with a face.
struct Marks(u64);

impl StagePlan for Marks {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let detections = DetectionFormat { model: "test".into(), labels: vec!["face".into()], ..DetectionFormat::default() };
        Ok(input.map(|input| EdgeFormat { detections: Some(detections), ..input.clone() }))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![self]))
    }
}

impl Stage for Marks {
    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if item.frame.index > 0 && item.frame.index.is_multiple_of(self.0) {
            item.detections.push(face(0.9, None, Default::default()));
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }
}

/// Runs a pipeline in which `marks` finds a face on every frame of a multiple of so many.
fn run_marked(text: &str, every: u64) -> Result<RunStats, String> {
    let mut registry = framerail::registry();
    let spec = StageSpec::transform("marks", "marks frames");
    registry.register_with(spec, move |_| Ok(Box::new(Marks(every)))).expect("a new name");
    let mut plan = check(&Description::parse(text).expect("well formed"), &registry).map_err(|problem| problem.to_string())?;
    plan.link().map_err(|problem| problem.to_string())?;
    let graph = plan.into_graph().map_err(|problem| problem.to_string())?.graph;
    let outcome = graph.start(RunOptions::default()).map_err(|problem| problem.to_string())?.wait();
    outcome.result.map(|()| outcome.stats).map_err(|error| error.to_string())
}

#[test]
fn twenty_events_become_twenty_clips_of_the_packets_that_were_read() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let spec = ClipSpec::new(Codec::H264, Container::Mkv).frames(630).frame_rate(30, 1).gop(12).b_frames(2).audio(AudioCodec::Aac);
    let clip = spec.make();
    let (before, after) = (0.3, 0.25);
    let video = packet_hashes(clip.path(), "v:0");
    let audio = packet_hashes(clip.path(), "a:0");
    // Decoded in pieces, and by one decoder as from a camera.
    for (name, options) in [("file", ""), ("live", "live=yes drop=none latency=none on_error=end")] {
        let out = folder.path().join(name);
        let text = format!(
            "read {} {options} ! marks ! record '{}/{{index:02}}.mkv' before={before}s after={after}s",
            clip.path().display(),
            out.display()
        );
        let stats = run_marked(&text, 30).expect("recorded");
        assert_eq!((stats.counter("events"), stats.counter("clips_written")), (20, 20), "{name}");
        let names = files(&out);
        assert_eq!(names.len(), 20, "{names:?}");
        for (number, name) in names.iter().enumerate() {
            let path = out.join(name);
            let event = (number + 1) as f64;
            let packets = packet_hashes(&path, "v:0");
            let first = video.windows(packets.len()).position(|window| *window == packets[..]);
            let first = first.unwrap_or_else(|| panic!("{name}: its {} packets are not those of the source", packets.len()));
            // Each GOP has twelve frames.
            assert!(first % 12 == 0, "{name}: begins at packet {first}");
            let start = first as f64 / 30.0;
            assert!(start <= event - before + 1e-6 && start > event - before - 0.4 - 1e-6, "{name}: begins at {start}");
            let end = (first + packets.len()) as f64 / 30.0;
            assert!((event + after..event + after + 0.15).contains(&end), "{name}: ends at {end}");
            // Each check runs a program: only some clips are checked completely.
            if number % 9 != 4 {
                continue;
            }
            let own_audio = packet_hashes(&path, "a:0");
            assert!(own_audio.len() > 10 && audio.windows(own_audio.len()).any(|window| *window == own_audio[..]), "{name}: audio");
            assert_eq!(ffmpeg(&path, &["-xerror", "-f", "null", "-"]), "", "{name}: does not play");
        }
    }
}

#[test]
fn clips_show_what_stages_made_of_the_frames() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let clip = ClipSpec::default().frames(60).frame_rate(30, 1).gop(60).make();
    let record = |stages: &str, name: &str| {
        let text = format!(
            "read {} ! marks {stages} ! record {}/{name}.mkv before=0.5s after=0.2s",
            clip.path().display(),
            folder.path().display()
        );
        run_marked(&text, 40).expect("recorded")
    };
    assert_eq!(record("! text HIDDEN size=40", "text").counter("clips_written"), 1);
    let shown = packet_hashes(&folder.path().join("text-0001.mkv"), "v:0");
    let source = packet_hashes(clip.path(), "v:0");
    assert!(!shown.is_empty() && shown.iter().all(|packet| !source.contains(packet)), "the source's packets were copied");
    // The only keyframe is the first, so the clip of packets is longer than it was asked for.
    record("", "plain");
    assert_eq!(packet_hashes(&folder.path().join("plain-0001.mkv"), "v:0")[..], source[..46]);
}

#[test]
fn what_cannot_begin_a_clip_is_refused() {
    let clip = ClipSpec::default().frames(4).make();
    let problem = |stages: &str| {
        let text = format!("read {} ! {stages}", clip.path().display());
        run_marked(&text, 2).expect_err(stages)
    };
    for (stages, why) in [
        ("record x.mkv on=motion", "`motion` does not begin clips; use detection"),
        ("record x.mkv on=detection", "detections"),
        ("marks ! record x.mkv on=detection:cat", "the model has no class `cat`; it has face"),
        ("marks ! record x.mkv on=zone:gate", "there is no `zones` before this stage"),
        ("record x.m3u8 on=call", "clips are files"),
    ] {
        let problem = problem(stages);
        assert!(problem.contains(why), "{stages}: {problem}");
    }
}

#[test]
fn a_gate_passes_frames_that_move_and_counts_the_others() {
    // 30 still grey frames, then 10 with a moving bar, then still ones again.
    let moving = |index: u64| (30..40).contains(&index);
    let image = |index: u64| {
        let mut item = frame(0, 0);
        (item.frame.index, item.frame.pts) = (index, framerail::core::Pts(index as i64 * stages_support::STEP));
        if moving(index) {
            let mut planes = item.frame.surface.host_mut().expect("on the host").planes_mut().expect("own");
            let left = (index as usize - 30) * 5;
            (0..48).for_each(|y| planes.row(0, y)[left..left + 16].fill(220));
        }
        Item::from(item)
    };
    let items = || [Item::StreamStart(stream(0, "a"))].into_iter().chain((0..80).map(image)).chain([end(0)]).collect();
    let ran = run("motion hold=0.2s ! collect", items());
    let frames = &ran.frames()[&0];
    // The first, for 0.2 s, and from the first that moves until 0.2 s behind the last; what was covered counts as it appears again.
    assert!(frames.starts_with(&[0, 1, 2, 3, 4, 5, 30, 31]), "{frames:?}");
    assert!((30..45).all(|index| frames.contains(&index)) && !frames.contains(&79), "{frames:?}");
    assert_eq!(ran.counter("frames_passed") + ran.counter("frames_held_back"), 80);
    assert_eq!(ran.counter("frames_passed"), frames.len() as u64);
    let every = run("motion area=100 hold=0 every=0.4s ! collect", items());
    assert_eq!(every.frames()[&0], [0, 10, 20, 30, 40, 50, 60, 70]);
}

#[test]
fn each_shot_becomes_a_file_that_begins_with_its_first_frame() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // Three shots: dark, bright, dark, of 1, 2 and 1 seconds, with audio.
    let clip = folder.path().join("film.mkv");
    let parts =
        "color=0x202020:s=64x48:r=25:d=1[a];color=0xe0e0e0:s=64x48:r=25:d=2[b];color=0x202020:s=64x48:r=25:d=1[c];[a][b][c]concat=n=3";
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", parts, "-f", "lavfi", "-i", "sine=d=4", "-c:v", "libx264", "-c:a", "aac"]).arg(&clip);
    assert!(command.status().expect("ffmpeg").success());
    let frames = |name: &str| packet_hashes(&folder.path().join(name), "v:0").len();
    let run = |options: &str| {
        let text = format!("read {} ! clips '{}/{options}", clip.display(), folder.path().display());
        framerail::run(&text).unwrap_or_else(|error| panic!("{text}: {error}")).stats
    };
    assert_eq!(run("shot.mkv'").counter("clips_written"), 3);
    assert_eq!([frames("shot-0001.mkv"), frames("shot-0002.mkv"), frames("shot-0003.mkv")], [25, 50, 25]);
    assert_eq!(run("part-{index}.mkv' at=0.4,3").counter("frames_written"), 100);
    assert_eq!([frames("part-1.mkv"), frames("part-2.mkv"), frames("part-3.mkv")], [10, 65, 25]);
    // Audio packets go to the clip of their time, and none is lost.
    let audio = packet_hashes(&clip, "a:0");
    let joined: Vec<String> = (1..=3).flat_map(|number| packet_hashes(&folder.path().join(format!("part-{number}.mkv")), "a:0")).collect();
    assert_eq!(joined, audio);
}

#[test]
fn clips_hold_the_stretches_in_which_something_is_found() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // 4 s at 25 frames/s: a face on frames 10 to 19 and 30 to 34, and on 80; frames are 40 ms apart.
    let has_face = |index: u64| (10..20).contains(&index) || (30..35).contains(&index) || index == 80;
    let faces = |index| if has_face(index) { vec![face(0.9, None, Default::default())] } else { Vec::new() };
    let items = || {
        let frames = (0..100).map(|index| seen(0, index, faces(index)).into());
        [Item::StreamStart(stream(0, "a"))].into_iter().chain(frames).chain([end(0)]).collect::<Vec<Item>>()
    };
    let cut = |name: &str, options: &str| {
        let template = folder.path().join(format!("{name}-{{index}}.mkv"));
        let ran = run(&format!("clips '{}' codec=ffv1 {options}", template.display()), items());
        assert_eq!(ran.error(), "none");
        let files = (1..=ran.counter("clips_written"))
            .map(|number| packet_hashes(&folder.path().join(format!("{name}-{number}.mkv")), "v:0").len());
        (files.collect::<Vec<usize>>(), ran.counter("frames_left_out"))
    };
    // To 0.2 s behind the last face; a gap of 0.4 s joins the first two stretches.
    assert_eq!(cut("a", "on=detection gap=0.2"), (vec![15, 10, 6], 69));
    assert_eq!(cut("b", "on=detection:face gap=0.44"), (vec![36, 12], 52));
    // Every frame: up to the first face, and from each on.
    assert_eq!(cut("c", "on=detection gap=0.2 keep=all shortest=0.2"), (vec![10, 20, 50, 20], 0));
    assert_eq!(cut("d", "on=detection confidence=0.95"), (vec![], 100));
    for (options, why) in [
        ("on=detection:cat", "the model has no class `cat`"),
        ("on=zone", "there is no `zones` before this stage"),
        ("on=call", "use detection, zone or line"),
        ("on=detection at=3", "are both given"),
        ("gap=2", "has no effect without on="),
    ] {
        let problem = try_run(&format!("clips x.mkv {options}"), items(), Some(1)).map(|ran| ran.error());
        let problem = problem.unwrap_or_else(|problem| problem);
        assert!(problem.contains(why), "{options}: {problem}");
    }
}

#[test]
fn a_file_is_played_again_with_times_that_go_on() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // B frames, so the file ends with a packet that is not its last frame; the audio is a little longer.
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).frames(30).frame_rate(30, 1).b_frames(2).audio(AudioCodec::Aac).make();
    let out = folder.path().join("out.mkv");
    let text = format!("read {} loop=3 ! write {} codec=ffv1", clip.path().display(), out.display());
    let stats = framerail::run(&text).expect("written").stats;
    assert_eq!((stats.counter("frames_written"), stats.counter("frames_expected")), (90, 90));
    assert_eq!(stats.counter("timestamps_repaired"), 0);
    let times = ffmpeg(&out, &["-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]);
    let pts: Vec<i64> =
        times.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(',').nth(2)?.trim().parse().ok()).collect();
    assert_eq!(pts.len(), 90);
    assert!(pts.windows(2).all(|pair| (33..=34).contains(&(pair[1] - pair[0]))), "{pts:?}");
    let part = format!("read {} loop=2 start=0.5 ! null", clip.path().display());
    assert_eq!(framerail::run(&part).expect("read").stats.stage("null").expect("there").frames_in, 30);
    let endless = format!("read {} loop=yes ! sample every=1 count=100 ! null", clip.path().display());
    assert_eq!(framerail::run(&endless).expect("read").stats.stage("null").expect("there").frames_in, 100);
    let problem = framerail::run("read - loop=2 ! null").expect_err("standard input").to_string();
    assert!(problem.contains("- cannot be played again"), "{problem}");
}

#[test]
fn recorded_detections_cut_a_file_into_clips() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let clip = ClipSpec::new(Codec::H264, Container::Mkv).frames(60).frame_rate(25, 1).gop(12).make();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let read = format!("read {}", clip.path().display());
    // Faces on every tenth frame from the tenth on: five stretches of one frame.
    run_marked(&format!("{read} ! marks ! save {}", place("faces.jsonl")), 10).expect("recorded");
    let text = format!("{read} ! load {} ! clips '{}' codec=ffv1 on=detection:face gap=0.1s", place("faces.jsonl"), place("{index}.mkv"));
    let stats = framerail::run(&text).expect("cut").stats;
    assert_eq!((stats.counter("clips_written"), stats.counter("frames_left_out")), (5, 60 - stats.counter("frames_written")));
    let start = |name: &str| packet_hashes(&folder.path().join(name), "v:0").len();
    assert!((1..=5).map(|number| start(&format!("{number}.mkv"))).all(|frames| (2..=4).contains(&frames)), "a frame and the gap");
    // Records of another file do not fit.
    let other = ClipSpec::new(Codec::H264, Container::Mkv).frames(61).frame_rate(30, 1).gop(12).make();
    let text = format!("read {} ! load {} ! clips '{}' on=detection", other.path().display(), place("faces.jsonl"), place("x{index}.mkv"));
    assert!(framerail::run(&text).is_err());
}

/// Moves a face across the frame: to the right in `frames` frames.
struct Walk(u64);

impl StagePlan for Walk {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let detections =
            DetectionFormat { model: "test".into(), labels: vec!["face".into()], has_identities: true, ..DetectionFormat::default() };
        Ok(input.map(|input| EdgeFormat { detections: Some(detections), ..input.clone() }))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![self]))
    }
}

impl Stage for Walk {
    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let x = item.frame.width as f32 * item.frame.index as f32 / self.0 as f32;
        let bbox = BBox::from_cxcywh(x, item.frame.height as f32 / 2.0, 8.0, 8.0);
        item.detections = vec![Detection { bbox, ..face(0.9, Some(1), Default::default()) }];
        item.analysed = true;
        out.push(item.into())?;
        Ok(Flow::More)
    }
}

#[test]
fn zones_entered_and_lines_crossed_begin_clips_of_packets() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let clip = ClipSpec::new(Codec::H264, Container::Mkv).frames(100).frame_rate(25, 1).gop(5).make();
    let zones = folder.path().join("yard.toml");
    // The face's middle is in the right fifth from frame 80 on, and crosses the middle at frame 50.
    let text = "[[zone]]\nname = \"gate\"\nanchor = \"center\"\npoints = [[0.8, 0.0], [1.0, 0.0], [1.0, 1.0], [0.8, 1.0]]\n\n\
                [[line]]\nname = \"fence\"\nanchor = \"center\"\nfrom = [0.5, 0.0]\nto = [0.5, 1.0]\n";
    fs::write(&zones, text).expect("written");
    let source = packet_hashes(clip.path(), "v:0");
    let first_frame = |on: &str, name: &str| {
        let mut registry = framerail::registry();
        registry.register_with(StageSpec::transform("walk", "moves a face"), |_| Ok(Box::new(Walk(100)))).expect("a new name");
        let text = format!(
            "read {} ! walk ! zones {} ! record '{}/{name}-{{index}}.mkv' on={on} before=0.2s after=0.2s",
            clip.path().display(),
            zones.display(),
            folder.path().display()
        );
        let mut plan = check(&Description::parse(&text).expect("well formed"), &registry).unwrap_or_else(|problem| panic!("{problem}"));
        plan.link().expect("linked");
        let graph = plan.into_graph().expect("planned").graph;
        let outcome = graph.start(RunOptions::default()).expect("started").wait();
        assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        let names = files(folder.path()).into_iter().filter(|file| file.starts_with(name));
        names
            .map(|file| {
                let packets = packet_hashes(&folder.path().join(file), "v:0");
                source.windows(packets.len()).position(|window| *window == packets[..]).expect("packets of the source")
            })
            .collect::<Vec<usize>>()
    };
    assert_eq!(first_frame("zone:gate", "zone"), [75], "entered at frame 80");
    let crossed = first_frame("line:fence", "line");
    assert!(crossed == [45] || crossed == [40], "crossed at frame 50 or 51: {crossed:?}");
    assert_eq!(first_frame("zone,line", "any").len(), 2);
}
