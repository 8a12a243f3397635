//! One source as a stream of the engine.

use std::sync::Arc;

use framerail_core::StreamInfo;
use framerail_media::Damage;
use framerail_pipeline::{Emitter, Flow, StageContext, StageError, StreamLine, StreamReader};

use super::{counters::Counted, opener::Shared, source::OpenSource};

pub(super) struct SourceReader {
    source: OpenSource,
    info: Arc<StreamInfo>,
    is_live: bool,
    shared: Arc<Shared>,
    line: Option<StreamLine>,
    counted: Counted,
    /// The change from card to CPU was told.
    is_change_told: bool,
}

impl SourceReader {
    pub(super) fn new(source: OpenSource, is_live: bool, shared: Arc<Shared>) -> Self {
        let info = Arc::new(source.info().clone());
        Self { source, info, is_live, shared, line: None, counted: Counted::default(), is_change_told: false }
    }

    fn count(&mut self) {
        let Some(line) = &self.line else { return };
        let converted = self.source.conversions().iter().map(|conversion| conversion.frames).sum();
        self.shared.counters(line).count(&mut self.counted, self.source.damage(), converted);
    }

    fn count_card(&mut self) {
        let Some(line) = &self.line else { return };
        self.shared.counters(line).count_card(&line.context, &mut self.counted, self.source.card_work());
    }

    /// Says once that a source on the card goes on on the CPU.
    fn tell_change(&mut self) {
        let Some(line) = self.line.as_ref().filter(|_| !self.is_change_told) else { return };
        if let Some(reason) = self.source.why_changed() {
            self.is_change_told = true;
            self.shared.counters(line).count_on_cpu();
            line.context.notice(reason);
        }
    }

    /// Says what was lost of a file. A live source may be opened thousands of times; its losses are in the counters.
    fn tell(&self, context: &StageContext, damage: &Damage) {
        let name = &self.info.source;
        if let Some(line) = describe(damage) {
            context.notice(format_args!("{name}: {line}"));
        }
        for conversion in self.source.conversions() {
            let (from, to, frames) = (&conversion.from, &conversion.to, conversion.frames);
            context.notice(format_args!("{name}: {frames} frames converted from {from} to {to}"));
        }
    }
}

impl StreamReader for SourceReader {
    fn start(&mut self, line: &StreamLine) -> Result<(), StageError> {
        let counters = self.shared.counters(line);
        counters.expected.add(self.info.frames_estimate.unwrap_or(0));
        if let Some(reason) = self.source.why_on_cpu() {
            counters.count_on_cpu();
            line.context.notice(reason);
        }
        self.line = Some(line.clone());
        Ok(())
    }

    fn info(&self) -> Arc<StreamInfo> {
        Arc::clone(&self.info)
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let given = self.source.next(out);
        self.count_card();
        self.tell_change();
        Ok(if given? { Flow::More } else { Flow::Done })
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<Option<String>, StageError> {
        self.count();
        let ended = self.source.end(out);
        self.count_card();
        let damage = self.source.damage();
        if let Some(line) = self.line.as_ref().filter(|_| !self.is_live) {
            self.shared.counters(line).ended_early.add(u64::from(damage.ended_early.is_some()));
            self.tell(&line.context, &damage);
        }
        ended.map(|()| damage.ended_early)
    }
}

/// What was lost, in one line; `None` for a sound stream. Streams without timestamps at all are no damage.
fn describe(damage: &Damage) -> Option<String> {
    let counted = [
        (damage.packets_corrupt, "packets damaged"),
        (damage.packets_dropped, "packets dropped"),
        (damage.decode_errors, "decoding errors"),
        (damage.frames_repaired, "frames repaired"),
        (damage.frames_dropped, "frames lost"),
        (damage.images_missing, "pictures missing"),
    ];
    let mut parts: Vec<String> = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    parts.extend(damage.ended_early.as_ref().map(|why| format!("ended early: {why}")));
    if parts.is_empty() && damage.timestamps_repaired > 0 {
        return Some(format!("{} timestamps were missing or out of order and have been worked out", damage.timestamps_repaired));
    }
    (!parts.is_empty()).then(|| format!("decoded as far as it goes: {}", parts.join(", ")))
}
