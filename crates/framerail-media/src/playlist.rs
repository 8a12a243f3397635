//! An HLS playlist and its segments on their way.
//!
//! Where a file appears when it is complete, a playlist is there from its first segment on: it names whole segments only, and is
//! replaced in one step. What is left when its writer fails stays, without an end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{HlsOptions, MediaError, PlaylistKind, SegmentFormat};

/// Digits of a segment's number; longer ones come after these.
const DIGITS: usize = 5;

/// A playlist that is being written.
pub(crate) struct PlaylistOutput {
    path: PathBuf,
    options: HlsOptions,
    is_complete: bool,
}

/// What a complete playlist names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlaylistSummary {
    /// Segments since the first, deleted ones included.
    pub(crate) segments: u64,
    /// Files that it names and that are not there, or empty.
    pub(crate) missing: Vec<String>,
}

impl PlaylistOutput {
    /// Checks that the playlist may be written, and clears away what an earlier one left.
    ///
    /// # Errors
    /// `Exists` without `overwrite` for the playlist or a segment, `Io` for a folder that is missing.
    pub(crate) fn create(path: &Path, options: HlsOptions, overwrite: bool) -> Result<Self, MediaError> {
        let output = Self { path: path.to_owned(), options, is_complete: false };
        let folder = output.folder();
        if !fs::metadata(folder).is_ok_and(|found| found.is_dir()) {
            let reason = format!("the folder {} is not there; create it first", folder.display());
            return Err(MediaError::Io { path: path.display().to_string(), reason });
        }
        let earlier: Vec<PathBuf> = output.segments()?.into_iter().chain(path.exists().then(|| path.to_owned())).collect();
        match earlier.last() {
            Some(found) if !overwrite => Err(MediaError::Exists { path: found.display().to_string() }),
            _ => {
                earlier.iter().try_for_each(|file| fs::remove_file(file).map_err(|error| MediaError::io(file, &error)))?;
                Ok(output)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// What names of segments begin with. A percent sign would be a pattern to FFmpeg, and an escape to players.
    fn prefix(&self) -> String {
        format!("{}-", self.path.file_stem().unwrap_or_default().to_string_lossy().replace('%', "_"))
    }

    fn extension(&self) -> &'static str {
        match self.options.format {
            SegmentFormat::MpegTs => "ts",
            SegmentFormat::FragmentedMp4 => "m4s",
        }
    }

    /// What FFmpeg's muxer is told.
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
        if self.options.format == SegmentFormat::FragmentedMp4 {
            options.push(("hls_segment_type", "fmp4".into()));
            options.push(("hls_fmp4_init_filename", format!("{}init.mp4", self.prefix())));
        }
        options
    }

    /// Segments and headers of this playlist that lie beside it.
    fn segments(&self) -> Result<Vec<PathBuf>, MediaError> {
        let entries = fs::read_dir(self.folder()).map_err(|error| MediaError::io(&self.path, &error))?;
        let prefix = self.prefix();
        let is_own = |name: &str| {
            let Some(rest) = name.strip_prefix(&prefix) else { return false };
            let rest = rest.strip_suffix(".tmp").unwrap_or(rest);
            let number = rest.strip_suffix(".ts").or_else(|| rest.strip_suffix(".m4s"));
            rest == "init.mp4" || number.is_some_and(|number| number.len() >= DIGITS && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let names = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_own));
        Ok(names.map(|entry| entry.path()).collect())
    }

    /// Looks at the playlist that its muxer has ended.
    ///
    /// # Errors
    /// `Io` when it is not there, or names a segment that is not.
    pub(crate) fn complete(mut self) -> Result<u64, MediaError> {
        self.is_complete = true;
        let text = fs::read_to_string(&self.path).map_err(|error| MediaError::io(&self.path, &error))?;
        let summary = summary(&text, |name| fs::metadata(self.folder().join(name)).is_ok_and(|found| found.len() > 0));
        match summary.missing.first() {
            Some(missing) => {
                let reason = format!("the segment {missing} could not be written");
                Err(MediaError::Io { path: self.path.display().to_string(), reason })
            }
            None => Ok(summary.segments),
        }
    }
}

impl Drop for PlaylistOutput {
    fn drop(&mut self) {
        // Segments that no playlist names are of no use to anyone.
        if !self.is_complete && !self.path.exists() {
            let segments = self.segments().unwrap_or_default();
            // Dropping cannot report.
            segments.iter().for_each(|file| drop(fs::remove_file(file)));
        }
    }
}

fn summary(playlist: &str, is_there: impl Fn(&str) -> bool) -> PlaylistSummary {
    let mut summary = PlaylistSummary::default();
    for line in playlist.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            summary.segments += first.parse().unwrap_or(0);
        } else if !line.starts_with('#') {
            summary.segments += 1;
            if !is_there(line) {
                summary.missing.push(line.to_owned());
            }
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_tells_how_many_segments_there_were() {
        let text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2.0,\na-00007.ts\n#EXTINF:1.0,\na-00008.ts\n#EXT-X-ENDLIST\n";
        let found = summary(text, |name| name == "a-00007.ts");
        assert_eq!(found, PlaylistSummary { segments: 9, missing: vec!["a-00008.ts".into()] });
    }

    #[test]
    fn only_its_own_segments_are_cleared_away() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let names =
            ["cam.m3u8", "cam-00000.ts", "cam-123456.m4s", "cam-init.mp4", "cam-00001.ts.tmp", "cam-1.ts", "cam-2-00000.ts", "x.ts"];
        names.iter().for_each(|name| fs::write(folder.path().join(name), b"x").expect("written"));
        let path = folder.path().join("cam.m3u8");
        assert!(matches!(PlaylistOutput::create(&path, HlsOptions::default(), false), Err(MediaError::Exists { .. })));
        let output = PlaylistOutput::create(&path, HlsOptions::default(), true).expect("may be replaced");
        let mut left: Vec<_> = fs::read_dir(folder.path()).expect("there").map(|entry| entry.expect("readable").file_name()).collect();
        left.sort();
        assert_eq!(left, ["cam-1.ts", "cam-2-00000.ts", "x.ts"]);
        fs::write(folder.path().join("cam-00000.ts"), b"x").expect("written");
        drop(output);
        assert!(!folder.path().join("cam-00000.ts").exists(), "no playlist names it");
        assert!(PlaylistOutput::create(&folder.path().join("no/cam.m3u8"), HlsOptions::default(), true).is_err());
    }
}
