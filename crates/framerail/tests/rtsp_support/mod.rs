//! A real RTSP server: GStreamer's, from Debian's packages.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Debian's Python, which sees Debian's GStreamer.
const PYTHON: &str = "/usr/bin/python3";

/// A server in a separate process.
pub struct Camera {
    server: Child,
    commands: ChildStdin,
}

impl Camera {
    pub fn start(port: u16) -> Self {
        Self::with(port, &[])
    }

    /// Plays a file of H.264 and A-law to each viewer of `/clip`, from its start.
    pub fn playing(port: u16, clip: &Path) -> Self {
        Self::with(port, &["--clip".as_ref(), clip.as_os_str()])
    }

    /// Writes what is pushed to `/in` to the folder: `0.h264` and so on, one file per connection.
    pub fn recording(port: u16, folder: &Path) -> Self {
        Self::with(port, &[folder.as_os_str()])
    }

    fn with(port: u16, rest: &[&OsStr]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rtsp_server.py");
        let mut server = Command::new(PYTHON)
            .arg(script)
            .arg(port.to_string())
            .args(rest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's Python");
        let commands = server.stdin.take().expect("piped");
        let mut stated = String::new();
        BufReader::new(server.stdout.take().expect("piped")).read_line(&mut stated).expect("a line");
        assert_eq!(stated.trim(), format!("ready {port}"), "the server did not start");
        Self { server, commands }
    }

    pub fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it listens");
    }
}

impl Drop for Camera {
    /// Like a camera that loses power.
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Whether GStreamer's RTSP server is installed; `false` only if it may be missing.
pub fn has_server() -> bool {
    let probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); \
                 exit(not all(map(Gst.ElementFactory.find, ['x264enc', 'rtph264pay', 'videotestsrc', 'h264parse', 'matroskademux', 'rtppcmapay'])))";
    let found = Command::new(PYTHON).args(["-c", probe]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    framerail_testkit::require("rtsp", found, "install the packages of scripts/requirements/debian-test.txt (make setup)")
}
