use ffmpeg_the_third::ffi;
use proptest::prelude::*;

use super::*;

const VIDEO: TrackKind = TrackKind::Video { is_fixed_rate: false };
const AUDIO: TrackKind = TrackKind::Audio { sample_rate: 48_000, padding: 0 };
const MP4: ContainerClock = ContainerClock { holds_negative: true, is_by_pts: false, holds_equal: false };
const TS: ContainerClock = ContainerClock { holds_negative: false, is_by_pts: false, holds_equal: false };
const MKV: ContainerClock = ContainerClock { holds_negative: false, is_by_pts: true, holds_equal: true };

fn base(den: i64) -> TimeBase {
    TimeBase::new(1, den).expect("valid")
}

/// A timeline with all tracks in milliseconds.
fn timeline(kinds: &[TrackKind], clock: ContainerClock, keeps_start: bool) -> Timeline {
    let mut timeline = Timeline::new(keeps_start, InterleaveLimits::FILE, clock);
    for (stream, kind) in kinds.iter().enumerate() {
        timeline.add(*kind);
        timeline.set_base(stream, base(1000));
    }
    timeline
}

fn packet(stream: i32, pts: i64, dts: i64, duration: i64, den: i64) -> AvPacket {
    let mut packet = AvPacket::of_bytes(&[0; 100]).expect("memory");
    (packet.stream_index, packet.pts, packet.dts, packet.duration) = (stream, pts, dts, duration);
    packet.time_base = av::rational(base(den).ratio());
    packet
}

/// A packet of 40 ms.
fn at(stream: i32, millis: i64) -> AvPacket {
    packet(stream, millis, millis, 40, 1000)
}

/// Stream, PTS and DTS of the written packets.
fn take(timeline: &mut Timeline, is_end: bool) -> Vec<(i32, i64, i64)> {
    std::iter::from_fn(|| timeline.next(is_end)).map(|packet| (packet.stream_index, packet.pts, packet.dts)).collect()
}

#[test]
fn a_file_starts_at_zero_and_streams_keep_their_relation() {
    for (keeps_start, zero) in [(false, 0), (true, 1_001_000)] {
        let mut timeline = timeline(&[VIDEO, AUDIO], MP4, keeps_start);
        timeline.push(packet(0, 90_091_800, 90_091_800, 3600, 90_000));
        assert_eq!(take(&mut timeline, false), [], "audio may begin earlier");
        timeline.push(packet(1, 48_048_000, 48_048_000, 1024, 48_000));
        timeline.push(packet(0, 90_095_400, 90_095_400, 3600, 90_000));
        let written = take(&mut timeline, true);
        assert_eq!(written, [(1, zero, zero), (0, zero + 20, zero + 20), (0, zero + 60, zero + 60)]);
    }
}

#[test]
fn samples_that_are_not_played_lie_before_zero() {
    let primed = TrackKind::Audio { sample_rate: 48_000, padding: 960 };
    for (clock, expected) in [(MP4, [(1, -20, -20), (0, 0, 0)]), (MKV, [(1, 0, 0), (0, 20, 20)])] {
        let mut timeline = timeline(&[VIDEO, primed], clock, false);
        timeline.push(at(0, 5000));
        timeline.push(packet(1, 4980, 4980, 20, 1000));
        assert_eq!(take(&mut timeline, true), expected);
    }
}

#[test]
fn all_streams_move_where_decoding_begins_before_zero() {
    let mut timeline = timeline(&[VIDEO, AUDIO], TS, false);
    timeline.push(packet(0, 1000, 920, 40, 1000));
    timeline.push(at(1, 1000));
    assert_eq!(take(&mut timeline, true), [(0, 80, 0), (1, 80, 80)]);
}

#[test]
fn times_that_repeat_or_go_back_are_repaired_and_counted() {
    let mut timeline = timeline(&[AUDIO], MP4, false);
    for millis in [0, 40, 40, 30, 80, 120] {
        timeline.push(at(0, millis));
    }
    timeline.push(packet(0, ffi::AV_NOPTS_VALUE, ffi::AV_NOPTS_VALUE, 40, 1000));
    let times: Vec<i64> = take(&mut timeline, true).iter().map(|(_, pts, _)| *pts).collect();
    assert_eq!((times, timeline.repaired()), (vec![0, 40, 41, 42, 80, 120, 160], 3));
}

#[test]
fn a_clock_that_leaps_is_followed_from_there() {
    for leap in [-600_000, 200 * 3_600_000] {
        let mut timeline = timeline(&[AUDIO], MP4, false);
        for millis in [700_000, 700_040, 700_000 + leap, 700_040 + leap] {
            timeline.push(at(0, millis));
        }
        let times: Vec<i64> = take(&mut timeline, true).iter().map(|(_, pts, _)| *pts).collect();
        assert_eq!((times, timeline.repaired()), (vec![0, 40, 80, 120], 1), "{leap}");
    }
}

#[test]
fn a_fixed_rate_begins_on_its_grid() {
    let mut timeline = Timeline::new(false, InterleaveLimits::FILE, TS);
    timeline.add(TrackKind::Video { is_fixed_rate: true });
    timeline.add(AUDIO);
    timeline.set_base(0, base(25));
    timeline.set_base(1, base(1000));
    timeline.push(at(0, 1023));
    timeline.push(at(1, 1000));
    timeline.push(at(0, 1063));
    assert_eq!(take(&mut timeline, true), [(1, 0, 0), (0, 0, 0), (0, 1, 1)]);
}

#[test]
fn whichever_stream_runs_ahead_memory_is_bounded() {
    for (ahead, limit) in [(0, 10_000 / 40), (1, 120_000 / 40)] {
        let mut timeline = timeline(&[VIDEO, AUDIO, TrackKind::Sparse], MP4, false);
        let (mut most, mut waiting) = (0, 0);
        for number in 0..10_000 {
            timeline.push(at(ahead, number * 40));
            waiting += 1;
            most = most.max(waiting);
            waiting -= take(&mut timeline, false).len() as i64;
        }
        assert!((limit..limit + 3).contains(&most), "{most} packets waited for the stream that is behind");
    }
    let mut timeline = Timeline::new(false, InterleaveLimits { bytes: 1000, ..InterleaveLimits::FILE }, MP4);
    timeline.add(VIDEO);
    timeline.add(AUDIO);
    (0..12).for_each(|number| timeline.push(at(0, number)));
    assert!(timeline.next(false).is_some(), "by bytes");
}

#[test]
fn nothing_waits_for_sparse_subtitles() {
    let mut timeline = timeline(&[VIDEO, TrackKind::Sparse], MKV, false);
    timeline.push(at(1, 3000));
    timeline.push(at(0, 1000));
    timeline.push(at(0, 3040));
    assert_eq!(take(&mut timeline, false), [(0, 0, 0), (1, 2000, 2000), (0, 2040, 2040)]);
}

proptest! {
    /// For any input, each stream's DTS increase and no PTS is below its DTS.
    #[test]
    fn any_times_can_be_written(times in prop::collection::vec((0..3_i32, any::<Option<i64>>(), -500..500_i64, 0..100_i64), 1..60)) {
        let mut timeline = timeline(&[VIDEO, AUDIO, TrackKind::Sparse], TS, false);
        for (stream, dts, delay, duration) in &times {
            let dts = dts.map(|dts| dts.max(i64::MIN + 1)).unwrap_or(ffi::AV_NOPTS_VALUE);
            let pts = if dts == ffi::AV_NOPTS_VALUE { dts } else { dts.saturating_add(*delay).max(i64::MIN + 1) };
            timeline.push(packet(*stream, pts, dts, *duration, 90_000));
        }
        let written = take(&mut timeline, true);
        prop_assert_eq!(written.len(), times.len());
        for stream in 0..3 {
            let own: Vec<_> = written.iter().filter(|packet| packet.0 == stream).collect();
            prop_assert!(own.iter().all(|packet| packet.1 >= packet.2), "{own:?}");
            prop_assert!(own.windows(2).all(|pair| pair[0].2 < pair[1].2), "{own:?}");
        }
    }
}
