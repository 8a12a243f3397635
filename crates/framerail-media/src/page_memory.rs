//! Memory for frames and batches in separate mappings, which are returned to the system as a whole.

use std::{fmt, ptr::NonNull, sync::Arc};

use parking_lot::Mutex;

use crate::MediaError;

/// Size and alignment of a large page.
const LARGE_PAGE_BYTES: usize = 2 << 20;
/// Alignment of the first byte: a cache line, and what array libraries expect.
const ALIGN_BYTES: usize = 64;

/// Zeroed bytes. Blocks of 2 MiB or more have a separate mapping, which is returned to the system when the block is dropped.
pub struct PageMemory {
    start: NonNull<u8>,
    len: usize,
    /// The allocation that holds the bytes.
    owner: Owner,
}

enum Owner {
    Heap { _bytes: Vec<u8> },
    Mapping { base: NonNull<libc::c_void>, len: usize },
}

// SAFETY: plain bytes that only this value owns; shared use only reads.
unsafe impl Send for PageMemory {}
// SAFETY: as above.
unsafe impl Sync for PageMemory {}

impl PageMemory {
    /// Allocates `len` zeroed bytes, aligned to 64 bytes.
    ///
    /// # Errors
    /// `Exhausted` if the system is out of memory.
    pub fn new(len: usize) -> Result<Self, MediaError> {
        if len >= LARGE_PAGE_BYTES {
            return Self::mapped(len).ok_or_else(|| exhausted(len));
        }
        let mut bytes = vec![0_u8; len + ALIGN_BYTES];
        let skipped = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        // SAFETY: at most `ALIGN_BYTES` bytes are skipped, which lie before the `len` bytes within the allocation.
        let start = unsafe { NonNull::new_unchecked(bytes.as_mut_ptr().add(skipped)) };
        Ok(Self { start, len, owner: Owner::Heap { _bytes: bytes } })
    }

    fn mapped(len: usize) -> Option<Self> {
        let whole = len.checked_next_multiple_of(LARGE_PAGE_BYTES)?.checked_add(LARGE_PAGE_BYTES)?;
        // SAFETY: a private mapping at an address of the system's choice; no memory of ours is replaced.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | MAP_NORESERVE;
            libc::mmap(std::ptr::null_mut(), whole, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return None;
        }
        let base = NonNull::new(base)?;
        let skipped = base.as_ptr().align_offset(LARGE_PAGE_BYTES).min(LARGE_PAGE_BYTES);
        // SAFETY: `skipped` is at most a large page, and the mapping is a large page longer than the used part.
        let start = unsafe { NonNull::new_unchecked(base.as_ptr().cast::<u8>().add(skipped)) };
        // Do not request large pages: virtual machines that report free memory to their host lose them again, and touching them again
        // takes several times as long as with small pages.
        Some(Self { start, len, owner: Owner::Mapping { base, len: whole } })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` and `len` lie within the owner's bytes, which are initialised, and self is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the size is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

/// Count memory only when it is touched: a batch that is mostly unwritten must not count in full.
#[cfg(target_os = "linux")]
const MAP_NORESERVE: libc::c_int = libc::MAP_NORESERVE;
#[cfg(not(target_os = "linux"))]
const MAP_NORESERVE: libc::c_int = 0;

fn exhausted(len: usize) -> MediaError {
    MediaError::Exhausted {
        path: "memory for frames".into(),
        reason: format!("the system refuses {} MiB; read smaller batches, or lower memory", len >> 20),
    }
}

impl Drop for PageMemory {
    fn drop(&mut self) {
        match &self.owner {
            Owner::Heap { .. } => {}
            Owner::Mapping { base, len } => {
                // SAFETY: mapped by `mapped`, with this length, and unmapped once.
                unsafe { libc::munmap(base.as_ptr(), *len) };
            }
        }
    }
}

impl fmt::Debug for PageMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageMemory({} bytes)", self.len)
    }
}

/// A block in equal parts that several threads write at once: each part has at most one holder at a time.
pub struct Slots {
    memory: PageMemory,
    slot_bytes: usize,
    /// Which slots are taken.
    out: Mutex<Vec<bool>>,
}

impl Slots {
    /// Splits a block into as many slots as fit.
    pub fn new(memory: PageMemory, slot_bytes: usize) -> Arc<Self> {
        let count = memory.len().checked_div(slot_bytes).unwrap_or(0);
        Arc::new(Self { memory, slot_bytes, out: Mutex::new(vec![false; count]) })
    }

    /// Takes the slot at an index; `None` if it is taken or does not exist.
    pub fn take(self: &Arc<Self>, at: usize) -> Option<Slot> {
        let mut out = self.out.lock();
        let is_out = out.get_mut(at)?;
        (!std::mem::replace(is_out, true)).then(|| Slot { home: Arc::clone(self), at })
    }

    /// The whole block; `None` while a slot is taken.
    pub fn into_memory(self: Arc<Self>) -> Option<PageMemory> {
        Arc::into_inner(self).map(|slots| slots.memory)
    }
}

/// A part of a block with exclusive access until it is dropped.
pub struct Slot {
    home: Arc<Slots>,
    at: usize,
}

impl Slot {
    /// Its bytes, with whatever the previous holder left in them.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let (start, len) = (self.at * self.home.slot_bytes, self.home.slot_bytes);
        // SAFETY: `take` checked that the slot lies within the block, and allows one holder at a time; the block's own slice is
        // reachable only when no slot is left, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.home.memory.start().as_ptr().add(start), len) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(is_out) = self.home.out.lock().get_mut(self.at) {
            *is_out = false;
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_writable_to_their_end() {
        for len in [0, 1, 4096, LARGE_PAGE_BYTES - 1, LARGE_PAGE_BYTES, 3 * LARGE_PAGE_BYTES + 5] {
            let mut memory = PageMemory::new(len).expect("memory");
            assert_eq!((memory.len(), memory.start().as_ptr() as usize % ALIGN_BYTES), (len, 0));
            assert!(memory.as_slice().iter().all(|byte| *byte == 0));
            memory.as_mut_slice().fill(7);
            assert!(memory.as_slice().iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn memory_that_nobody_has_is_an_error() {
        for len in [usize::MAX, usize::MAX / 2] {
            assert!(matches!(PageMemory::new(len), Err(MediaError::Exhausted { .. })));
        }
    }

    #[test]
    fn a_slot_has_one_holder_and_threads_write_side_by_side() {
        let slots = Slots::new(PageMemory::new(64 * 100).expect("memory"), 100);
        let mut first = slots.take(0).expect("free");
        first.as_mut_slice().fill(1);
        assert!(slots.take(0).is_none() && slots.take(64).is_none());
        drop(first);
        std::thread::scope(|scope| {
            for at in 0..64 {
                let mut slot = slots.take(at).expect("free");
                scope.spawn(move || slot.as_mut_slice().fill(at as u8));
            }
        });
        let memory = slots.into_memory().expect("no slot is out");
        assert!(memory.as_slice().chunks(100).enumerate().all(|(at, bytes)| bytes.iter().all(|byte| usize::from(*byte) == at)));
    }

    #[test]
    fn a_block_with_a_slot_out_stays() {
        let slots = Slots::new(PageMemory::new(10).expect("memory"), 5);
        let kept = slots.take(1).expect("free");
        assert!(Arc::clone(&slots).into_memory().is_none());
        drop(kept);
        assert!(slots.into_memory().is_some());
    }
}
