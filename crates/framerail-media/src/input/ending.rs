//! Checks whether a container was read to its end, as far as the container states where that is.

use ffmpeg_the_third::ffi;

use super::{
    Progress,
    file_end::{EDGE_BYTES, Ending},
    fragments::{self, FragmentCheck},
};
use crate::{av, container::Container, log};

/// Number of index entries of a stream that have data: AVI marks dropped frames by empty entries.
pub(super) fn filled_entries(container: &Container, stream: usize) -> u64 {
    container.index_entries(stream).filter(|entry| entry.size() > 0).count() as u64
}

/// Number of packets of a stream according to the index: MP4's tables or fragments, or AVI's index as of opening.
fn indexed_packets(container: &Container, progress: &Progress, stream: usize) -> Option<u64> {
    match container.format_name().as_str() {
        name if name.starts_with("mov") => {
            let listed = progress.fragments.as_ref().filter(|check| check.stream == stream).map_or(0, |check| check.packets);
            Some(listed.max(container.index_entries(stream).count() as u64))
        }
        "avi" => progress.index_entries.get(stream).copied(),
        _ => None,
    }
    .filter(|count| *count > 0)
}

/// Number of shown frames according to MP4's tables.
pub(super) fn indexed_frames(container: &Container, progress: &Progress, video: usize) -> Option<u64> {
    if container.format_name() == "avi" {
        // AVI's header counts repeated frames too.
        return None;
    }
    let hidden = container.index_entries(video).filter(|entry| entry.flags() & ffi::AVINDEX_DISCARD_FRAME != 0).count() as u64;
    Some(indexed_packets(container, progress, video)?.saturating_sub(hidden))
}

/// Frame count from a file's first bytes, where FFmpeg does not report it (APNG).
pub(super) fn stated_frames(container: &mut Container) -> Option<u64> {
    if container.format_name() != "apng" {
        return None;
    }
    let bytes = container.bytes_at(0, EDGE_BYTES)?;
    let at = bytes.windows(4).position(|name| name == b"acTL")?;
    let count = bytes.get(at + 4..at + 8)?;
    Some(u32::from_be_bytes(count.try_into().ok()?).into())
}

/// Checks the fragments of a local MP4. Each one needs a separate read, too many for a server.
pub(super) fn fragments(container: &mut Container, video: usize) -> Option<FragmentCheck> {
    let size = container.size_bytes().filter(|_| container.is_local_file() && container.format_name().starts_with("mov"))?;
    let stream = container.stream(video)?;
    let (track, base) = (u32::try_from(stream.id).ok()?, av::time_base(stream.time_base));
    let mut check = fragments::check(container, size, track, base)?;
    check.stream = video;
    Some(check)
}

/// Whether every video frame that the container promises was read.
pub(super) fn is_complete(container: &Container, progress: &Progress, video: usize, stated: Option<u64>) -> bool {
    let promised = indexed_packets(container, progress, video).or(stated);
    // Other streams may be incomplete when the video is not.
    let others_miss = (0..container.stream_count()).any(|index| {
        let is_read = container.stream(index).is_some_and(|stream| stream.discard != ffi::AVDiscard::ALL);
        let packets = progress.packets.get(index).copied().unwrap_or(0);
        is_read && indexed_packets(container, progress, index).is_some_and(|promised| packets < promised)
    });
    let read = progress.packets.get(video).copied().unwrap_or(0);
    !progress.was_sought && !progress.last_is_corrupt && !others_miss && promised.is_some_and(|promised| promised > 0 && read >= promised)
}

/// The reason why a source ended early; `None` if it ended normally.
pub(super) fn reason(
    container: &Container,
    code: i32,
    progress: &Progress,
    video: usize,
    end: Option<f64>,
    ending: Ending,
) -> Option<String> {
    if !progress.ended_without_length {
        if code == ffi::AVERROR_PATCHWELCOME {
            return Some("a structure that FFmpeg cannot read follows".into());
        }
        if code == ffi::AVERROR(libc::ENOMEM) {
            return Some("a packet of impossible size follows".into());
        }
        if code != ffi::AVERROR_EOF {
            return Some(av::error_text(code).to_lowercase());
        }
        if let Some(error) = container.io_error() {
            return Some(error.to_lowercase());
        }
        if let Some(words) = log::take_last_error().filter(|words| words.contains("prematurely") || words.contains("truncat")) {
            return Some(words.to_lowercase());
        }
    }
    if let Ending::Missing(reason) = ending {
        return Some(reason);
    }
    if progress.last_is_corrupt {
        return Some("the last packet is cut off".into());
    }
    if end.is_some() {
        return None;
    }
    let stream = container.stream(video)?;
    // Containers with an index know their packets exactly; with edit lists the header's own count differs.
    let is_mov = container.format_name().starts_with("mov");
    let is_read = |index: usize| container.stream(index).is_some_and(|stream| stream.discard != ffi::AVDiscard::ALL);
    for (index, (entries, packets)) in progress.index_entries.iter().zip(&progress.packets).enumerate() {
        // One audio chunk of an AVI may produce any number of packets.
        let is_exact = is_read(index) && (is_mov || (index == video && container.format_name() == "avi"));
        if is_exact && packets < entries && !progress.was_sought {
            return Some(format!("{packets} of {entries} packets of stream {index} are present"));
        }
    }
    // MXF states the number of edit units, each of which is a frame.
    let read_units = progress.packets.get(video).copied().unwrap_or(0);
    let units = u64::try_from(stream.duration).ok().filter(|_| container.format_name() == "mxf" && !progress.was_sought);
    if let Some(units) = units.filter(|units| read_units < *units) {
        return Some(format!("{read_units} of {units} frames are there"));
    }
    let context = container.get();
    let from_header = progress.is_header_only || context.duration_estimation_method == ffi::AVDurationEstimationMethod::STREAM;
    let duration = av::timestamp(context.duration).filter(|micros| *micros > 0 && from_header)? as f64 / 1e6;
    let origin = av::timestamp(context.start_time).map_or(0.0, |micros| micros as f64 / 1e6);
    let frame = av::positive(stream.avg_frame_rate).map_or(0.04, |rate| 1.0 / rate.as_f64());
    // Containers count the duration from the first frame or from zero: report only if it falls short by both.
    let read = progress.latest_secs.max(progress.latest_secs - origin);
    let all_read = context.nb_streams as usize == container.streams().filter(|stream| stream.discard != ffi::AVDiscard::ALL).count();
    (all_read && duration - read > (2.0 * frame).max(0.1)).then(|| format!("{read:.2} of {duration:.2} s are present"))
}
