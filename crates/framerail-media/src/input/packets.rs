//! Packets as a container states them, and what its demuxer reported about them.

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use super::{
    Input, Progress, Source, ending,
    file_end::{self, Ending},
};
use crate::{
    MediaError,
    av::{self, AvPacket},
    container::Container,
    log,
    packet::{InputPacket, PacketKind},
    still_tags::StillTags,
};

/// Consecutive failed reads without progress after which a source counts as broken off.
const MAX_FAILED_READS: u32 = 64;
/// The same for reads with progress: a demuxer that resynchronises.
const MAX_SEARCH_READS: u32 = 1_000_000;
/// Fewer bytes than this behind the last packet are not media, such as the closing boundary of a multipart stream.
const TAIL_BYTES: u64 = 64;

impl Input {
    /// Returns the next packet of the video or of a side stream, with the source's own times.
    pub(super) fn next_of_container(&mut self) -> Result<Option<InputPacket>, MediaError> {
        let Source::Container { container, video, sides } = &mut self.source else { return Ok(None) };
        let began = container.position();
        let (mut failed, mut position, mut is_silent) = (0, began, false);
        log::take_last_error();
        loop {
            let mut packet = AvPacket::new();
            let (result, mut notes) = container.read_noting(&mut packet);
            if container.has_format_flag(ffi::AVFMT_NOFILE) {
                // Errors of sessions such as RTSP are failed requests; the session ends or continues.
                notes.errors = 0;
            }
            self.damage.packets_lost += std::mem::take(&mut notes.packets_lost);
            self.progress.ended_without_length |= notes.ended_without_length;
            self.unplaced.add(notes);
            let Err(code) = result else {
                let index = usize::try_from(packet.stream_index).unwrap_or(usize::MAX);
                let kind = match sides.iter().position(|side| *side == Some(index)) {
                    Some(side) => PacketKind::Side(side),
                    None if index == *video && !self.progress.is_trailer(container, index) => PacketKind::Video,
                    None => {
                        self.unplaced.corrupt_streams.remove(&index);
                        continue;
                    }
                };
                return Ok(Some(self.received(packet, index, kind)));
            };
            if let Some(reason) = self.interrupt.reason(&self.options.source.to_string()) {
                return Err(reason);
            }
            failed += 1;
            let now = container.position();
            let limit = if now > position { MAX_SEARCH_READS } else { MAX_FAILED_READS };
            position = position.max(now);
            let may_go_on = code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_INVALIDDATA;
            if !may_go_on || failed >= limit {
                return self.end_of_container(code, began, is_silent).map(|()| None);
            }
            if code == ffi::AVERROR_INVALIDDATA && self.unplaced.errors == 0 {
                self.unplaced.errors = 1;
                is_silent = true;
            }
        }
    }

    /// Notes a packet, and counts what the demuxer reported before it.
    fn received(&mut self, mut packet: AvPacket, index: usize, kind: PacketKind) -> InputPacket {
        let is_marked = packet.flags & ffi::AV_PKT_FLAG_CORRUPT != 0;
        self.progress.last_is_corrupt = self.unplaced.corrupt_streams.remove(&index) || is_marked;
        self.damage.packets_corrupt += u64::from(self.progress.last_is_corrupt);
        if let Some(count) = self.progress.packets.get_mut(index) {
            *count += 1;
        }
        let Source::Container { container, .. } = &self.source else { return InputPacket { kind, packet, new_parameters: None } };
        let stream = container.stream(index);
        self.progress.note(&packet, kind, stream.map_or(TimeBase::MICROS, |stream| av::time_base(stream.time_base)));
        let start = u64::try_from(packet.pos).ok();
        let place = start.map(|start| start..start.saturating_add(packet.data().len() as u64));
        if let Some(place) = &place {
            self.progress.last_packet = place.clone();
        }
        if kind == PacketKind::Video {
            match &self.still {
                Some(tags) => tags.attach(&mut packet),
                None if container.is_image() => StillTags::of_bytes(packet.data()).attach(&mut packet),
                None => {}
            }
            self.progress.drop_false_times(container, index, &mut packet);
            self.progress.last_end = place.map(|place| place.end);
        }
        let has_gap = stream.is_some_and(|stream| self.unplaced.gaps.remove(&stream.id));
        if kind == PacketKind::Video && (self.unplaced.errors > 0 || self.progress.last_is_corrupt || has_gap) {
            self.damage.container_errors += std::mem::take(&mut self.unplaced.errors);
            self.unplaced.first.clear();
            packet.set_break();
        }
        InputPacket { kind, packet, new_parameters: None }
    }

    /// Finds out whether a container that gives no more packets, with this code of FFmpeg, was read to its end.
    fn end_of_container(&mut self, code: i32, began: u64, is_silent: bool) -> Result<(), MediaError> {
        let Source::Container { container, video, .. } = &mut self.source else { return Ok(()) };
        if let Some(error) = container.source_error() {
            return Err(error);
        }
        let mut unplaced = std::mem::take(&mut self.unplaced);
        let position = container.position();
        let left = position.saturating_sub(began);
        if is_silent && left < TAIL_BYTES {
            unplaced.errors = 0;
        }
        // Some demuxers report that they cannot read where nothing is left to be read.
        let is_at_end = left == 0 && container.io_error().is_none() && container.size_bytes() == Some(began);
        let code = if is_at_end { ffi::AVERROR_EOF } else { code };
        let is_cut = ["prematurely", "runcating"].iter().any(|words| unplaced.first.contains(words));
        self.stated_frames = self.stated_frames.or_else(|| ending::stated_frames(container));
        self.progress.fragments = if self.progress.was_sought { None } else { ending::fragments(container, *video) };
        self.damage.container_errors += self.progress.fragments.as_ref().map_or(0, |check| check.errors);
        let ending = file_end::look(container, &self.progress, position);
        let is_complete = match ending {
            Ending::Found => true,
            Ending::Missing(_) => false,
            Ending::Unknown => !is_cut && ending::is_complete(container, &self.progress, *video, self.stated_frames),
        };
        // Data behind the last frame, such as a recorder's padding, is not a loss.
        if !is_complete {
            self.damage.container_errors += unplaced.errors;
            self.damage.ended_early = ending::reason(container, code, &self.progress, *video, self.end, ending);
        }
        Ok(())
    }
}

impl Progress {
    /// Records how far the source was read.
    fn note(&mut self, packet: &AvPacket, kind: PacketKind, base: TimeBase) {
        if let Some(time) = av::timestamp(packet.pts).or_else(|| av::timestamp(packet.dts)) {
            let moved = TimeBase::MICROS.seconds(self.clock.shift(kind));
            self.latest_secs = self.latest_secs.max(base.seconds(time.saturating_add(packet.duration)) + moved);
        }
    }

    /// Whether the demuxer gives what follows the last frame as a packet, as that of Filmstrip does.
    fn is_trailer(&self, container: &Container, video: usize) -> bool {
        let frames = container.stream(video).and_then(|stream| u64::try_from(stream.nb_frames).ok());
        container.format_name() == "filmstrip" && frames.is_some_and(|frames| self.packets.get(video).is_some_and(|read| *read >= frames))
    }

    /// Leaves a packet of MXF the time of decoding alone if the file does not state in which order frames are shown, as FFmpeg's files of
    /// H.264 do not: its demuxer then gives the decoding times as presentation times, even of keyframes that are shown later.
    fn drop_false_times(&mut self, container: &Container, video: usize, packet: &mut AvPacket) {
        let Some(stream) = container.stream(video).filter(|_| container.format_name() == "mxf") else { return };
        // SAFETY: every stream has parameters.
        let frames = i64::from(unsafe { (*stream.codecpar).video_delay });
        let is_false = || frames > 0 && packet.flags & ffi::AV_PKT_FLAG_KEY != 0 && packet.pts == packet.dts;
        if *self.states_no_order.get_or_insert_with(is_false)
            && let Some(time) = av::timestamp(packet.pts)
        {
            (packet.pts, packet.dts) = (ffi::AV_NOPTS_VALUE, time.saturating_sub(frames.saturating_mul(packet.duration.max(1))));
        }
    }
}
