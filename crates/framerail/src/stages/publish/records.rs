//! The stage that sends records, for any protocol.

use std::{collections::HashMap, sync::Arc, time::Duration};

use framerail_core::{StreamId, StreamInfo};
use framerail_pipeline::{
    Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OnSinkError, Options, PlanError, Stage, StageContext,
    StageError, StagePlan, Work,
};

use crate::{
    sender::{Counters, FIRST_PAUSE, GOODBYE, Limits, Message, Protocol, Sender, Surroundings, WhenFull},
    stages::{
        link::{input_of, models_of},
        save::record::{FrameRecord, is_uneventful},
    },
};

/// A protocol for records.
pub(in crate::stages) trait RecordProtocol: Protocol {
    /// The thread's name.
    const NAME: &'static str;
    /// Whether the protocol has connections, which can be opened before the first record and may break.
    const CONNECTS: bool = true;

    /// A record of a stream as it is sent.
    fn message(&self, info: &StreamInfo, record: Vec<u8>) -> Self::Message;
}

/// A record with its topic or stream key.
pub(in crate::stages) struct PlacedRecord {
    pub(in crate::stages) place: String,
    pub(in crate::stages) record: Vec<u8>,
}

impl Message for PlacedRecord {
    fn bytes(&self) -> usize {
        self.place.len() + self.record.len()
    }
}

/// Fills a template with the stream's name and number; characters with a special meaning become `_`.
pub(in crate::stages) fn placed(template: &str, info: &StreamInfo, is_plain: impl Fn(char) -> bool) -> String {
    let name: String = info.name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    template.replace("{stream}", &info.id.to_string()).replace("{name}", &name)
}

/// The stage before the run.
pub(in crate::stages) struct PublishPlan<P> {
    protocol: P,
    only_found: bool,
    limits: Limits,
    linger: Option<Duration>,
    when_full: Option<WhenFull>,
    is_live: bool,
}

impl<P: RecordProtocol> PublishPlan<P> {
    pub(in crate::stages) fn new(protocol: P, options: &Options) -> Self {
        let when_full = match options.choice("when_full") {
            "wait" => Some(WhenFull::Wait),
            "drop" => Some(WhenFull::Drop),
            _ => None,
        };
        let limits = Limits {
            entries: options.count("buffer"),
            bytes: options.count("buffer_size").saturating_mul(1_000_000),
            when_full: WhenFull::Wait,
            patience: options.time("patience"),
            fails_at_end: true,
            retries: None,
            first_pause: FIRST_PAUSE,
            gives_up_on_stop: false,
            noun: "records",
        };
        let (only_found, linger) = (options.switch("only_found"), options.optional_time("linger"));
        Self { protocol, only_found, limits, linger, when_full, is_live: false }
    }
}

impl<P: RecordProtocol> StagePlan for PublishPlan<P> {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        models_of(input)?;
        self.is_live = input.is_live;
        Ok(None)
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn on_error(&self) -> OnSinkError {
        OnSinkError::Drop
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let by_source = if self.is_live { WhenFull::Drop } else { WhenFull::Wait };
        let limits = Limits { when_full: self.when_full.unwrap_or(by_source), ..self.limits };
        let (protocol, only_found, linger) = (Arc::new(self.protocol), self.only_found, self.linger);
        let publish = Publish { protocol, only_found, limits, linger, streams: HashMap::new(), line: None };
        Ok(Work::Stages(vec![Box::new(publish)]))
    }
}

/// State of the started stage.
struct Line<P: Protocol> {
    sender: Sender<P>,
    not_finite: Counter,
    context: StageContext,
}

struct Publish<P: RecordProtocol> {
    protocol: Arc<P>,
    only_found: bool,
    limits: Limits,
    linger: Option<Duration>,
    streams: HashMap<StreamId, Arc<StreamInfo>>,
    line: Option<Line<P>>,
}

impl<P: RecordProtocol> Publish<P> {
    fn counters(context: &StageContext) -> Counters {
        let count = |name: &str| {
            let counter = context.counter(name);
            Box::new(move |count| counter.add(count)) as Box<dyn Fn(u64) + Send + Sync>
        };
        Counters {
            sent: count("records_sent"),
            dropped: count("records_dropped"),
            rejected: count("records_rejected"),
            retried: count("retries"),
            reconnected: if P::CONNECTS { count("reconnects") } else { Box::new(|_| {}) },
        }
    }
}

impl<P: RecordProtocol> Stage for Publish<P> {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let protocol = Arc::clone(&self.protocol);
        let sender = Sender::start(protocol, self.limits.clone(), Self::counters(context), Surroundings::of(context), P::NAME)?;
        if P::CONNECTS && self.limits.when_full == WhenFull::Wait {
            // A wrong address is reported now rather than when the buffer is full.
            sender.wait_until_reached()?;
        }
        self.line = Some(Line { sender, not_finite: context.counter("boxes_not_finite"), context: context.clone() });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        if self.only_found && is_uneventful(&item) {
            return Ok(Flow::More);
        }
        let (Some(info), Some(line)) = (self.streams.get(&item.frame.stream), &self.line) else {
            let message = format!("a frame of stream {} came before the stream's start", item.frame.stream);
            return Err(StageError::new(ErrorKind::Internal, message));
        };
        let (record, not_finite) = FrameRecord::new(&item, &info.name);
        line.not_finite.add(not_finite);
        let record = serde_json::to_vec(&record).map_err(|error| StageError::new(ErrorKind::Internal, error))?;
        line.sender.push(self.protocol.message(info, record))?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => drop(self.streams.insert(info.id, info)),
            Item::StreamEnd(end) => drop(self.streams.remove(&end.id)),
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(line) = &mut self.line else { return Ok(()) };
        let left = line.sender.finish(self.linger, GOODBYE)?;
        if left > 0 {
            let target = self.protocol.target();
            line.context.notice(format_args!("{left} records are dropped at the end because {target} was unreachable"));
        }
        Ok(())
    }
}
