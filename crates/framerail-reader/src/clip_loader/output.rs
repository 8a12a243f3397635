//! Conversion of a clip's frames: scaled, cropped, augmented and arranged for the batch.

use framerail_core::{AugmentSpec, BatchSpec, DType, TensorLayout};
use framerail_vision::{ChannelOrder, Cut, Fit, TensorOptions, TensorSize, VisionError, augment::Augmenter};

use super::{ClipAugment, ClipLoaderOptions, ClipShape};
use crate::{ImageShape, OutputOptions, ReaderError, VideoReader};

/// Output settings shared by all clips.
pub(super) struct ClipOutput {
    base: OutputOptions,
    augment: Option<ClipAugment>,
    short_side: Option<u32>,
    parts: usize,
    crops: usize,
    frames: usize,
    channels_first: bool,
}

/// Output settings for the clips of one source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SourceOutput {
    /// Output options of the reader.
    pub(super) read: OutputOptions,
    /// Shape of one frame from the reader.
    pub(super) image: ImageShape,
    /// Crops of each frame; empty when the whole frame is used.
    windows: Vec<Window>,
    /// Augmentation settings, except for the random draws.
    pub(super) augment: Option<AugmentSpec>,
    /// Shape of the resulting clip.
    pub(super) shape: ClipShape,
    pub(super) source_name: String,
    /// Outputs that a GPU makes of each frame: one tensor per crop.
    #[cfg(feature = "cuda")]
    pub(super) gpu_parts: Vec<TensorOptions>,
}

/// A rectangle of a frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Window {
    fn cut(self) -> Cut {
        let Self { x, y, width, height } = self;
        Cut { left: x as u32, top: y as u32, width: width as u32, height: height as u32 }
    }
}

/// Buffers that a thread reuses between clips.
#[derive(Default)]
pub(super) struct Scratch {
    gathered: Vec<u8>,
    made: Vec<u8>,
    augmenter: Option<Augmenter>,
}

fn refuse(name: &'static str, reason: impl Into<String>) -> ReaderError {
    ReaderError::BadOption { name, reason: reason.into() }
}

impl ClipOutput {
    pub(super) fn new(options: &ClipLoaderOptions) -> Result<Self, ReaderError> {
        let base = options.reader.output.clone();
        let tensor = if let OutputOptions::Tensor(tensor) = &base { Some(tensor) } else { None };
        if matches!(base, OutputOptions::Yuv) {
            return Err(refuse("channels", "decoded planes cannot be batched; use rgb, bgr, gray or hsv"));
        }
        if options.views == 0 || !matches!(options.crops, 1 | 3) {
            return Err(refuse("views", "give at least 1; crops are 1 or 3"));
        }
        if options.views > 1 && options.augment.is_none() {
            return Err(refuse("views", "several views of a clip differ by their augmentation; give augment too"));
        }
        if options.views > 1 && options.crops > 1 {
            return Err(refuse("crops", "must be 1 with several views: a clip has one axis for crops and views"));
        }
        if options.channels_first && tensor.is_none_or(|tensor| tensor.layout != TensorLayout::Tchw) {
            return Err(refuse("layout", "CTHW needs the reader's layout TCHW, and cannot go with exact"));
        }
        let layout = options.augment.as_ref().map_or(TensorLayout::Tchw, |augment| augment.layout);
        if options.channels_first && layout != TensorLayout::Tchw {
            return Err(refuse("layout", "CTHW needs an augmentation with layout TCHW"));
        }
        match (options.short_side, tensor) {
            (Some(0), _) => return Err(refuse("short_side", "give at least 1 pixel")),
            (Some(_), None) => return Err(refuse("short_side", "exact='swscale' keeps the video's own size")),
            (Some(_), Some(tensor)) if tensor.crop.is_some() || tensor.fit != Fit::Stretch => {
                return Err(refuse("short_side", "decides what is cut off; leave out crop and letterbox"));
            }
            _ => {}
        }
        if options.crops > 1 && (options.short_side.is_none() || tensor.is_none_or(|tensor| tensor.size.exact().is_none())) {
            return Err(refuse("crops", "needs short_side, and the size of a crop"));
        }
        if let Some(augment) = &options.augment {
            augment.description.check().map_err(|error| refuse("augment", error.to_string()))?;
            let is_rgb = tensor.is_none_or(|tensor| tensor.channel_order == ChannelOrder::Rgb);
            let dtype = tensor.map_or(DType::U8, |tensor| tensor.dtype);
            if !is_rgb || !matches!(dtype, DType::U8 | DType::F32) {
                return Err(refuse("augment", "takes RGB in uint8, or float32 from 0 to 1"));
            }
        }
        Ok(Self {
            base,
            augment: options.augment.clone(),
            short_side: options.short_side,
            parts: options.views.max(options.crops),
            crops: options.crops,
            frames: options.sampling.frames_per_clip,
            channels_first: options.channels_first,
        })
    }

    /// The shape of a clip, if it does not depend on the source.
    pub(super) fn shape(&self) -> Option<ClipShape> {
        let OutputOptions::Tensor(tensor) = &self.base else { return None };
        let size = match &self.augment {
            // Neither depends on the size of the input when it determines the output size itself.
            Some(augment) => augment.description.output_size(0, 0).ok().filter(|size| *size != (0, 0)).or(tensor.size.exact())?,
            None => tensor.size.exact()?,
        };
        let (axes, dtype) = match &self.augment {
            Some(augment) => (axes_of(size, 3, augment.layout), augment.dtype),
            None => {
                (TensorOptions { size: TensorSize::Exact(size.0, size.1), crop: None, ..*tensor }.image_shape(size.0, size.1), tensor.dtype)
            }
        };
        Some(self.clip(axes, dtype))
    }

    fn clip(&self, image: [usize; 3], dtype: DType) -> ClipShape {
        ClipShape { parts: self.parts, frames: self.frames, image, channels_first: self.channels_first, dtype }
    }

    /// Output settings for the clips of a source.
    pub(super) fn of(&self, reader: &VideoReader) -> Result<SourceOutput, ReaderError> {
        let (width, height) = (reader.metadata().width, reader.metadata().height);
        let source_name = reader.metadata().source.clone();
        let (read, windows) = self.read(width, height, &source_name)?;
        #[cfg(feature = "cuda")]
        let gpu_parts = self.gpu_parts(&read, width, height, &windows);
        let image =
            crate::host_frames::image_shape(&read, crate::host_frames::FrameKind { width, height, format: reader.metadata().pixel_format });
        let (own, dtype) = ((image_size(&image)), image.dtype);
        let (axes, dtype, augment) = match &self.augment {
            None => match windows.first() {
                Some(window) => (axes_of((window.width as u32, window.height as u32), channels(&image), image.layout), dtype, None),
                None => (image.axes, dtype, None),
            },
            Some(augment) => {
                let (width, height) = windows.first().map_or(own, |window| (window.width as u32, window.height as u32));
                let size = augment.description.output_size(width, height).map_err(|error| refuse("augment", error.to_string()))?;
                let input = BatchSpec { width, height, layout: image.layout, dtype };
                let output = BatchSpec { width: size.0, height: size.1, layout: augment.layout, dtype: augment.dtype };
                let spec = AugmentSpec { input, output, scale: augment.scale, mean: augment.mean, std: augment.std };
                (axes_of(size, 3, augment.layout), augment.dtype, Some(spec))
            }
        };
        Ok(SourceOutput {
            read,
            image,
            windows,
            augment,
            shape: self.clip(axes, dtype),
            source_name,
            #[cfg(feature = "cuda")]
            gpu_parts,
        })
    }

    /// Output options for reading frames of this size, and the crops to take from them.
    fn read(&self, width: u32, height: u32, source_name: &str) -> Result<(OutputOptions, Vec<Window>), ReaderError> {
        let (OutputOptions::Tensor(tensor), Some(short)) = (&self.base, self.short_side) else {
            return Ok((self.base.clone(), Vec::new()));
        };
        let scale = f64::from(short) / f64::from(width.min(height).max(1));
        let side = |side: u32| if side == width.min(height) { short } else { (f64::from(side) * scale).round() as u32 };
        let whole = (side(width), side(height));
        let Some((cut_width, cut_height)) = tensor.size.exact() else {
            return Ok((OutputOptions::Tensor(TensorOptions { size: TensorSize::Exact(whole.0, whole.1), ..*tensor }), Vec::new()));
        };
        if cut_width > whole.0 || cut_height > whole.1 {
            let reason = format!(
                "{source_name}: {cut_height}x{cut_width} (height x width) cannot be cut out of {}x{}; give a larger short_side",
                whole.1, whole.0
            );
            return Err(refuse("size", reason));
        }
        let windows = self.windows(whole, (cut_width, cut_height));
        match windows.as_slice() {
            [one] => {
                let size = TensorSize::Exact(whole.0, whole.1);
                Ok((OutputOptions::Tensor(TensorOptions { size, cut: Some(one.cut()), ..*tensor }), Vec::new()))
            }
            _ => Ok((OutputOptions::Tensor(TensorOptions { size: TensorSize::Exact(whole.0, whole.1), ..*tensor }), windows)),
        }
    }

    /// Crops of a scaled frame: the centre, or with three crops also both ends of the longer side.
    fn windows(&self, whole: (u32, u32), cut: (u32, u32)) -> Vec<Window> {
        let (spare_x, spare_y) = ((whole.0 - cut.0) as usize, (whole.1 - cut.1) as usize);
        // Same rounding as torchvision's `center_crop`.
        let middle = |spare: usize| (spare as f64 / 2.0).round_ties_even() as usize;
        let window = |part: usize| {
            let along = |spare: usize| [0, middle(spare), spare][part.min(2)];
            let (x, y) = if whole.0 >= whole.1 { (along(spare_x), middle(spare_y)) } else { (middle(spare_x), along(spare_y)) };
            Window { x, y, width: cut.0 as usize, height: cut.1 as usize }
        };
        if self.crops == 1 { vec![window(1)] } else { (0..self.crops).map(window).collect() }
    }

    /// On a GPU, the conversion takes the crops: only their pixels are computed, identical to those of the scaled frame.
    #[cfg(feature = "cuda")]
    fn gpu_parts(&self, read: &OutputOptions, width: u32, height: u32, windows: &[Window]) -> Vec<TensorOptions> {
        let OutputOptions::Tensor(tensor) = read else { return Vec::new() };
        // The first frame may differ in size from the header; all frames of a clip have one size.
        let whole = match tensor.cut {
            Some(_) => tensor.size,
            None => {
                let (width, height) = tensor.image_size(width, height);
                TensorSize::Exact(width, height)
            }
        };
        let part = |cut| TensorOptions { size: whole, cut, ..*tensor };
        if windows.is_empty() { vec![part(tensor.cut)] } else { windows.iter().map(|window| part(Some(window.cut()))).collect() }
    }

    /// Writes a clip; `pictures` are its frames as returned by the reader.
    pub(super) fn make(
        &self,
        source: &SourceOutput,
        images: &[&[u8]],
        seed: u64,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), ReaderError> {
        source.check(out.len())?;
        let part_bytes = source.shape.bytes() / self.parts.max(1);
        for (part, out) in out.chunks_exact_mut(part_bytes.max(1)).enumerate() {
            match (source.windows.get(part), &source.augment) {
                (None, None) => arrange(images, source.shape, out),
                (window, augment) => {
                    scratch.gathered.clear();
                    for image in images {
                        match window {
                            Some(window) => cut(image, &source.image, *window, &mut scratch.gathered),
                            None => scratch.gathered.extend_from_slice(image),
                        }
                    }
                    if let Some(spec) = augment {
                        // Three crops of a clip share its random numbers, views do not.
                        let draw = if source.windows.is_empty() { part as u64 } else { 0 };
                        self.augmented(source, spec, seed, draw, scratch, out)?;
                    } else {
                        let bytes = source.shape.image_bytes().max(1);
                        arrange(&scratch.gathered.chunks_exact(bytes).collect::<Vec<_>>(), source.shape, out);
                    }
                }
            }
        }
        Ok(())
    }

    fn augmented(
        &self,
        source: &SourceOutput,
        spec: &AugmentSpec,
        seed: u64,
        draw: u64,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<(), ReaderError> {
        let Some(augment) = &self.augment else { return Ok(()) };
        let failed = |error: VisionError| ReaderError::Convert { source_name: source.source_name.clone(), error };
        let params = augment.description.draw(seed, draw, self.frames, spec.input.width, spec.input.height).map_err(failed)?;
        let mut augmenter = match scratch.augmenter.take().filter(|augmenter| augmenter.spec() == spec) {
            Some(augmenter) => augmenter,
            None => Augmenter::new(*spec).map_err(failed)?,
        };
        if self.channels_first {
            scratch.made.resize(out.len(), 0);
            augmenter.apply(&params, &scratch.gathered, &mut scratch.made).map_err(failed)?;
            let bytes = source.shape.image_bytes().max(1);
            arrange(&scratch.made.chunks_exact(bytes).collect::<Vec<_>>(), source.shape, out);
        } else {
            augmenter.apply(&params, &scratch.gathered, out).map_err(failed)?;
        }
        scratch.augmenter = Some(augmenter);
        Ok(())
    }
}

impl SourceOutput {
    /// Whether the reader can write a clip directly to its destination.
    pub(super) fn is_plain(&self) -> bool {
        self.windows.is_empty() && self.augment.is_none() && !self.shape.channels_first && self.shape.parts == 1
    }

    /// Checks that a clip fits its destination.
    pub(super) fn check(&self, bytes: usize) -> Result<(), ReaderError> {
        if bytes == self.shape.bytes() {
            return Ok(());
        }
        let reason = format!(
            "{}: its clips are {:?}, {} bytes each, and the batch has {bytes} bytes for one; give a size that all clips get",
            self.source_name,
            self.shape.axes(),
            self.shape.bytes()
        );
        Err(refuse("size", reason))
    }
}

fn axes_of((width, height): (u32, u32), channels: usize, layout: TensorLayout) -> [usize; 3] {
    match layout {
        TensorLayout::Tchw => [channels, height as usize, width as usize],
        TensorLayout::Thwc => [height as usize, width as usize, channels],
    }
}

fn image_size(image: &ImageShape) -> (u32, u32) {
    let [a, b, c] = image.axes;
    match image.layout {
        TensorLayout::Tchw => (c as u32, b as u32),
        TensorLayout::Thwc => (b as u32, a as u32),
    }
}

fn channels(image: &ImageShape) -> usize {
    match image.layout {
        TensorLayout::Tchw => image.axes[0],
        TensorLayout::Thwc => image.axes[2],
    }
}

/// Appends a rectangle of a frame.
fn cut(image: &[u8], shape: &ImageShape, window: Window, to: &mut Vec<u8>) {
    let (width, element) = (image_size(shape).0 as usize, shape.dtype.size_bytes());
    let height = image_size(shape).1 as usize;
    let (planes, pixel) = match shape.layout {
        TensorLayout::Tchw => (channels(shape), element),
        TensorLayout::Thwc => (1, element * channels(shape)),
    };
    for plane in 0..planes {
        for row in window.y..window.y + window.height {
            let start = ((plane * height + row) * width + window.x) * pixel;
            to.extend_from_slice(image.get(start..start + window.width * pixel).unwrap_or_default());
        }
    }
}

/// Copies frames to their positions: one after the other, or with each channel's planes grouped together.
fn arrange(images: &[&[u8]], shape: ClipShape, out: &mut [u8]) {
    let bytes = shape.image_bytes();
    if !shape.channels_first {
        out.chunks_exact_mut(bytes.max(1)).zip(images).for_each(|(out, image)| out.copy_from_slice(image));
        return;
    }
    let plane = bytes / shape.image[0].max(1);
    for (channel, out) in out.chunks_exact_mut((plane * shape.frames).max(1)).enumerate() {
        for (out, image) in out.chunks_exact_mut(plane.max(1)).zip(images) {
            out.copy_from_slice(image.get(channel * plane..(channel + 1) * plane).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_before_frames_where_asked() {
        let shape = ClipShape { parts: 1, frames: 2, image: [3, 1, 2], channels_first: true, dtype: DType::U8 };
        let images: [&[u8]; 2] = [&[0, 1, 10, 11, 20, 21], &[2, 3, 12, 13, 22, 23]];
        let mut out = vec![0; 12];
        arrange(&images, shape, &mut out);
        assert_eq!(out, [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]);
        assert_eq!(shape.axes(), [3, 2, 1, 2]);
    }

    #[test]
    fn windows_are_cut_out_of_planes_and_of_pixels() {
        let window = Window { x: 1, y: 1, width: 2, height: 1 };
        let planes = ImageShape { axes: [2, 2, 3], layout: TensorLayout::Tchw, dtype: DType::U8, planes: None };
        let mut found = Vec::new();
        cut(&(0..12).collect::<Vec<u8>>(), &planes, window, &mut found);
        assert_eq!(found, [4, 5, 10, 11]);
        let pixels = ImageShape { axes: [2, 3, 2], layout: TensorLayout::Thwc, dtype: DType::U8, planes: None };
        found.clear();
        cut(&(0..12).collect::<Vec<u8>>(), &pixels, window, &mut found);
        assert_eq!(found, [8, 9, 10, 11]);
    }
}
