//! Output of an HLS playlist with its segments.
//!
//! Unlike a file, which appears when it is complete, a playlist appears with its first segment. It lists only complete segments, and
//! is replaced atomically. If its writer fails, what was written stays, without an end mark. An earlier playlist of the same name
//! stays, with its segments, until the new one exists: the new segments' numbers continue after the earlier ones'.
//!
//! In object storage the same holds for the objects: the muxer writes to a temporary folder, and [`Mirror`] uploads.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    HlsOptions, MediaError, OutputRules, PlaylistKind, SegmentFormat,
    commit::{self, folder_of, make_folder, sync_all},
    object::{Mirror, ObjectTarget},
};

/// Minimum number of digits of a segment's number.
const DIGITS: usize = 5;
/// Maximum length in bytes of the playlist's stem in segment names: a number and an extension follow.
const STEM_BYTES: usize = 220;

/// A playlist being written.
pub(crate) struct PlaylistOutput {
    path: PathBuf,
    /// The file that the muxer writes: `path`, or one in a temporary folder.
    local: PathBuf,
    remote: Option<Remote>,
    options: HlsOptions,
    /// Names of segments and headers of an earlier playlist of this name.
    earlier: Vec<String>,
    /// Number of the first segment.
    first: u64,
    is_complete: bool,
}

/// A playlist that is copied to object storage.
struct Remote {
    // Fields are dropped in this order: the thread ends before its folder is removed.
    mirror: Mirror,
    target: ObjectTarget,
    folder: TempDir,
}

/// Contents of a complete playlist.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlaylistSummary {
    /// Number of segments since number 0, including deleted ones.
    pub(crate) segments: u64,
    /// Files that it lists.
    pub(crate) files: Vec<String>,
}

impl PlaylistOutput {
    /// Checks that the playlist may be written. Files of an earlier one stay until the new one exists.
    ///
    /// # Errors
    /// `Exists` without `overwrite` for the playlist or a segment, `SameFile` if the run reads one of them, `Io` for a
    /// folder that cannot be created.
    pub(crate) fn create(path: &Path, options: HlsOptions, rules: &OutputRules) -> Result<Self, MediaError> {
        commit::check(path, rules)?;
        let target = ObjectTarget::of(path)?;
        if target.is_none() {
            make_folder(folder_of(path))?;
        }
        let mut output = Self {
            path: path.to_owned(),
            local: path.to_owned(),
            remote: None,
            options,
            earlier: Vec::new(),
            first: 0,
            is_complete: false,
        };
        let earlier = output.segments(target.as_ref())?;
        let shown = |name: &str| path.with_file_name(name).display().to_string();
        if let Some((name, _)) = earlier.iter().find(|(name, _)| rules.files.is_input(&path.with_file_name(name))) {
            return Err(MediaError::SameFile { path: shown(name) });
        }
        if let Some((name, _)) = earlier.first().filter(|_| !rules.overwrite) {
            return Err(MediaError::Exists { path: shown(name) });
        }
        output.first = earlier.iter().filter_map(|(_, number)| *number).max().map_or(0, |last| last + 1);
        output.earlier = earlier.into_iter().map(|(name, _)| name).collect();
        if let Some(target) = target {
            output.copy_to(target, rules.overwrite).map_err(|error| MediaError::io(path, &error))?;
        }
        Ok(output)
    }

    /// Writes to a temporary folder, and copies to object storage from there.
    fn copy_to(&mut self, target: ObjectTarget, replaces: bool) -> std::io::Result<()> {
        let folder = tempfile::Builder::new().prefix("framerail-hls-").tempdir()?;
        self.local = folder.path().join(self.path.file_name().unwrap_or_default());
        let is_sliding = matches!(self.options.playlist, PlaylistKind::Live { .. });
        let mirror = Mirror::start(&self.local, target.clone(), is_sliding, replaces)?;
        self.remote = Some(Remote { mirror, target, folder });
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that the muxer writes.
    pub(crate) fn local_path(&self) -> &Path {
        &self.local
    }

    fn folder(&self) -> &Path {
        folder_of(&self.local)
    }

    /// Common prefix of segment names. A percent sign would be a pattern for FFmpeg, and an escape for players.
    fn prefix(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().replace('%', "_");
        format!("{}-", commit::short_stem(OsStr::new(&stem), STEM_BYTES).to_string_lossy())
    }

    fn extension(&self) -> &'static str {
        match self.options.format {
            SegmentFormat::MpegTs => "ts",
            SegmentFormat::FragmentedMp4 => "m4s",
        }
    }

    /// Options for FFmpeg's muxer.
    pub(crate) fn muxer_options(&self) -> Vec<(&'static str, String)> {
        let name = format!("{}%0{DIGITS}d.{}", self.prefix(), self.extension());
        let mut flags = "+independent_segments+temp_file".to_owned();
        let mut options = vec![
            ("hls_time", self.options.segment.as_secs_f64().to_string()),
            ("hls_segment_filename", self.folder().join(name).display().to_string()),
        ];
        match self.options.playlist {
            PlaylistKind::Event => options.push(("hls_playlist_type", "event".into())),
            PlaylistKind::Vod => options.push(("hls_playlist_type", "vod".into())),
            PlaylistKind::Live { segments } => {
                options.push(("hls_list_size", segments.to_string()));
                options.push(("hls_delete_threshold", segments.to_string()));
                flags.push_str("+delete_segments");
            }
        }
        if self.options.has_wall_clock {
            flags.push_str("+program_date_time");
        }
        options.push(("hls_flags", flags));
        if self.first > 0 {
            options.push(("start_number", self.first.to_string()));
        }
        if self.options.format == SegmentFormat::FragmentedMp4 {
            let number = if self.first > 0 { format!("-{}", self.first) } else { String::new() };
            options.push(("hls_segment_type", "fmp4".into()));
            options.push(("hls_fmp4_init_filename", format!("{}init{number}.mp4", self.prefix())));
        }
        options
    }

    /// Segments and headers of this playlist in its folder, here or in object storage, with their numbers.
    fn segments(&self, target: Option<&ObjectTarget>) -> Result<Vec<(String, Option<u64>)>, MediaError> {
        let names = match target {
            Some(target) => target.names_beside()?,
            None => {
                let entries = fs::read_dir(self.folder()).map_err(|error| MediaError::io(&self.path, &error))?;
                entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
        };
        let prefix = self.prefix();
        Ok(names.into_iter().filter_map(|name| own_number(&name, &prefix).map(|number| (name, number))).collect())
    }

    /// Verifies the playlist that the muxer has finished, and waits until it is safe on the disk.
    ///
    /// # Errors
    /// `Io` if it is missing, or lists a segment that is missing; `DiskFull`.
    pub(crate) fn complete(mut self) -> Result<u64, MediaError> {
        self.is_complete = true;
        let text = fs::read_to_string(&self.local).map_err(|error| MediaError::io(&self.path, &error))?;
        let summary = summary(&text);
        let files: Vec<PathBuf> = summary.files.iter().map(|name| self.folder().join(name)).collect();
        if let Some(missing) = files.iter().find(|file| !fs::metadata(file).is_ok_and(|found| found.len() > 0)) {
            let reason = format!("the segment {} could not be written", missing.display());
            return Err(MediaError::Io { path: self.path.display().to_string(), reason });
        }
        if let Some(remote) = &mut self.remote {
            if let Err(error) = remote.mirror.finish() {
                remote.folder.disable_cleanup(true);
                let reason = format!("cannot be uploaded: {error}");
                let error = MediaError::Io { path: self.path.display().to_string(), reason };
                return Err(error.kept_as(Some(&self.local)));
            }
        } else {
            sync_all(files.iter().chain([&self.local]).map(PathBuf::as_path))?;
        }
        self.clear_earlier();
        Ok(summary.segments.saturating_sub(self.first))
    }

    /// Path of the playlist that a failed writer left, if any.
    pub(crate) fn keep_unfinished(mut self) -> Option<PathBuf> {
        if let Some(Err(error)) = self.remote.as_mut().map(|remote| remote.mirror.finish()) {
            log::warn!("{}: the end cannot be uploaded: {error}", self.path.display());
        }
        self.is_ours().then(|| self.path.clone())
    }

    /// Whether the existing playlist is the new one.
    fn is_ours(&self) -> bool {
        let Ok(text) = fs::read_to_string(&self.local) else { return false };
        let prefix = self.prefix();
        summary(&text).files.iter().filter_map(|name| own_number(name, &prefix)?).any(|number| number >= self.first)
    }

    /// Removes files that no playlist lists any more.
    fn clear_earlier(&mut self) {
        for name in self.earlier.drain(..) {
            let removed = match &self.remote {
                Some(remote) => remote.target.beside(&name).remove(),
                None => fs::remove_file(self.local.with_file_name(&name)),
            };
            if let Err(error) = removed {
                log::debug!("{name}: of an earlier playlist, not removed: {error}");
            }
        }
    }
}

impl Drop for PlaylistOutput {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        if self.is_ours() {
            return self.clear_earlier();
        }
        // Remove segments that no playlist lists. Drop cannot report errors. Those of object storage are in a temporary folder.
        let is_new = |(name, _): &(String, Option<u64>)| !self.earlier.contains(name);
        let segments = self.segments(None).unwrap_or_default();
        segments.into_iter().filter(is_new).for_each(|(name, _)| drop(fs::remove_file(self.local.with_file_name(name))));
    }
}

/// The number in a segment's name; inner `None` for a header and for an incomplete file.
fn own_number(name: &str, prefix: &str) -> Option<Option<u64>> {
    let rest = name.strip_prefix(prefix)?;
    let rest = rest.strip_suffix(".tmp").unwrap_or(rest);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(header) = rest.strip_prefix("init").and_then(|rest| rest.strip_suffix(".mp4")) {
        return (header.is_empty() || header.strip_prefix('-').is_some_and(is_number)).then_some(None);
    }
    let number = rest.strip_suffix(".ts").or_else(|| rest.strip_suffix(".m4s"))?;
    (number.len() >= DIGITS && is_number(number)).then(|| number.parse().ok())
}

pub(crate) fn summary(playlist: &str) -> PlaylistSummary {
    let mut summary = PlaylistSummary::default();
    for line in playlist.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            summary.segments += first.parse().unwrap_or(0);
        } else if let Some(header) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
            summary.files.extend(header.split('"').next().map(str::to_owned));
        } else if !line.starts_with('#') {
            summary.segments += 1;
            summary.files.push(line.to_owned());
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_tells_how_many_segments_there_were() {
        let text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"a-init.mp4\"\n#EXTINF:2.0,\na-00007.ts\n#EXTINF:1.0,\na-00008.ts\n";
        let files = ["a-init.mp4", "a-00007.ts", "a-00008.ts"].map(str::to_owned).into();
        assert_eq!(summary(text), PlaylistSummary { segments: 9, files });
    }

    fn left(folder: &Path) -> Vec<String> {
        let mut left: Vec<_> = fs::read_dir(folder).expect("there").map(|entry| entry.expect("readable").file_name()).collect();
        left.sort();
        left.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn an_earlier_playlist_stays_until_the_new_one_is_there() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        let own = ["cam-00000.ts", "cam-123456.m4s", "cam-init.mp4", "cam-00001.ts.tmp"];
        let others = ["cam-1.ts", "cam-2-00000.ts", "x.ts"];
        own.iter().chain(&others).for_each(|name| fs::write(at(name), b"x").expect("written"));
        fs::write(at("cam.m3u8"), "#EXTM3U\ncam-00000.ts\n").expect("written");
        let before = left(folder.path());
        let path = at("cam.m3u8");
        let rules = |overwrite| OutputRules { overwrite, ..OutputRules::default() };
        assert!(matches!(PlaylistOutput::create(&path, HlsOptions::default(), &rules(false)), Err(MediaError::Exists { .. })));
        let reading = rules(true);
        reading.files.read(&at("cam-00000.ts")).expect("first");
        assert!(matches!(PlaylistOutput::create(&path, HlsOptions::default(), &reading), Err(MediaError::SameFile { .. })));
        // Fails before its playlist is there.
        let output = PlaylistOutput::create(&path, HlsOptions::default(), &rules(true)).expect("may be replaced");
        assert!(output.muxer_options().contains(&("start_number", "123457".into())));
        fs::write(at("cam-123457.ts"), b"x").expect("written");
        drop(output);
        assert_eq!(left(folder.path()), before);
        // Its playlist is there.
        let output = PlaylistOutput::create(&path, HlsOptions::default(), &rules(true)).expect("may be replaced");
        fs::write(at("cam-123457.ts"), b"x").expect("written");
        fs::write(&path, "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:123457\ncam-123457.ts\n").expect("written");
        assert_eq!(output.complete().expect("whole"), 1);
        assert_eq!(left(folder.path()), ["cam-1.ts", "cam-123457.ts", "cam-2-00000.ts", "cam.m3u8", "x.ts"]);
    }

    #[test]
    fn segments_of_long_names_fit() {
        let path = PathBuf::from(format!("{}.m3u8", "ä".repeat(120)));
        let output = PlaylistOutput {
            local: path.clone(),
            path,
            remote: None,
            options: HlsOptions::default(),
            earlier: Vec::new(),
            first: 0,
            is_complete: true,
        };
        assert!(output.prefix().len() < 240, "{}", output.prefix());
    }
}
