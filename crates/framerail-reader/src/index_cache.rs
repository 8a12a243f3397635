//! Caches frame indexes on disk.
//!
//! A cached index is used only if its stamp matches the file, including the bytes at both ends; otherwise it is rebuilt. The format is
//! little-endian: magic, version, options the file was read with, a stamp of the file, the index in variable-length integers, and a hash of
//! everything before it.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use framerail_core::TimeBase;
use framerail_media::{InputOptions, KeyframeIndex, PacketEntry};
use sha2::{Digest, Sha256};

use crate::{
    IndexCache, IndexSource,
    frame_index::{Access, FrameIndex, FramePlace, NOWHERE},
};

const MAGIC: &[u8; 8] = b"FRIndex\n";
/// Increment whenever the format or the meaning of an index changes.
const VERSION: u64 = 1;
const HASH_BYTES: usize = 32;
/// Number of bytes at the start and end of the file that go into its stamp.
const STAMP_BYTES: usize = 64 * 1024;
/// Larger files are not valid caches.
const MAX_CACHE_BYTES: u64 = 1 << 30;

/// The cache path of a file's index, and the stamp it must match.
pub(crate) struct CacheEntry {
    path: PathBuf,
    stamp: Vec<u8>,
}

impl CacheEntry {
    /// The cache entry of a source; `None` for sources that are not files, or when caching is off.
    pub(crate) fn of(cache: &IndexCache, options: &InputOptions) -> Option<Self> {
        if *cache == IndexCache::None || options.custom.is_some() || options.source == "-" {
            return None;
        }
        let source = options.source.reveal();
        let source = Path::new(source.strip_prefix("file:").unwrap_or(source));
        let stamp = stamp(source, options)?;
        // Each stream of a file has a separate cache.
        let stream = options.video_stream.map(|stream| format!(".{stream}")).unwrap_or_default();
        let path = match cache {
            IndexCache::None => return None,
            IndexCache::Sidecar => {
                let mut name = source.file_name()?.to_owned();
                name.push(format!("{stream}.framerail-index"));
                source.with_file_name(name)
            }
            IndexCache::Folder(folder) => {
                let whole = fs::canonicalize(source).ok()?;
                let key = Sha256::digest(whole.to_string_lossy().as_bytes());
                let key: String = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                folder.join(format!("{key}{stream}.framerail-index"))
            }
        };
        Some(Self { path, stamp })
    }

    /// Loads the cached index, if it matches the current file.
    pub(crate) fn load(&self) -> Option<FrameIndex> {
        let mut file = File::open(&self.path).ok()?;
        if file.metadata().ok()?.len() > MAX_CACHE_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
        if Sha256::digest(body).as_slice() != hash {
            return None;
        }
        let rest = body.strip_prefix(MAGIC.as_slice())?.strip_prefix(self.stamp.as_slice())?;
        read_index(&mut Reader { bytes: rest })
    }

    /// Stores an index. An existing cache file is replaced atomically.
    ///
    /// # Errors
    /// I/O errors; reading can continue without the cache.
    pub(crate) fn store(&self, index: &FrameIndex) -> std::io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.stamp);
        write_index(index, &mut bytes);
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.{:x}.partial", std::process::id(), unique()));
        let partial = self.path.with_file_name(name);
        let written = File::create(&partial).and_then(|mut file| file.write_all(&bytes));
        let kept = written.and_then(|()| fs::rename(&partial, &self.path));
        if kept.is_err() {
            // The file may not exist.
            let _ = fs::remove_file(&partial);
        }
        kept
    }

    /// Path of the cache file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A number unique among the threads of this process.
fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Identifies the state of a file: version, relevant options, size, modification time, and the bytes at both ends.
fn stamp(source: &Path, options: &InputOptions) -> Option<Vec<u8>> {
    let mut file = File::open(source).ok()?;
    let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let changed = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let mut hash = Sha256::new();
    let mut ends = vec![0; STAMP_BYTES];
    for start in [0, found.len().saturating_sub(STAMP_BYTES as u64)] {
        file.seek(SeekFrom::Start(start)).ok()?;
        let read = read_up_to(&mut file, &mut ends).ok()?;
        hash.update(ends.get(..read)?);
    }
    // Options that change the meaning of packets and timestamps.
    let asked = format!("{:?} {:?} {:?} {:?}", options.video_stream, options.format, options.frame_rate, options.format_options);
    hash.update(asked.as_bytes());
    let mut stamp = Vec::new();
    for number in [VERSION, found.len(), changed.as_secs(), changed.subsec_nanos().into()] {
        stamp.extend_from_slice(&number.to_le_bytes());
    }
    stamp.extend_from_slice(&hash.finalize());
    Some(stamp)
}

fn read_up_to(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// Serialises an index.
pub(crate) fn to_bytes(index: &FrameIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_number(VERSION, &mut bytes);
    write_index(index, &mut bytes);
    bytes
}

/// Reads the output of [`to_bytes`]; `None` for anything else.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<FrameIndex> {
    let mut reader = Reader { bytes };
    (reader.number()? == VERSION).then(|| read_index(&mut reader)).flatten()
}

fn write_index(index: &FrameIndex, out: &mut Vec<u8>) {
    let ratio = index.time_base().ratio();
    write_signed(ratio.num, out);
    write_signed(ratio.den, out);
    out.push(u8::from(index.access == Access::ByTime));
    write_number(index.packets.packets.len() as u64, out);
    let mut before = Before::default();
    for packet in &index.packets.packets {
        let flags = u8::from(packet.pts.is_some())
            | u8::from(packet.dts.is_some()) << 1
            | u8::from(packet.position.is_some()) << 2
            | u8::from(packet.is_keyframe) << 3;
        out.push(flags);
        // Differences are small, the values are not.
        if let Some(pts) = packet.pts {
            write_signed(pts.wrapping_sub(before.pts), out);
            before.pts = pts;
        }
        if let Some(dts) = packet.dts {
            write_signed(dts.wrapping_sub(before.dts), out);
            before.dts = dts;
        }
        if let Some(position) = packet.position {
            write_signed((position as i64).wrapping_sub(before.position), out);
            before.position = position as i64;
        }
        write_signed(packet.duration, out);
        write_number(packet.size_bytes.into(), out);
        write_signed(packet.clock_shift.wrapping_sub(before.clock_shift), out);
        before.clock_shift = packet.clock_shift;
    }
    write_number(index.frames.len() as u64, out);
    let (mut pts, mut place) = (0_i64, 0_i64);
    for frame in &index.frames {
        write_signed(frame.pts.wrapping_sub(pts), out);
        write_signed(frame.duration, out);
        // -1 for a frame whose packet is unknown.
        let own = if frame.place == NOWHERE { -1 } else { frame.place as i64 };
        write_signed(own.wrapping_sub(place), out);
        out.push(u8::from(frame.is_keyframe));
        (pts, place) = (frame.pts, own);
    }
    write_number(index.starts.len() as u64, out);
    let mut last = 0;
    for start in &index.starts {
        write_number((*start - last) as u64, out);
        last = *start;
    }
}

fn read_index(reader: &mut Reader<'_>) -> Option<FrameIndex> {
    let time_base = TimeBase::new(reader.signed()?, reader.signed()?)?;
    let access = if reader.byte()? == 1 { Access::ByTime } else { Access::Counted };
    let packets = read_packets(reader)?;
    let count = reader.count()?;
    let mut frames = Vec::with_capacity(count);
    let (mut pts, mut place) = (0_i64, 0_i64);
    for _ in 0..count {
        pts = pts.wrapping_add(reader.signed()?);
        let duration = reader.signed()?;
        place = place.wrapping_add(reader.signed()?);
        let own = if place == -1 { NOWHERE } else { usize::try_from(place).ok().filter(|own| *own < packets.len())? };
        frames.push(FramePlace { pts, duration, place: own, is_keyframe: reader.byte()? == 1 });
    }
    let is_rising = frames.windows(2).all(|pair| pair[0].pts < pair[1].pts);
    let count = reader.count()?;
    let mut starts = Vec::with_capacity(count);
    let mut last = 0_usize;
    for _ in 0..count {
        last = last.checked_add(usize::try_from(reader.number()?).ok()?)?;
        starts.push(last);
    }
    let is_sound = starts.first() == Some(&0) && (last < packets.len() || last == 0) && is_rising && reader.bytes.is_empty();
    let packets = KeyframeIndex { packets, time_base, damage: Default::default() };
    is_sound.then(|| FrameIndex::new(IndexSource::Cache, access, packets, frames, starts))
}

fn read_packets(reader: &mut Reader<'_>) -> Option<Vec<PacketEntry>> {
    let count = reader.count()?;
    let mut packets = Vec::with_capacity(count);
    let mut before = Before::default();
    for _ in 0..count {
        let flags = reader.byte()?;
        let mut step = |bit: u8, last: &mut i64| -> Option<Option<i64>> {
            if flags & bit == 0 {
                return Some(None);
            }
            *last = last.wrapping_add(reader.signed()?);
            Some(Some(*last))
        };
        let pts = step(1, &mut before.pts)?;
        let dts = step(2, &mut before.dts)?;
        let position = step(4, &mut before.position)?.and_then(|position| u64::try_from(position).ok());
        let duration = reader.signed()?;
        let size_bytes = u32::try_from(reader.number()?).ok()?;
        before.clock_shift = before.clock_shift.wrapping_add(reader.signed()?);
        let (is_keyframe, clock_shift) = (flags & 8 != 0, before.clock_shift);
        packets.push(PacketEntry { pts, dts, duration, position, size_bytes, is_keyframe, clock_shift });
    }
    Some(packets)
}

/// Values of the previous packet, the base of the differences.
#[derive(Default)]
struct Before {
    pts: i64,
    dts: i64,
    position: i64,
    clock_shift: i64,
}

/// Seven bits per byte, least significant first.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Zigzag encoding: small values of either sign are short.
fn write_signed(number: i64, out: &mut Vec<u8>) {
    write_number((number << 1 ^ number >> 63) as u64, out);
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Reads an element count, which never exceeds the number of remaining bytes.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> FrameIndex {
        let packet = |place: i64, is_keyframe| PacketEntry {
            pts: Some(place * 40 + i64::MAX / 4),
            dts: (place % 2 == 0).then_some(place - 7),
            duration: 40,
            position: (place != 3).then_some(place as u64 * 1_000_003),
            size_bytes: 12_345,
            is_keyframe,
            clock_shift: if place > 3 { -9 } else { 0 },
        };
        let packets = (0..6).map(|place| packet(place, place % 3 == 0)).collect();
        let frame = |place: usize| FramePlace { pts: place as i64 * 40, duration: 40, place, is_keyframe: place == 0 };
        let mut frames: Vec<FramePlace> = (0..6).map(frame).collect();
        frames[4].place = NOWHERE;
        let packets = KeyframeIndex { packets, time_base: TimeBase::new(1, 90_000).expect("valid"), damage: Default::default() };
        FrameIndex::new(IndexSource::Scan, Access::ByTime, packets, frames, vec![0, 3])
    }

    fn entry(folder: &Path, contents: &[u8]) -> CacheEntry {
        let source = folder.join("clip.mp4");
        fs::write(&source, contents).expect("a writable folder");
        CacheEntry::of(&IndexCache::Sidecar, &InputOptions::new(source.to_string_lossy())).expect("a file")
    }

    #[test]
    fn an_index_comes_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let (entry, index) = (entry(folder.path(), b"some bytes"), index());
        assert!(entry.load().is_none());
        entry.store(&index).expect("stored");
        let found = entry.load().expect("kept");
        assert_eq!(found.source, IndexSource::Cache);
        assert_eq!((&found.frames, &found.starts, found.access), (&index.frames, &index.starts, index.access));
        assert_eq!(found.packets.packets, index.packets.packets);
        assert_eq!(found.times(), index.times());
        let left: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
        assert_eq!(left.len(), 2, "nothing unfinished is left: {left:?}");
    }

    #[test]
    fn a_changed_file_or_a_broken_cache_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = entry(folder.path(), b"some bytes");
        first.store(&index()).expect("stored");
        let kept = fs::read(first.path()).expect("kept");
        assert!(entry(folder.path(), b"other bytes").load().is_none(), "other contents");
        assert!(entry(folder.path(), b"same bytes").load().is_none(), "same length");
        for at in (0..kept.len()).step_by(7) {
            let mut broken = kept.clone();
            broken[at] ^= 0x10;
            fs::write(first.path(), &broken).expect("writable");
            assert!(first.load().is_none(), "byte {at}");
            fs::write(first.path(), &kept[..at]).expect("writable");
            assert!(first.load().is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_folder_keeps_files_of_one_name_apart() {
        let (folder, cache) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let cache = IndexCache::Folder(cache.path().join("made on demand"));
        let of = |name: &str| {
            let path = folder.path().join(name).join("clip.mp4");
            fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            fs::write(&path, b"bytes").expect("writable");
            CacheEntry::of(&cache, &InputOptions::new(path.to_string_lossy())).expect("a file")
        };
        let (one, other) = (of("one"), of("other"));
        one.store(&index()).expect("stored");
        assert!(one.load().is_some() && other.load().is_none());
    }
}
