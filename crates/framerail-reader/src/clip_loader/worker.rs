//! A thread that decodes clips.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{ClipItem, LoadedClip, Shared, kept::Opened, output::Scratch, queue::Request};
use crate::{
    Clip, ClipPolicy, ClipSampling, ClipSteps, ClipVideo, FrameInfo, ReaderError, VideoReader, frame_index::FrameIndex, sample_clips,
};

/// Bytes of pictures that clips which share a decode may have together.
const MAX_SHARED_BYTES: usize = 256 << 20;
/// Times that a clip is drawn, because its source's index was repaired meanwhile.
const MAX_TRIES: usize = 4;

pub(super) struct Worker {
    shared: Arc<Shared>,
    pictures: Vec<u8>,
    scratch: Scratch,
}

impl Worker {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), pictures: Vec::new(), scratch: Scratch::default() }
    }

    pub(super) fn run(&mut self) {
        while let Some(request) = self.shared.queue.next() {
            let began = Instant::now();
            self.serve(request);
            add(&self.shared.counts.busy_nanos, began.elapsed().as_nanos() as u64);
        }
    }

    /// Makes a clip, and with it those of the same source that need the same pictures.
    fn serve(&mut self, mut request: Request) {
        let key = request.item.key;
        let mut opened = match self.open(&request.item) {
            Ok(opened) => opened,
            Err(error) => return request.finish(Err(error)),
        };
        let before = opened.reader.stats();
        match self.draw(&mut opened.reader, &mut request) {
            Err(error) => request.finish(Err(error)),
            Ok(groups) => {
                let together = self.together(&mut opened, request, groups);
                self.make(&mut opened, together);
            }
        }
        let mut stats = self.shared.counts.reader.lock();
        let done = opened.reader.stats().each(before, u64::saturating_sub);
        *stats = stats.each(done, u64::saturating_add);
        drop(stats);
        let surplus = self.shared.kept.lock().put(key, opened);
        drop(surplus);
    }

    fn open(&self, item: &ClipItem) -> Result<Opened, ReaderError> {
        let counts = &self.shared.counts;
        let kept = self.shared.kept.lock().take(item.key);
        if let Some(opened) = kept {
            add(&counts.files_reused, 1);
            return Ok(opened);
        }
        let began = Instant::now();
        let mut reader = VideoReader::open(self.shared.reader_options(&item.input))?;
        let output = self.shared.output.of(&reader)?;
        reader.set_output(output.read.clone())?;
        reader.frame_index()?;
        add(&counts.files_opened, 1);
        add(&counts.opening_nanos, began.elapsed().as_nanos() as u64);
        Ok(Opened { reader, output })
    }

    /// Draws a clip's frames; gives the random access points from which they decode.
    fn draw(&self, reader: &mut VideoReader, request: &mut Request) -> Result<BTreeSet<usize>, ReaderError> {
        let index = reader.frame_index()?;
        let clip = match request.drawn.take() {
            Some(clip) => clip,
            None => drawn(&self.shared.options.sampling, self.shared.options.snap, &index, &request.item)
                .map_err(|error| ReaderError::Clip { source_name: reader.metadata().source.clone(), error })?,
        };
        let starts = clip.frames.iter().map(|number| index.place(*number).map_or(0, |place| index.start_of(place, &BTreeSet::new())));
        let groups = starts.collect();
        request.drawn = Some(clip);
        Ok(groups)
    }

    /// The clip with those that wait and have a group of pictures in common with it.
    fn together(&self, opened: &mut Opened, request: Request, mut groups: BTreeSet<usize>) -> Vec<Request> {
        let most = (MAX_SHARED_BYTES / (opened.output.picture.bytes() * self.shared.options.sampling.frames_per_clip).max(1)).max(1);
        let mut together = vec![request];
        let mut others = Vec::new();
        for mut other in self.shared.queue.of_key(together[0].item.key) {
            match self.draw(&mut opened.reader, &mut other) {
                Ok(own) if together.len() < most && !own.is_disjoint(&groups) => {
                    groups.extend(own);
                    together.push(other);
                }
                Ok(_) => others.push(other),
                Err(error) => other.finish(Err(error)),
            }
        }
        self.shared.queue.put_back(others);
        add(&self.shared.counts.clips_shared, together.len() as u64 - 1);
        together
    }

    /// Makes clips with one read; where that fails, one after the other.
    fn make(&mut self, opened: &mut Opened, mut requests: Vec<Request>) {
        if requests.len() > 1 {
            let clips: Vec<Clip> = requests.iter().filter_map(|request| request.drawn.clone()).collect();
            let version = version(opened);
            let read = self.read(opened, &clips);
            if let Ok(pictures) = read
                && version == self::version(opened)
            {
                for (mut request, clip) in requests.drain(..).zip(&clips) {
                    let outcome = self.make_of(opened, &pictures, clip, &mut request);
                    self.finish(opened, request, outcome);
                }
                self.pictures = pictures.bytes;
            }
        }
        requests.into_iter().for_each(|request| self.make_alone(opened, request));
    }

    /// Makes a clip. Where reading it shows that the index was wrong, it is drawn again by the repaired one: as it will be the next time.
    fn make_alone(&mut self, opened: &mut Opened, mut request: Request) {
        for _ in 1..MAX_TRIES {
            let version = version(opened);
            let outcome = self.make_one(opened, &mut request);
            if version == self::version(opened) {
                return self.finish(opened, request, outcome);
            }
            request.drawn = None;
            if let Err(error) = self.draw(&mut opened.reader, &mut request) {
                return request.finish(Err(error));
            }
        }
        let outcome = self.make_one(opened, &mut request);
        self.finish(opened, request, outcome);
    }

    fn make_one(&mut self, opened: &mut Opened, request: &mut Request) -> Result<LoadedClip, ReaderError> {
        let clip = request.drawn.clone().unwrap_or(Clip { frames: Vec::new(), filled: 0 });
        if opened.output.is_plain() {
            opened.output.check(request.bytes_mut().len())?;
            let infos = opened.reader.read_into(&clip.frames, request.bytes_mut())?;
            return Ok(loaded(clip.filled, infos.iter()));
        }
        let pictures = self.read(opened, std::slice::from_ref(&clip))?;
        let outcome = self.make_of(opened, &pictures, &clip, request);
        self.pictures = pictures.bytes;
        outcome
    }

    /// Reads the pictures that clips need, each once.
    fn read(&mut self, opened: &mut Opened, clips: &[Clip]) -> Result<Pictures, ReaderError> {
        let numbers: BTreeSet<usize> = clips.iter().flat_map(|clip| clip.frames.iter().copied()).collect();
        let numbers: Vec<usize> = numbers.into_iter().collect();
        let each = opened.output.picture.bytes();
        let mut bytes = std::mem::take(&mut self.pictures);
        bytes.resize(each * numbers.len(), 0);
        let infos = opened.reader.read_into(&numbers, &mut bytes)?;
        Ok(Pictures { bytes, each, infos })
    }

    /// Makes a clip of pictures that were read.
    fn make_of(&mut self, opened: &Opened, pictures: &Pictures, clip: &Clip, request: &mut Request) -> Result<LoadedClip, ReaderError> {
        let place = |number: &usize| pictures.infos.binary_search_by_key(number, |info| info.number).ok();
        let chosen: Vec<usize> = clip.frames.iter().filter_map(place).collect();
        let of_clip: Vec<&[u8]> = chosen.iter().filter_map(|place| pictures.get(*place)).collect();
        let seed = request.item.seed;
        self.shared.output.make(&opened.output, &of_clip, seed, &mut self.scratch, request.bytes_mut())?;
        Ok(loaded(clip.filled, chosen.iter().filter_map(|place| pictures.infos.get(*place))))
    }

    fn finish(&self, opened: &Opened, request: Request, outcome: Result<LoadedClip, ReaderError>) {
        if outcome.is_ok() {
            add(&self.shared.counts.bytes, opened.output.shape.bytes() as u64);
        }
        request.finish(outcome);
    }
}

/// Pictures in the order of their frames.
struct Pictures {
    bytes: Vec<u8>,
    each: usize,
    infos: Vec<FrameInfo>,
}

impl Pictures {
    fn get(&self, place: usize) -> Option<&[u8]> {
        self.bytes.get(place * self.each..(place + 1) * self.each)
    }
}

/// Rises when something else is known of the source's frames than before.
fn version(opened: &Opened) -> u64 {
    opened.reader.version().load(Ordering::Acquire)
}

fn add(count: &std::sync::atomic::AtomicU64, more: u64) {
    // Only ever summed up.
    count.fetch_add(more, Ordering::Relaxed);
}

fn loaded<'a>(filled: usize, infos: impl Iterator<Item = &'a FrameInfo> + Clone) -> LoadedClip {
    LoadedClip {
        numbers: infos.clone().map(|info| info.number).collect(),
        seconds: infos.clone().map(|info| info.seconds).collect(),
        statuses: infos.map(|info| info.status).collect(),
        filled,
    }
}

/// The frames of an item's clip.
fn drawn(sampling: &ClipSampling, snap: usize, index: &FrameIndex, item: &ClipItem) -> Result<Clip, crate::ClipError> {
    let (policy, place) = match sampling.policy {
        ClipPolicy::Random { .. } => (ClipPolicy::Random { num_clips: 1, seed: item.seed }, 0),
        policy => (policy, item.clip),
    };
    let sampling = ClipSampling { policy, ..sampling.clone() };
    let times = index.times();
    let starts: Vec<f64>;
    let video = match sampling.steps {
        ClipSteps::Frames { .. } => ClipVideo::of_frames(index.len()),
        ClipSteps::Seconds { .. } => {
            starts = times.iter().map(|time| time.seconds).collect();
            ClipVideo::of_times(&starts, times.last().map_or(0.0, |last| last.seconds + last.duration_secs))
        }
    };
    let clips = sample_clips(&sampling, &video)?;
    let clip = clips.into_iter().nth(place).ok_or(crate::ClipError::NoFrames("a clip was asked for that the video does not have"))?;
    Ok(snapped(clip, snap, index))
}

/// The clip moved back to a keyframe that is near.
fn snapped(mut clip: Clip, snap: usize, index: &FrameIndex) -> Clip {
    let Some(start) = clip.frames.first().copied().filter(|_| clip.filled == 0) else { return clip };
    let is_keyframe = |back: &usize| index.frames.get(start - back).is_some_and(|frame| frame.is_keyframe);
    if let Some(back) = (0..=snap.min(start)).find(is_keyframe) {
        clip.frames.iter_mut().for_each(|frame| *frame -= back);
    }
    clip
}
