//! Augmentation for training: described by ranges ([`Augment`]), drawn from a seed as plain numbers, carried out on the host
//! ([`Augmenter`]) or on a card.
//!
//! Order and formulas are those of [`framerail_core::augment`].

mod augmenter;
mod blur;
mod color;
mod description;
mod draw;
mod resample;

pub use augmenter::Augmenter;
pub use description::{Augment, AugmentScope, ColorJitter, RandomBlur, RandomCrop, RandomErase};
pub use framerail_core::{AugmentParams, AugmentSpec, BatchSpec, ColorStep, Erasure, GaussianBlur};
