//! Ready-made pipelines of the command line's commands.

pub mod blur_faces;

pub use blur_faces::{BlurFaces, Cover, CoverShape, HoldFor, KeptFaces, Review};
