//! Log messages of the libraries, as lines on standard error.

use std::io::{self, Write};

use env_logger::{Builder, Target, WriteStyle};
use framerail::core::{printable, redacted};
use log::{Level, LevelFilter, Log};

use crate::progress;

/// Libraries whose warnings are details: their callers count and report the relevant ones.
const FOREIGN: [&str; 4] = ["ffmpeg", "onnxruntime", "ort", "usvg"];

/// Starts logging; `verbosity` is the number of `-v`. `FRAMERAIL_LOG` (such as `debug` or `ffmpeg=info`) overrides both.
pub fn start(quiet: bool, verbosity: u8, install: impl FnOnce(Box<dyn Log>, LevelFilter)) {
    let level = match (quiet, verbosity) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, 2) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    builder.filter_level(level);
    if level <= LevelFilter::Info {
        for module in FOREIGN {
            builder.filter_module(module, LevelFilter::Error);
        }
    }
    builder.parse_env("FRAMERAIL_LOG").write_style(WriteStyle::Never).target(Target::Pipe(Box::new(AboveProgress)));
    builder.format(|out, record| {
        let word = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let message = record.args().to_string().trim_end().replace('\n', " ");
        writeln!(out, "framerail: {word}: {}", printable(&redacted(&message)))
    });
    let logger = builder.build();
    let level = logger.filter();
    install(Box::new(logger), level);
}

/// Installs this logger for the process, unless one is installed.
pub fn log_to_stderr(logger: Box<dyn Log>, level: LevelFilter) {
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// Writes to standard error without disturbing a progress bar.
struct AboveProgress;

impl Write for AboveProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::suspended(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
