//! Kernels and their launchers: conversion to tensors, augmentation, hiding and drawing on surfaces, brightness in bins, boxes
//! out of model outputs, plane copies, turns.
//!
//! Each launcher checks sizes and formats, orders its work by the marks of the buffers that it touches, and queues it on a
//! stream; the host never waits. Beneath each is a function that takes addresses and any [`Runner`]: for memory that is not in
//! this crate's buffers, and for tests without a card, which run the same sources on the host.

pub mod augment;
pub mod boxes;
pub mod convert;
pub mod copy;
pub mod draw;
mod launch;
pub mod obscure;
mod picture;
pub mod scene;
pub mod tables;
pub mod turn;

pub use augment::{AugmentJob, RawAugmentJob, augment_batch, augment_foreign, augment_raw, augment_scratch_bytes};
pub use boxes::{
    Activation, BoxDecoder, BoxFamily, BoxForm, DeviceTensor, FoundBox, PictureBoxes, RawOutputs, RawScratch, decode_boxes,
    decode_boxes_raw, read_boxes,
};
pub use convert::{
    ChannelMix, ChannelOrder, Conversion, ConvertJob, CropWindow, FastYuv, Placement, RawConvertJob, Sampling, TensorSpec, convert_batch,
    convert_raw,
};
pub use copy::{repack_raw, repacked, repacked_format};
pub use draw::{DrawJob, RawDrawJob, draw_batch, draw_commands, draw_raw};
pub use launch::Runner;
pub use obscure::{ObscureJob, RawObscureJob, obscure_batch, obscure_rasters, obscure_raw, obscure_scratch_bytes};
pub use picture::RawPicture;
pub use scene::{HISTOGRAM_BYTES, HistogramJob, RawHistogramJob, count_histograms, count_histograms_raw, read_histograms};
pub use tables::{ConversionTables, RawTables, TableBytes, TableCache};
pub use turn::{turn_raw, turned};

use crate::KernelSource;
use launch::{bracketed, run_with, slots};
use picture::SampleLayout;

/// What every kernel source includes.
const HEADERS: &[(&str, &str)] = &[("common.cuh", include_str!("common.cuh")), ("samples.cuh", include_str!("samples.cuh"))];

/// The sources of all kernels, for compiling them ahead of time.
pub const SOURCES: &[&KernelSource] =
    &[&augment::SOURCE, &boxes::SOURCE, &convert::SOURCE, &copy::SOURCE, &draw::SOURCE, &obscure::SOURCE, &scene::SOURCE, &turn::SOURCE];
