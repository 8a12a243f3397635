//! ONNX Runtime's quantisation tools: a Python process with requests and responses as lines of JSON.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    exit::{Failure, INTERNAL, MODEL, USAGE},
    interrupt,
};

const SCRIPT: &str = include_str!("quantize.py");

/// Interval of checks for signals while the tools run.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The tools at work in a folder. Dropping it ends the process.
pub struct Tools {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
    /// What Python writes to standard error.
    log: PathBuf,
}

impl Tools {
    /// Starts Python on the folder, which holds the model and its inputs.
    ///
    /// # Errors
    /// `USAGE` when there is no Python; `MODEL` when a package is missing.
    pub fn start(python: Option<&Path>, folder: &Path) -> Result<Self, Failure> {
        let program = python.map_or_else(usual_python, Path::to_owned);
        let script = folder.join("quantize.py");
        std::fs::write(&script, SCRIPT).map_err(|error| Failure::new(INTERNAL, format_args!("{}: {error}", script.display())))?;
        let log = folder.join("python.log");
        let errors = File::create(&log).map_err(|error| Failure::new(INTERNAL, format_args!("{}: {error}", log.display())))?;
        let started =
            Command::new(&program).arg(&script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().map_err(
                |error| Failure::new(USAGE, format_args!("cannot start Python {}: {error}; name it with --python", program.display())),
            );
        let mut child = started?;
        let (Some(questions), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new(INTERNAL, "Python was started without pipes; please report it"));
        };
        let (sender, answers) = mpsc::channel();
        // Ends with the process.
        let read = move || BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        thread::Builder::new()
            .name("quantize".into())
            .spawn(read)
            .map_err(|error| Failure::new(INTERNAL, format_args!("cannot start a thread: {error}")))?;
        let mut tools = Self { child, questions, answers, log };
        tools.answer(|| ()).map(|_| tools)
    }

    /// Asks for something; `step` is called for each step of it.
    ///
    /// # Errors
    /// `MODEL` with what the tools report; `INTERRUPTED` after a signal.
    pub fn ask(&mut self, question: &Value, step: impl FnMut()) -> Result<Value, Failure> {
        let asked = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        asked.map_err(|error| Failure::new(MODEL, format_args!("the quantisation tools ended early: {error}")))?;
        self.answer(step)
    }

    fn answer(&mut self, mut step: impl FnMut()) -> Result<Value, Failure> {
        loop {
            if interrupt::came() {
                return Err(Failure::interrupted("interrupted: nothing was written"));
            }
            let line = match self.answers.recv_timeout(LOOK_EVERY) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                    let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                    let last = log.lines().rfind(|line| !line.trim().is_empty());
                    let last = last.unwrap_or("with too little memory, try fewer --frames");
                    return Err(Failure::new(MODEL, format_args!("Python ended without an answer ({ended}): {last}")));
                }
            };
            let mut answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "error": line }));
            let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
            if let Some(missing) = text("missing") {
                let words =
                    format!("quantising needs ONNX Runtime's tools in Python: {missing}; `pip install onnxruntime onnx`, or give --python");
                return Err(Failure::new(MODEL, words));
            }
            if let Some(error) = text("error") {
                return Err(Failure::new(MODEL, format_args!("the model cannot be quantised: {error}")));
            }
            match answer.get_mut("ok") {
                Some(result) => return Ok(result.take()),
                None => step(),
            }
        }
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        // What has ended already cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that runs this program as its package, that of the active environment, else the system's.
fn usual_python() -> PathBuf {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let environment = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().find_map(variable).map(|root| root.join("bin/python"));
    variable("FRAMERAIL_PYTHON").or(environment).unwrap_or_else(|| "python3".into())
}
