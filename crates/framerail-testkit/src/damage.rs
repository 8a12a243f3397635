//! Files with known damage. They are cached next to the clips, which stay unchanged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{AudioCodec, Container, cache, probe, tool};

/// A copy truncated to this share of the bytes, 0 to 1.
pub fn cut(path: &Path, share: f64) -> PathBuf {
    changed(path, &format!("cut {share}"), |bytes| {
        let len = (bytes.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        bytes.truncate(len);
    })
}

/// A copy without its first bytes, like a recording joined late.
pub fn cut_start(path: &Path, share: f64) -> PathBuf {
    changed(path, &format!("cut start {share}"), |bytes| {
        let len = (bytes.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        bytes.drain(..len);
    })
}

/// A copy with `count` bytes inside video packets replaced, chosen by `seed`. The first packet
/// and the first 16 bytes of every packet are kept, so that only picture data is damaged.
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

/// A copy in which the given packets of the first video stream (by index in the file) are overwritten with noise.
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

/// Damage as caused by disks, cables and programs, independent of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 200 consecutive zero bytes: part of a bad sector.
    ShortZeros,
    /// 2,000 consecutive zero bytes.
    LongZeros,
    /// 120 consecutive zero bytes in six places.
    ManyZeros,
    /// Ten flipped bits.
    FewFlips,
    /// A hundred flipped bits.
    ManyFlips,
    /// 100 missing bytes.
    ShortGap,
    /// A tenth of the bytes missing.
    LongGap,
    /// 100 random bytes inserted.
    Inserted,
    /// Two swapped blocks of 512 bytes.
    Swapped,
    /// 1,000 random bytes.
    Noise,
    /// The second half missing.
    Half,
    /// 64 zero bytes after the first kilobyte, where many formats have headers.
    Headers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::ShortZeros,
        Kind::LongZeros,
        Kind::ManyZeros,
        Kind::FewFlips,
        Kind::ManyFlips,
        Kind::ShortGap,
        Kind::LongGap,
        Kind::Inserted,
        Kind::Swapped,
        Kind::Noise,
        Kind::Half,
        Kind::Headers,
    ];

    /// Returns the bytes with this damage, at positions chosen by `seed` after the first fifth.
    pub fn applied(self, bytes: &[u8], seed: u64) -> Vec<u8> {
        let mut random = SplitMix(seed.wrapping_mul(31).wrapping_add(self as u64));
        let length = bytes.len();
        let first = (length / 5).max(1_200).min(length / 2);
        let last = (length * 9 / 10).max(first + 1);
        let place = move |random: &mut SplitMix| first + random.below((last - first) as u64) as usize;
        let at = place(&mut random);
        let mut bytes = bytes.to_vec();
        let mut zero = |at: usize, count: usize| {
            let end = (at + count).min(length);
            bytes[at.min(end)..end].fill(0);
        };
        match self {
            Kind::ShortZeros => zero(at, 200),
            Kind::LongZeros => zero(at, 2_000),
            Kind::ManyZeros => (0..6).for_each(|_| zero(place(&mut random), 120)),
            Kind::Headers => zero(1_024, 64),
            Kind::FewFlips | Kind::ManyFlips => {
                for _ in 0..if self == Kind::FewFlips { 10 } else { 100 } {
                    bytes[place(&mut random)] ^= 1 << random.below(8);
                }
            }
            Kind::ShortGap => drop(bytes.drain(at..(at + 100).min(length))),
            Kind::LongGap => drop(bytes.drain(at..(at + length / 10).min(length))),
            Kind::Inserted => {
                let noise: Vec<u8> = (0..100).map(|_| random.below(256) as u8).collect();
                bytes.splice(at..at, noise);
            }
            Kind::Swapped => {
                let (one, other) = (at.min(length - 512), place(&mut random).min(length - 512));
                for offset in (0..512).filter(|_| one.abs_diff(other) >= 512) {
                    bytes.swap(one + offset, other + offset);
                }
            }
            Kind::Noise => bytes[at..(at + 1_000).min(length)].iter_mut().for_each(|byte| *byte = random.below(256) as u8),
            Kind::Half => bytes.truncate(length / 2),
        }
        bytes
    }
}

/// A text file with the given extension.
pub fn text_file(extension: &str) -> PathBuf {
    written(&format!("text.{extension}"), b"This is not a video.\nIt only has a video's name.\n")
}

/// An empty file with the given extension.
pub fn empty_file(extension: &str) -> PathBuf {
    written(&format!("empty.{extension}"), b"")
}

/// One second of audio in a container that could hold video.
pub fn sound_only(container: Container) -> PathBuf {
    let (format, extension, encoder) = match container {
        Container::Mp4 => ("mp4", "mp4", "aac"),
        Container::Mov => ("mov", "mov", "aac"),
        Container::Mkv => ("matroska", "mkv", "aac"),
        Container::Webm => ("webm", "webm", "libopus"),
        Container::Ts => ("mpegts", "ts", "aac"),
        Container::Avi => ("avi", "avi", "pcm_s16le"),
        other => panic!("{other:?} contains no audio"),
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

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same on all machines.
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
