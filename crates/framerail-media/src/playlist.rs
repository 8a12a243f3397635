//! Output of an HLS playlist with its segments.
//!
//! Unlike a file, which appears when it is complete, a playlist appears with its first segment. It lists only complete segments, and
//! is replaced atomically. If its writer fails, what was written stays, without an end mark. An earlier playlist of the same name
//! stays, with its segments, until the new one exists: the new segments' numbers continue after the earlier ones'.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    HlsOptions, MediaError, OutputRules, PlaylistKind, SegmentFormat,
    commit::{self, folder_of, make_folder, sync_all},
};

/// Minimum number of digits of a segment's number.
const DIGITS: usize = 5;
/// Maximum length in bytes of the playlist's stem in segment names: a number and an extension follow.
const STEM_BYTES: usize = 220;

/// A playlist being written.
pub(crate) struct PlaylistOutput {
    path: PathBuf,
    options: HlsOptions,
    /// Segments and headers of an earlier playlist of this name.
    earlier: Vec<PathBuf>,
    /// Number of the first segment.
    first: u64,
    is_complete: bool,
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
        make_folder(folder_of(path))?;
        let mut output = Self { path: path.to_owned(), options, earlier: Vec::new(), first: 0, is_complete: false };
        let earlier = output.segments()?;
        let shown = |file: &Path| file.display().to_string();
        if let Some((file, _)) = earlier.iter().find(|(file, _)| rules.files.is_input(file)) {
            return Err(MediaError::SameFile { path: shown(file) });
        }
        if let Some((file, _)) = earlier.first().filter(|_| !rules.overwrite) {
            return Err(MediaError::Exists { path: shown(file) });
        }
        output.first = earlier.iter().filter_map(|(_, number)| *number).max().map_or(0, |last| last + 1);
        output.earlier = earlier.into_iter().map(|(file, _)| file).collect();
        Ok(output)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn folder(&self) -> &Path {
        folder_of(&self.path)
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

    /// Segments and headers of this playlist in its folder, with their numbers.
    fn segments(&self) -> Result<Vec<(PathBuf, Option<u64>)>, MediaError> {
        let entries = fs::read_dir(self.folder()).map_err(|error| MediaError::io(&self.path, &error))?;
        let prefix = self.prefix();
        let found = entries.flatten().filter_map(|entry| Some((entry.path(), own_number(entry.file_name().to_str()?, &prefix)?)));
        Ok(found.collect())
    }

    /// Verifies the playlist that the muxer has finished, and waits until it is safe on the disk.
    ///
    /// # Errors
    /// `Io` if it is missing, or lists a segment that is missing; `DiskFull`.
    pub(crate) fn complete(mut self) -> Result<u64, MediaError> {
        self.is_complete = true;
        let text = fs::read_to_string(&self.path).map_err(|error| MediaError::io(&self.path, &error))?;
        let summary = summary(&text);
        let files: Vec<PathBuf> = summary.files.iter().map(|name| self.folder().join(name)).collect();
        if let Some(missing) = files.iter().find(|file| !fs::metadata(file).is_ok_and(|found| found.len() > 0)) {
            let reason = format!("the segment {} could not be written", missing.display());
            return Err(MediaError::Io { path: self.path.display().to_string(), reason });
        }
        sync_all(files.iter().chain([&self.path]).map(PathBuf::as_path))?;
        self.clear_earlier();
        Ok(summary.segments.saturating_sub(self.first))
    }

    /// Path of the playlist that a failed writer left, if any.
    pub(crate) fn keep_unfinished(self) -> Option<PathBuf> {
        self.is_ours().then(|| self.path.clone())
    }

    /// Whether the existing playlist is the new one.
    fn is_ours(&self) -> bool {
        let Ok(text) = fs::read_to_string(&self.path) else { return false };
        let prefix = self.prefix();
        summary(&text).files.iter().filter_map(|name| own_number(name, &prefix)?).any(|number| number >= self.first)
    }

    /// Removes files that no playlist lists any more.
    fn clear_earlier(&mut self) {
        for file in self.earlier.drain(..) {
            if let Err(error) = fs::remove_file(&file) {
                log::debug!("{}: of an earlier playlist, not removed: {error}", file.display());
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
        // Remove segments that no playlist lists. Drop cannot report errors.
        let is_new = |(file, _): &(PathBuf, Option<u64>)| !self.earlier.contains(file);
        let segments = self.segments().unwrap_or_default();
        segments.into_iter().filter(is_new).for_each(|(file, _)| drop(fs::remove_file(file)));
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

fn summary(playlist: &str) -> PlaylistSummary {
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
        let output = PlaylistOutput { path, options: HlsOptions::default(), earlier: Vec::new(), first: 0, is_complete: true };
        assert!(output.prefix().len() < 240, "{}", output.prefix());
    }
}
