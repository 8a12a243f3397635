//! Frame memory shared by decoders, in parallel and one after another.
//!
//! FFmpeg's own pools belong to one decoder each and grow to the maximum number of frames that it ever had waiting. With a decoder
//! for each piece of a file, all of that memory would be touched for the first time again and again. Here memory freed by one
//! decoder's consumer is reused by the next decoder that needs a frame.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr,
    sync::{Arc, Weak},
};

use ffmpeg_the_third::ffi;
use parking_lot::Mutex;

use crate::{ForkSafe, page_memory::PageMemory};

/// Approximate size of a slab: several frames share one, so that they fill large pages.
const SLAB_BYTES: usize = 24 << 20;
/// Maximum number of frames in a slab.
const MAX_SLAB_PICTURES: usize = 64;
/// Smaller frames use FFmpeg's own memory.
const MIN_PICTURE_BYTES: usize = 16 << 10;
/// A slab is unmapped if it stays unused while frames are returned this many times the number of places.
const STALE_TURNS: u64 = 4;
/// Number of frames returned between two searches for stale slabs.
const STALE_EVERY: u64 = 256;
/// Alignment of planes, and how far FFmpeg's SIMD code may read past a plane.
const ALIGN_BYTES: usize = 64;
const OVERREAD_BYTES: usize = 16 + ALIGN_BYTES;
/// Extra distance between frames, so that they start at different offsets in a page: their rows would otherwise compete for the
/// same cache lines.
const COLOR_BYTES: usize = 3 * ALIGN_BYTES;
const PAGE_BYTES: usize = 4096;

/// Provides frame memory for decoders. Clones share the pool. Memory is returned to the system when the last clone and all of its
/// frames are dropped, and earlier if it stays unused.
#[derive(Clone, Default)]
pub struct DecodeBufferPool(Arc<Mutex<Slabs>>);

#[derive(Default)]
struct Slabs {
    /// By number, oldest first.
    slabs: BTreeMap<u64, Slab>,
    /// Frame size and number of the slabs that have a free place.
    open: BTreeSet<(usize, u64)>,
    next_number: u64,
    /// Total number of places in all slabs.
    places: usize,
    given_back: u64,
}

struct Slab {
    memory: Arc<PageMemory>,
    image_bytes: usize,
    /// Free places, most recently used last.
    free: Vec<usize>,
    count: usize,
    /// Value of `given_back` when the last frame of this slab was returned.
    free_since: u64,
}

impl Slabs {
    /// The oldest slab with a free place for a frame of this size, so that the others become empty when demand falls.
    fn open_for(&mut self, image_bytes: usize) -> Option<u64> {
        let found = self.open.range((image_bytes, 0)..=(image_bytes, u64::MAX)).next().copied();
        if let Some((_, number)) = found {
            return Some(number);
        }
        let count = (SLAB_BYTES / image_bytes).clamp(1, MAX_SLAB_PICTURES);
        let memory = Arc::new(PageMemory::new(image_bytes.checked_mul(count)?).ok()?);
        let (number, free_since) = (self.next_number, self.given_back);
        self.next_number += 1;
        self.places += count;
        self.slabs.insert(number, Slab { memory, image_bytes, free: (0..count).rev().collect(), count, free_since });
        self.open.insert((image_bytes, number));
        Some(number)
    }

    fn give_back(&mut self, number: u64, place: usize) {
        self.given_back += 1;
        if let Some(slab) = self.slabs.get_mut(&number) {
            slab.free.push(place);
            slab.free_since = self.given_back;
            self.open.insert((slab.image_bytes, number));
        }
    }

    /// Removes slabs that were unused for a while; searches only from time to time.
    fn stale(&mut self) -> Vec<Slab> {
        if !self.given_back.is_multiple_of(STALE_EVERY) {
            return Vec::new();
        }
        let (now, turn) = (self.given_back, STALE_TURNS * self.places as u64);
        let is_stale = |_: &u64, slab: &mut Slab| slab.free.len() == slab.count && now - slab.free_since > turn;
        let stale: Vec<(u64, Slab)> = self.slabs.extract_if(.., is_stale).collect();
        for (number, slab) in &stale {
            self.open.remove(&(slab.image_bytes, *number));
            self.places -= slab.count;
        }
        stale.into_iter().map(|(_, slab)| slab).collect()
    }
}

/// The memory of one frame.
struct FrameMemory {
    slab: u64,
    place: usize,
    home: Weak<Mutex<Slabs>>,
    /// Keeps the memory alive when the pool is gone.
    memory: Arc<PageMemory>,
    offset: usize,
}

impl DecodeBufferPool {
    /// Creates an empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mapped memory in bytes, used or not.
    pub fn bytes(&self) -> usize {
        self.0.lock().slabs.values().map(|slab| slab.memory.len()).sum()
    }

    fn take(&self, bytes: usize) -> Option<FrameMemory> {
        let image_bytes = bytes.checked_next_multiple_of(PAGE_BYTES)?.checked_add(COLOR_BYTES)?;
        let mut slabs = self.0.lock();
        let number = slabs.open_for(image_bytes)?;
        let slab = slabs.slabs.get_mut(&number)?;
        let place = slab.free.pop()?;
        let (memory, is_full) = (Arc::clone(&slab.memory), slab.free.is_empty());
        if is_full {
            slabs.open.remove(&(image_bytes, number));
        }
        Some(FrameMemory { slab: number, place, home: Arc::downgrade(&self.0), memory, offset: place * image_bytes })
    }
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut slabs = home.lock();
        slabs.give_back(self.slab, self.place);
        let stale = slabs.stale();
        drop(slabs);
        // Unmap without holding the lock.
        drop(stale);
    }
}

/// The pools of open decoders, by the number in their context's `opaque`.
static POOLS: ForkSafe<BTreeMap<usize, DecodeBufferPool>> = ForkSafe::new(BTreeMap::new());

/// A decoder's registration with a pool; dropped with the decoder.
pub(crate) struct PoolUse(usize);

impl PoolUse {
    /// Makes a single-threaded decoder that is not open yet allocate its frames from a pool. The context's `opaque` must be set.
    pub(crate) fn begin(context: &mut ffi::AVCodecContext, pool: &DecodeBufferPool) -> Self {
        let number = context.opaque.addr();
        POOLS.lock().insert(number, pool.clone());
        context.get_buffer2 = Some(get_buffer);
        Self(number)
    }
}

impl Drop for PoolUse {
    fn drop(&mut self) {
        POOLS.lock().remove(&self.0);
    }
}

/// Replaces FFmpeg's `get_buffer2`, using the pool's memory; falls back to FFmpeg's own where the pool cannot be used.
unsafe extern "C" fn get_buffer(context: *mut ffi::AVCodecContext, frame: *mut ffi::AVFrame, flags: libc::c_int) -> libc::c_int {
    // SAFETY: FFmpeg calls with a valid context and a frame to fill, which nothing else uses.
    let filled = unsafe { fill(&mut *context, &mut *frame) };
    // SAFETY: as above; the frame is unchanged if it was not filled.
    if filled.is_some() { 0 } else { unsafe { ffi::avcodec_default_get_buffer2(context, frame, flags) } }
}

/// # Safety
/// `context` and `frame` are the arguments of a `get_buffer2` call.
unsafe fn fill(context: &mut ffi::AVCodecContext, frame: &mut ffi::AVFrame) -> Option<()> {
    let format = ffi::AVPixelFormat(frame.format);
    let (mut width, mut height, mut aligns) = (frame.width, frame.height, [0; 8]);
    // SAFETY: a valid context with an open codec; a description is static, or null.
    let (is_plain, takes_any) = unsafe {
        let unusual = ffi::AV_PIX_FMT_FLAG_PAL | ffi::AV_PIX_FMT_FLAG_HWACCEL | ffi::AV_PIX_FMT_FLAG_BITSTREAM;
        let plain = ffi::av_pix_fmt_desc_get(format).as_ref().is_some_and(|described| described.flags & unusual as u64 == 0);
        (plain, context.codec.as_ref().is_some_and(|codec| codec.capabilities & ffi::AV_CODEC_CAP_DR1 as i32 != 0))
    };
    if !is_plain || !takes_any || width <= 0 || height <= 0 {
        return None;
    }
    let (mut pitches, mut sizes) = ([0_i32; 4], [0_usize; 4]);
    // SAFETY: valid pointers to as many elements as FFmpeg writes: 8 alignments, 4 pitches, 4 sizes.
    unsafe {
        ffi::avcodec_align_dimensions2(context, &mut width, &mut height, aligns.as_mut_ptr());
        // Widen until every plane's rows are aligned, as FFmpeg does.
        loop {
            if ffi::av_image_fill_linesizes(pitches.as_mut_ptr(), format, width) < 0 {
                return None;
            }
            if pitches.iter().zip(aligns).all(|(pitch, align)| *pitch % align.max(ALIGN_BYTES as i32) == 0) {
                break;
            }
            width = width.checked_add(width & width.wrapping_neg())?;
        }
        let wide = pitches.map(|pitch| pitch as isize);
        if ffi::av_image_fill_plane_sizes(sizes.as_mut_ptr(), format, height, wide.as_ptr()) < 0 {
            return None;
        }
    }
    let rooms =
        sizes.map(|size| if size > 0 { size.next_multiple_of(ALIGN_BYTES) + OVERREAD_BYTES.next_multiple_of(ALIGN_BYTES) } else { 0 });
    let bytes = rooms.iter().try_fold(0_usize, |sum, room| sum.checked_add(*room))?;
    if bytes < MIN_PICTURE_BYTES {
        return None;
    }
    let pool = POOLS.lock().get(&context.opaque.addr()).cloned()?;
    let memory = pool.take(bytes)?;
    // SAFETY: the frame lies within its slab, at an offset that `take` computed.
    let start = unsafe { memory.memory.start().as_ptr().add(memory.offset) };
    let holder = Box::into_raw(Box::new(memory));
    // SAFETY: the bytes belong to the holder, which the free function drops.
    let buffer = unsafe { ffi::av_buffer_create(start, bytes, Some(give_back), holder.cast(), 0) };
    if buffer.is_null() {
        // SAFETY: FFmpeg did not take the holder, so it is dropped here.
        drop(unsafe { Box::from_raw(holder) });
        return None;
    }
    frame.buf[0] = buffer;
    frame.data = [ptr::null_mut(); 8];
    frame.linesize = [0; 8];
    let mut offset = 0;
    for plane in 0..4 {
        if sizes[plane] > 0 {
            // SAFETY: the planes lie one after another within `bytes`.
            frame.data[plane] = unsafe { start.add(offset) };
            frame.linesize[plane] = pitches[plane];
            offset += rooms[plane];
        }
    }
    frame.extended_data = frame.data.as_mut_ptr();
    Some(())
}

unsafe extern "C" fn give_back(holder: *mut libc::c_void, _data: *mut u8) {
    // SAFETY: `fill` made this pointer from a box of this type, and FFmpeg calls back once.
    drop(unsafe { Box::from_raw(holder.cast::<FrameMemory>()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 3 << 20;

    #[test]
    fn what_one_gives_back_another_gets() {
        let pool = DecodeBufferPool::new();
        let held: Vec<_> = (0..20).map(|_| pool.take(BYTES).expect("memory")).collect();
        let most = pool.bytes();
        let mut places: Vec<_> = held.iter().map(|image| (image.slab, image.offset)).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 20, "no two have the same place");
        drop(held);
        for _ in 0..10 {
            let again: Vec<_> = (0..20).map(|_| pool.take(BYTES).expect("memory")).collect();
            assert_eq!(pool.bytes(), most);
            drop(again);
        }
    }

    #[test]
    fn what_is_not_used_for_a_while_goes_back() {
        let pool = DecodeBufferPool::new();
        drop((0..50).map(|_| pool.take(BYTES).expect("memory")).collect::<Vec<_>>());
        let most = pool.bytes();
        (0..1000).for_each(|_| drop(pool.take(BYTES / 2).expect("memory")));
        assert!(pool.bytes() < most / 4, "{} of {most} bytes", pool.bytes());
    }

    #[test]
    fn a_frame_outlives_its_pool() {
        let pool = DecodeBufferPool::new();
        let kept = pool.take(BYTES).expect("memory");
        drop(pool);
        assert_eq!(kept.memory.as_slice().get(kept.offset), Some(&0));
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let pool = DecodeBufferPool::new();
        assert!(pool.take(usize::MAX).is_none() && pool.take(usize::MAX / 2).is_none());
    }
}
