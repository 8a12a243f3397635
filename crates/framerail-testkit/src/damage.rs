//! Files that are broken in known ways. Each is kept beside the clips; clips themselves stay whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{AudioCodec, Container, cache, probe, tool};

/// A copy that ends after this share of the bytes, 0 to 1.
pub fn cut(path: &Path, share: f64) -> PathBuf {
    changed(path, &format!("cut {share}"), |bytes| {
        let len = (bytes.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        bytes.truncate(len);
    })
}

/// A copy without its first bytes, as a recording joined late.
pub fn cut_start(path: &Path, share: f64) -> PathBuf {
    changed(path, &format!("cut start {share}"), |bytes| {
        let len = (bytes.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        bytes.drain(..len);
    })
}

/// A copy in which `count` bytes inside video packets are replaced by others, chosen by `seed`. The first packet
/// and every packet's first 16 bytes stay whole, so that the damage is in picture data.
pub fn flip_bytes(path: &Path, seed: u64, count: usize) -> PathBuf {
    let packets = probe::ffprobe_packets(path, "v:0");
    let inside: Vec<_> =
        packets.iter().skip(1).filter_map(|packet| Some((packet.position?, packet.size_bytes))).filter(|(_, size)| *size > 20).collect();
    assert!(!inside.is_empty(), "{} has no packet whose place is known", path.display());
    changed(path, &format!("flip {seed} {count}"), |bytes| {
        let mut random = SplitMix(seed);
        for _ in 0..count {
            let (position, size) = inside[random.below(inside.len() as u64) as usize];
            let at = (position + 16 + random.below(size - 16)) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 + random.below(255) as u8;
            }
        }
    })
}

/// A copy in which these packets of the first video stream (by number in the file) are overwritten with noise.
pub fn wreck_packets(path: &Path, numbers: &[usize]) -> PathBuf {
    let packets = probe::ffprobe_packets(path, "v:0");
    changed(path, &format!("wreck {numbers:?}"), |bytes| {
        let mut random = SplitMix(7);
        for number in numbers {
            let packet = packets.get(*number).unwrap_or_else(|| panic!("{} has no packet {number}", path.display()));
            let start = packet.position.expect("a container that tells positions") as usize;
            let end = (start + packet.size_bytes as usize).min(bytes.len());
            for byte in &mut bytes[(start + 5).min(end)..end] {
                *byte = random.below(256) as u8;
            }
        }
    })
}

/// A file of this name's extension with plain text inside.
pub fn text_file(extension: &str) -> PathBuf {
    written(&format!("text.{extension}"), b"This is not a video.\nIt only has a video's name.\n")
}

/// A file of this extension with nothing inside.
pub fn empty_file(extension: &str) -> PathBuf {
    written(&format!("empty.{extension}"), b"")
}

/// One second of sound in a container that could hold video.
pub fn sound_only(container: Container) -> PathBuf {
    let (format, extension, encoder) = match container {
        Container::Mp4 => ("mp4", "mp4", "aac"),
        Container::Mov => ("mov", "mov", "aac"),
        Container::Mkv => ("matroska", "mkv", "aac"),
        Container::Webm => ("webm", "webm", "libopus"),
        Container::Ts => ("mpegts", "ts", "aac"),
        Container::Avi => ("avi", "avi", "pcm_s16le"),
        other => panic!("{other:?} holds no sound"),
    };
    let key = cache::key(&format!("sound only {container:?} {:?}", AudioCodec::Aac));
    cache::once(&format!("sound-{key}.{extension}"), |work| {
        let path = work.join("sound");
        let mut command = tool::ffmpeg();
        command.args(["-f", "lavfi", "-i", "sine=frequency=440:duration=1", "-c:a", encoder, "-f", format]).arg(&path);
        tool::run(command);
        path
    })
}

fn changed(path: &Path, how: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let before = cache::key(&format!("{how} {}", cache::bytes_key(&bytes)));
    let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
    cache::once(&format!("damaged-{before}.{extension}"), |work| {
        change(&mut bytes);
        let path = work.join("damaged");
        fs::write(&path, &bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    })
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    cache::once(name, |work| {
        let path = work.join("written");
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    })
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
