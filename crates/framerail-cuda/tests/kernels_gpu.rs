//! The same kernel tests on a real GPU.
//!
//! Needs a GPU, its driver and NVRTC; prints a warning if there is none.

mod kernels_cases;

use std::sync::Arc;

use framerail_core::{
    AugmentParams, AugmentSpec, BatchSpec, ColorStep, DType, GaussianBlur, HidePlan, Histogram, HostSurface, PixelFormat, Resize,
    ResizeFilter, Rotation, Stroke, TensorLayout, ToneCurves,
};
use framerail_cuda::{
    CudaDevice, CudaEvent, CudaStream, CudaSurface, DevicePool, Download, PinnedPool, Uploads,
    kernels::{
        AugmentJob, BoxDecoder, ChannelMix, ChannelOrder, Conversion, ConvertJob, CropWindow, DeviceTensor, DrawJob, FrameBoxes,
        HISTOGRAM_BYTES, HistogramJob, ObscureJob, Placement, Sampling, TableCache, TensorSpec, augment_batch, convert_batch,
        count_histograms, decode_boxes, draw_batch, obscure_batch, read_boxes, read_histograms, repacked, turned,
    },
};
use kernels_cases::KernelRunner;

struct Gpu {
    stream: CudaStream,
    pool: DevicePool,
    pinned: PinnedPool,
}

/// The first GPU, or `None` with a warning.
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

impl KernelRunner for Gpu {
    fn convert_with(&self, images: &[HostSurface], conversions: &[Conversion], tone: Option<&ToneCurves>, tensor: &TensorSpec) -> Vec<u8> {
        let upload = |image| CudaSurface::upload(image, &self.pool, &self.stream).expect("room for a frame");
        let surfaces: Vec<CudaSurface> = images.iter().map(upload).collect();
        let bytes = tensor.image_bytes();
        let out = self.pool.buffer(bytes * images.len() + 64).expect("room for a tensor");
        out.fill(0x5a, &self.stream).expect("a working GPU");
        let cache = TableCache::default();
        let tables = |(surface, conversion): (&CudaSurface, &Conversion)| {
            cache.tables(conversion, (surface.width(), surface.height()), tone, &self.pool, &self.stream).expect("room for tables")
        };
        let tables: Vec<_> = surfaces.iter().zip(conversions).map(tables).collect();
        let jobs = surfaces.iter().zip(conversions).zip(&tables).enumerate();
        let jobs = jobs.map(|(index, ((surface, conversion), tables))| ConvertJob {
            surface,
            conversion: *conversion,
            tables: tables.as_deref(),
            out: &out,
            out_offset_bytes: index * bytes,
        });
        convert_batch(&self.stream, tensor, &jobs.collect::<Vec<_>>()).expect("fitting sizes");
        let mut host = vec![0; bytes * images.len() + 64];
        out.download(0, &mut host, &self.stream).expect("a working GPU");
        let guard = host.split_off(bytes * images.len());
        assert!(guard.iter().all(|byte| *byte == 0x5a), "written beyond the output");
        host
    }

    fn obscure(&self, images: &mut [HostSurface], regions: &[Vec<HidePlan>]) {
        let upload = |image: &HostSurface| CudaSurface::upload(image, &self.pool, &self.stream).expect("room for a frame");
        let surfaces: Vec<CudaSurface> = images.iter().map(upload).collect();
        let jobs: Vec<ObscureJob<'_>> = surfaces.iter().zip(regions).map(|(surface, regions)| ObscureJob { surface, regions }).collect();
        obscure_batch(&self.stream, &self.pool, &mut Uploads::new(self.pool.device()), &jobs).expect("fitting regions");
        for (image, surface) in images.iter_mut().zip(&surfaces) {
            *image = surface.download(&self.pinned, &self.stream).expect("a working GPU");
        }
    }

    fn boxes(&self, decoder: &BoxDecoder, tensors: [&[u8]; 4], dtype: DType, batch: u32) -> Vec<FrameBoxes> {
        let upload = |tensor: &[u8]| {
            let buffer = self.pool.buffer(tensor.len()).expect("room for a tensor");
            buffer.upload(0, tensor, &self.stream).expect("a working GPU");
            buffer
        };
        let buffers = tensors.map(|tensor| (!tensor.is_empty()).then(|| upload(tensor)));
        let tensors = buffers.each_ref().map(|buffer| buffer.as_ref().map(|buffer| DeviceTensor { buffer, offset_bytes: 0 }));
        let results = decode_boxes(&self.stream, &self.pool, decoder, tensors, dtype, batch).expect("fitting outputs");
        let mut bytes = vec![0; decoder.result_bytes(batch)];
        results.download(0, &mut bytes, &self.stream).expect("a working GPU");
        read_boxes(decoder, batch, &bytes).expect("whole results")
    }

    fn draw(&self, images: &mut [HostSurface], strokes: &[Vec<Stroke>]) {
        let upload = |image: &HostSurface| CudaSurface::upload(image, &self.pool, &self.stream).expect("room for a frame");
        let surfaces: Vec<CudaSurface> = images.iter().map(upload).collect();
        let jobs: Vec<DrawJob<'_>> = surfaces.iter().zip(strokes).map(|(surface, strokes)| DrawJob { surface, strokes }).collect();
        draw_batch(&self.stream, &self.pool, &jobs).expect("fitting strokes");
        for (image, surface) in images.iter_mut().zip(&surfaces) {
            *image = surface.download(&self.pinned, &self.stream).expect("a working GPU");
        }
    }

    fn histograms(&self, images: &[HostSurface]) -> Vec<Histogram> {
        let upload = |image| CudaSurface::upload(image, &self.pool, &self.stream).expect("room for a frame");
        let surfaces: Vec<CudaSurface> = images.iter().map(upload).collect();
        let plan = |surface: &CudaSurface| framerail_vision::histogram_plan(surface.format());
        let jobs: Vec<HistogramJob<'_>> = surfaces.iter().map(|surface| HistogramJob { surface, plan: plan(surface) }).collect();
        let counts = count_histograms(&self.stream, &self.pool, &jobs).expect("fitting plans");
        let bytes = images.len() * HISTOGRAM_BYTES;
        let counts = Download::queue(&counts, 0, bytes, &self.pinned, &self.stream).expect("a working GPU");
        read_histograms(images.len(), counts.wait().expect("a working GPU").bytes()).expect("whole counts")
    }

    fn repacked(&self, image: &HostSurface) -> HostSurface {
        let surface = CudaSurface::upload(image, &self.pool, &self.stream).expect("room for a frame");
        let out = repacked(&surface, &self.pool, &self.stream).expect("a format with a counterpart");
        out.download(&self.pinned, &self.stream).expect("a working GPU")
    }

    fn turned(&self, image: &HostSurface, rotation: Rotation) -> HostSurface {
        let surface = CudaSurface::upload(image, &self.pool, &self.stream).expect("room for a frame");
        let out = turned(&surface.planes(), rotation, &self.pool, &self.stream).expect("a format that can be turned");
        out.download(&self.pinned, &self.stream).expect("a working GPU")
    }

    fn augment(&self, spec: &AugmentSpec, params: &[AugmentParams], input: &[u8]) -> Vec<u8> {
        // Both batches start within their buffers, and the output ends before its buffer.
        let (offset, bytes) = (48, spec.output.image_bytes() * params.len());
        let from = self.pool.buffer(offset + input.len()).expect("room for a batch");
        from.upload(offset, input, &self.stream).expect("a working GPU");
        let to = self.pool.buffer(bytes + 2 * offset).expect("room for a batch");
        to.fill(0x5a, &self.stream).expect("a working GPU");
        let job = AugmentJob { params, input: &from, input_offset_bytes: offset, output: &to, output_offset_bytes: offset };
        augment_batch(&self.stream, &self.pool, spec, &job).expect("fitting numbers");
        let mut host = vec![0; bytes + 2 * offset];
        to.download(0, &mut host, &self.stream).expect("a working GPU");
        assert!(host[..offset].iter().chain(&host[offset + bytes..]).all(|byte| *byte == 0x5a), "written beyond the output");
        host[offset..offset + bytes].to_vec()
    }
}

/// Frames per second of common jobs, with all data in device memory: `cargo test --test kernels_gpu -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings and checks nothing"]
fn speed() {
    let Some(gpu) = gpu() else { return };
    let mut noise = kernels_cases::Noise(1);
    let host = noise.image(PixelFormat::Nv12, 1920, 1080);
    let surfaces: Vec<CudaSurface> =
        (0..32).map(|_| CudaSurface::upload(&host, &gpu.pool, &gpu.stream).expect("room for a frame")).collect();
    let rgb = |width, height, layout, dtype| TensorSpec { width, height, layout, dtype, channel_order: ChannelOrder::Rgb };
    let filter = |filter, antialias| Sampling::Filter(Resize { filter, antialias });
    let cache = TableCache::default();
    let jobs = [
        ("1080p, planar u8", rgb(1920, 1080, TensorLayout::Tchw, DType::U8), Sampling::Bilinear),
        ("1080p, packed u8", rgb(1920, 1080, TensorLayout::Thwc, DType::U8), Sampling::Bilinear),
        ("1080p, planar f16", rgb(1920, 1080, TensorLayout::Tchw, DType::F16), Sampling::Bilinear),
        ("300x300, planar f32, bilinear", rgb(300, 300, TensorLayout::Tchw, DType::F32), Sampling::Bilinear),
        ("300x300, planar f32, bilinear 8-bit", rgb(300, 300, TensorLayout::Tchw, DType::F32), Sampling::Bilinear8Bit),
        ("300x300, planar f32, area", rgb(300, 300, TensorLayout::Tchw, DType::F32), Sampling::Area),
        ("224x224, planar u8, aliased", rgb(224, 224, TensorLayout::Tchw, DType::U8), filter(ResizeFilter::Bilinear, false)),
        ("224x224, planar u8, antialias", rgb(224, 224, TensorLayout::Tchw, DType::U8), filter(ResizeFilter::Bilinear, true)),
        ("224x224, planar u8, bicubic, antialias", rgb(224, 224, TensorLayout::Tchw, DType::U8), filter(ResizeFilter::Bicubic, true)),
        ("640x360, planar u8, aliased", rgb(640, 360, TensorLayout::Tchw, DType::U8), filter(ResizeFilter::Bilinear, false)),
        ("640x360, planar u8, antialias", rgb(640, 360, TensorLayout::Tchw, DType::U8), filter(ResizeFilter::Bilinear, true)),
    ];
    for (name, tensor, sampling) in jobs {
        let out = gpu.pool.buffer(tensor.image_bytes() * surfaces.len()).expect("room for a batch");
        let mix = |cb: f32, cr: f32| ChannelMix { gain: [1.164, cb, cr], bias: -100.0, scale: 1.0, shift: 0.0 };
        let conversion = Conversion {
            window: CropWindow { x: 0.0, y: 0.0, width: 1920.0, height: 1080.0 },
            placement: Placement { left: 0, top: 0, width: tensor.width, height: tensor.height },
            resized: (tensor.width, tensor.height),
            cut: (0, 0),
            sampling,
            mixes: [mix(0.0, 1.793), mix(-0.213, -0.533), mix(2.112, 0.0)],
            padding: [0.0; 3],
            fast: None,
            in_bytes: matches!(sampling, Sampling::Filter(_)),
            value_shift: 0,
        };
        let tables = cache.tables(&conversion, (1920, 1080), None, &gpu.pool, &gpu.stream).expect("room for tables");
        let jobs: Vec<ConvertJob<'_>> = surfaces
            .iter()
            .enumerate()
            .map(|(index, surface)| ConvertJob {
                surface,
                conversion,
                tables: tables.as_deref(),
                out: &out,
                out_offset_bytes: index * tensor.image_bytes(),
            })
            .collect();
        print_speed(&gpu, name, || convert_batch(&gpu.stream, &tensor, &jobs).expect("fitting sizes"));
    }
    let plan = framerail_vision::histogram_plan(PixelFormat::Nv12);
    let jobs: Vec<HistogramJob<'_>> = surfaces.iter().map(|surface| HistogramJob { surface, plan }).collect();
    print_speed(&gpu, "1080p, brightness in bins", || {
        count_histograms(&gpu.stream, &gpu.pool, &jobs).expect("fitting plans");
    });
    print_augment_speed(&gpu);
}

fn print_augment_speed(gpu: &Gpu) {
    let batch = |width, height, dtype| BatchSpec { width, height, layout: TensorLayout::Tchw, dtype };
    let (input, output) = (batch(480, 270, DType::U8), batch(224, 224, DType::F16));
    let spec = AugmentSpec { input, output, scale: 1.0 / 255.0, mean: [0.5; 3], std: [0.25; 3] };
    let buffer = |bytes: usize| gpu.pool.buffer(bytes * 32).expect("room for a batch");
    let (from, to) = (buffer(input.image_bytes()), buffer(output.image_bytes()));
    from.fill(0x5a, &gpu.stream).expect("a working GPU");
    let crop = AugmentParams { flip_horizontal: true, ..AugmentParams::whole(480, 270) };
    let jitter = [ColorStep::Brightness(1.1), ColorStep::Contrast(0.8), ColorStep::Saturation(1.2), ColorStep::Hue(0.1)];
    let blur = Some(GaussianBlur { kernel: [23, 23], sigma: [1.5; 2] });
    let kinds = [
        ("480x270 to 224x224, crop and flip", crop),
        ("480x270 to 224x224, antialias", AugmentParams { antialias: true, ..crop }),
        ("480x270 to 224x224, with jitter", AugmentParams { color: jitter, ..crop }),
        ("480x270 to 224x224, with jitter and blur", AugmentParams { color: jitter, blur, ..crop }),
    ];
    for (name, params) in kinds {
        let job = AugmentJob { params: &[params; 32], input: &from, input_offset_bytes: 0, output: &to, output_offset_bytes: 0 };
        print_speed(gpu, name, || augment_batch(&gpu.stream, &gpu.pool, &spec, &job).expect("fitting numbers"));
    }
}

/// Queues a batch of 32 frames 20 times.
fn print_speed(gpu: &Gpu, name: &str, batch: impl Fn()) {
    let (from, to) = (timed_event(gpu), timed_event(gpu));
    batch();
    from.record(&gpu.stream).expect("a working GPU");
    (0..20).for_each(|_| batch());
    to.record(&gpu.stream).expect("a working GPU");
    to.synchronize().expect("a working GPU");
    let millis = to.millis_since(&from).expect("two timed events");
    println!("{name}: {:.0} frames/s", 20.0 * 32.0 / millis * 1000.0);
}

fn timed_event(gpu: &Gpu) -> CudaEvent {
    CudaEvent::new(gpu.stream.device(), true).expect("a working GPU")
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
    augment::augmentation_equals_the_host_for_every_layout_and_type,
    augment::drawn_numbers_give_what_the_host_gives,
    augment::long_batches_take_several_launches,
    scene::histograms_are_those_of_the_host_in_every_format,
    scene::many_frames_take_several_launches,
    draw::detections_are_drawn_as_on_the_host,
    draw::repacked_surfaces_hold_the_same_samples,
    turn::turned_frames_hold_each_sample_in_its_new_place,
    boxes::anchors_become_boxes,
    boxes::heatmaps_become_boxes,
    boxes::anchor_free_outputs_become_boxes,
    obscure::hides_as_the_host_does,
    obscure::many_regions_of_many_frames_take_several_launches,
    convert::equals_the_host_for_every_format_size_crop_and_type,
    convert::nv12_at_its_own_size_takes_the_kernel_for_it_and_equals_the_other,
    convert::ten_bits_in_the_high_bits_equal_the_codes_of_the_planar_format,
    convert::hsv_follows_opencv,
    convert::filters_equal_the_host_for_every_format_size_and_type,
    convert::high_range_is_mapped_as_on_the_host,
    convert::batches_of_many_formats_and_sizes_land_where_they_should,
}
