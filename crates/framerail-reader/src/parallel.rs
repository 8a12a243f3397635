//! Pieces decoded side by side, their pictures delivered in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};

use crate::{ReaderError, piece::Piece, window::Window};

/// A picture of a piece, with the tag of its packet.
#[derive(Debug)]
pub struct Tagged<P> {
    /// The packet's number in the stream.
    pub tag: i64,
    /// What was made of the picture.
    pub picture: P,
}

/// Takes a piece's pictures in display order.
pub trait PieceOutput<P> {
    /// Waits until the piece's next picture may be held; call it once for each, before memory is taken for it.
    ///
    /// # Errors
    /// `Closed` when the reader was let go meanwhile.
    fn reserve(&mut self) -> Result<(), ReaderError>;

    /// Asked between packets: whether to go on.
    ///
    /// # Errors
    /// Whatever ends the piece.
    fn check(&mut self) -> Result<(), ReaderError> {
        Ok(())
    }

    /// Hands over a picture for which a place was reserved.
    fn push(&mut self, picture: Tagged<P>);
}

/// Decodes one piece after another; each worker thread has its own.
pub trait PieceDecoder: Send {
    /// What is made of a picture.
    type Picture: Send + 'static;

    /// Decodes a piece and hands over the pictures that it shows, in display order. State of the piece before must not show.
    ///
    /// # Errors
    /// Whatever ends the reading.
    fn decode(&mut self, piece: Piece, output: &mut dyn PieceOutput<Self::Picture>) -> Result<(), ReaderError>;
}

/// Makes the decoder of a worker, on the worker's thread.
pub type MakeDecoder<D> = Arc<dyn Fn() -> Result<D, ReaderError> + Send + Sync>;

/// What a piece sends: pictures, then how it ended.
enum Message<P> {
    Picture(Tagged<P>),
    End(Result<(), ReaderError>),
}

struct Job<P> {
    piece: Piece,
    /// Place of its first frame over all pieces.
    place: u64,
    output: Sender<Message<P>>,
}

struct Jobs<P> {
    waiting: VecDeque<Job<P>>,
    idle: usize,
    is_closed: bool,
}

struct Shared<P> {
    jobs: Mutex<Jobs<P>>,
    changed: Condvar,
    window: Window,
}

struct Delivery<P> {
    place: u64,
    pictures: Receiver<Message<P>>,
}

/// Decodes pieces on several threads and delivers their pictures in the order of the pieces.
pub struct ParallelDecoder<D: PieceDecoder> {
    make: MakeDecoder<D>,
    shared: Arc<Shared<D::Picture>>,
    workers: Vec<JoinHandle<()>>,
    max_workers: usize,
    deliveries: VecDeque<Delivery<D::Picture>>,
    /// Place of the first frame of the next piece.
    next_place: u64,
}

impl<D: PieceDecoder + 'static> ParallelDecoder<D> {
    /// Up to `max_workers` threads; up to `window` pictures wait for their turn.
    pub fn new(max_workers: usize, window: usize, make: MakeDecoder<D>) -> Self {
        let jobs = Jobs { waiting: VecDeque::new(), idle: 0, is_closed: false };
        let shared = Shared { jobs: Mutex::new(jobs), changed: Condvar::new(), window: Window::new(window) };
        Self {
            make,
            shared: Arc::new(shared),
            workers: Vec::new(),
            max_workers: max_workers.max(1),
            deliveries: VecDeque::new(),
            next_place: 0,
        }
    }

    /// Pieces that are decoded or wait for it, or whose pictures were not all taken.
    pub fn pieces_under_way(&self) -> usize {
        self.deliveries.len()
    }

    /// Threads so far.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The most pictures that ever waited for their turn.
    pub fn most_waiting(&self) -> usize {
        self.shared.window.most_waiting()
    }

    /// Gives a piece to the workers. Pieces come in order.
    pub fn submit(&mut self, piece: Piece) {
        let (output, pictures) = channel();
        let place = self.next_place;
        self.next_place += piece.shown() as u64;
        if self.deliveries.is_empty() {
            self.shared.window.advance(place);
        }
        self.deliveries.push_back(Delivery { place, pictures });
        let mut jobs = self.shared.jobs.lock();
        jobs.waiting.push_back(Job { piece, place, output });
        let needs_worker = jobs.waiting.len() > jobs.idle && self.workers.len() < self.max_workers;
        drop(jobs);
        self.shared.changed.notify_one();
        if needs_worker {
            let (shared, make) = (Arc::clone(&self.shared), Arc::clone(&self.make));
            self.workers.push(std::thread::spawn(move || work(&shared, &make)));
        }
    }

    /// The next picture; `None` when no piece is under way.
    ///
    /// # Errors
    /// What ended the piece whose turn it is. The reader is of no use after that.
    pub fn next_picture(&mut self) -> Result<Option<Tagged<D::Picture>>, ReaderError> {
        loop {
            let Some(head) = self.deliveries.front() else { return Ok(None) };
            match head.pictures.recv().ok() {
                Some(Message::Picture(picture)) => {
                    self.shared.window.leave();
                    return Ok(Some(picture));
                }
                Some(Message::End(outcome)) => {
                    self.deliveries.pop_front();
                    self.begin_next();
                    outcome?;
                }
                // The worker is gone without a word: it panicked.
                None => {
                    self.deliveries.pop_front();
                    return Err(ReaderError::Closed);
                }
            }
        }
    }

    fn begin_next(&self) {
        if let Some(head) = self.deliveries.front() {
            self.shared.window.advance(head.place);
        }
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

fn work<D: PieceDecoder>(shared: &Shared<D::Picture>, make: &MakeDecoder<D>) {
    let mut decoder = None;
    while let Some(Job { piece, place, output }) = next_job(shared) {
        let mut sink = Output { shared, place, sender: &output };
        let made = match decoder.take() {
            Some(decoder) => Ok(decoder),
            None => make(),
        };
        let outcome = made.and_then(|mut made| {
            let outcome = made.decode(piece, &mut sink);
            // After an error nobody knows what state it is in.
            decoder = outcome.is_ok().then_some(made);
            outcome
        });
        // The reader may be gone.
        let _ = output.send(Message::End(outcome));
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
    /// Place of the next frame.
    place: u64,
    sender: &'a Sender<Message<P>>,
}

impl<P> PieceOutput<P> for Output<'_, P> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        let place = self.place;
        self.place += 1;
        if self.shared.window.enter(place) { Ok(()) } else { Err(ReaderError::Closed) }
    }

    fn push(&mut self, picture: Tagged<P>) {
        // The reader may be gone.
        let _ = self.sender.send(Message::Picture(picture));
    }
}
