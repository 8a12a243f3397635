//! Kernels and their launchers: conversion to tensors, augmentation, hiding and drawing on surfaces, brightness histograms, decoding
//! of boxes, plane copies, rotation.
//!
//! Each launcher checks sizes and formats, orders its work through the events of its buffers, and queues it on a
//! stream without blocking the host. Each has a raw variant that takes addresses and any [`Runner`]: for memory outside
//! this crate's buffers, and for tests without a GPU, which run the same sources on the host.

pub mod augment;
pub mod boxes;
pub mod convert;
pub mod copy;
pub mod draw;
mod image;
mod launch;
pub mod obscure;
pub mod scene;
pub mod tables;
pub mod turn;

pub use augment::{AugmentJob, RawAugmentJob, augment_batch, augment_foreign, augment_raw, augment_scratch_bytes};
pub use boxes::{
    Activation, BoxDecoder, BoxFamily, BoxForm, DeviceTensor, FoundBox, FrameBoxes, RawOutputs, RawScratch, decode_boxes, decode_boxes_raw,
    read_boxes,
};
pub use convert::{
    ChannelMix, ChannelOrder, Conversion, ConvertJob, CropWindow, FastYuv, Placement, RawConvertJob, Sampling, TensorSpec, convert_batch,
    convert_raw,
};
pub use copy::{repack_raw, repacked, repacked_format};
pub use draw::{DrawJob, RawDrawJob, draw_batch, draw_commands, draw_raw};
pub use image::RawImage;
pub use launch::Runner;
pub use obscure::{ObscureJob, RawObscureJob, obscure_batch, obscure_rasters, obscure_raw, obscure_scratch_bytes};
pub use scene::{HISTOGRAM_BYTES, HistogramJob, RawHistogramJob, count_histograms, count_histograms_raw, read_histograms};
pub use tables::{ConversionTables, RawTables, TableBytes, TableCache};
pub use turn::{turn_raw, turned};

use crate::KernelSource;
use image::SampleLayout;
use launch::{bracketed, run_with, slots};

/// Headers available to every kernel source.
const HEADERS: &[(&str, &str)] = &[("common.cuh", include_str!("common.cuh")), ("samples.cuh", include_str!("samples.cuh"))];

/// All kernel sources, for compiling them ahead of time.
pub const SOURCES: &[&KernelSource] =
    &[&augment::SOURCE, &boxes::SOURCE, &convert::SOURCE, &copy::SOURCE, &draw::SOURCE, &obscure::SOURCE, &scene::SOURCE, &turn::SOURCE];
