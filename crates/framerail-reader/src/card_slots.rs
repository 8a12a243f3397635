//! Places of pictures in batches on a card: pictures are converted there, out of the decoder's memory, and not copied.

use std::{any::Any, collections::HashMap, sync::Arc};

use framerail_core::{Device, DeviceSurface};
use framerail_cuda::{CudaError, DeviceBuffer, DevicePool};
use parking_lot::Mutex;

use crate::frame_index::FrameIndex;

/// A place in a batch.
#[derive(Clone, Debug)]
pub(crate) struct CardSlot {
    pub(crate) buffer: Arc<DeviceBuffer>,
    /// Bytes from the buffer's start.
    pub(crate) offset: usize,
    /// What is made of the picture, where several things are.
    pub(crate) part: usize,
}

impl CardSlot {
    /// Whether it is the same place.
    pub(crate) fn is_at(&self, buffer: &Arc<DeviceBuffer>, offset: usize) -> bool {
        self.offset == offset && Arc::ptr_eq(&self.buffer, buffer)
    }
}

/// A picture that was converted to its places.
#[derive(Debug)]
pub(crate) struct InPlace {
    /// One at least.
    pub(crate) slots: Vec<CardSlot>,
    /// Bytes of the picture.
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

/// A place of a listed picture: number of the batch, bytes from its start, and the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) batch: usize,
    pub(crate) offset: usize,
    pub(crate) part: usize,
}

/// Which pictures have places.
pub(crate) enum Places {
    /// By the tags of their packets.
    Listed(HashMap<i64, Vec<Place>>),
    /// Frames in rising order, so many in each batch, `picture_bytes` apart.
    Rising { index: Arc<FrameIndex>, numbers: Arc<[usize]>, batch: usize, picture_bytes: usize },
}

impl Places {
    fn of(&self, tag: i64) -> Vec<Place> {
        match self {
            Places::Listed(places) => places.get(&tag).cloned().unwrap_or_default(),
            Places::Rising { index, numbers, batch, picture_bytes } => {
                let Some(number) = usize::try_from(tag).ok().and_then(|tag| index.number_at(tag)) else { return Vec::new() };
                rising(numbers, number).map(|at| Place { batch: at / batch, offset: at % batch * picture_bytes, part: 0 }).collect()
            }
        }
    }
}

/// Where a number stands in numbers that rise and may repeat.
fn rising(numbers: &[usize], number: usize) -> std::ops::Range<usize> {
    numbers.partition_point(|known| *known < number)..numbers.partition_point(|known| *known <= number)
}

struct Batches {
    places: Places,
    pool: DevicePool,
    /// Bytes of a batch; a shorter last one is its start.
    bytes: usize,
    /// Those that were begun and not taken.
    buffers: HashMap<usize, Arc<DeviceBuffer>>,
    /// The first one that was not taken.
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

/// The batches under way, and what belongs where; shared by the decoders of a source.
#[derive(Default)]
pub(crate) struct CardSlots {
    batches: Mutex<Option<Batches>>,
}

impl CardSlots {
    /// Begins batches of so many bytes, from this pool.
    pub(crate) fn begin(&self, places: Places, pool: &DevicePool, bytes: usize) {
        *self.batches.lock() = Some(Batches { places, pool: pool.clone(), bytes, buffers: HashMap::new(), next: 0 });
    }

    /// Begins batches in memory that is there already.
    pub(crate) fn begin_in(&self, places: Places, pool: &DevicePool, buffers: Vec<Arc<DeviceBuffer>>) {
        let buffers = buffers.into_iter().enumerate().collect();
        *self.batches.lock() = Some(Batches { places, pool: pool.clone(), bytes: 0, buffers, next: 0 });
    }

    /// The places of a picture, by the tag of its packet; none where it has none, or where its batches were taken.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub(crate) fn of(&self, tag: i64) -> Result<Vec<CardSlot>, CudaError> {
        let mut batches = self.batches.lock();
        let Some(batches) = batches.as_mut() else { return Ok(Vec::new()) };
        let places = batches.places.of(tag).into_iter().filter(|place| place.batch >= batches.next).collect::<Vec<_>>();
        places.into_iter().map(|Place { batch, offset, part }| Ok(CardSlot { buffer: batches.buffer(batch)?, offset, part })).collect()
    }

    /// A batch's memory, to be filled; batches before it have no places any more.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`; `BadArgument` where no batches were begun.
    pub(crate) fn take(&self, batch: usize) -> Result<Arc<DeviceBuffer>, CudaError> {
        let mut batches = self.batches.lock();
        let Some(batches) = batches.as_mut() else { return Err(CudaError::BadArgument { what: "no batch was begun".into() }) };
        batches.next = batches.next.max(batch);
        let next = batches.next;
        batches.buffers.retain(|known, _| *known >= next);
        batches.buffer(batch)
    }

    /// Forgets all places.
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
    fn listed_pictures_have_the_places_of_their_tags() {
        let place = Place { batch: 2, offset: 64, part: 1 };
        let places = Places::Listed(HashMap::from([(5, vec![place, Place { batch: 3, ..place }])]));
        assert_eq!(places.of(5), [place, Place { batch: 3, ..place }]);
        assert!(places.of(4).is_empty());
    }
}
