//! Operations on frames and boxes in host memory: preprocessing for models, masks, blur, drawing,
//! non-maximum suppression, tracking, zones, augmentation.
//!
//! Frames are processed in their own pixel format, 8 to 16 bits, without a round trip through RGB. The
//! exception is preprocessing in 8-bit arithmetic ([`Sampling::Bilinear8Bit`]), which goes through RGB by design.
#![forbid(unsafe_code)]

pub mod augment;
mod blur;
pub mod camera_motion;
mod channel_rows;
mod color;
pub mod compare;
mod contour;
pub mod dense;
mod described;
mod distance;
pub mod draw;
mod eight_bit;
pub mod error;
mod fast_yuv;
mod fill;
mod fixed_kernels;
mod follow;
mod font;
pub mod hold;
mod hsv;
mod hull;
mod kernels;
mod letters;
pub mod link;
pub mod mask;
pub mod merge;
mod mosaic;
mod motion;
pub mod nms;
pub mod obscure;
pub mod overlay;
mod patch;
pub mod plan;
mod polygon;
pub mod preprocess;
pub mod resize;
pub mod sampling;
pub mod scene;
pub mod sheet;
pub mod sketch;
pub mod tensor;
#[cfg(test)]
mod test_images;
mod to_yuv;
pub mod track;
mod vectors;
mod windows;
pub mod zones;

pub use augment::{Augment, AugmentScope, Augmenter, ColorJitter, RandomBlur, RandomCrop, RandomErase};
pub use camera_motion::CameraMotionEstimator;
pub use compare::{Comparison, Difference, compare};
pub use draw::Canvas;
pub use error::VisionError;
pub use fill::fill;
pub use follow::Follower;
pub use framerail_core::{Resize, ResizeFilter};
pub use hold::{HoldBuffer, HoldInput, HoldOptions, HoldStats};
pub use hsv::rgb_from_hsv;
pub use letters::{Letters, TextBlock};
pub use link::{Linker, LinkerOptions};
pub use mask::{Mask, MaskOptions, MaskShape, MaskSource};
pub use merge::{MatchMetric, MergeOptions, MergeRule, merge};
pub use motion::MotionDetector;
pub use nms::nms;
pub use obscure::{MosaicCell, Obscure, ObscureCounts, Obscurer, obscure_region};
pub use overlay::Overlay;
pub use plan::{ChannelMix, ConversionPlan, FastYuv, Placement};
pub use preprocess::{ChannelOrder, Fit, ModelMapping, Preprocess, Preprocessor};
pub use resize::{size_within, thumbnail, thumbnail_of};
pub use sampling::Sampling;
pub use scene::{SceneDetector, histogram, histogram_plan};
pub use sheet::{SheetImage, contact_sheet};
pub use sketch::{ColorBy, DrawOptions, Sketch};
pub use tensor::{Cut, TensorConverter, TensorOptions, TensorSize, ToneMap};
pub use to_yuv::{PixelArray, ToYuv};
pub use track::{
    ByteTrackOptions, CameraMotion, OcSortOptions, SharedIdentities, SharedOptions, TrackAlgorithm, Tracker, TrackerOptions, TrackerStats,
};
pub use zones::{FrameZones, ZoneEvent, ZoneMap, ZoneWatcher};
