//! Compares frames decoded on the GPU with frames decoded by FFmpeg on the CPU.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{Frame, FramePool, HostSurface, PixelFormat};
use framerail_cuda::{CudaDevice, CudaStream, CudaSurface, PinnedPool};
use framerail_media::{MediaItem, MediaReader};
use framerail_reader::{DeviceOptions, DeviceReader, FrameSource, ReaderError};
use serde_json::json;

/// Options of the comparison.
#[derive(clap::Args)]
pub(crate) struct Check {
    /// Input files.
    clips: Vec<PathBuf>,
    /// Maximum number of frames to compare per file.
    #[arg(long, default_value_t = 400)]
    frames: usize,
}

/// Difference of two decodes.
#[derive(Default)]
struct Difference {
    frames: usize,
    frames_equal: usize,
    times_differ: usize,
    largest: u32,
}

impl Check {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let mut failed = 0;
        for clip in &self.clips {
            for decoders in [Some(1), Some(5)] {
                let outcome = self.compare(device, clip, decoders);
                let line = match outcome {
                    Ok(found) => found,
                    Err(error) => json!({ "error": format!("{error:#}") }),
                };
                failed += usize::from(line.get("same") == Some(&json!(false)) || line.get("error").is_some());
                println!("{}", json!({ "clip": clip.file_name().map(|name| name.to_string_lossy()), "decoders": decoders, "found": line }));
            }
        }
        anyhow::ensure!(failed == 0, "{failed} comparisons differ");
        Ok(())
    }

    fn compare(&self, device: &Arc<CudaDevice>, clip: &Path, decoders: Option<usize>) -> anyhow::Result<serde_json::Value> {
        let input = crate::read::input(clip);
        let options = DeviceOptions { decoders, ..DeviceOptions::new(device) };
        let mut reader = match DeviceReader::open(&input, &options) {
            Ok(reader) => reader,
            Err(ReaderError::NotOnDevice { reason, .. }) => return Ok(json!({ "not_on_device": reason })),
            Err(error) => return Err(error.into()),
        };
        let (stream, pinned) = (CudaStream::new(device)?, PinnedPool::new(device, 4));
        let mut host = MediaReader::open(&input, &FramePool::new(4))?;
        let mut difference = Difference::default();
        while difference.frames < self.frames {
            let (ours, theirs) = (next_on_device(&mut reader)?, next_on_host(&mut host)?);
            let (ours, theirs) = match (ours, theirs) {
                (Some(ours), Some(theirs)) => (ours, theirs),
                (None, None) => break,
                (ours, _) => {
                    let who = if ours.is_some() { "the host" } else { "the GPU" };
                    return Ok(
                        json!({ "same": false, "ends_early": who, "after": difference.frames, "damage": format!("{:?}", reader.damage()) }),
                    );
                }
            };
            let Some(surface) = CudaSurface::of(&ours.surface) else { anyhow::bail!("no surface") };
            let surface = surface.download(&pinned, &stream)?;
            difference.add(&ours, &surface, &theirs)?;
        }
        let same = difference.frames == difference.frames_equal && difference.times_differ == 0;
        let stats = reader.stats();
        Ok(json!({
            "same": same,
            "frames": difference.frames,
            "equal": difference.frames_equal,
            "times_differ": difference.times_differ,
            "largest": difference.largest,
            "pieces": stats.pieces,
            "format": host.info().pixel_format.name(),
            "damage": reader.damage().is_any(),
        }))
    }
}

fn next_on_device(reader: &mut DeviceReader) -> Result<Option<Frame>, ReaderError> {
    loop {
        match reader.next_item()? {
            Some(MediaItem::Frame(frame)) => return Ok(Some(frame)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

fn next_on_host(reader: &mut MediaReader) -> anyhow::Result<Option<Frame>> {
    loop {
        match reader.next()? {
            Some(MediaItem::Frame(frame)) => return Ok(Some(frame)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

impl Difference {
    fn add(&mut self, ours: &Frame, surface: &HostSurface, theirs: &Frame) -> anyhow::Result<()> {
        self.frames += 1;
        self.times_differ += usize::from(ours.pts != theirs.pts);
        let reference = theirs.surface.host()?;
        anyhow::ensure!(
            (surface.width(), surface.height()) == (reference.width(), reference.height()),
            "{}x{} on the GPU, {}x{} on the host",
            surface.width(),
            surface.height(),
            reference.width(),
            reference.height()
        );
        let mut largest = 0;
        let components = reference.format().color_components().len();
        for component in 0..components {
            let (width, height) = reference.format().component_size(component, reference.width(), reference.height());
            for row in 0..height as usize {
                for column in 0..width as usize {
                    let difference = sample(surface, component, column, row)?.abs_diff(sample(reference, component, column, row)?);
                    largest = largest.max(difference);
                }
            }
        }
        self.frames_equal += usize::from(largest == 0);
        self.largest = self.largest.max(largest);
        Ok(())
    }
}

/// Code value of a component.
fn sample(surface: &HostSurface, component: usize, column: usize, row: usize) -> anyhow::Result<u32> {
    let format: PixelFormat = surface.format();
    let Some(place) = format.color_components().get(component) else { anyhow::bail!("{format} has no component {component}") };
    let bytes = surface.row(place.plane, row);
    let at = place.offset_bytes + column * place.step_bytes;
    let value = match (format.sample_bytes(), bytes.get(at), bytes.get(at + 1)) {
        (1, Some(low), _) => u32::from(*low),
        (_, Some(low), Some(high)) => u32::from(u16::from_le_bytes([*low, *high])) >> place.shift,
        _ => anyhow::bail!("a row of {} bytes has no sample {column}", bytes.len()),
    };
    Ok(value)
}
