//! Local HLS playlists without an end mark: still being written, or left behind by a stopped recorder.

use std::{fs, path::Path, time::Duration};

/// Age after which a playlist counts as abandoned, unless its segments are longer.
const MIN_QUIET: Duration = Duration::from_secs(30);
/// Number of segment durations without a new segment after which a playlist being written has ended.
const QUIET_SEGMENTS: u64 = 6;
/// Largest playlist that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A playlist without an end mark.
pub(crate) struct OpenPlaylist {
    /// It is no longer written to.
    is_left: bool,
    target_secs: u64,
}

impl OpenPlaylist {
    /// Reads a local playlist; `None` if it has an end mark or is not a playlist.
    pub(crate) fn of(source: &str) -> Option<Self> {
        let path = Path::new(source.strip_prefix("file:").unwrap_or(source));
        let is_named_so = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("m3u8"));
        let text = read(path).filter(|_| is_named_so)?;
        // A master playlist lists the playlists of its variants, in the same folder.
        let variants = text.lines().filter(|line| !line.starts_with('#') && line.trim_end().ends_with(".m3u8"));
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut playlists: Vec<_> = variants.map(|name| folder.join(name.trim_end())).collect();
        if playlists.is_empty() {
            playlists.push(path.to_owned());
        }
        playlists.iter().find_map(|path| Self::of_media(path))
    }

    fn of_media(path: &Path) -> Option<Self> {
        let text = read(path)?;
        if !text.contains("#EXTINF") || text.contains("#EXT-X-ENDLIST") {
            return None;
        }
        let target = text.lines().find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:")?.trim().parse::<f64>().ok());
        let target_secs = target.unwrap_or(10.0).clamp(1.0, 3600.0).ceil() as u64;
        let age = fs::metadata(path).ok()?.modified().ok()?.elapsed().unwrap_or_default();
        Some(Self { is_left: age > MIN_QUIET.max(Duration::from_secs(3 * target_secs)), target_secs })
    }

    /// Options for FFmpeg's demuxer: read from the first segment, and end when no new one appears.
    pub(crate) fn format_options(&self) -> [(&'static str, String); 2] {
        // The demuxer checks twice per segment duration.
        let looks = if self.is_left { 1 } else { 2 * QUIET_SEGMENTS };
        [("live_start_index", "0".to_owned()), ("m3u8_hold_counters", looks.to_string())]
    }

    /// Notice for the user.
    pub(crate) fn notice(&self) -> String {
        let secs = if self.is_left { self.target_secs } else { self.target_secs * QUIET_SEGMENTS };
        format!("the playlist has no end mark (#EXT-X-ENDLIST): it is read from its first segment until no new one appears for {secs} s")
    }
}

fn read(path: &Path) -> Option<String> {
    if !fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= MAX_BYTES) {
        return None;
    }
    fs::read_to_string(path).ok().filter(|text| text.trim_start().starts_with("#EXTM3U"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_without_an_end_is_known_also_behind_a_list_of_variants() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let media = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n";
        fs::write(at("open.m3u8"), media).expect("written");
        fs::write(at("ended.m3u8"), format!("{media}#EXT-X-ENDLIST\n")).expect("written");
        fs::write(at("variants.m3u8"), "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nopen.m3u8\n").expect("written");
        let open = OpenPlaylist::of(&at("open.m3u8")).expect("no end");
        assert!(!open.is_left && open.target_secs == 2);
        assert!(OpenPlaylist::of(&at("variants.m3u8")).is_some());
        assert!(OpenPlaylist::of(&at("ended.m3u8")).is_none());
        assert!(OpenPlaylist::of(&at("absent.m3u8")).is_none());
    }
}
