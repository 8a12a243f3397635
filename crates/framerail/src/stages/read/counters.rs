//! Counters of `read`, over all of its sources.

use std::sync::OnceLock;

use framerail_cuda::Traffic;
use framerail_media::{Damage, FetchCounts};
use framerail_pipeline::{Counter, StageContext};
use framerail_reader::SourceStats;
use parking_lot::Mutex;

use crate::devices::account;

/// A kind of damage, and the name of its counter.
type DamageCount = fn(&Damage) -> u64;

/// The counted kinds of damage.
const DAMAGE: [(&str, DamageCount); 12] = [
    ("packets_corrupt", |damage| damage.packets_corrupt),
    ("packets_dropped", |damage| damage.packets_dropped),
    ("packets_lost", |damage| damage.packets_lost),
    ("container_errors", |damage| damage.container_errors),
    ("frames_repaired", |damage| damage.frames_repaired),
    ("frames_lost", |damage| damage.frames_lost),
    ("frames_dropped", |damage| damage.frames_dropped),
    ("timestamps_repaired", |damage| damage.timestamps_repaired),
    ("timestamps_absent", |damage| damage.timestamps_absent),
    ("decode_errors", |damage| damage.decode_errors),
    ("images_missing", |damage| damage.images_missing),
    ("packets_before_keyframe", |damage| damage.packets_before_keyframe),
];

/// Shared by all readers of the stage.
pub(super) struct Counters {
    pub(super) expected: Counter,
    pub(super) ended_early: Counter,
    converted: Counter,
    damage: Vec<(Counter, DamageCount)>,
    pieces: Counter,
    most: Mutex<Most>,
    gpu: Option<GpuCounters>,
    /// What was requested from servers and object storage, and its counters from the first request on.
    fetched: FetchCounts,
    fetch_counters: OnceLock<[Counter; 3]>,
}

/// Used when a GPU decodes.
struct GpuCounters {
    sources_on_cpu: Counter,
    frames_on_cpu: Counter,
    images: Counter,
}

struct Most {
    decoders: Counter,
    waiting: Counter,
}

/// The amounts that one source has added so far.
#[derive(Default)]
pub(super) struct Counted {
    damage: Damage,
    converted: u64,
    work: SourceStats,
}

impl Counters {
    pub(super) fn new(context: &StageContext, has_card: bool, fetched: FetchCounts) -> Self {
        Self {
            expected: context.counter("frames_expected"),
            converted: context.counter("frames_converted"),
            ended_early: context.counter("sources_ended_early"),
            damage: DAMAGE.map(|(name, count)| (context.counter(name), count)).into(),
            pieces: context.counter("pieces"),
            most: Mutex::new(Most { decoders: context.counter("decoders"), waiting: context.counter("frames_waiting_max") }),
            gpu: has_card.then(|| GpuCounters {
                sources_on_cpu: context.counter("sources_on_cpu"),
                frames_on_cpu: context.counter("frames_on_cpu"),
                images: context.counter("pictures_decoded"),
            }),
            fetched,
            fetch_counters: OnceLock::new(),
        }
    }

    /// Adds a source's new damage and conversions.
    pub(super) fn count(&self, counted: &mut Counted, damage: Damage, converted: u64) {
        for (counter, count) in &self.damage {
            counter.add(count(&damage).saturating_sub(count(&counted.damage)));
        }
        self.converted.add(converted.saturating_sub(counted.converted));
        (counted.damage, counted.converted) = (damage, converted);
    }

    pub(super) fn count_on_cpu(&self) {
        if let Some(gpu) = &self.gpu {
            gpu.sources_on_cpu.add(1);
        }
    }

    /// Adds a source's new work, and this thread's copies. `memory`: device memory so far.
    pub(super) fn count_work(&self, context: &StageContext, counted: &mut Counted, work: SourceStats) {
        self.pieces.add(work.pieces.saturating_sub(counted.work.pieces));
        let most = self.most.lock();
        most.decoders.set(most.decoders.value().max(work.decoders as u64));
        most.waiting.set(most.waiting.value().max(work.most_waiting as u64));
        drop(most);
        if let Some(gpu) = &self.gpu {
            account(context, since(work.traffic, counted.work.traffic));
            // This thread uploaded the frames that the host decoded.
            account(context, Traffic::take());
            gpu.frames_on_cpu.add(work.frames_on_host.saturating_sub(counted.work.frames_on_host));
            gpu.images.add(work.pictures_decoded.saturating_sub(counted.work.pictures_decoded));
        }
        counted.work = work;
        self.count_fetched(context);
    }

    fn count_fetched(&self, context: &StageContext) {
        let now = self.fetched.now();
        if now.requests > 0 {
            let make = || ["requests", "bytes_fetched", "requests_repeated"].map(|name| context.counter(name));
            let [requests, bytes, repeated] = self.fetch_counters.get_or_init(make);
            requests.set(now.requests);
            bytes.set(now.bytes);
            repeated.set(now.retries);
        }
    }
}

/// The difference to an earlier count; both count from the start of a source.
fn since(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        uploads: now.uploads.saturating_sub(before.uploads),
        upload_bytes: now.upload_bytes.saturating_sub(before.upload_bytes),
        downloads: now.downloads.saturating_sub(before.downloads),
        download_bytes: now.download_bytes.saturating_sub(before.download_bytes),
        device_copies: now.device_copies.saturating_sub(before.device_copies),
        device_bytes: now.device_bytes.saturating_sub(before.device_bytes),
        peer_copies: now.peer_copies.saturating_sub(before.peer_copies),
        peer_bytes: now.peer_bytes.saturating_sub(before.peer_bytes),
        syncs: now.syncs.saturating_sub(before.syncs),
    }
}
