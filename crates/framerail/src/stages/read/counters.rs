//! What `read` counts, over all of its sources.

use framerail_cuda::Traffic;
use framerail_media::Damage;
use framerail_pipeline::{Counter, StageContext};
use framerail_reader::DeviceReaderStats;
use parking_lot::Mutex;

use super::source::{CardWork, since};
use crate::devices::account;

/// A part of the damage, to be counted under a name.
type DamageCount = fn(&Damage) -> u64;

/// What of the damage is counted.
const DAMAGE: [(&str, DamageCount); 8] = [
    ("packets_corrupt", |damage| damage.packets_corrupt),
    ("packets_dropped", |damage| damage.packets_dropped),
    ("frames_repaired", |damage| damage.frames_repaired),
    ("frames_dropped", |damage| damage.frames_dropped),
    ("timestamps_repaired", |damage| damage.timestamps_repaired),
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
    card: Option<CardCounters>,
}

/// Counted when a card decodes.
struct CardCounters {
    sources_on_cpu: Counter,
    frames_on_cpu: Counter,
    pieces: Counter,
    pictures: Counter,
    most: Mutex<MostOnCard>,
}

struct MostOnCard {
    decoders: Counter,
    waiting: Counter,
}

/// What one source has put into the counters so far.
#[derive(Default)]
pub(super) struct Counted {
    damage: Damage,
    converted: u64,
    card: DeviceReaderStats,
}

impl Counters {
    pub(super) fn new(context: &StageContext, has_card: bool) -> Self {
        Self {
            expected: context.counter("frames_expected"),
            converted: context.counter("frames_converted"),
            ended_early: context.counter("sources_ended_early"),
            damage: DAMAGE.map(|(name, count)| (context.counter(name), count)).into(),
            card: has_card.then(|| CardCounters {
                sources_on_cpu: context.counter("sources_on_cpu"),
                frames_on_cpu: context.counter("frames_on_cpu"),
                pieces: context.counter("pieces"),
                pictures: context.counter("pictures_decoded"),
                most: Mutex::new(MostOnCard { decoders: context.counter("decoders"), waiting: context.counter("frames_waiting_max") }),
            }),
        }
    }

    /// Adds what is new in a source's damage and conversions.
    pub(super) fn count(&self, counted: &mut Counted, damage: Damage, converted: u64) {
        for (counter, count) in &self.damage {
            counter.add(count(&damage).saturating_sub(count(&counted.damage)));
        }
        self.converted.add(converted.saturating_sub(counted.converted));
        (counted.damage, counted.converted) = (damage, converted);
    }

    pub(super) fn count_on_cpu(&self) {
        if let Some(card) = &self.card {
            card.sources_on_cpu.add(1);
        }
    }

    /// Adds what is new in a source's work on a card, and what this thread has moved.
    pub(super) fn count_card(&self, context: &StageContext, counted: &mut Counted, work: Option<CardWork>) {
        let Some(card) = &self.card else { return };
        let work = work.unwrap_or_default();
        account(context, since(work.stats.traffic, counted.card.traffic));
        // Uploads of frames that the host decoded were made by this thread.
        account(context, Traffic::take());
        if let Some((device, bytes)) = work.memory {
            context.memory(device, bytes);
        }
        card.frames_on_cpu.add(work.stats.frames_on_host.saturating_sub(counted.card.frames_on_host));
        card.pieces.add(work.stats.pieces.saturating_sub(counted.card.pieces));
        card.pictures.add(work.stats.pictures_decoded.saturating_sub(counted.card.pictures_decoded));
        let most = card.most.lock();
        most.decoders.set(most.decoders.value().max(work.stats.decoders as u64));
        most.waiting.set(most.waiting.value().max(work.stats.most_waiting as u64));
        counted.card = work.stats;
    }
}
