//! Ready-made pipelines: what the command line's own commands run.

pub mod blur_faces;

pub use blur_faces::{BlurFaces, Cover, CoverShape, HoldFor, Review};
