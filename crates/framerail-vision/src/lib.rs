//! Operations on frames and boxes in host memory: preprocessing for models, masks, blur, drawing,
//! non-maximum suppression, linking over time.
//!
//! Everything works on the frame's own pixel format, 8 to 16 bits; nothing makes a round trip through RGB.
#![forbid(unsafe_code)]

pub mod error;
pub mod preprocess;

pub use error::VisionError;
pub use preprocess::{ChannelOrder, Fit, ModelMapping, Preprocess, Preprocessor};
