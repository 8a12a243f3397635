//! Counts per stream: frames read, delivered, dropped and late.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use framerail_core::{SourceUrl, StreamId, StreamInfo};
use parking_lot::Mutex;

use crate::{
    Arrival,
    stats::{StreamState, StreamStats, StreamTotals},
};

/// Maximum number of ended streams that are listed individually; earlier ones are only included in the totals.
const MAX_ENDED: usize = 256;

/// Maximum number of streams that have ended at the source while their frames are still in flight.
const MAX_LEAVING: usize = 1024;

/// All streams of a run.
#[derive(Default)]
pub(crate) struct StreamTable {
    state: Mutex<TableState>,
}

#[derive(Default)]
struct TableState {
    streams: BTreeMap<StreamId, Entry>,
    /// Streams whose source has ended while their last items are in flight.
    leaving: BTreeSet<StreamId>,
    /// Finished streams, in the order in which they ended.
    ended: VecDeque<StreamId>,
    /// Number of pipeline ends that accept items.
    ends: usize,
    earlier: StreamTotals,
}

struct Entry {
    record: Arc<StreamRecord>,
    /// Number of pipeline ends that have received its last item.
    ends_seen: usize,
}

impl StreamTable {
    /// Sets the number of pipeline ends.
    pub(crate) fn set_ends(&self, ends: usize) {
        self.state.lock().ends = ends;
    }

    /// Records that an end of the pipeline accepts no more items.
    pub(crate) fn end_closed(&self) {
        let mut state = self.state.lock();
        state.ends = state.ends.saturating_sub(1);
        state.settle();
    }

    /// The record of a stream, created if necessary. Called by the source of the stream, which is the first to know it.
    pub(crate) fn record(&self, id: StreamId) -> Arc<StreamRecord> {
        let mut state = self.state.lock();
        let entry = state.streams.entry(id).or_insert_with(|| Entry { record: Arc::new(StreamRecord::new(id)), ends_seen: 0 });
        Arc::clone(&entry.record)
    }

    /// Records that the source of a stream has ended, so that its record can be removed later.
    pub(crate) fn ended(&self, id: StreamId) {
        let mut state = self.state.lock();
        if state.streams.contains_key(&id) && !state.ended.contains(&id) {
            state.leaving.insert(id);
            state.settle();
        }
    }

    /// The same for a stream without any items, so that none is in flight.
    pub(crate) fn ended_unseen(&self, id: StreamId) {
        if let Some(entry) = self.state.lock().streams.get_mut(&id) {
            entry.ends_seen = usize::MAX;
        }
        self.ended(id);
    }

    /// Records that the last item of a stream has reached a stage that passes none of its items on.
    pub(crate) fn taken(&self, id: StreamId) {
        let mut state = self.state.lock();
        if let Some(entry) = state.streams.get_mut(&id) {
            entry.ends_seen = usize::MAX;
            state.settle();
        }
    }

    /// Records that the last item of a stream has reached an end of the pipeline.
    pub(crate) fn end_arrived(&self, id: StreamId) {
        let mut state = self.state.lock();
        if let Some(entry) = state.streams.get_mut(&id) {
            entry.ends_seen = entry.ends_seen.saturating_add(1);
            state.settle();
        }
    }

    /// Counts dropped frames of a stream. Those of a stream that is no longer listed are added to the totals.
    pub(crate) fn dropped(&self, id: StreamId, place: &str, frames: u64) {
        let mut state = self.state.lock();
        match state.streams.get(&id) {
            Some(entry) => entry.record.dropped(place, frames),
            None => state.earlier.frames_dropped += frames,
        }
    }

    /// Counts a frame that has reached an end of the pipeline.
    pub(crate) fn delivered(&self, id: StreamId, end: &Arc<str>, arrival: Option<Arrival>, now: Instant) {
        let mut state = self.state.lock();
        match state.streams.get(&id) {
            Some(entry) => entry.record.delivered(end, arrival, now),
            None => state.earlier.frames_delivered += 1,
        }
    }

    /// Counts frames that a stage accepted and then dropped. Those of a stream that is no longer listed are added to the totals.
    pub(crate) fn dropped_at_stage(&self, id: StreamId, stage: &Arc<str>, reason: &str, frames: u64) {
        let mut state = self.state.lock();
        match state.streams.get(&id) {
            Some(entry) => entry.record.dropped_at_stage(stage, reason, frames),
            None => {
                state.earlier.frames_dropped += frames;
                state.earlier.frames_delivered = state.earlier.frames_delivered.saturating_sub(frames);
            }
        }
    }

    pub(crate) fn stats(&self) -> (Vec<StreamStats>, StreamTotals) {
        let state = self.state.lock();
        (state.streams.values().map(|entry| entry.record.stats()).collect(), state.earlier)
    }
}

impl TableState {
    /// Moves finished streams to the list of ended ones, and adds the oldest of these to the totals.
    fn settle(&mut self) {
        let ends = self.ends;
        let is_through = |id: &StreamId| self.streams.get(id).is_none_or(|entry| entry.ends_seen >= ends);
        let mut through: Vec<StreamId> = self.leaving.iter().copied().filter(is_through).collect();
        // Streams must not be kept forever by an end that never receives their last item.
        let surplus = (self.leaving.len() - through.len()).saturating_sub(MAX_LEAVING);
        let stranded: Vec<StreamId> = self.leaving.iter().copied().filter(|id| !is_through(id)).take(surplus).collect();
        through.extend(stranded);
        for id in through {
            self.leaving.remove(&id);
            self.ended.push_back(id);
        }
        while self.ended.len() > MAX_ENDED {
            let oldest = self.ended.pop_front();
            if let Some(entry) = oldest.and_then(|id| self.streams.remove(&id)) {
                self.earlier.add(&entry.record.stats());
            }
        }
    }
}

/// Counts of one stream.
pub(crate) struct StreamRecord {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    stats: StreamStats,
    ends: BTreeMap<Arc<str>, EndCounts>,
}

/// Counts of one end of the pipeline.
#[derive(Default)]
struct EndCounts {
    /// Frames received, including those dropped later.
    came: u64,
    given_up: u64,
    late: u64,
    timed: u64,
    latency: Duration,
    latency_max: Duration,
}

impl StreamRecord {
    fn new(id: StreamId) -> Self {
        let stats = StreamStats { id: id.0, ..StreamStats::default() };
        Self { counts: Mutex::new(Counts { stats, ends: BTreeMap::new() }) }
    }

    /// Updates the statistics of the stream.
    pub(crate) fn update(&self, change: impl FnOnce(&mut StreamStats)) {
        change(&mut self.counts.lock().stats);
    }

    pub(crate) fn set_state(&self, state: StreamState) {
        self.update(|stats| stats.state = state);
    }

    pub(crate) fn named(&self, name: &str, source: &SourceUrl) {
        self.update(|stats| {
            name.clone_into(&mut stats.name);
            stats.source = source.to_string();
        });
    }

    pub(crate) fn started(&self, info: &StreamInfo) {
        self.named(&info.name, &info.source);
        self.set_state(StreamState::Running);
    }

    pub(crate) fn read(&self) {
        self.update(|stats| stats.frames_read += 1);
    }

    pub(crate) fn dropped(&self, place: &str, frames: u64) {
        if frames > 0 {
            self.update(|stats| {
                stats.frames_dropped += frames;
                *stats.drops.entry(place.to_owned()).or_default() += frames;
            });
        }
    }

    fn dropped_at_stage(&self, stage: &Arc<str>, reason: &str, frames: u64) {
        if frames == 0 {
            return;
        }
        self.dropped(&format!("{stage}: {reason}"), frames);
        self.counts.lock().ends.entry(Arc::clone(stage)).or_default().given_up += frames;
    }

    /// Counts a frame that has reached an end of the pipeline.
    pub(crate) fn delivered(&self, end: &Arc<str>, arrival: Option<Arrival>, now: Instant) {
        let mut counts = self.counts.lock();
        let end = counts.ends.entry(Arc::clone(end)).or_default();
        end.came += 1;
        if let Some(arrival) = arrival {
            let latency = now.saturating_duration_since(arrival.at);
            end.timed += 1;
            end.late += u64::from(arrival.is_late(now));
            end.latency += latency;
            end.latency_max = end.latency_max.max(latency);
        }
    }

    pub(crate) fn stats(&self) -> StreamStats {
        let counts = self.counts.lock();
        let mut stats = counts.stats.clone();
        stats.frames_delivered = counts.ends.values().map(|end| end.came.saturating_sub(end.given_up)).max().unwrap_or(0);
        stats.frames_late = counts.ends.values().map(|end| end.late).max().unwrap_or(0);
        stats.latency_max_secs = counts.ends.values().map(|end| end.latency_max.as_secs_f64()).fold(0.0, f64::max);
        let means = counts.ends.values().filter(|end| end.timed > 0).map(|end| end.latency.as_secs_f64() / end.timed as f64);
        stats.latency_mean_secs = means.fold(0.0, f64::max);
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_long_ago_are_summed_up() {
        let table = StreamTable::default();
        for id in 0..1000 {
            let record = table.record(StreamId(id));
            record.read();
            record.dropped("read", 2);
            table.ended(StreamId(id));
        }
        let (streams, earlier) = table.stats();
        assert_eq!(streams.len(), MAX_ENDED);
        assert_eq!((earlier.streams, earlier.frames_read, earlier.frames_dropped), (744, 744, 1488));
        assert_eq!(streams[0].id, 744);
    }

    #[test]
    fn what_an_end_gives_up_is_not_delivered() {
        let table = StreamTable::default();
        let (write, null): (Arc<str>, Arc<str>) = ("write".into(), "null".into());
        // An output may drop a frame before its arrival at the stage is counted.
        table.record(StreamId(0)).read();
        table.dropped_at_stage(StreamId(0), &write, "not sent", 1);
        table.delivered(StreamId(0), &write, None, Instant::now());
        let stats = |table: &StreamTable| table.stats().0[0].clone();
        assert_eq!((stats(&table).frames_delivered, stats(&table).drops["write: not sent"]), (0, 1));
        table.delivered(StreamId(0), &null, None, Instant::now());
        assert_eq!(stats(&table).frames_delivered, 1, "it came to another end");
        // Long after its stream has ended.
        table.ended(StreamId(0));
        for id in 1..=MAX_ENDED as u32 {
            table.record(StreamId(id)).read();
            table.delivered(StreamId(id), &write, None, Instant::now());
            table.ended(StreamId(id));
        }
        table.dropped_at_stage(StreamId(0), &null, "not sent", 1);
        let (streams, earlier) = table.stats();
        assert!(streams.iter().all(|stream| stream.id > 0));
        assert_eq!((earlier.frames_delivered, earlier.frames_dropped), (0, 2));
    }

    #[test]
    fn frames_on_the_way_of_streams_that_have_ended_make_no_ghosts() {
        let table = StreamTable::default();
        table.set_ends(2);
        let ends: [Arc<str>; 2] = ["write".into(), "save".into()];
        for id in (0..500).map(StreamId) {
            table.record(id).named("clip", &"clip.mp4".into());
            table.record(id).read();
            table.ended(id);
        }
        // Their frames reach both ends long after all sources have ended.
        for end in &ends {
            for id in (0..500).map(StreamId) {
                table.delivered(id, end, None, Instant::now());
                table.end_arrived(id);
            }
        }
        let (streams, earlier) = table.stats();
        assert_eq!((streams.len(), earlier.streams), (MAX_ENDED, 500 - MAX_ENDED as u64));
        assert!(streams.iter().all(|stream| stream.name == "clip" && stream.frames_delivered == 1));
        assert_eq!((earlier.frames_read, earlier.frames_delivered), (244, 244));
        table.dropped(StreamId(0), "late", 1);
        table.delivered(StreamId(0), &ends[0], None, Instant::now());
        assert_eq!(table.stats().0.len(), MAX_ENDED, "a stream that was summed up does not come back");
    }

    #[test]
    fn an_end_that_sees_no_last_item_keeps_no_stream_for_ever() {
        let table = StreamTable::default();
        table.set_ends(1);
        for id in (0..5000).map(StreamId) {
            table.record(id).read();
            table.ended(id);
        }
        assert!(table.stats().0.len() <= MAX_ENDED + MAX_LEAVING);
        table.end_closed();
        assert_eq!(table.stats().0.len(), MAX_ENDED);
    }
}
