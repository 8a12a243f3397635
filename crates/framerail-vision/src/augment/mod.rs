//! Augmentation for training. [`Augment`] describes ranges and draws parameters from a seed; [`Augmenter`] applies the parameters on
//! the host. A GPU can apply the same parameters.
//!
//! The order of operations and the formulas are those of [`framerail_core::augment`].

mod augmenter;
mod blur;
mod color;
mod description;
mod draw;
mod resample;

pub use augmenter::Augmenter;
pub use description::{Augment, AugmentScope, ColorJitter, RandomBlur, RandomCrop, RandomErase};
pub use framerail_core::{AugmentParams, AugmentSpec, BatchSpec, ColorStep, Erasure, GaussianBlur};
