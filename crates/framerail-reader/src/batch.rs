//! Frames as they are handed out: one dense block of memory for a batch.

use framerail_core::{DType, PixelFormat, Pts, TensorLayout};

use crate::host_memory::HostBuffer;

/// Whether a frame is as it was encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameStatus {
    /// Decoded without complaint.
    #[default]
    Ok,
    /// The decoder concealed errors, or the time was worked out.
    Repaired,
    /// It did not come out of the decoder: the pixels are those of the nearest frame before it that did.
    Missing,
}

/// What is known of a frame beside its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameInfo {
    /// Number in presentation order, from 0.
    pub number: usize,
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// Presentation time in seconds, on the file's clock.
    pub seconds: f64,
    /// How long it is on screen, in seconds.
    pub duration_secs: f64,
    /// Whether decoding can start here.
    pub is_keyframe: bool,
    /// As encoded or not.
    pub status: FrameStatus,
}

/// Frames in one block of memory, in the order asked.
#[derive(Debug)]
pub struct Batch {
    /// The pixels.
    pub tensor: Tensor,
    /// One for each picture of the tensor.
    pub frames: Vec<FrameInfo>,
}

/// A dense batch of pictures.
#[derive(Debug)]
#[non_exhaustive]
pub enum Tensor {
    /// On the host.
    Host(HostTensor),
    /// On a CUDA card.
    #[cfg(feature = "cuda")]
    Cuda(crate::CudaBatch),
}

impl Tensor {
    /// Lengths of the axes, in the order that the layout names.
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

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().size_bytes()
    }

    /// The host's tensor, if it is one.
    pub fn host(&self) -> Option<&HostTensor> {
        match self {
            Tensor::Host(tensor) => Some(tensor),
            #[cfg(feature = "cuda")]
            Tensor::Cuda(_) => None,
        }
    }
}

/// What the pictures of a tensor are: all of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureShape {
    /// The lengths of the axes behind T, in the layout's order.
    pub axes: [usize; 3],
    /// Order of the axes.
    pub layout: TensorLayout,
    /// Type of the elements.
    pub dtype: DType,
    /// Where planes lie, for [`crate::OutputOptions::Yuv`].
    pub planes: Option<PlanarPicture>,
}

impl PictureShape {
    /// Bytes of one picture.
    pub fn bytes(&self) -> usize {
        self.axes.iter().product::<usize>() * self.dtype.size_bytes()
    }
}

/// The planes of a picture as decoded, one behind the other.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanarPicture {
    /// Pixel format.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The planes, dense: samples of more than 8 bits take two bytes, native endian.
    pub planes: Vec<PlanePlace>,
}

/// Where a plane lies in its picture's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanePlace {
    /// First byte.
    pub offset_bytes: usize,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// Rows.
    pub rows: usize,
}

/// A dense batch of pictures in memory of one kind. Dropping it gives the memory back for another batch.
#[derive(Debug)]
pub struct DenseTensor<M> {
    count: usize,
    picture: PictureShape,
    pub(crate) memory: M,
}

/// A batch on the host. Until it is dropped nobody else writes to it.
pub type HostTensor = DenseTensor<HostBuffer>;

impl<M> DenseTensor<M> {
    pub(crate) fn new(count: usize, picture: PictureShape, memory: M) -> Self {
        Self { count, picture, memory }
    }

    /// Lengths of the axes, in the order that the layout names; dense, no pitch.
    pub fn shape(&self) -> [usize; 4] {
        let [a, b, c] = self.picture.axes;
        [self.count, a, b, c]
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.picture.dtype
    }

    /// Order of the axes.
    pub fn layout(&self) -> TensorLayout {
        self.picture.layout
    }

    /// What each picture is.
    pub fn picture(&self) -> &PictureShape {
        &self.picture
    }

    /// Where planes lie in each picture, for [`crate::OutputOptions::Yuv`].
    pub fn planes(&self) -> Option<&PlanarPicture> {
        self.picture.planes.as_ref()
    }
}

impl HostTensor {
    /// The elements, native endian, dense; the first byte is aligned to 64.
    pub fn as_bytes(&self) -> &[u8] {
        self.memory.as_slice()
    }

    /// The same for writing: for work in place by the sole holder.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }
}
