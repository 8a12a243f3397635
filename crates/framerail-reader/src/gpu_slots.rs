//! Positions of frames in batches on a GPU: frames are converted directly from the decoder's memory into the batch, without a copy.

use std::{any::Any, collections::HashMap, sync::Arc};

use framerail_core::{Device, DeviceSurface};
use framerail_cuda::{CudaError, DeviceBuffer, DevicePool};
use parking_lot::Mutex;

use crate::frame_index::FrameIndex;

/// A position in a batch.
#[derive(Clone, Debug)]
pub(crate) struct GpuSlot {
    pub(crate) buffer: Arc<DeviceBuffer>,
    /// Offset from the start of the buffer, in bytes.
    pub(crate) offset: usize,
    /// Which output this is, when a frame is converted to several.
    pub(crate) part: usize,
}

impl GpuSlot {
    /// Whether it is the same position.
    pub(crate) fn is_at(&self, buffer: &Arc<DeviceBuffer>, offset: usize) -> bool {
        self.offset == offset && Arc::ptr_eq(&self.buffer, buffer)
    }
}

/// A frame that was converted directly into its positions.
#[derive(Debug)]
pub(crate) struct InPlace {
    /// At least one.
    pub(crate) slots: Vec<GpuSlot>,
    /// Size of the frame in bytes.
    pub(crate) bytes: usize,
}

impl DeviceSurface for InPlace {
    fn device(&self) -> Device {
        self.slots.first().map_or(Device::Cpu, |slot| slot.buffer.device().id())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Position of a listed frame: batch number, byte offset within the batch, and part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) batch: usize,
    pub(crate) offset: usize,
    pub(crate) part: usize,
}

/// Which frames have positions.
pub(crate) enum Places {
    /// By the tags of their packets.
    Listed(HashMap<i64, Vec<Place>>),
    /// Frames in rising order, `batch` frames per batch, `image_bytes` apart.
    Rising { index: Arc<FrameIndex>, numbers: Arc<[usize]>, batch: usize, image_bytes: usize },
}

impl Places {
    fn of(&self, tag: i64) -> Vec<Place> {
        match self {
            Places::Listed(places) => places.get(&tag).cloned().unwrap_or_default(),
            Places::Rising { index, numbers, batch, image_bytes } => {
                let Some(number) = usize::try_from(tag).ok().and_then(|tag| index.number_at(tag)) else { return Vec::new() };
                rising(numbers, number).map(|at| Place { batch: at / batch, offset: at % batch * image_bytes, part: 0 }).collect()
            }
        }
    }
}

/// Positions of a number in a rising list that may contain duplicates.
fn rising(numbers: &[usize], number: usize) -> std::ops::Range<usize> {
    numbers.partition_point(|known| *known < number)..numbers.partition_point(|known| *known <= number)
}

struct Batches {
    places: Places,
    pool: DevicePool,
    /// Size of a batch in bytes; a shorter last batch uses the start of it.
    bytes: usize,
    /// Batches that were begun and not yet taken.
    buffers: HashMap<usize, Arc<DeviceBuffer>>,
    /// First batch that was not yet taken.
    next: usize,
}

impl Batches {
    fn buffer(&mut self, batch: usize) -> Result<Arc<DeviceBuffer>, CudaError> {
        if let Some(buffer) = self.buffers.get(&batch) {
            return Ok(Arc::clone(buffer));
        }
        let buffer = Arc::new(self.pool.buffer(self.bytes)?);
        self.buffers.insert(batch, Arc::clone(&buffer));
        Ok(buffer)
    }
}

/// The batches in progress and the positions of frames in them; shared by the decoders of a source.
#[derive(Default)]
pub(crate) struct GpuSlots {
    batches: Mutex<Option<Batches>>,
}

impl GpuSlots {
    /// Begins batches of `bytes` bytes each, allocated from this pool.
    pub(crate) fn begin(&self, places: Places, pool: &DevicePool, bytes: usize) {
        *self.batches.lock() = Some(Batches { places, pool: pool.clone(), bytes, buffers: HashMap::new(), next: 0 });
    }

    /// Begins batches in memory that is already allocated.
    pub(crate) fn begin_in(&self, places: Places, pool: &DevicePool, buffers: Vec<Arc<DeviceBuffer>>) {
        let buffers = buffers.into_iter().enumerate().collect();
        *self.batches.lock() = Some(Batches { places, pool: pool.clone(), bytes: 0, buffers, next: 0 });
    }

    /// Positions of a frame, by the tag of its packet; empty when it has none, or when its batches were taken.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub(crate) fn of(&self, tag: i64) -> Result<Vec<GpuSlot>, CudaError> {
        let mut batches = self.batches.lock();
        let Some(batches) = batches.as_mut() else { return Ok(Vec::new()) };
        let places = batches.places.of(tag).into_iter().filter(|place| place.batch >= batches.next).collect::<Vec<_>>();
        places.into_iter().map(|Place { batch, offset, part }| Ok(GpuSlot { buffer: batches.buffer(batch)?, offset, part })).collect()
    }

    /// The memory of a batch, to be completed by the caller. Earlier batches lose their positions.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`; `BadArgument` when no batches were begun.
    pub(crate) fn take(&self, batch: usize) -> Result<Arc<DeviceBuffer>, CudaError> {
        let mut batches = self.batches.lock();
        let Some(batches) = batches.as_mut() else { return Err(CudaError::BadArgument { what: "no batch was begun".into() }) };
        batches.next = batches.next.max(batch);
        let next = batches.next;
        batches.buffers.retain(|known, _| *known >= next);
        batches.buffer(batch)
    }

    /// Forgets all positions.
    pub(crate) fn end(&self) {
        *self.batches.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_rising_order_have_a_place_each_time_that_they_are_asked_for() {
        let numbers = [0, 3, 3, 3, 7, 9];
        assert_eq!(rising(&numbers, 3), 1..4);
        assert_eq!(rising(&numbers, 9), 5..6);
        assert!(rising(&numbers, 4).is_empty() && rising(&numbers, 10).is_empty());
    }

    #[test]
    fn listed_frames_have_the_places_of_their_tags() {
        let place = Place { batch: 2, offset: 64, part: 1 };
        let places = Places::Listed(HashMap::from([(5, vec![place, Place { batch: 3, ..place }])]));
        assert_eq!(places.of(5), [place, Place { batch: 3, ..place }]);
        assert!(places.of(4).is_empty());
    }
}
