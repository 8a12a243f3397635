//! A thread that decodes clips.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{ClipItem, LoadedClip, Shared, kept::Opened, output::Scratch, queue::Request};
#[cfg(feature = "cuda")]
use super::{
    gpu::{ClipGpu, GpuSource},
    kept::GpuState,
};
use crate::{
    Clip, ClipPolicy, ClipSampling, ClipSteps, ClipVideo, FrameInfo, ReaderError, VideoReader, frame_index::FrameIndex, sample_clips,
};

/// Maximum total bytes of frames for clips that share a decode.
const MAX_SHARED_BYTES: usize = 256 << 20;
/// Maximum number of draws of a clip, when its source's index is repaired in between.
const MAX_TRIES: usize = 4;
/// Number of clips over which times are averaged.
const MEAN_OVER: u64 = 8;
/// Assumed time per pixel on a CPU core before one was measured, in picoseconds: H.264 of a few Mbit/s.
#[cfg(feature = "cuda")]
const FIRST_PIXEL_PICOS: u64 = 8000;
/// Page-locked frames that a thread keeps for the next clip.
#[cfg(feature = "cuda")]
const KEPT_STAGING: usize = 32;

pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Whether it decodes on a CPU core for the GPU and takes the clips that are due last.
    is_helper: bool,
    images: Vec<u8>,
    scratch: Scratch,
    /// The thread's stream, and page-locked memory for uploads.
    #[cfg(feature = "cuda")]
    gpu: Option<(framerail_cuda::CudaStream, framerail_cuda::PinnedPool)>,
}

impl Worker {
    pub(super) fn new(shared: &Arc<Shared>, is_helper: bool) -> Result<Self, ReaderError> {
        #[cfg(feature = "cuda")]
        let gpu = match &shared.gpu {
            Some(gpu) => {
                let staging = framerail_cuda::PinnedPool::new(&gpu.device, KEPT_STAGING);
                Some((framerail_cuda::CudaStream::new(&gpu.device).map_err(cuda_error)?, staging))
            }
            None => None,
        };
        Ok(Self {
            shared: Arc::clone(shared),
            is_helper,
            images: Vec::new(),
            scratch: Scratch::default(),
            #[cfg(feature = "cuda")]
            gpu,
        })
    }

    pub(super) fn run(&mut self) {
        while let Some(request) = self.next() {
            let began = Instant::now();
            let clips = self.serve(request);
            let nanos = began.elapsed().as_nanos() as u64;
            let counts = &self.shared.counts;
            add(&counts.busy_nanos, nanos);
            if !self.is_helper && clips > 0 {
                averaged(&counts.clip_nanos, nanos / clips);
            }
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn next(&self) -> Option<Request> {
        self.shared.queue.next()
    }

    #[cfg(feature = "cuda")]
    fn next(&self) -> Option<Request> {
        if !self.is_helper {
            return self.shared.queue.next();
        }
        self.shared.queue.next_from_behind(|waiting| self.shared.counts.turn_nanos(waiting, self.shared.threads) > 0)
    }

    /// Whether a CPU core finishes the clip before it is due, by the measured time per pixel. Other clips are left to the GPU.
    #[cfg(feature = "cuda")]
    fn is_worth(&self, opened: &Opened, groups: &Groups) -> bool {
        let counts = &self.shared.counts;
        let picos = match counts.pixel_picos.load(Ordering::Relaxed) {
            0 => FIRST_PIXEL_PICOS,
            known => known,
        };
        self.pixels(opened, groups).saturating_mul(picos) / 1000 <= counts.turn_nanos(self.shared.queue.waiting(), self.shared.threads)
    }

    /// Pixels to decode for a clip.
    #[cfg(feature = "cuda")]
    fn pixels(&self, opened: &Opened, groups: &Groups) -> u64 {
        let (width, height) = (opened.reader.metadata().width, opened.reader.metadata().height);
        groups.iter().map(|(start, last)| (last - start + 1) as u64).sum::<u64>() * u64::from(width) * u64::from(height)
    }

    /// Makes a clip, together with those of the same source that need the same frames; returns the number of clips made.
    fn serve(&mut self, mut request: Request) -> u64 {
        let key = (request.item.key, self.is_helper);
        let mut opened = match self.open(&request.item) {
            Ok(opened) => opened,
            Err(error) => {
                request.finish(Err(error));
                return 1;
            }
        };
        let before = opened.reader.stats();
        let mut clips = 1;
        match self.draw(&mut opened.reader, &mut request) {
            Err(error) => request.finish(Err(error)),
            #[cfg(feature = "cuda")]
            Ok(groups) if self.is_helper && !self.is_worth(&opened, &groups) => {
                clips = 0;
                self.shared.queue.put_back(request);
            }
            Ok(groups) => {
                #[cfg(feature = "cuda")]
                let (began, pixels) = (Instant::now(), self.pixels(&opened, &groups));
                let together = self.together(&mut opened, request, &groups);
                clips = together.len() as u64;
                self.make(&mut opened, together);
                #[cfg(feature = "cuda")]
                if self.is_helper {
                    averaged(&self.shared.counts.pixel_picos, 1000 * began.elapsed().as_nanos() as u64 / pixels.max(1));
                }
            }
        }
        let mut stats = self.shared.counts.reader.lock();
        let done = opened.reader.stats().each(before, u64::saturating_sub);
        *stats = stats.each(done, u64::saturating_add);
        drop(stats);
        let surplus = self.shared.kept.lock().put(key, opened);
        drop(surplus);
        clips
    }

    fn open(&self, item: &ClipItem) -> Result<Opened, ReaderError> {
        let counts = &self.shared.counts;
        let kept = self.shared.kept.lock().take((item.key, self.is_helper));
        if let Some(opened) = kept {
            add(&counts.files_reused, 1);
            return Ok(opened);
        }
        let began = Instant::now();
        let mut reader = VideoReader::open(self.shared.reader_options(&item.input))?;
        let output = self.shared.output.of(&reader)?;
        reader.set_output(output.read.clone())?;
        if let Some(known) = &item.index {
            let source = item.input.source.reveal();
            match known.of_file(Path::new(source.strip_prefix("file:").unwrap_or(source))) {
                Some(index) => reader.adopt_kept(index),
                None => {
                    add(&counts.indexes_stale, 1);
                    log::warn!("{}: changed since it was indexed; it is indexed again", item.input.source);
                }
            }
        }
        reader.frame_index()?;
        add(&counts.files_opened, 1);
        add(&counts.opening_nanos, began.elapsed().as_nanos() as u64);
        Ok(Opened {
            reader,
            output,
            #[cfg(feature = "cuda")]
            gpu: GpuState::Untried,
        })
    }

    /// Draws a clip's frames; returns the GOPs to decode for them.
    fn draw(&self, reader: &mut VideoReader, request: &mut Request) -> Result<Groups, ReaderError> {
        let index = reader.frame_index()?;
        let clip = match request.drawn.take() {
            Some(clip) => clip,
            None => drawn(&self.shared.options.sampling, self.shared.options.snap, &index, &request.item)
                .map_err(|error| ReaderError::Clip { source_name: reader.metadata().source.clone(), error })?,
        };
        let groups = groups(&index, &clip);
        request.drawn = Some(clip);
        Ok(groups)
    }

    /// The clip, together with waiting clips that need only GOPs that it needs too. Clips that reach into other GOPs are not included: they
    /// would gather the whole file on one thread while the others are idle.
    fn together(&self, opened: &mut Opened, request: Request, own: &Groups) -> Vec<Request> {
        let most = (MAX_SHARED_BYTES / (opened.output.image.bytes() * self.shared.options.sampling.frames_per_clip).max(1)).max(1);
        let (queue, key) = (&self.shared.queue, request.item.key);
        let mut together = vec![request];
        let Ok(index) = opened.reader.frame_index() else { return together };
        let mut orders = Vec::new();
        for (order, item, known) in queue.of_key(key) {
            let clip = match known {
                Some(clip) => clip,
                // A clip that cannot be drawn reports its error when it is due.
                None => match drawn(&self.shared.options.sampling, self.shared.options.snap, &index, &item) {
                    Ok(clip) => {
                        queue.note_drawn(order, &clip);
                        clip
                    }
                    Err(_) => continue,
                },
            };
            if orders.len() + 1 < most && is_within(&groups(&index, &clip), own) {
                orders.push(order);
            }
        }
        together.extend(queue.take(&orders));
        add(&self.shared.counts.clips_shared, together.len() as u64 - 1);
        together
    }

    /// Makes clips with one read; if that fails, one after the other.
    fn make(&mut self, opened: &mut Opened, mut requests: Vec<Request>) {
        #[cfg(feature = "cuda")]
        {
            requests = self.make_on_gpu(opened, requests);
        }
        add(&self.shared.counts.clips_by_cores, requests.len() as u64);
        if requests.len() > 1 {
            let clips: Vec<Clip> = requests.iter().filter_map(|request| request.drawn.clone()).collect();
            let version = version(opened);
            let read = self.read(opened, &clips);
            if let Ok(images) = read
                && version == self::version(opened)
            {
                for (mut request, clip) in requests.drain(..).zip(&clips) {
                    let outcome = self.make_of(opened, &images, clip, &mut request);
                    self.finish(opened, request, outcome);
                }
                self.images = images.bytes;
            }
        }
        requests.into_iter().for_each(|request| self.make_alone(opened, request));
    }

    /// Makes a clip. If reading shows that the index was wrong, draws the clip again with the repaired index, as later requests will.
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
        let images = self.read(opened, std::slice::from_ref(&clip))?;
        let outcome = self.make_of(opened, &images, &clip, request);
        self.images = images.bytes;
        outcome
    }

    /// Reads the frames that the clips need, each once.
    fn read(&mut self, opened: &mut Opened, clips: &[Clip]) -> Result<Images, ReaderError> {
        let numbers: BTreeSet<usize> = clips.iter().flat_map(|clip| clip.frames.iter().copied()).collect();
        let numbers: Vec<usize> = numbers.into_iter().collect();
        let each = opened.output.image.bytes();
        let mut bytes = std::mem::take(&mut self.images);
        bytes.resize(each * numbers.len(), 0);
        let infos = opened.reader.read_into(&numbers, &mut bytes)?;
        Ok(Images { bytes, each, infos })
    }

    /// Makes a clip from frames that were read.
    fn make_of(&mut self, opened: &Opened, images: &Images, clip: &Clip, request: &mut Request) -> Result<LoadedClip, ReaderError> {
        let place = |number: &usize| images.infos.binary_search_by_key(number, |info| info.number).ok();
        let chosen: Vec<usize> = clip.frames.iter().filter_map(place).collect();
        let of_clip: Vec<&[u8]> = chosen.iter().filter_map(|place| images.get(*place)).collect();
        let seed = request.item.seed;
        self.shared.output.make(&opened.output, &of_clip, seed, &mut self.scratch, request.bytes_mut())?;
        Ok(loaded(clip.filled, chosen.iter().filter_map(|place| images.infos.get(*place))))
    }

    /// Makes clips in GPU memory; returns those that the host must make.
    #[cfg(feature = "cuda")]
    fn make_on_gpu(&self, opened: &mut Opened, mut requests: Vec<Request>) -> Vec<Request> {
        let (Some(gpu), Some((stream, staging))) = (&self.shared.gpu, &self.gpu) else { return requests };
        let mut source = match std::mem::replace(&mut opened.gpu, GpuState::Refused) {
            GpuState::Ready(source) => source,
            GpuState::Refused => return requests,
            GpuState::Untried => match self.gpu_source(gpu, opened) {
                Ok(source) => Box::new(source),
                Err(error) => {
                    log::debug!("clips are decoded on the CPU and uploaded: {error}");
                    return requests;
                }
            },
        };
        for request in &mut requests {
            if opened.output.check(request.place_bytes()).is_err() {
                // The host finds the reason again and reports it when it makes the clip.
                opened.gpu = GpuState::Ready(source);
                return requests;
            }
        }
        let made = source.make(gpu, (stream, staging), &opened.output, self.shared.options.augment.as_ref(), &mut requests);
        let is_strict = self.shared.options.reader.on_error == crate::OnError::Fail;
        match made {
            Ok(made) if !is_strict || made.iter().all(|clip| clip.statuses.iter().all(|status| *status == crate::FrameStatus::Ok)) => {
                if source.is_by_core() {
                    add(&self.shared.counts.clips_by_cores, made.len() as u64);
                }
                let mut stats = self.shared.counts.reader.lock();
                let done = source.take_done();
                stats.pictures_decoded += done.images;
                stats.upload_bytes += done.traffic.upload_bytes;
                stats.device_copies += done.traffic.device_copies;
                add(&self.shared.counts.syncs, done.traffic.syncs);
                for status in made.iter().flat_map(|clip| &clip.statuses) {
                    stats.frames_delivered += 1;
                    stats.frames_repaired += u64::from(*status != crate::FrameStatus::Ok);
                }
                drop(stats);
                for (request, clip) in requests.drain(..).zip(made) {
                    self.finish(opened, request, Ok(clip));
                }
            }
            // The reader reports which frame it is.
            Ok(_) => {}
            Err(ReaderError::Cuda { error, .. }) => {
                let source_name = opened.output.source_name.clone();
                // The GPU failed, not the source.
                for request in requests.drain(..) {
                    request.finish(Err(ReaderError::Cuda { source_name: source_name.clone(), error: error.clone() }));
                }
            }
            // Damage, among others: another clip of the source may be intact.
            Err(error) => log::debug!("a clip is decoded on the CPU and uploaded: {error}"),
        }
        opened.gpu = GpuState::Ready(source);
        requests
    }

    #[cfg(feature = "cuda")]
    fn gpu_source(&self, gpu: &ClipGpu, opened: &mut Opened) -> Result<GpuSource, ReaderError> {
        let index = opened.reader.frame_index()?;
        let input = opened.reader.another_input()?;
        let rotation = self.shared.options.reader.input.rotation;
        GpuSource::new(gpu, input, &index, rotation, opened.output.gpu_parts.clone(), self.is_helper)
    }

    fn finish(
        &self,
        opened: &Opened,
        #[cfg_attr(not(feature = "cuda"), allow(unused_mut))] mut request: Request,
        outcome: Result<LoadedClip, ReaderError>,
    ) {
        #[cfg(feature = "cuda")]
        let outcome = outcome.and_then(|clip| {
            let staged = request.take_staged();
            if let (Some(gpu), Some((stream, _)), false) = (&self.shared.gpu, &self.gpu, staged.is_empty())
                && let Some(place) = request.gpu_place()
            {
                gpu.upload(&staged, place, stream).map_err(cuda_error)?;
            }
            Ok(clip)
        });
        if outcome.is_ok() {
            add(&self.shared.counts.bytes, opened.output.shape.bytes() as u64);
        }
        request.finish(outcome);
    }
}

/// Frames sorted by their numbers.
struct Images {
    bytes: Vec<u8>,
    each: usize,
    infos: Vec<FrameInfo>,
}

impl Images {
    fn get(&self, place: usize) -> Option<&[u8]> {
        self.bytes.get(place * self.each..(place + 1) * self.each)
    }
}

/// Changes whenever the source's index changes.
fn version(opened: &Opened) -> u64 {
    opened.reader.version().load(Ordering::Acquire)
}

#[cfg(feature = "cuda")]
fn cuda_error(error: framerail_cuda::CudaError) -> ReaderError {
    ReaderError::Cuda { source_name: "a clip".into(), error }
}

fn add(count: &std::sync::atomic::AtomicU64, more: u64) {
    // Sums only: no ordering with other data is needed.
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

/// The random access points from which a clip's frames decode, each with the last packet to decode from there.
type Groups = BTreeMap<usize, usize>;

fn groups(index: &FrameIndex, clip: &Clip) -> Groups {
    let mut groups = Groups::new();
    for number in &clip.frames {
        let (start, place) = index.place(*number).map_or((0, 0), |place| (index.start_of(place, &BTreeSet::new()), place));
        let last = groups.entry(start).or_insert(place);
        *last = place.max(*last);
    }
    groups
}

/// Whether a clip needs only GOPs that another one needs too.
fn is_within(groups: &Groups, others: &Groups) -> bool {
    groups.keys().all(|start| others.contains_key(start))
}

/// Updates a running mean; 0 before the first value.
fn averaged(mean: &std::sync::atomic::AtomicU64, value: u64) {
    let before = mean.load(Ordering::Relaxed);
    mean.store(if before == 0 { value } else { before - before / MEAN_OVER + value / MEAN_OVER }, Ordering::Relaxed);
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
    let clip = clips.into_iter().nth(place).ok_or(crate::ClipError::NoFrames("the video does not have the requested clip"))?;
    Ok(snapped(clip, snap, index))
}

/// Moves the clip back to a keyframe that is at most `snap` frames before its start.
fn snapped(mut clip: Clip, snap: usize, index: &FrameIndex) -> Clip {
    let Some(start) = clip.frames.first().copied().filter(|_| clip.filled == 0) else { return clip };
    let is_keyframe = |back: &usize| index.frames.get(start - back).is_some_and(|frame| frame.is_keyframe);
    if let Some(back) = (0..=snap.min(start)).find(is_keyframe) {
        clip.frames.iter_mut().for_each(|frame| *frame -= back);
    }
    clip
}
