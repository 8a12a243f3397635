//! Batches of clips of many files, loaded by threads, for Python.

use std::sync::Arc;

use framerail::{
    core::{CancelToken, Device},
    media::InputOptions,
    reader::{
        self, ClipItem, ClipLoaderOptions, ClipPlace, FileStamp, FrameStatus, GpuPlace, KnownIndex, LoadedBatch, ReadDevice, ReaderError,
    },
};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    augment::Augment,
    clips::sampling,
    dlpack::{self, Foreign},
    errors,
    fork::OfProcess,
    options::{self, dtype_name, parse},
    reader::{column, stats_value},
    source::Source,
    waiting::{Turn, without_gil},
};

/// Options of a loader beside those of a reader.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    snap: usize,
    views: usize,
    short_side: Option<u32>,
    crops: usize,
    channels_first: bool,
    threads: usize,
    helpers: Option<usize>,
    max_open: usize,
}

/// Loads batches of clips. Use `framerail.torch.ClipLoader`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct ClipLoader {
    shared: OfProcess<Arc<reader::ClipLoader>>,
    cancel: CancelToken,
    device: Device,
}

/// A requested clip: the source's key, the source, its name in messages, number of the clip, seed, and data of an index.
type Item<'py> = (u64, Bound<'py, PyAny>, String, usize, u64, Option<Kept>);

/// Size of a file in bytes, its modification time in nanoseconds, and its frame index.
type Kept = (u64, i64, Vec<u8>);

/// Indices of clips that failed, and the reasons.
type Failures = Vec<(usize, PyErr)>;

#[pymethods]
impl ClipLoader {
    /// Starts the threads of a loader with options in JSON.
    #[new]
    fn new(
        py: Python<'_>,
        reader_json: &str,
        sampling_json: &str,
        augment: Option<&Bound<'_, Augment>>,
        loader_json: &str,
    ) -> PyResult<Self> {
        let no_source = Source { input: InputOptions::new(""), raised: Default::default() };
        let reader = options::reader(py, reader_json, &no_source)?;
        let given: Given = parse(loader_json)?;
        let device = match &reader.device {
            ReadDevice::Cuda(device) => device.id(),
            _ => Device::Cpu,
        };
        let options = ClipLoaderOptions {
            snap: given.snap,
            augment: augment.map(|augment| augment.get().of_clips()),
            views: given.views,
            short_side: given.short_side,
            crops: given.crops,
            channels_first: given.channels_first,
            threads: given.threads,
            helpers: given.helpers,
            max_open: given.max_open,
            ..ClipLoaderOptions::new(reader, sampling(sampling_json)?)
        };
        let loader = reader::ClipLoader::new(options).map_err(|error| errors::reader(py, &error))?;
        let cancel = loader.cancel_token();
        Ok(Self { shared: OfProcess::with_threads(Arc::new(loader)), cancel, device })
    }

    /// Whether this process created it; a forked child has to create its own.
    fn is_here(&self) -> bool {
        self.shared.is_here()
    }

    /// Axes and type of a clip, as JSON; `None` if they depend on the source, and no source is given.
    fn shape(&self, py: Python<'_>, source: Option<(Bound<'_, PyAny>, String)>) -> PyResult<Option<String>> {
        let loader = Arc::clone(self.shared.get()?);
        let shape = match (loader.shape(), source) {
            (Some(known), _) => Some(known),
            (None, None) => None,
            (None, Some((source, name))) => {
                let input = Source::new(&source, &name)?.input;
                let look = move |turn: &Turn| if turn.take() { loader.shape_of(&input) } else { Err(ReaderError::Closed) };
                Some(without_gil(py, &self.cancel, look)?.map_err(|error| errors::reader(py, &error))?)
            }
        };
        Ok(shape.map(|shape| json!({"axes": shape.axes(), "dtype": dtype_name(shape.dtype)}).to_string()))
    }

    /// Device of the clips: `cpu` or `cuda:N`.
    fn device(&self) -> String {
        self.device.to_string()
    }

    /// Queues a batch of clips of these axes and type, written consecutively to `out`. `stream` is the stream that used the GPU memory
    /// before, numbered as in the array API standard.
    #[expect(clippy::too_many_arguments, reason = "Python's signature")]
    fn submit(
        &self,
        py: Python<'_>,
        id: u64,
        items: Vec<Item<'_>>,
        out: &Bound<'_, PyAny>,
        axes: Vec<usize>,
        dtype: &str,
        stream: isize,
    ) -> PyResult<()> {
        let (loader, count, dtype) = (self.shared.get()?, items.len(), options::dtype(dtype)?);
        let shape: Vec<usize> = std::iter::once(count).chain(axes).collect();
        let memory = Foreign::of(out, &shape, dtype, self.device, stream, "out")?;
        let places: Vec<ClipPlace> = match self.device {
            Device::Cpu => memory.into_parts(count).into_iter().map(|part| ClipPlace::Host(Box::new(part))).collect(),
            Device::Cuda(_) => {
                let parts = memory.into_buffers(count).map_err(|error| errors::cuda(py, &error))?;
                parts.into_iter().map(|part| ClipPlace::Gpu(GpuPlace::within(part))).collect()
            }
        };
        let queued = |((key, source, name, clip, seed, kept), place): (Item<'_>, ClipPlace)| -> PyResult<_> {
            let input = Source::new(&source, &name)?.input;
            let index = kept.map(|(size_bytes, modified_nanos, packets)| KnownIndex {
                stamp: FileStamp { size_bytes, modified_nanos },
                packets: packets.into(),
            });
            Ok((ClipItem { key, input, index, clip, seed }, place))
        };
        loader.submit(id, items.into_iter().zip(places).map(queued).collect::<PyResult<_>>()?);
        Ok(())
    }

    /// Waits for a batch: returns the clips' properties as columns, and the index and exception of each failed clip. On a GPU, `stream`
    /// is the stream that uses it from now on: it waits for the clips.
    fn wait<'py>(&self, py: Python<'py>, id: u64, stream: isize) -> PyResult<(Bound<'py, PyDict>, Failures)> {
        let loader = Arc::clone(self.shared.get()?);
        let work = move |turn: &Turn| if turn.take() { loader.wait(id) } else { Err(ReaderError::Closed) };
        let batch = without_gil(py, &self.cancel, work)?.map_err(|error| errors::reader(py, &error))?;
        for place in &batch.places {
            if let ClipPlace::Gpu(place) = place
                && let Some(buffer) = place.buffer()
            {
                dlpack::order_behind(buffer, stream).map_err(|error| errors::cuda(py, &error))?;
            }
        }
        let failed = batch.clips.iter().enumerate().filter_map(|(place, clip)| Some((place, errors::reader(py, clip.as_ref().err()?))));
        let failed = failed.collect();
        Ok((columns(py, &batch)?, failed))
    }

    /// Cancels the queued batches.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let loader = self.shared.get()?;
        py.detach(|| loader.forget());
        Ok(())
    }

    /// Counters so far, as JSON.
    fn stats(&self) -> PyResult<String> {
        let stats = self.shared.get()?.stats();
        Ok(json!({
            "threads": stats.threads,
            "busy_seconds": stats.busy.as_secs_f64(),
            "opening_seconds": stats.opening.as_secs_f64(),
            "clips": stats.clips,
            "clips_failed": stats.clips_failed,
            "clips_by_cores": stats.clips_by_cores,
            "clips_shared": stats.clips_shared,
            "files_opened": stats.files_opened,
            "files_reused": stats.files_reused,
            "indexes_stale": stats.indexes_stale,
            "bytes": stats.bytes,
            "syncs": stats.syncs,
            "reader": stats_value(&stats.reader),
        })
        .to_string())
    }
}

/// One row per clip; failed ones are zero.
fn columns<'py>(py: Python<'py>, batch: &LoadedBatch) -> PyResult<Bound<'py, PyDict>> {
    let clips: Vec<_> = batch.clips.iter().map(|clip| clip.as_ref().ok()).collect();
    let frames = clips.iter().flatten().map(|clip| clip.numbers.len()).max().unwrap_or(0);
    let cells: Vec<_> = clips.iter().flat_map(|clip| (0..frames).map(move |frame| (*clip, frame))).collect();
    let columns = PyDict::new(py);
    let number = |clip: Option<&reader::LoadedClip>, frame: usize| clip.and_then(|clip| clip.numbers.get(frame).copied()).unwrap_or(0);
    columns.set_item("numbers", column(py, &cells, |(clip, frame)| (number(*clip, *frame) as i64).to_ne_bytes()))?;
    let seconds = |clip: Option<&reader::LoadedClip>, frame: usize| clip.and_then(|clip| clip.seconds.get(frame).copied()).unwrap_or(0.0);
    columns.set_item("seconds", column(py, &cells, |(clip, frame)| seconds(*clip, *frame).to_ne_bytes()))?;
    let filled = |clip: &Option<&reader::LoadedClip>| clip.map_or(0, |clip| clip.filled as i64).to_ne_bytes();
    columns.set_item("filled", column(py, &clips, filled))?;
    let altered = |clip: &Option<&reader::LoadedClip>| {
        clip.map_or(0, |clip| clip.statuses.iter().filter(|status| **status != FrameStatus::Ok).count() as i64).to_ne_bytes()
    };
    columns.set_item("altered", column(py, &clips, altered))?;
    columns.set_item("is_made", PyBytes::new(py, &clips.iter().map(|clip| u8::from(clip.is_some())).collect::<Vec<_>>()))?;
    Ok(columns)
}
