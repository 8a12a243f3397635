//! Forwards framerail's log to Python's `logging`, under the logger `framerail`.
//!
//! Log lines come from threads that may hold locks, so none of them waits for the GIL: its own thread hands them over.

use std::{
    process,
    sync::{
        OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use framerail::media::ForkSafe;
use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{background, errors::for_python};

struct Line {
    level: u8,
    target: String,
    text: String,
}

/// The channel to the thread of this process.
struct Door {
    process: u32,
    sender: Sender<Line>,
}

static DOOR: ForkSafe<Option<Door>> = ForkSafe::new(None);

struct Forwarder;

/// The program's logger, if this process runs the program.
static PROGRAM: OnceLock<Box<dyn Log>> = OnceLock::new();

/// Makes the program log instead of Python.
pub fn log_by_program(logger: Box<dyn Log>, level: LevelFilter) {
    if PROGRAM.set(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// Libraries whose warnings are details, as in the program: their callers count and report the relevant ones.
const FOREIGN: [&str; 4] = ["ffmpeg", "onnxruntime", "ort", "usvg"];

impl Log for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let root = metadata.target().split("::").next().unwrap_or_default();
        let is_detail = FOREIGN.contains(&root) && log::max_level() <= LevelFilter::Info;
        metadata.level() <= if is_detail { LevelFilter::Error.min(log::max_level()) } else { log::max_level() }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(program) = PROGRAM.get() {
            return program.log(record);
        }
        let level = match record.level() {
            Level::Error => 40,
            Level::Warn => 30,
            Level::Info => 20,
            Level::Debug => 10,
            Level::Trace => 5,
        };
        let line = Line { level, target: record.target().replace("::", "."), text: for_python(&record.args().to_string()) };
        let mut door = DOOR.lock();
        if door.as_ref().is_none_or(|door| door.process != process::id()) {
            *door = open();
        }
        if let Some(door) = door.as_ref() {
            let _ = door.sender.send(line);
        }
    }

    fn flush(&self) {}
}

fn open() -> Option<Door> {
    let (sender, receiver) = channel();
    thread::Builder::new().name("framerail-log".into()).spawn(move || hand_over(&receiver)).ok()?;
    Some(Door { process: process::id(), sender })
}

fn hand_over(lines: &Receiver<Line>) {
    for line in lines {
        let done = background::call(|py| -> PyResult<()> {
            let root = if line.target.starts_with("framerail") { String::new() } else { "framerail.".to_owned() };
            let logger = py.import("logging")?.call_method1("getLogger", (root + &line.target,))?;
            logger.call_method1("log", (line.level, "%s", line.text))?;
            Ok(())
        });
        if done.is_none() {
            return;
        }
    }
}

/// Installs the logger; once per process.
pub fn start() {
    if log::set_logger(&Forwarder).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Sets the log level: `off`, `error`, `warn`, `info`, `debug` or `trace`.
#[pyfunction]
pub fn set_log_level(level: &str) -> PyResult<()> {
    let filter =
        level.parse().map_err(|_| PyValueError::new_err(format!("option 'level': {level}; use off, error, warn, info, debug or trace")))?;
    log::set_max_level(filter);
    Ok(())
}
