//! Decodes pieces in parallel and delivers their frames in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{ReaderError, pace::Pace, piece::Piece, window::Window};

/// A frame of a piece, with the tag of its packet.
#[derive(Debug)]
pub struct Tagged<P> {
    /// The packet's number in the stream.
    pub tag: i64,
    /// The converted frame.
    pub image: P,
}

/// Receives a piece's frames in display order.
pub trait PieceOutput<P> {
    /// Waits until the piece's next frame may be held. Call it once per frame, before allocating its memory.
    ///
    /// # Errors
    /// `Closed` when the reader was dropped meanwhile.
    fn reserve(&mut self) -> Result<(), ReaderError>;

    /// Called between packets; an error ends the piece.
    ///
    /// # Errors
    /// Any error that ends the piece.
    fn check(&mut self) -> Result<(), ReaderError> {
        Ok(())
    }

    /// Delivers a frame for which a place was reserved.
    fn push(&mut self, image: Tagged<P>);
}

/// How a piece ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceEnd {
    /// Its frames are those of a decode from the start.
    Complete,
    /// It is damaged: the remaining frames of a decode from the start need a decoder that has processed the earlier packets.
    NeedsContext,
}

/// Decodes one piece after another; each worker thread has one.
pub trait PieceDecoder: Send {
    /// The output of the decoder.
    type Decoded: Send + 'static;

    /// Decodes a piece and delivers the frames that it shows, in display order. The previous piece must not affect the result.
    ///
    /// # Errors
    /// Any error that ends the reading.
    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Self::Decoded>) -> Result<PieceEnd, ReaderError>;
}

/// Creates the decoder of a worker, on the worker's thread.
pub type MakeDecoder<D> = Arc<dyn Fn() -> Result<D, ReaderError> + Send + Sync>;

/// How far to decode ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Worker threads, each with a decoder.
    pub workers: usize,
    /// Maximum number of frames that wait for their turn.
    pub frames: usize,
    /// Whether the numbers of workers and waiting frames adapt to the caller's pace. If `false`, the limits above are always used in full.
    pub adapts: bool,
}

/// Result of [`ParallelDecoder::next_picture`].
#[derive(Debug)]
pub enum NextDecoded<P> {
    /// The next frame.
    Decoded(Tagged<P>),
    /// The current piece needs the packets before it: see [`ParallelDecoder::into_pieces`].
    NeedsContext,
    /// The frame is not ready, and the caller's pace requires another piece: submit one if available, then call again.
    WantsPiece,
    /// No piece is in progress.
    None,
}

/// Messages of a piece: frames, then how it ended and its decoding time without waits.
enum Message<P> {
    Decoded(Tagged<P>),
    End(Result<PieceEnd, ReaderError>, Duration),
}

struct Job<P> {
    piece: Arc<Piece>,
    /// Position of its first frame, counted over all pieces.
    place: u64,
    output: Sender<Message<P>>,
}

struct Jobs<P> {
    waiting: VecDeque<Job<P>>,
    idle: usize,
    /// Pieces being decoded or waiting for a worker.
    unfinished: usize,
    is_closed: bool,
}

struct Shared<P> {
    jobs: Mutex<Jobs<P>>,
    changed: Condvar,
    window: Window,
}

struct Delivery<P> {
    piece: Arc<Piece>,
    place: u64,
    images: Receiver<Message<P>>,
}

/// Decodes pieces on several threads and delivers their frames in the order of the pieces.
pub struct ParallelDecoder<D: PieceDecoder> {
    make: MakeDecoder<D>,
    shared: Arc<Shared<D::Decoded>>,
    workers: Vec<JoinHandle<()>>,
    most_workers: usize,
    pace: Pace,
    deliveries: VecDeque<Delivery<D::Decoded>>,
    /// The piece before the current one.
    before: Option<Arc<Piece>>,
    /// Number of frames in the longest piece so far.
    longest: usize,
    /// Position of the first frame of the next piece.
    next_place: u64,
}

impl<D: PieceDecoder + 'static> ParallelDecoder<D> {
    /// Threads are started when pieces are submitted.
    pub fn new(ahead: Ahead, make: MakeDecoder<D>) -> Self {
        let jobs = Jobs { waiting: VecDeque::new(), idle: 0, unfinished: 0, is_closed: false };
        let reach = if ahead.adapts { u64::MAX } else { ahead.frames as u64 };
        let shared = Shared { jobs: Mutex::new(jobs), changed: Condvar::new(), window: Window::new(ahead.frames, reach) };
        Self {
            make,
            shared: Arc::new(shared),
            workers: Vec::new(),
            most_workers: ahead.workers.max(1),
            pace: Pace::new(ahead),
            deliveries: VecDeque::new(),
            before: None,
            longest: 0,
            next_place: 0,
        }
    }

    /// Whether another piece would keep a worker busy.
    pub fn wants_piece(&self) -> bool {
        self.deliveries.is_empty() || self.shared.jobs.lock().unfinished < self.pace.wanted()
    }

    /// Number of the piece that is being delivered.
    pub fn turn(&self) -> Option<u64> {
        self.deliveries.front().map(|head| head.piece.number)
    }

    /// Number of threads started so far.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Maximum number of frames that ever waited for their turn.
    pub fn most_waiting(&self) -> usize {
        self.shared.window.most_waiting()
    }

    /// Submits a piece to the workers. Pieces must be submitted in order.
    pub fn submit(&mut self, piece: Piece) {
        let (output, images) = channel();
        let (place, shown) = (self.next_place, piece.shown());
        self.next_place += shown as u64;
        if shown > self.longest {
            self.longest = shown;
            self.set_limit();
        }
        if self.deliveries.is_empty() {
            self.shared.window.advance(place);
        }
        let piece = Arc::new(piece);
        self.deliveries.push_back(Delivery { piece: Arc::clone(&piece), place, images });
        let mut jobs = self.shared.jobs.lock();
        jobs.waiting.push_back(Job { piece, place, output });
        jobs.unfinished += 1;
        let needs_worker = jobs.waiting.len() > jobs.idle && self.workers.len() < self.most_workers;
        drop(jobs);
        self.shared.changed.notify_one();
        if needs_worker {
            let (shared, make) = (Arc::clone(&self.shared), Arc::clone(&self.make));
            self.workers.push(std::thread::spawn(move || work(&shared, &make)));
        }
    }

    /// Waits for the next frame.
    ///
    /// # Errors
    /// The error that ended the current piece. The decoder cannot be used afterwards.
    pub fn next_decoded(&mut self) -> Result<NextDecoded<D::Decoded>, ReaderError> {
        loop {
            let Some(head) = self.deliveries.front_mut() else { return Ok(NextDecoded::None) };
            let message = match head.images.try_recv() {
                Err(TryRecvError::Empty) => {
                    if self.pace.awaits() {
                        self.set_limit();
                        return Ok(NextDecoded::WantsPiece);
                    }
                    head.images.recv().ok()
                }
                received => received.ok(),
            };
            match message {
                Some(Message::Decoded(image)) => {
                    self.shared.window.leave();
                    self.pace.gives();
                    return Ok(NextDecoded::Decoded(image));
                }
                Some(Message::End(Ok(PieceEnd::Complete), decoding)) => self.next_turn(decoding),
                Some(Message::End(Ok(PieceEnd::NeedsContext), _)) => return Ok(NextDecoded::NeedsContext),
                Some(Message::End(Err(error), _)) => return Err(error),
                // The worker ended without a message: it panicked.
                None => return Err(ReaderError::Closed),
            }
        }
    }

    /// Stops all decoding. Returns the last delivered piece, followed by the pieces that were not fully delivered.
    pub fn into_pieces(mut self) -> Vec<Arc<Piece>> {
        let before = self.before.take().filter(|_| !self.deliveries.is_empty());
        let pieces = self.deliveries.drain(..).map(|delivery| delivery.piece);
        before.into_iter().chain(pieces).collect()
    }

    fn next_turn(&mut self, decoding: Duration) {
        let Some(over) = self.deliveries.pop_front() else { return };
        if self.pace.ends(decoding) {
            self.set_limit();
        }
        self.before = Some(over.piece);
        if let Some(head) = self.deliveries.front() {
            self.shared.window.advance(head.place);
        }
    }

    fn set_limit(&self) {
        self.shared.window.set_limit(self.pace.limit(self.longest));
    }
}

impl<D: PieceDecoder> Drop for ParallelDecoder<D> {
    fn drop(&mut self) {
        self.shared.window.close();
        self.shared.jobs.lock().is_closed = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                log::error!("a decoding thread panicked; this is a bug, please report it");
            }
        }
    }
}

fn work<D: PieceDecoder>(shared: &Shared<D::Decoded>, make: &MakeDecoder<D>) {
    let mut decoder = None;
    while let Some(Job { piece, place, output }) = next_job(shared) {
        let mut sink = Output { shared, place, sender: &output, waited: Duration::ZERO };
        let start = Instant::now();
        let made = match decoder.take() {
            Some(decoder) => Ok(decoder),
            None => make(),
        };
        let outcome = made.and_then(|mut made| {
            let outcome = made.decode(&piece, &mut sink);
            // After an error the state of the decoder is unknown.
            decoder = outcome.is_ok().then_some(made);
            outcome
        });
        let (took, waited, number, frames) = (start.elapsed(), sink.waited, piece.number, sink.place - place);
        log::trace!("piece {number}: {frames} frames, decoded in {took:.1?}, of which {waited:.1?} waiting for room");
        shared.jobs.lock().unfinished -= 1;
        // The receiver may be gone.
        let _ = output.send(Message::End(outcome, took.saturating_sub(waited)));
    }
}

fn next_job<P>(shared: &Shared<P>) -> Option<Job<P>> {
    let mut jobs = shared.jobs.lock();
    loop {
        if jobs.is_closed {
            return None;
        }
        if let Some(job) = jobs.waiting.pop_front() {
            return Some(job);
        }
        jobs.idle += 1;
        shared.changed.wait(&mut jobs);
        jobs.idle -= 1;
    }
}

struct Output<'a, P> {
    shared: &'a Shared<P>,
    /// Position of the next frame.
    place: u64,
    sender: &'a Sender<Message<P>>,
    /// Time that its frames waited for room.
    waited: Duration,
}

impl<P> PieceOutput<P> for Output<'_, P> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        let place = self.place;
        self.place += 1;
        let start = Instant::now();
        let is_open = self.shared.window.enter(place);
        self.waited += start.elapsed();
        if is_open { Ok(()) } else { Err(ReaderError::Closed) }
    }

    fn check(&mut self) -> Result<(), ReaderError> {
        if self.shared.window.is_closed() { Err(ReaderError::Closed) } else { Ok(()) }
    }

    fn push(&mut self, image: Tagged<P>) {
        // The receiver may be gone.
        let _ = self.sender.send(Message::Decoded(image));
    }
}
