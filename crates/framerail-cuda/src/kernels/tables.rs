//! Lookup tables of conversions on a GPU: filter weights and tone-mapping curves.

use std::sync::Arc;

use framerail_core::{Conversion, ResizeTaps, ToneCurves};
use parking_lot::Mutex;

use crate::{CudaError, CudaStream, DeviceBuffer, DevicePool};

/// Number of cached tables: enough for a few sizes and crops.
const KEPT: usize = 16;

/// Encoded tables, and where each starts.
#[derive(Clone, Debug, Default)]
pub struct TableBytes {
    /// All tables, to be copied to an address that is a multiple of 8.
    pub bytes: Vec<u8>,
    across: Option<usize>,
    down: Option<usize>,
    tone: Option<usize>,
}

/// Addresses of tables; 0 for those not needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawTables {
    pub(super) across: u64,
    pub(super) down: u64,
    pub(super) tone: u64,
}

impl TableBytes {
    /// Encodes the tables for converting frames of this size; `None` if the conversion needs none.
    pub fn new(conversion: &Conversion, (width, height): (u32, u32), tone: Option<&ToneCurves>) -> Option<Self> {
        let taps = conversion.taps(width, height);
        if taps.is_none() && tone.is_none() {
            return None;
        }
        let mut tables = Self::default();
        if let Some((across, down)) = taps {
            tables.across = Some(tables.push_taps(&across));
            tables.down = Some(tables.push_taps(&down));
        }
        if let Some(ToneCurves(curves)) = tone {
            tables.tone = Some(tables.bytes.len());
            tables.bytes.extend(curves.iter().flat_map(|value| value.to_ne_bytes()));
        }
        Some(tables)
    }

    /// Appends a table in the layout of `FilterPlace` in `convert.cu`: one place more than positions, then weights.
    fn push_taps(&mut self, taps: &ResizeTaps) -> usize {
        let start = self.bytes.len();
        let (first, starts, weights) = taps.tables();
        for (place, begin) in starts.iter().enumerate() {
            self.bytes.extend(first.get(place).copied().unwrap_or(0).to_ne_bytes());
            self.bytes.extend(begin.to_ne_bytes());
        }
        self.bytes.extend(weights.iter().flat_map(|weight| weight.to_ne_bytes()));
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        start
    }

    /// Addresses of the tables if the bytes are stored at `address`.
    pub fn at(&self, address: u64) -> RawTables {
        let place = |start: Option<usize>| start.map_or(0, |start| address + start as u64);
        RawTables { across: place(self.across), down: place(self.down), tone: place(self.tone) }
    }
}

/// The tables of one conversion in device memory.
#[derive(Debug)]
pub struct ConversionTables {
    buffer: DeviceBuffer,
    tables: RawTables,
}

impl ConversionTables {
    fn new(bytes: &TableBytes, pool: &DevicePool, stream: &CudaStream) -> Result<Self, CudaError> {
        let buffer = pool.buffer(bytes.bytes.len())?;
        buffer.upload(0, &bytes.bytes, stream)?;
        let tables = bytes.at(buffer.address());
        Ok(Self { buffer, tables })
    }

    /// The memory, with the events that order its uses.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.buffer
    }

    /// The addresses; bracket their use with the buffer.
    pub fn raw(&self) -> RawTables {
        self.tables
    }
}

/// A conversion's inputs and its tables.
type Known = ((Conversion, (u32, u32), Option<ToneCurves>), Arc<ConversionTables>);

/// Caches the tables of the latest conversions.
#[derive(Debug, Default)]
pub struct TableCache {
    /// Most recently used last.
    known: Mutex<Vec<Known>>,
}

impl TableCache {
    /// Returns the tables for converting frames of this size, uploading them if they are not cached; `None` if none are needed.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub fn tables(
        &self,
        conversion: &Conversion,
        size: (u32, u32),
        tone: Option<&ToneCurves>,
        pool: &DevicePool,
        stream: &CudaStream,
    ) -> Result<Option<Arc<ConversionTables>>, CudaError> {
        let mut known = self.known.lock();
        if let Some(index) = known.iter().position(|((of, at, curves), _)| (of, *at, curves.as_ref()) == (conversion, size, tone)) {
            let found = known.remove(index);
            let tables = Arc::clone(&found.1);
            known.push(found);
            return Ok(Some(tables));
        }
        let Some(bytes) = TableBytes::new(conversion, size, tone) else { return Ok(None) };
        let tables = Arc::new(ConversionTables::new(&bytes, pool, stream)?);
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push(((*conversion, size, tone.cloned()), Arc::clone(&tables)));
        Ok(Some(tables))
    }
}
