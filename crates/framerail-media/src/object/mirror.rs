//! An HLS playlist in object storage: a thread uploads what the muxer writes to a folder of this machine.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::ObjectTarget;
use crate::playlist::summary;

/// How often the playlist is checked for new segments.
const CHECK: Duration = Duration::from_millis(200);

/// The copy of a playlist in object storage. Segments are uploaded before the playlist that lists them. What cannot be uploaded is tried
/// again with the next change, and at the end.
pub(crate) struct Mirror {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The playlist that the muxer writes.
    local: PathBuf,
    target: ObjectTarget,
    /// Whether the muxer removes segments that are no longer listed, and the copy does too.
    is_sliding: bool,
    copied: Mutex<Copied>,
    has_ended: Mutex<bool>,
    wake: Condvar,
}

#[derive(Default)]
struct Copied {
    /// The text of the uploaded playlist.
    text: String,
    /// Segments and headers, in the order of their uploads.
    files: Vec<String>,
    replaces: bool,
}

impl Mirror {
    /// Begins to copy the playlist `local`, which does not exist yet, with the segments beside it.
    pub(crate) fn start(local: &Path, target: ObjectTarget, is_sliding: bool, replaces: bool) -> io::Result<Self> {
        let copied = Mutex::new(Copied { replaces, ..Copied::default() });
        let shared =
            Arc::new(Shared { local: local.to_owned(), target, is_sliding, copied, has_ended: Mutex::default(), wake: Condvar::new() });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("hls-upload".into()).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Uploads the rest.
    ///
    /// # Errors
    /// Those of the storage; `AlreadyExists` for a playlist that another writer made in the meantime.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.end();
        self.shared.copy()
    }

    fn end(&mut self) {
        *self.shared.has_ended.lock() = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut has_ended = self.has_ended.lock();
            if !*has_ended {
                self.wake.wait_for(&mut has_ended, CHECK);
            }
            if *has_ended {
                return;
            }
            drop(has_ended);
            if let Err(error) = self.copy() {
                log::warn!("the playlist cannot be uploaded now: {error}");
            }
        }
    }

    /// Uploads what is new in the playlist, if it has changed.
    fn copy(&self) -> io::Result<()> {
        let text = match fs::read_to_string(&self.local) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text?,
        };
        let mut copied = self.copied.lock();
        if text == copied.text {
            return Ok(());
        }
        for name in summary(&text).files {
            if copied.files.contains(&name) {
                continue;
            }
            let file = self.local.with_file_name(&name);
            self.target.beside(&name).put(&file, true)?;
            if !self.is_sliding {
                // Only its size is needed from now on; see `PlaylistOutput::complete`.
                fs::write(&file, b"-")?;
            }
            copied.files.push(name);
        }
        let replaces = copied.replaces || !copied.text.is_empty();
        self.target.put_bytes(text.clone().into_bytes(), replaces)?;
        copied.text = text;
        if self.is_sliding {
            // The muxer keeps segments for a while after they were listed last, and headers to the end.
            let (kept, gone): (Vec<_>, Vec<_>) = copied.files.drain(..).partition(|name| self.local.with_file_name(name).exists());
            copied.files = kept;
            for name in gone {
                self.target.beside(&name).remove()?;
            }
        }
        Ok(())
    }
}
