//! A stage whose records go to a buffer, and its own thread that sends them.
//!
//! A stage's thread must not wait for a network while the buffer has room.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use framerail_core::{StreamId, StreamInfo};
use framerail_pipeline::{
    Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OnSinkError, Options, PlanError, Stage, StageContext,
    StageError, StagePlan, Work,
};

use super::outbox::{Count, Outbox, OutboxCounters, OutboxLimits, WhenFull};
use crate::stages::{
    link::{input_of, models_of},
    save::record::{FrameRecord, is_uneventful},
};

/// Time for a sender to disconnect after all of its records are sent.
const GOODBYE: Duration = Duration::from_secs(2);

/// A transport to one kind of server.
pub(in crate::stages) trait Carrier: Send + Sync + 'static {
    /// A record in flight.
    type Message: Send;

    /// The server, for messages, without secrets.
    fn target(&self) -> String;

    /// Registers the transport's own counters.
    fn counters(&self, context: &StageContext) -> CarrierCounters;

    /// Encodes a record for sending.
    fn message(&self, info: &StreamInfo, record: Vec<u8>) -> Self::Message;

    /// Starts the sending thread. It ends soon after the outbox is closed and [`Sender::wake`] was called.
    fn start(self: Arc<Self>, outbox: Arc<Outbox<Self::Message>>, counters: CarrierCounters) -> Result<Sender, StageError>;
}

/// Counters of a transport.
#[derive(Clone)]
pub(in crate::stages) struct CarrierCounters {
    /// Reconnections, or repeated requests.
    pub(in crate::stages) again: Counter,
    /// Records that the server rejected, if it can.
    pub(in crate::stages) rejected: Option<Counter>,
    /// Where notices go.
    pub(in crate::stages) context: StageContext,
}

/// A sending thread.
pub(in crate::stages) struct Sender {
    pub(in crate::stages) thread: JoinHandle<()>,
    /// Makes it check the outbox.
    pub(in crate::stages) wake: Box<dyn Fn() + Send>,
}

/// The stage before the run.
pub(in crate::stages) struct PublishPlan<C> {
    carrier: C,
    only_found: bool,
    buffer: usize,
    when_full: Option<WhenFull>,
    patience: Duration,
    is_live: bool,
}

impl<C: Carrier> PublishPlan<C> {
    pub(in crate::stages) fn new(carrier: C, options: &Options) -> Self {
        let when_full = match options.choice("when_full") {
            "wait" => Some(WhenFull::Wait),
            "drop" => Some(WhenFull::Drop),
            _ => None,
        };
        Self {
            carrier,
            only_found: options.switch("only_found"),
            buffer: options.count("buffer"),
            when_full,
            patience: options.time("patience"),
            is_live: false,
        }
    }
}

impl<C: Carrier> StagePlan for PublishPlan<C> {
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
        let limits = OutboxLimits {
            capacity: self.buffer,
            when_full: self.when_full.unwrap_or(by_source),
            patience: self.patience,
            target: self.carrier.target(),
        };
        let publish = Publish { carrier: Arc::new(self.carrier), only_found: self.only_found, limits, streams: HashMap::new(), line: None };
        Ok(Work::Stages(vec![Box::new(publish)]))
    }
}

/// State of the started stage.
struct Line<M> {
    outbox: Arc<Outbox<M>>,
    sender: Option<Sender>,
    not_finite: Counter,
    context: StageContext,
}

struct Publish<C: Carrier> {
    carrier: Arc<C>,
    only_found: bool,
    limits: OutboxLimits,
    streams: HashMap<StreamId, Arc<StreamInfo>>,
    line: Option<Line<C::Message>>,
}

impl<C: Carrier> Stage for Publish<C> {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let own = self.carrier.counters(context);
        let count = |counter: Counter| -> Count { Box::new(move |count| counter.add(count)) };
        let counters = OutboxCounters {
            sent: count(context.counter("records_sent")),
            dropped: count(context.counter("records_dropped")),
            rejected: own.rejected.clone().map_or_else(|| -> Count { Box::new(|_| {}) }, count),
        };
        let outbox = Arc::new(Outbox::new(self.limits.clone(), counters, context.abort_token()));
        let sender = match Arc::clone(&self.carrier).start(Arc::clone(&outbox), own) {
            Ok(sender) => sender,
            Err(error) => {
                outbox.close();
                return Err(error);
            }
        };
        let not_finite = context.counter("boxes_not_finite");
        let line = Line { outbox, sender: Some(sender), not_finite, context: context.clone() };
        self.line = Some(line);
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
        line.outbox.push(self.carrier.message(info, record))?;
        line.wake();
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
        let left = line.outbox.drain()?;
        if left > 0 {
            let target = &self.limits.target;
            line.context.notice(format_args!("{left} records are dropped at the end because {target} was unreachable"));
        }
        line.end();
        Ok(())
    }
}

impl<M> Line<M> {
    fn wake(&self) {
        if let Some(sender) = &self.sender {
            (sender.wake)();
        }
    }

    /// Ends the sender. One that hangs in a system call is left behind.
    fn end(&mut self) {
        self.outbox.close();
        self.wake();
        let Some(sender) = self.sender.take() else { return };
        let began = Instant::now();
        while !sender.thread.is_finished() && began.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl<M> Drop for Line<M> {
    fn drop(&mut self) {
        self.outbox.close();
        self.wake();
    }
}

/// Reports a sender that ends unexpectedly as a failure.
pub(in crate::stages) struct EndGuard<T>(pub(in crate::stages) Arc<Outbox<T>>);

impl<T> Drop for EndGuard<T> {
    fn drop(&mut self) {
        if !self.0.is_closed() {
            let message = format!("the thread that sends to {} has ended", self.0.limits().target);
            self.0.fail(StageError::new(ErrorKind::Internal, message));
        }
    }
}
