//! Runs `ffmpeg` and `ffprobe`; failures panic with the command and its error output.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{ChildStdin, Command, Output, Stdio},
    sync::OnceLock,
};

/// The first line of `ffmpeg -version`; part of every cache key.
pub(crate) fn ffmpeg_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let output = Command::new("ffmpeg").arg("-version").output().unwrap_or_else(|error| missing("ffmpeg", &error));
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    })
}

/// Names of the encoders in this ffmpeg.
pub(crate) fn encoders() -> &'static BTreeSet<String> {
    static ENCODERS: OnceLock<BTreeSet<String>> = OnceLock::new();
    ENCODERS.get_or_init(|| {
        let mut command = ffmpeg();
        command.arg("-encoders");
        let listing = String::from_utf8_lossy(&run(command)).into_owned();
        listing
            .lines()
            .skip_while(|line| !line.contains("---"))
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
            .collect()
    })
}

/// Whether an available encoder works: some builds of SVT-AV1 crash on some CPUs.
pub(crate) fn works(encoder: &str) -> bool {
    static CRASHES: OnceLock<bool> = OnceLock::new();
    let crashes = || {
        let mut command = ffmpeg();
        command.args(["-f", "lavfi", "-i", "color=size=160x120:rate=25", "-frames:v", "2", "-c:v", encoder, "-f", "null", "-"]);
        // Killed by a signal; an error exit is reported by the test instead.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.code().is_none())
    };
    encoder != "libsvtav1" || !*CRASHES.get_or_init(crashes)
}

/// `ffmpeg` with the options common to all calls.
pub(crate) fn ffmpeg() -> Command {
    ffmpeg_version();
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostats", "-loglevel", "error", "-y"]);
    command
}

/// `ffprobe` with JSON output.
pub(crate) fn ffprobe() -> Command {
    let mut command = Command::new("ffprobe");
    command.args(["-hide_banner", "-loglevel", "fatal", "-print_format", "json"]);
    command
}

/// Runs a command and returns its standard output.
pub(crate) fn run(mut command: Command) -> Vec<u8> {
    command.stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| missing(&command.get_program().to_string_lossy(), &error));
    checked(&command, output).stdout
}

/// Runs a command while `feed` writes its standard input.
pub(crate) fn run_fed(mut command: Command, feed: impl FnOnce(&mut dyn Write) + Send) {
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| missing(&command.get_program().to_string_lossy(), &error));
    let stdin: Option<ChildStdin> = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut stdin = std::io::BufWriter::new(stdin.expect("standard input is piped"));
            feed(&mut stdin);
            // If the tool stopped early, its standard error has the reason.
            let _ = stdin.flush();
        });
        child.wait_with_output().expect("wait for ffmpeg")
    });
    checked(&command, output);
}

fn checked(command: &Command, output: Output) -> Output {
    assert!(
        output.status.success(),
        "{} failed with {}\n  command: {command:?}\n  said: {}",
        command.get_program().to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    output
}

pub(crate) fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("cannot run {program} ({error}): generated media need FFmpeg's command line; run `make setup`")
}
