//! Types shared by all framerail crates: frames and their surfaces, packets, time,
//! pixel formats and colour, detections, tensor layouts and conversion parameters, buffer pools.
//!
//! This crate contains no decoders, drivers or threads.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod augment;
pub mod axis_blur;
pub mod cancel;
pub mod color;
pub mod conversion;
pub mod detection;
pub mod device;
pub mod error;
pub mod frame;
pub mod frame_mapping;
pub mod hdr;
pub mod hiding;
pub mod histogram;
pub mod instance_mask;
pub mod model_output;
pub mod oriented_box;
pub mod outline;
pub mod packet;
pub mod pixel;
mod pixel_aspect;
pub mod pool;
pub mod printable;
pub mod private_address;
pub mod random;
pub mod region;
pub mod resize;
pub mod run_files;
pub mod skeleton;
pub mod source_clock;
pub mod source_url;
pub mod stream;
pub mod stroke;
pub mod surface;
pub mod tensor;
pub mod time;

pub use attribute::{Attribute, AttributeValue, ScoredLabel};
pub use augment::{AugmentParams, AugmentSpec, BatchSpec, ColorStep, Erasure, GaussianBlur};
pub use axis_blur::AxisBlur;
pub use cancel::{CancelToken, Wake};
pub use color::{ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer};
pub use conversion::{ChannelMix, Conversion, CropWindow, FastYuv, Placement, Sampling, ToneCurves};
pub use detection::{BBox, Detection, DetectionOrigin, Label, Point};
pub use device::Device;
pub use error::CoreError;
pub use frame::{FieldOrder, Frame, FrameStatus, Rotation, StillMetadata};
pub use frame_mapping::FrameMapping;
pub use hdr::{ContentLight, HdrMetadata, MasteringDisplay};
pub use hiding::{BlurPlan, FillPlan, HidePlan, MaskCover, MaskPlan, MosaicPlan};
pub use histogram::{HISTOGRAM_BINS, Histogram, HistogramPlan};
pub use instance_mask::InstanceMask;
pub use model_output::{Activation, BoxForm};
pub use oriented_box::OrientedBox;
pub use outline::Outline;
pub use packet::Packet;
pub use pixel::{Component, PixelFamily, PixelFormat};
pub use pixel_aspect::PixelAspect;
pub use pool::{FramePool, PoolStats};
pub use printable::{markup_escaped, printable, printable_lines};
pub use private_address::is_private_address;
pub use random::SplitMix64;
pub use region::Region;
pub use resize::{Resize, ResizeAxis, ResizeFilter, ResizeTaps};
pub use run_files::{FileConflict, RunFiles};
pub use skeleton::Skeleton;
pub use source_clock::{Placed, SourceClock, StatedTime, StepLimits};
pub use source_url::{OBJECT_SCHEMES, SourceUrl, is_object_scheme, masked, percent_decoded, redacted};
pub use stream::{MediaKind, SideStream, StreamId, StreamInfo};
pub use stroke::{Stroke, StrokeShape};
pub use surface::{DeviceSurface, HostMemory, HostSurface, PlaneLayout, Surface};
pub use tensor::{ChannelOrder, DType, TensorLayout, TensorSpec};
pub use time::{Pts, Rational, TimeBase};
