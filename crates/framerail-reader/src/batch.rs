//! Batches of frames as returned to callers: one dense block of memory per batch.

use framerail_core::{DType, PixelFormat, Pts, TensorLayout};

use crate::host_memory::HostBuffer;

/// Whether a frame was decoded as encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameStatus {
    /// Decoded without errors.
    #[default]
    Ok,
    /// The decoder concealed errors, or the timestamp was reconstructed.
    Repaired,
    /// The decoder did not output the frame: the pixels are those of the nearest earlier frame that it did output.
    Missing,
}

/// Metadata of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameInfo {
    /// Number in presentation order, from 0.
    pub number: usize,
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// Presentation time in seconds, on the file's clock.
    pub seconds: f64,
    /// Display duration in seconds.
    pub duration_secs: f64,
    /// Whether decoding can start here.
    pub is_keyframe: bool,
    /// Whether the frame was decoded as encoded.
    pub status: FrameStatus,
}

/// Frames in one block of memory, in the order requested.
#[derive(Debug)]
pub struct Batch {
    /// The pixels.
    pub tensor: Tensor,
    /// One entry per frame of the tensor.
    pub frames: Vec<FrameInfo>,
}

/// A dense batch of frames.
#[derive(Debug)]
#[non_exhaustive]
pub enum Tensor {
    /// On the host.
    Host(HostTensor),
    /// On a CUDA GPU.
    #[cfg(feature = "cuda")]
    Cuda(crate::CudaBatch),
}

impl Tensor {
    /// Lengths of the axes, in the order named by the layout.
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Tensor::Host(tensor) => tensor.shape(),
            #[cfg(feature = "cuda")]
            Tensor::Cuda(tensor) => tensor.shape(),
        }
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Tensor::Host(tensor) => tensor.dtype(),
            #[cfg(feature = "cuda")]
            Tensor::Cuda(tensor) => tensor.dtype(),
        }
    }

    /// Order of the axes.
    pub fn layout(&self) -> TensorLayout {
        match self {
            Tensor::Host(tensor) => tensor.layout(),
            #[cfg(feature = "cuda")]
            Tensor::Cuda(tensor) => tensor.layout(),
        }
    }

    /// Total size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().size_bytes()
    }

    /// The host tensor, if the batch is on the host.
    pub fn host(&self) -> Option<&HostTensor> {
        match self {
            Tensor::Host(tensor) => Some(tensor),
            #[cfg(feature = "cuda")]
            Tensor::Cuda(_) => None,
        }
    }
}

/// Shape, type and layout of one frame; all frames of a tensor share it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageShape {
    /// Lengths of the axes after T, in the layout's order.
    pub axes: [usize; 3],
    /// Order of the axes.
    pub layout: TensorLayout,
    /// Type of the elements.
    pub dtype: DType,
    /// Positions of the planes, for [`crate::OutputOptions::Yuv`].
    pub planes: Option<PlanarFrame>,
}

impl ImageShape {
    /// Size of one frame in bytes.
    pub fn bytes(&self) -> usize {
        self.axes.iter().product::<usize>() * self.dtype.size_bytes()
    }
}

/// The planes of a decoded frame, stored one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanarFrame {
    /// Pixel format.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The planes, without padding: samples of more than 8 bits take two bytes, native endian.
    pub planes: Vec<PlanePlace>,
}

/// Position of a plane within the bytes of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanePlace {
    /// First byte.
    pub offset_bytes: usize,
    /// Bytes per row.
    pub row_bytes: usize,
    /// Number of rows.
    pub rows: usize,
}

/// A dense batch of frames in one kind of memory. Dropping it returns the memory for reuse by another batch.
#[derive(Debug)]
pub struct DenseTensor<M> {
    count: usize,
    image: ImageShape,
    pub(crate) memory: M,
}

/// A batch on the host. Nothing else writes to it until it is dropped.
pub type HostTensor = DenseTensor<HostBuffer>;

impl<M> DenseTensor<M> {
    pub(crate) fn new(count: usize, image: ImageShape, memory: M) -> Self {
        Self { count, image, memory }
    }

    /// Lengths of the axes, in the order named by the layout; dense, without pitch.
    pub fn shape(&self) -> [usize; 4] {
        let [a, b, c] = self.image.axes;
        [self.count, a, b, c]
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.image.dtype
    }

    /// Order of the axes.
    pub fn layout(&self) -> TensorLayout {
        self.image.layout
    }

    /// Shape, type and layout of each frame.
    pub fn image(&self) -> &ImageShape {
        &self.image
    }

    /// Positions of the planes in each frame, for [`crate::OutputOptions::Yuv`].
    pub fn planes(&self) -> Option<&PlanarFrame> {
        self.image.planes.as_ref()
    }
}

impl HostTensor {
    /// The elements, native endian and dense; aligned to 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.memory.as_slice()
    }

    /// The elements for writing, for in-place work by the only owner.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }
}
