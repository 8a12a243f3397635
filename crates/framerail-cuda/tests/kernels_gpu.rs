//! The same kernels on a real card.
//!
//! Needs a card, its driver and NVRTC; says loudly when there is none.

mod kernels_cases;

use std::sync::Arc;

use framerail_core::{DType, HostSurface};
use framerail_cuda::{
    CudaDevice, CudaStream, CudaSurface, DevicePool, PinnedPool,
    kernels::{
        BoxDecoder, Conversion, ConvertJob, DeviceTensor, HideRegion, ObscureJob, PictureBoxes, TensorSpec, convert_batch, decode_boxes,
        obscure_batch, read_boxes,
    },
};
use kernels_cases::Card;

struct Gpu {
    stream: CudaStream,
    pool: DevicePool,
    pinned: PinnedPool,
}

/// The first card, or `None` with a loud word.
fn gpu() -> Option<Gpu> {
    let open = || -> Result<Gpu, framerail_cuda::CudaError> {
        let device: Arc<CudaDevice> = CudaDevice::open(0)?;
        Ok(Gpu { stream: CudaStream::new(&device)?, pool: DevicePool::new(&device, 1 << 30)?, pinned: PinnedPool::new(&device, 4) })
    };
    match open() {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            eprintln!("GPU TESTS DID NOT RUN: {error}");
            assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, and there is no GPU");
            None
        }
    }
}

impl Card for Gpu {
    fn convert(&self, pictures: &[HostSurface], conversions: &[Conversion], tensor: &TensorSpec) -> Vec<u8> {
        let upload = |picture| CudaSurface::upload(picture, &self.pool, &self.stream).expect("room for a picture");
        let surfaces: Vec<CudaSurface> = pictures.iter().map(upload).collect();
        let bytes = tensor.picture_bytes();
        let out = self.pool.buffer(bytes * pictures.len() + 64).expect("room for a tensor");
        out.fill(0x5a, &self.stream).expect("a working card");
        let jobs = surfaces.iter().zip(conversions).enumerate();
        let jobs = jobs.map(|(index, (surface, conversion))| ConvertJob {
            surface,
            conversion: *conversion,
            out: &out,
            out_offset_bytes: index * bytes,
        });
        convert_batch(&self.stream, tensor, &jobs.collect::<Vec<_>>()).expect("fitting sizes");
        let mut host = vec![0; bytes * pictures.len() + 64];
        out.download(0, &mut host, &self.stream).expect("a working card");
        let guard = host.split_off(bytes * pictures.len());
        assert!(guard.iter().all(|byte| *byte == 0x5a), "written beyond the output");
        host
    }

    fn obscure(&self, pictures: &mut [HostSurface], regions: &[Vec<HideRegion>]) {
        let upload = |picture: &HostSurface| CudaSurface::upload(picture, &self.pool, &self.stream).expect("room for a picture");
        let surfaces: Vec<CudaSurface> = pictures.iter().map(upload).collect();
        let jobs: Vec<ObscureJob<'_>> = surfaces.iter().zip(regions).map(|(surface, regions)| ObscureJob { surface, regions }).collect();
        obscure_batch(&self.stream, &self.pool, &jobs).expect("fitting regions");
        for (picture, surface) in pictures.iter_mut().zip(&surfaces) {
            *picture = surface.download(&self.pinned, &self.stream).expect("a working card");
        }
    }

    fn boxes(&self, decoder: &BoxDecoder, tensors: [&[u8]; 4], dtype: DType, batch: u32) -> Vec<PictureBoxes> {
        let upload = |tensor: &[u8]| {
            let buffer = self.pool.buffer(tensor.len()).expect("room for a tensor");
            buffer.upload(0, tensor, &self.stream).expect("a working card");
            buffer
        };
        let buffers = tensors.map(|tensor| (!tensor.is_empty()).then(|| upload(tensor)));
        let tensors = buffers.each_ref().map(|buffer| buffer.as_ref().map(|buffer| DeviceTensor { buffer, offset_bytes: 0 }));
        let results = decode_boxes(&self.stream, &self.pool, decoder, tensors, dtype, batch).expect("fitting outputs");
        let mut bytes = vec![0; decoder.result_bytes(batch)];
        results.download(0, &mut bytes, &self.stream).expect("a working card");
        read_boxes(decoder, batch, &bytes).expect("whole results")
    }
}

macro_rules! on_the_gpu {
    ($($module:ident::$case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                if let Some(gpu) = gpu() {
                    kernels_cases::$module::$case(&gpu);
                }
            }
        )+
    };
}

on_the_gpu! {
    boxes::anchors_become_boxes,
    boxes::heatmaps_become_boxes,
    boxes::anchor_free_outputs_become_boxes,
    obscure::hides_as_the_host_does,
    obscure::many_regions_of_many_pictures_take_several_launches,
    convert::equals_the_host_for_every_format_size_crop_and_type,
    convert::nv12_at_its_own_size_takes_the_kernel_for_it_and_equals_the_other,
    convert::ten_bits_in_the_high_bits_equal_the_codes_of_the_planar_format,
    convert::hsv_follows_opencv,
    convert::batches_of_many_formats_and_sizes_land_where_they_should,
}
