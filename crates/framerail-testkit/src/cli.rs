//! Runs a program under test with a time limit, so that a hang fails one test instead of blocking all.

use std::{
    ffi::{OsStr, OsString},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Polling interval for a running program.
const POLL: Duration = Duration::from_millis(5);

/// Builder for a program call: `Cli::new(env!("CARGO_BIN_EXE_framerail")).args(["probe", "in.mp4"]).run()`.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
    stdin: Vec<u8>,
    time_limit: Duration,
}

/// Result of a program call.
#[derive(Clone, Debug)]
pub struct CliOutput {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// Standard output, unmodified.
    pub stdout_bytes: Vec<u8>,
    /// Wall time.
    pub elapsed: Duration,
    call: String,
}

impl Cli {
    /// A call without arguments, with empty standard input and a time limit of 60 s.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_path_buf(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            stdin: Vec::new(),
            time_limit: Duration::from_secs(60),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets the working directory.
    pub fn current_dir(self, folder: impl AsRef<Path>) -> Self {
        Self { folder: Some(folder.as_ref().to_path_buf()), ..self }
    }

    /// Sets the contents of standard input.
    pub fn stdin(self, bytes: impl Into<Vec<u8>>) -> Self {
        Self { stdin: bytes.into(), ..self }
    }

    /// Sets the time limit.
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Runs the program to completion.
    ///
    /// # Panics
    /// When it cannot start or exceeds the time limit. It is killed then, and the message includes its output.
    pub fn run(&self) -> CliOutput {
        self.start().wait()
    }

    /// Starts the program without waiting.
    pub fn start(&self) -> RunningCli {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        if let Some(mut stdin) = child.stdin.take() {
            let bytes = self.stdin.clone();
            // The program may exit without reading everything.
            thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        let stdout = Collector::start(child.stdout.take().expect("standard output is piped"));
        let stderr = Collector::start(child.stderr.take().expect("standard error is piped"));
        RunningCli { child, stdout, stderr, started: Instant::now(), time_limit: self.time_limit, call: format!("{command:?}") }
    }
}

/// A running program; killed when dropped.
pub struct RunningCli {
    child: Child,
    stdout: Collector,
    stderr: Collector,
    started: Instant,
    time_limit: Duration,
    call: String,
}

impl RunningCli {
    /// Process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `INT` is Ctrl-C, `TERM` asks to stop.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {name} to {}", self.call);
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until standard error contains `text`.
    ///
    /// # Panics
    /// When the program ends or the time limit passes first.
    pub fn wait_for_stderr(&mut self, text: &str) {
        while !self.stderr.text().contains(text) {
            let ended = self.child.try_wait().expect("look at the program").is_some();
            // Output may arrive just after the end.
            if ended && !self.stderr.finished_text().contains(text) {
                self.fail(&format!("ended without '{text}' on standard error"));
            }
            self.check_time(&format!("waiting for '{text}'"));
            thread::sleep(POLL);
        }
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    /// When the time limit passes. The program is killed then, and the message includes its output.
    pub fn wait(mut self) -> CliOutput {
        let status = self.wait_status();
        let elapsed = self.started.elapsed();
        while !(self.stdout.is_finished() && self.stderr.is_finished()) {
            self.check_time("its output was not closed: a child process still runs");
            thread::sleep(POLL);
        }
        let stdout_bytes = self.stdout.bytes();
        CliOutput {
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout_bytes).into_owned(),
            stderr: self.stderr.text(),
            stdout_bytes,
            elapsed,
            call: std::mem::take(&mut self.call),
        }
    }

    fn wait_status(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("look at the program") {
                return status;
            }
            self.check_time("it still runs");
            thread::sleep(POLL);
        }
    }

    fn check_time(&mut self, what: &str) {
        if self.started.elapsed() > self.time_limit {
            let _ = self.child.kill();
            self.fail(&format!("took longer than {:?}: {what}", self.time_limit));
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{}\n  {what}\n--- standard output\n{}\n--- standard error\n{}", self.call, self.stdout(), self.stderr())
    }
}

impl Drop for RunningCli {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl CliOutput {
    /// Fails with the whole output unless the exit code is `code`.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert!(self.code == Some(code), "wanted exit code {code}\n{self}");
        self
    }

    /// Fails with the whole output unless the exit code is 0.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        self.assert_code(0)
    }

    /// Fails with the whole output unless standard error contains `text`.
    #[track_caller]
    pub fn assert_stderr_contains(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "wanted '{text}' on standard error\n{self}");
        self
    }
}

impl std::fmt::Display for CliOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { call, code, stdout, stderr, elapsed, .. } = self;
        write!(f, "{call}\n  code {code:?} after {elapsed:?}\n--- standard output\n{stdout}\n--- standard error\n{stderr}")
    }
}

/// Reads a pipe on a thread, so that a full pipe never blocks the program.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                shared.lock().expect("no reader panics").extend_from_slice(&buffer[..len]);
            }
        });
        Self { bytes, reader }
    }

    fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().expect("no reader panics").clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The text once the pipe is closed, or after a second.
    fn finished_text(&self) -> String {
        for _ in 0..200 {
            if self.is_finished() {
                break;
            }
            thread::sleep(POLL);
        }
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Cli {
        Cli::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn code_output_input_and_environment_arrive() {
        let output = shell("cat; echo $WORD >&2; exit 3").stdin("typed").env("WORD", "given").run();
        output.assert_code(3).assert_stderr_contains("given");
        assert_eq!(output.stdout, "typed");
    }

    #[test]
    #[should_panic(expected = "took longer than")]
    fn a_hang_is_killed_and_reported() {
        shell("exec sleep 60").time_limit(Duration::from_millis(100)).run();
    }

    #[test]
    fn much_output_does_not_block() {
        let output = shell("yes | head -c 1000000; yes | head -c 1000000 >&2").run();
        assert_eq!((output.stdout.len(), output.stderr.len()), (1_000_000, 1_000_000));
    }

    #[test]
    fn signals_reach_a_running_program() {
        let mut running = shell("trap 'echo stopped; exit 7' INT; echo ready >&2; while :; do sleep 0.02; done").start();
        running.wait_for_stderr("ready");
        running.signal("INT");
        let output = running.wait();
        assert_eq!((output.code, output.stdout.as_str()), (Some(7), "stopped\n"));
    }
}
