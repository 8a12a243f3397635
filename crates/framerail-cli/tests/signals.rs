//! How a run ends: signals during stalled opens and hanging stages, outputs that fail, and the exit code of each.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Place, home};
use framerail_testkit::{ClipSpec, Codec, Container, ffprobe_packets};

/// Far longer than any of these takes: a process still running by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const SIGHUP: u32 = 1;
const SIGINT: u32 = 2;

/// A running program; killed with its test.
struct Running(Child);

impl Running {
    /// Starts a shell command in which `$F` is the program.
    fn start(place: &Place, line: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("F", env!("CARGO_BIN_EXE_framerail")).env("FRAMERAIL_HOME", home()).current_dir(place.path(""));
        command.env_remove("FRAMERAIL_LOG").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().expect("a shell"))
    }

    /// The signals that it catches, and those that it ignores, as bits from 1 on.
    fn signals(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let bits = |name: &str| {
            let bits = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            u64::from_str_radix(bits.trim(), 16).unwrap_or(0)
        };
        (bits("SigCgt:"), bits("SigIgn:"))
    }

    /// Waits until it listens for a signal, or does not because it ignores it.
    fn listens(self, signal: u32) -> Self {
        until("the program listens", || {
            let (caught, ignored) = self.signals();
            // SIGTERM is always caught: the handlers are installed.
            caught & (1 << 14) != 0 && (caught | ignored) & (1 << (signal - 1)) != 0
        });
        self
    }

    /// Names of its threads, which are those of the stages.
    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten().flatten();
        tasks.filter_map(|task| Some(fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned())).collect()
    }

    fn kill(&self, signal: u32) {
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.0.id())]).status().expect("a shell");
        assert!(status.success());
    }

    fn end(mut self) -> (ExitStatus, String) {
        let (mut status, mut text) = (None, String::new());
        until("the program ends", || {
            status = self.0.try_wait().expect("a child");
            status.is_some()
        });
        if let Some(mut stderr) = self.0.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        (status.expect("ended"), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

/// A server that accepts connections and never answers; returns its address.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

#[test]
fn the_first_signal_ends_a_stalled_open() {
    let (listener, address) = silent_server();
    for (source, listener) in
        [(format!("http://{address}/clip.mp4"), Some(&listener)), (format!("rtsp://{address}/cam"), Some(&listener)), ("pipe".into(), None)]
    {
        let place = Place::new();
        fifo(&place.path("pipe"));
        let running = Running::start(&place, &format!("exec $F run 'read {source} ! write out.mp4'")).listens(SIGINT);
        let connection = listener.map(|listener| listener.accept().expect("a connection"));
        running.kill(SIGINT);
        let (status, stderr) = running.end();
        assert_eq!(status.code(), Some(130), "{source}: {stderr}");
        assert_eq!(place.names(), ["pipe"], "{source}");
        drop(connection);
    }
}

#[test]
fn the_second_signal_ends_a_stage_that_hangs() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    // Opening a pipe that nobody reads never returns.
    fifo(&place.path("out.jsonl"));
    let running = Running::start(&place, "exec $F run 'read in.mp4 ! infer centerface ! save out.jsonl'").listens(SIGINT);
    until("the stage hangs", || running.threads().iter().any(|name| name == "save"));
    // Two equal signals may be merged into one.
    running.kill(SIGINT);
    running.kill(SIGHUP);
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(130), "{stderr}");
}

#[test]
fn signals_that_the_parent_ignores_stay_ignored() {
    let place = Place::new();
    let clip = fs::read(place.copy(ClipSpec::new(Codec::H264, Container::Ts).make().path(), "in.ts")).expect("a clip");
    let mut running = Running::start(&place, "trap '' HUP INT; exec $F run 'read - ! write out.mp4'").listens(SIGHUP);
    running.kill(SIGHUP);
    running.kill(SIGINT);
    running.0.stdin.take().expect("piped").write_all(&clip).expect("read");
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(ffprobe_packets(&place.path("out.mp4"), "v:0").len(), 16);
}

#[test]
fn hanging_up_finishes_the_output() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let running = Running::start(&place, "exec $F run 'read in.mp4 realtime=yes stay=yes ! write out.mp4'").listens(SIGHUP);
    until("the output is begun", || place.names().len() > 1);
    running.kill(SIGHUP);
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(!ffprobe_packets(&place.path("out.mp4"), "v:0").is_empty());
}

#[test]
fn a_sender_that_fails_leaves_the_file_beside_it_whole() {
    let (listener, address) = silent_server();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let pipeline = |out: &str, options: &str| {
        format!("read in.mp4 ! infer centerface ! tee ( write {out} ) ( webhook http://{address}/ batch=1 {options} )")
    };
    for (out, options, strict, code) in [("a.mp4", "", "", 0), ("b.mp4", "", "--strict", 7), ("c.mp4", "on_error=fail", "", 4)] {
        let text = pipeline(out, options);
        let args = ["run", text.as_str(), strict];
        let output = place.framerail().args(args.into_iter().filter(|arg| !arg.is_empty())).run();
        output.assert_code(code).assert_stderr_contains("webhook");
        assert_eq!(ffprobe_packets(&place.path(out), "v:0").len(), 16, "{out}");
    }
}

#[test]
fn every_exit_code_is_as_documented() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    place.copy(ClipSpec::default().size(1280, 960).frames(2).make().path(), "large.mp4");
    place.write("text.mp4", "not a video");
    place.write("there.mp4", "x");
    for (code, line) in [
        (0, "$F run 'read in.mp4 ! null'"),
        (2, "$F run 'read in.mp4 ! nul'"),
        (2, "$F run 'read in.mp4 ! null queue=0'"),
        (2, "$F run 'read in.mp4 ! null' --otlp-trace 5"),
        (3, "$F run 'read missing.mp4 ! null'"),
        (3, "$F run 'read text.mp4 ! null'"),
        (4, "$F run 'read in.mp4 ! write there.mp4'"),
        (4, "$F run 'read in.mp4 ! write /proc/out.mp4'"),
        (5, "$F run 'read in.mp4 ! infer missing.onnx ! null'"),
        (
            6,
            "ulimit -n 16; $F run 'read in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 in.mp4 realtime=yes ! null'",
        ),
        (6, "$F run 'read large.mp4 ! null' --memory 1"),
        (6, "$F run 'read in.mp4 ! null' --device cuda:99"),
    ] {
        let (status, stderr) = Running::start(&place, line).end();
        assert_eq!(status.code(), Some(code), "{line}: {stderr}");
    }
}

/// Content of a crash-safe output after `kill -9`; the next run with that name keeps it under a free name.
#[test]
fn a_program_that_is_killed_at_any_moment_loses_a_fragment_at_most() {
    let place = Place::new();
    let (width, height, fragment) = (320, 240, 25);
    // A frame is larger than the buffers of pipes and readers, so nearly everything sent was read.
    let frame = [b"FRAME\n".to_vec(), (0..width * height * 3 / 2).map(|at| (at * 7 % 251) as u8).collect()].concat();
    let mut random: u64 = 7;
    let mut given = Vec::new();
    for _ in 0..20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let count = 40 + usize::try_from(random >> 33).expect("31 bits") % 60;
        let mut running = Running::start(&place, "exec $F run 'read - format=yuv4mpegpipe ! write out.mp4 codec=mpeg4 crash_safe=yes'");
        let mut stdin = running.0.stdin.take().expect("piped");
        writeln!(stdin, "YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg").expect("taken");
        (0..count).for_each(|_| stdin.write_all(&frame).expect("taken"));
        running.kill(9);
        drop(running.end());
        given.push(count);
    }
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let (status, stderr) = Running::start(&place, "exec $F run 'read in.mp4 ! write out.mp4'").end();
    assert!(status.success() && stderr.contains("a killed run had not finished"), "{stderr}");
    for (number, count) in (1..).zip(given) {
        let name = if number == 1 { "out.unfinished.mp4".to_owned() } else { format!("out.unfinished-{number}.mp4") };
        let found = ffprobe_packets(&place.path(&name), "v:0").len();
        // Frames of the unfinished fragment, and in reader, queue and encoder.
        assert!(found <= count && found + fragment + 12 >= count, "{name}: {found} of {count}");
        // A kill during a write may cut the last packet: only this one may fail to decode.
        let played = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(place.path(&name)).args(["-f", "framemd5", "-"]).output();
        let played = played.expect("ffmpeg runs");
        let frames = String::from_utf8_lossy(&played.stdout).lines().filter(|line| !line.starts_with('#')).count();
        assert!(played.status.success() && frames + 1 >= found, "{name}: {frames} of {found} packets can be played");
    }
    assert!(!place.names().iter().any(|name| name.contains(".partial-")), "{:?}", place.names());
}

/// A file system in a file, mounted. It writes by itself every ten minutes only, so that the file holds what was synced.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None` where this process may not mount file systems.
    fn new() -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().expect("temporary folder") };
        fs::File::create(disk.at("image")).and_then(|image| image.set_len(64 << 20)).expect("room");
        ["mounted", "after"].iter().for_each(|name| fs::create_dir(disk.at(name)).expect("new"));
        let is_made = ran("mkfs.ext4", &["-q", "-F"], &[&disk.at("image")]);
        (is_made && ran("mount", &["-o", "loop,commit=600"], &[&disk.at("image"), &disk.at("mounted")])).then_some(disk)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The disk's content if the power failed now, in a folder.
    fn cut(&self) -> std::path::PathBuf {
        fs::copy(self.at("image"), self.at("copy")).expect("room");
        assert!(ran("mount", &["-o", "loop"], &[&self.at("copy"), &self.at("after")]));
        self.at("after")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for name in ["after", "mounted"] {
            ran("umount", &["-l"], &[&self.at(name)]);
        }
    }
}

fn ran(program: &str, options: &[&str], paths: &[&Path]) -> bool {
    Command::new(program).args(options).args(paths).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Every file below a folder, by relative name, with its content.
fn contents(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).expect("below").to_owned(), fs::read(&path).expect("readable"));
            }
        }
    }
    found
}

#[test]
fn a_power_cut_after_exit_0_loses_nothing() {
    let place = Place::new();
    place.copy(ClipSpec::default().size(64, 48).frames(30).make().path(), "in.mp4");
    let Some(disk) = Disk::new() else {
        eprintln!("NOT TESTED: file systems cannot be mounted here; run the test as root");
        return;
    };
    fs::write(disk.at("mounted/unsynced"), "x").expect("written");
    assert!(contents(&disk.cut()).is_empty(), "what was not synced is lost, or this test tests nothing");
    drop(disk);
    let replaced = "echo old > $D/old.mp4; sync $D/old.mp4; $F run 'read in.mp4 ! write '$D'/old.mp4 overwrite=yes'";
    for line in [
        "$F run 'read in.mp4 ! write '$D'/out.mp4'",
        "$F run 'read in.mp4 ! write '$D'/out.mp4 crash_safe=yes'",
        "$F run 'read in.mp4 ! write '$D'/new/folder/out.mkv'",
        replaced,
        "$F run 'read in.mp4 ! write '$D'/live.m3u8'",
        "$F run 'read in.mp4 ! frames '$D'/{index}.png'",
        "$F run 'read in.mp4 ! null' --stats $D/stats.json",
        "$F run 'read in.mp4 ! null' --graph $D/graph.svg",
    ] {
        let disk = Disk::new().expect("as before");
        let line = format!("D={}; {line}", disk.at("mounted").display());
        let (status, stderr) = Running::start(&place, &line).end();
        let after = disk.cut();
        assert!(status.success(), "{line}: {stderr}");
        let (expected, found) = (contents(&disk.at("mounted")), contents(&after));
        assert!(!expected.is_empty() && found == expected, "{line}: {:?} of {:?}", found.keys(), expected.keys());
    }
}
