//! Lists the local files of a source.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use framerail_core::run_files::local_path;

use crate::{images::ImageList, object::noted};

/// Maximum number of bytes read from a playlist.
const MAX_PLAYLIST_BYTES: u64 = 4 << 20;

/// All files that reading this source would read: the file itself, the images of a list, the segments of a playlist; for `-`
/// the file behind standard input; the address of an object. Empty for URLs of servers.
pub fn source_files(source: &str) -> Vec<PathBuf> {
    if source == "-" {
        return vec!["/dev/stdin".into()];
    }
    let Some(path) = local_path(source) else { return noted(source).into_iter().collect() };
    if let Ok(Some(list)) = ImageList::of(source) {
        return list.paths;
    }
    let mut files = listed(&path).unwrap_or_default();
    files.push(path);
    files
}

/// The files that a local playlist lists.
fn listed(path: &Path) -> Option<Vec<PathBuf>> {
    let is_playlist = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("m3u8") || ending.eq_ignore_ascii_case("m3u"));
    if !is_playlist || !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return None;
    }
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_PLAYLIST_BYTES).read_to_end(&mut text).ok()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let text = String::from_utf8_lossy(&text);
    let named = text.lines().filter_map(|line| match line.trim() {
        line if line.starts_with('#') => line.split_once("URI=\"").and_then(|(_, rest)| rest.split('"').next()),
        line => (!line.is_empty()).then_some(line),
    });
    Some(named.filter_map(local_path).map(|name| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_made_of_these_files() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["1.png", "2.png", "clip.mp4"] {
            fs::write(at(name), b"x").expect("written");
        }
        fs::write(at("cam.m3u8"), "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2,\ncam-1.ts\nhttp://host/x.ts\n").expect("written");
        let files = |source: &Path| source_files(&source.to_string_lossy());
        assert_eq!(files(&at("clip.mp4")), [at("clip.mp4")]);
        assert_eq!(files(folder.path()), [at("1.png"), at("2.png")]);
        assert_eq!(files(&at("%d.png")), [at("1.png"), at("2.png")]);
        assert_eq!(files(&at("cam.m3u8")), [at("init.mp4"), at("cam-1.ts"), at("cam.m3u8")]);
        assert!(source_files("rtsp://host/cam").is_empty());
        assert_eq!(source_files("s3://bucket/clip.mp4"), [Path::new("s3://bucket/clip.mp4")]);
    }
}
