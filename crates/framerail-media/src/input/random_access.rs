//! Seeking to any packet of the video, and listing all packets from the container's index.

use std::{fs::File, sync::Arc};

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use super::{Input, Source};
use crate::{
    Damage, InputPacket, KeyframeIndex, MediaError, PacketEntry, PacketKind, SideStreams, av,
    container::is_url,
    guarded_reader::GuardedReader,
    sample_times::{SampleTimes, sample_times},
};

/// Keyframe spacing according to a container's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeSpacing {
    /// Number of keyframes.
    pub keyframes: usize,
    /// Number of video packets.
    pub packets: usize,
    /// Maximum number of packets from one keyframe to the next.
    pub longest: usize,
}

/// Seconds before the target at which to start searching, if the container's first seek did not find it.
const MARGINS_SECS: [f64; 4] = [0.0, 1.0, 4.0, 16.0];

impl Input {
    /// Seeks to the packet at `place` in an index of this source, so that it is the next video packet. To decode, choose a packet
    /// at which decoding can start. Returns how many video packets were read and discarded on the way: 0 if the container
    /// can seek there directly.
    ///
    /// If a container cannot find it, packets are read from the start. Side packets on the way are discarded too; those
    /// interleaved near the packet may be missing then.
    ///
    /// # Errors
    /// `Unsupported` for sources that cannot seek, such as pipes; `Damaged` if the packet is not found (any more);
    /// `BadOption` if the index has no such position; `Cancelled`, `Timeout`, and as [`Input::open`].
    pub fn seek_packet(&mut self, index: &KeyframeIndex, place: usize) -> Result<u64, MediaError> {
        let Some(target) = index.packets.get(place).copied() else {
            let reason = format!("{place} is beyond the {} packets of the index", index.packets.len());
            return Err(MediaError::BadOption { name: "place".into(), reason, nearest: None });
        };
        let (video, is_seekable, counts_bytes) = match &mut self.source {
            Source::Images { list, .. } => {
                list.next = target.pts.and_then(|number| usize::try_from(number).ok()).unwrap_or(place);
                self.pending.clear();
                self.is_at_end = false;
                return Ok(0);
            }
            Source::Webp(animation) => {
                // Each frame builds on the previous one.
                animation.rewind();
                self.pending.clear();
                self.is_at_end = false;
                return self.pass_packets(place);
            }
            Source::Container { container, video, .. } => {
                (*video, container.is_seekable(), container.has_format_flag(ffi::AVFMT_TS_DISCONT))
            }
        };
        if !is_seekable {
            return Err(MediaError::Unsupported {
                what: format!("random access in {}", self.options.source),
                reason: "it is a pipe or a stream; save it to a file first".into(),
            });
        }
        let damage = self.damage.clone();
        let mut passed = 0;
        if let Some(position) = target.position.filter(|_| counts_bytes)
            && self.seek_container(|container| container.seek_byte(video, position))
            && self.read_to(&target, &damage, &mut passed)?
        {
            return Ok(passed);
        }
        let own = |ticks: Option<i64>| ticks.map(|ticks| ticks.saturating_sub(target.clock_shift));
        let aim = own(target.pts).or(own(target.dts));
        for margin in MARGINS_SECS {
            let Some(aim) = aim else { break };
            let ticks = aim.saturating_sub(self.info.time_base.ticks(margin));
            if !self.seek_container(|container| container.seek(video, ticks)) {
                break;
            }
            if self.read_to(&target, &damage, &mut passed)? {
                return Ok(passed);
            }
        }
        self.reopen()?;
        self.pending.clear();
        self.is_at_end = false;
        if self.read_on_to(&target, place, &damage, &mut passed)? {
            return Ok(passed);
        }
        let reason = format!("packet {place} of the index is missing from the file; has the file changed?");
        Err(MediaError::Damaged { source_name: self.options.source.to_string(), reason })
    }

    /// Reads and discards `count` packets.
    fn pass_packets(&mut self, count: usize) -> Result<u64, MediaError> {
        let damage = self.damage.clone();
        for _ in 0..count {
            if self.next_packet()?.is_none() {
                break;
            }
        }
        self.damage = damage;
        Ok(count as u64)
    }

    /// Puts back the last packet read, which is then the next one again.
    pub fn unread(&mut self, packet: InputPacket) {
        self.pending.push_front(packet);
    }

    /// Seeks to a position from which every frame from this time on can be decoded, in seconds on the file's clock. Uses the
    /// container's own seeking, without an index; goes to the start if the container cannot seek there.
    ///
    /// # Errors
    /// `Unsupported` for sources that cannot seek; `Cancelled`, `Timeout`, and as [`Input::open`].
    pub fn seek_secs(&mut self, secs: f64) -> Result<(), MediaError> {
        self.pending.clear();
        self.progress.clock.begin_at(0);
        self.is_at_end = false;
        let base = self.info.time_base;
        match &mut self.source {
            Source::Images { list, .. } => {
                list.next = usize::try_from(base.ticks(secs)).unwrap_or(0);
                return Ok(());
            }
            Source::Webp(animation) => {
                animation.rewind();
                return Ok(());
            }
            Source::Container { container, .. } if !container.is_seekable() => {
                return Err(MediaError::Unsupported {
                    what: format!("random access in {}", self.options.source),
                    reason: "it is a pipe or a stream; save it to a file first".into(),
                });
            }
            Source::Container { .. } => {}
        }
        let start = self.start.replace(secs);
        let outcome = if secs > 0.0 { self.seek_to_start() } else { self.reopen() };
        self.start = start;
        outcome
    }

    /// Ticks added to the video's own times since its last clock reset.
    pub(crate) fn clock_shift(&self) -> i64 {
        TimeBase::MICROS.rescale(self.progress.clock.video_shift(), self.info.time_base)
    }

    fn seek_container(&mut self, seek: impl FnOnce(&mut crate::container::Container) -> bool) -> bool {
        let Source::Container { container, .. } = &mut self.source else { return false };
        self.pending.clear();
        self.is_at_end = false;
        self.progress.was_sought = true;
        seek(container)
    }

    /// Reads up to a packet after a seek; `false` if the seek landed after it or it is not found.
    fn read_to(&mut self, target: &PacketEntry, damage: &Damage, passed: &mut u64) -> Result<bool, MediaError> {
        self.progress.clock.begin_at(self.info.time_base.rescale(target.clock_shift, TimeBase::MICROS));
        self.read_on_to(target, usize::MAX, damage, passed)
    }

    /// Reads until a packet is the next one, passing at most `limit` other video packets.
    fn read_on_to(&mut self, target: &PacketEntry, limit: usize, damage: &Damage, passed: &mut u64) -> Result<bool, MediaError> {
        let mut left = limit;
        let is_found = loop {
            let Some(packet) = self.next_packet()? else { break false };
            if packet.kind != PacketKind::Video {
                continue;
            }
            let entry = PacketEntry::of(&packet, self.clock_shift());
            if entry.is_same(target) && (limit == usize::MAX || left == 0) {
                self.pending.push_front(packet);
                break true;
            }
            let is_beyond = match (entry.dts, target.dts) {
                (Some(dts), Some(aim)) => dts > aim,
                _ => entry.is_keyframe && entry.pts.zip(target.pts).is_some_and(|(pts, aim)| pts > aim),
            };
            if left == 0 || (is_beyond && limit == usize::MAX) {
                break false;
            }
            left -= 1;
            *passed += 1;
        };
        // Damage on the way was already counted when the index was read.
        self.damage = damage.clone();
        Ok(is_found)
    }

    /// All video packets according to the container's index, exact and without reading them. Works for MP4 and MOV files with
    /// plain tables, before anything is read; `None` for others, for which [`KeyframeIndex::read`] and [`KeyframeIndex::scan`] work.
    ///
    /// # Errors
    /// As [`Input::next_packet`]: one packet is read for comparison.
    pub fn container_index(&mut self) -> Result<Option<KeyframeIndex>, MediaError> {
        let is_fresh = self.pending.is_empty() && !self.progress.was_sought && self.progress.packets.iter().all(|count| *count == 0);
        let is_alone = self.options.side_streams == SideStreams::None;
        if !is_fresh || !is_alone {
            return Ok(None);
        }
        let Some(mut packets) = self.indexed_packets() else { return Ok(None) };
        let Some(first) = self.next_packet()? else { return Ok(None) };
        let entry = PacketEntry::of(&first, 0);
        self.pending.push_front(first);
        // FFmpeg adds a constant delay to all PTS so that DTS do not exceed them.
        let Some(delay) = packets.first().and_then(|packet| entry.pts?.checked_sub(packet.pts?)) else { return Ok(None) };
        for packet in &mut packets {
            packet.pts = packet.pts.map(|pts| pts.saturating_add(delay));
        }
        if packets.first() != Some(&entry) {
            return Ok(None);
        }
        Ok(Some(KeyframeIndex { packets, time_base: self.info.time_base, damage: self.damage.clone() }))
    }

    /// Keyframe spacing according to the tables of an MP4 or MOV file, without reading packets; `None` for other containers.
    pub fn keyframe_spacing(&self) -> Option<KeyframeSpacing> {
        let Source::Container { container, video, .. } = &self.source else { return None };
        if !container.format_name().starts_with("mov") {
            return None;
        }
        let (mut keyframes, mut packets, mut longest, mut last) = (0, 0, 0, 0);
        for (place, entry) in container.index_entries(*video).enumerate() {
            packets = place + 1;
            if entry.flags() & ffi::AVINDEX_KEYFRAME != 0 {
                longest = longest.max(place - last);
                last = place;
                keyframes += 1;
            }
        }
        (keyframes > 0).then_some(KeyframeSpacing { keyframes, packets, longest: longest.max(packets - last) })
    }

    /// Sample times that FFmpeg's index lacks, read from the file itself.
    fn sample_times(&self, track_id: u32, samples: usize) -> Option<SampleTimes> {
        let source = self.options.source.reveal();
        if let Some(custom) = &self.options.custom {
            self.interrupt.start_clock();
            let reader = GuardedReader::open(custom, Arc::clone(&self.interrupt)).ok().filter(GuardedReader::is_seekable)?;
            return sample_times(reader, track_id, samples);
        }
        if is_url(source) {
            return None;
        }
        sample_times(File::open(source.strip_prefix("file:").unwrap_or(source)).ok()?, track_id, samples)
    }

    /// The index, with PTS before FFmpeg's constant delay is added.
    fn indexed_packets(&self) -> Option<Vec<PacketEntry>> {
        let Source::Container { container, video, .. } = &self.source else { return None };
        if !container.format_name().starts_with("mov") {
            return None;
        }
        let stream = container.stream(*video)?;
        let count = container.index_entries(*video).count();
        let times = self.sample_times(u32::try_from(stream.id).ok()?, count)?;
        let mut packets: Vec<PacketEntry> = Vec::with_capacity(count);
        for (entry, offset) in container.index_entries(*video).zip(times.offsets) {
            let dts = av::timestamp(entry.timestamp)?;
            // Edit lists hide or duplicate packets, or change their times.
            let is_in_order = packets.last().is_none_or(|last| last.dts < Some(dts));
            if entry.flags() & ffi::AVINDEX_DISCARD_FRAME != 0 || !is_in_order {
                return None;
            }
            if let Some(last) = packets.last_mut() {
                last.duration = dts.saturating_sub(last.dts.unwrap_or(dts));
            }
            packets.push(PacketEntry {
                pts: Some(dts.checked_add(offset.into())?),
                dts: Some(dts),
                duration: 0,
                position: u64::try_from(entry.pos).ok(),
                size_bytes: u32::try_from(entry.size()).ok()?,
                is_keyframe: entry.flags() & ffi::AVINDEX_KEYFRAME != 0,
                clock_shift: 0,
            });
        }
        if let Some(last) = packets.last_mut() {
            last.duration = times.last_duration.into();
        }
        Some(packets)
    }
}
