//! Rotates, crops, scales, pads and converts frames with everything attached to them.

use framerail_core::{
    Attribute, BBox, ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, FieldOrder, Frame, FrameMapping, FramePool,
    HdrMetadata, HostSurface, PixelAspect, PixelFamily, PixelFormat, Rational, Rotation, StreamInfo, Surface, TensorLayout,
};
use framerail_media::{Converter, ScaleOptions, ScaleQuality, rotated, turnable_format};
use framerail_pipeline::{EdgeFormat, ErrorKind, FrameItem, StageError};
use framerail_vision::{FrameZones, TensorConverter, TensorOptions, ToneMap, fill};

use super::layout::{Image, Layout, Placing, turned_twice};
use crate::{
    convert::{core_error, input_error, vision_error},
    parts::FrameAttributes,
};

/// Buffers kept for results.
const KEPT_BUFFERS: usize = 8;

/// Height from which Y'CbCr made of RGB is BT.709, as in television.
const HD_ROWS: u32 = 720;

/// Target of a sample conversion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    pub(super) format: Option<PixelFormat>,
    pub(super) matrix: Option<ColorMatrix>,
    pub(super) range: Option<ColorRange>,
    /// For frames with an HDR transfer function.
    pub(super) tone_map: Option<ToneMap>,
}

/// What to do with frames.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// After the frame's display rotation.
    pub(super) turn: Rotation,
    pub(super) placing: Placing,
    pub(super) samples: Samples,
    /// Full-range RGB of the padding.
    pub(super) background: [u8; 3],
    pub(super) quality: ScaleQuality,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            turn: Rotation::None,
            placing: Placing::Keep,
            samples: Samples::default(),
            background: [0; 3],
            quality: ScaleQuality::Bicubic,
        }
    }
}

/// Whether a transfer is PQ or HLG.
fn is_hdr(color: &ColorDescription) -> bool {
    matches!(color.transfer, ColorTransfer(16 | 18))
}

impl Change {
    fn image(&self, (width, height): (u32, u32), aspect: PixelAspect, format: Option<PixelFormat>, turn: Rotation) -> Image {
        let format = format.map(|format| turnable_format(format, turn));
        if turn.swaps_sides() {
            let aspect = PixelAspect::of(Rational::new(1_000_000, (f64::from(aspect.ratio()) * 1e6).round() as i64));
            return Image { width: height, height: width, aspect, format };
        }
        Image { width, height, aspect, format }
    }

    /// Pixel format of results.
    fn format(&self, format: PixelFormat, color: &ColorDescription) -> PixelFormat {
        let is_mapped = self.samples.tone_map.is_some() && is_hdr(color);
        self.samples.format.unwrap_or(if is_mapped { PixelFormat::Yuv420p } else { format })
    }

    /// Colour tags of results.
    fn color(&self, format: PixelFormat, height: u32, color: &ColorDescription) -> ColorDescription {
        let samples = &self.samples;
        let mut color = *color;
        let mut from = format.family();
        if samples.tone_map.is_some() && is_hdr(&color) {
            (color.primaries, color.transfer, color.matrix, color.range) =
                (ColorPrimaries(1), ColorTransfer(1), ColorMatrix::Bt709, ColorRange::Limited);
            from = PixelFamily::Yuv;
        }
        match self.format(format, &color).family() {
            PixelFamily::Rgb if from == PixelFamily::Rgb => {}
            PixelFamily::Rgb => (color.matrix, color.range) = (ColorMatrix::Rgb, ColorRange::Full),
            PixelFamily::Gray if from != PixelFamily::Gray => color.range = ColorRange::Full,
            PixelFamily::Yuv if from == PixelFamily::Rgb => {
                let usual = if height >= HD_ROWS { ColorMatrix::Bt709 } else { ColorMatrix::Bt601 };
                (color.matrix, color.range) = (samples.matrix.unwrap_or(usual), samples.range.unwrap_or(ColorRange::Limited));
            }
            _ => {
                color.matrix = samples.matrix.unwrap_or(color.matrix);
                color.range = samples.range.unwrap_or(color.range);
            }
        }
        color
    }

    /// Format of results, as far as the frames' is known.
    ///
    /// # Errors
    /// Why the frames do not fit.
    pub(super) fn edge(&self, input: &EdgeFormat) -> Result<EdgeFormat, String> {
        let mut output = input.clone();
        output.pixel_format = self.samples.format.or(input.pixel_format.filter(|_| self.samples.tone_map.is_none()));
        if let Some(size) = input.size {
            let image = self.image(size, input.pixel_aspect, input.pixel_format, self.turn);
            let layout = Layout::of(&self.placing, &image)?;
            (output.size, output.pixel_aspect) = (Some(layout.canvas), layout.pixel_aspect(image.aspect));
        }
        if self.turn.swaps_sides() && self.samples.format.is_none() {
            output.pixel_format = output.pixel_format.map(|format| turnable_format(format, self.turn));
        }
        Ok(output)
    }

    /// The stream of results.
    ///
    /// # Errors
    /// Why the frames do not fit.
    pub(super) fn stream(&self, info: &StreamInfo) -> Result<StreamInfo, String> {
        let turn = turned_twice(info.rotation, self.turn);
        let image = self.image((info.width, info.height), PixelAspect::of(info.sample_aspect_ratio), Some(info.pixel_format), turn);
        let layout = Layout::of(&self.placing, &image)?;
        let format = image.format.unwrap_or(info.pixel_format);
        let is_mapped = self.samples.tone_map.is_some() && is_hdr(&info.color);
        Ok(StreamInfo {
            width: layout.canvas.0,
            height: layout.canvas.1,
            pixel_format: self.format(format, &info.color),
            sample_aspect_ratio: layout.sample_aspect_ratio(turned_ratio(info.sample_aspect_ratio, turn)),
            color: self.color(format, layout.canvas.1, &info.color),
            hdr: if is_mapped { HdrMetadata::default() } else { info.hdr },
            field_order: if layout.mixes_rows() || turn.swaps_sides() { FieldOrder::Progressive } else { info.field_order },
            rotation: Rotation::None,
            ..info.clone()
        })
    }
}

fn turned_ratio(ratio: Option<Rational>, turn: Rotation) -> Option<Rational> {
    ratio.map(|ratio| if turn.swaps_sides() { Rational { num: ratio.den, den: ratio.num } } else { ratio })
}

/// Result of a change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    /// Detections outside of the result.
    pub(super) outside: u64,
    /// Whether the two fields of an interlaced frame were mixed.
    pub(super) mixed_fields: bool,
}

/// Changes frames on the host.
pub(super) struct Changer {
    change: Change,
    converter: Converter,
    tones: Option<TensorConverter>,
    pool: FramePool,
    /// The padding, and the format for which it was painted.
    canvas: Option<(HostSurface, ColorDescription)>,
}

impl Changer {
    pub(super) fn new(change: Change) -> Self {
        let converter = Converter::new(ScaleOptions { quality: change.quality, accurate: true });
        Self { change, converter, tones: None, pool: FramePool::new(KEPT_BUFFERS), canvas: None }
    }

    pub(super) fn change(&self) -> &Change {
        &self.change
    }

    /// Changes a frame in host memory.
    ///
    /// # Errors
    /// `Input` for a frame that does not fit, `Internal` and `Resource` from below.
    pub(super) fn apply(&mut self, item: &mut FrameItem) -> Result<Changed, StageError> {
        let frame = &mut item.frame;
        let turn = turned_twice(frame.rotation, self.change.turn);
        let unturned = (frame.width, frame.height);
        let mut surface = self.turned(frame.surface.host().map_err(core_error)?.clone(), turn, &frame.color)?;
        let aspect = turned_ratio(frame.sample_aspect_ratio, turn);
        let image =
            Image { width: surface.width(), height: surface.height(), aspect: PixelAspect::of(aspect), format: Some(surface.format()) };
        let layout = Layout::of(&self.change.placing, &image).map_err(|problem| {
            let place = format!("frame {} of stream {} at {:.3} s", frame.index, frame.stream, frame.seconds());
            StageError::new(ErrorKind::Input, format!("{place}: {problem}"))
        })?;
        if (layout.window.width, layout.window.height) != (surface.width(), surface.height()) {
            surface = surface.window(layout.window).map_err(core_error)?;
        }
        let source_color = frame.color;
        let color = self.change.color(surface.format(), layout.canvas.1, &source_color);
        let format = self.change.format(surface.format(), &source_color);
        let mut samples_color = source_color;
        if let Some(tone_map) = self.change.samples.tone_map.filter(|_| is_hdr(&source_color)) {
            surface = self.toned(frame, surface, tone_map)?;
            samples_color = ColorDescription { matrix: ColorMatrix::Rgb, range: ColorRange::Full, ..color };
            frame.hdr = None;
        }
        let is_same = surface.format() == format && (surface.width(), surface.height()) == layout.size;
        let same_samples = format.family() != PixelFamily::Yuv || same_meaning(&samples_color, &color);
        if !is_same || !same_samples {
            let converted = self.converter.convert_to(&surface, &samples_color, format, layout.size, &color, &self.pool);
            surface = converted.map_err(input_error)?;
        }
        if layout.canvas != layout.size {
            surface = self.placed(&surface, &layout, &color)?;
        }
        (frame.width, frame.height) = layout.canvas;
        (frame.surface, frame.color, frame.rotation) = (Surface::Host(surface), color, Rotation::None);
        frame.sample_aspect_ratio = layout.sample_aspect_ratio(aspect);
        let mixed_fields = frame.field_order != FieldOrder::Progressive && (layout.mixes_rows() || turn.swaps_sides());
        if mixed_fields {
            frame.field_order = FieldOrder::Progressive;
        }
        let mapping = FrameMapping::turned(turn, unturned.0, unturned.1).then(layout.mapping());
        Ok(Changed { outside: map_things(item, &mapping), mixed_fields })
    }

    fn turned(&mut self, surface: HostSurface, turn: Rotation, color: &ColorDescription) -> Result<HostSurface, StageError> {
        if turn == Rotation::None {
            return Ok(surface);
        }
        let (format, size) = (turnable_format(surface.format(), turn), (surface.width(), surface.height()));
        let surface = match format == surface.format() {
            true => surface,
            false => self.converter.convert_to(&surface, color, format, size, color, &self.pool).map_err(input_error)?,
        };
        rotated(&surface, turn, &self.pool).map_err(input_error)
    }

    /// The frame converted to SDR RGB in BT.709.
    fn toned(&mut self, frame: &Frame, surface: HostSurface, tone_map: ToneMap) -> Result<HostSurface, StageError> {
        let (width, height) = (surface.width(), surface.height());
        let tones = match &mut self.tones {
            Some(tones) => tones,
            none => {
                let options = TensorOptions { tone_map: Some(tone_map), layout: TensorLayout::Thwc, ..TensorOptions::default() };
                none.insert(TensorConverter::new(options).map_err(vision_error)?)
            }
        };
        let toned = Frame { surface: Surface::Host(surface), width, height, ..frame.clone() };
        let mut bytes = vec![0; width as usize * height as usize * 3];
        tones.convert(&toned, &mut bytes).map_err(vision_error)?;
        let mut rgb = self.pool.surface(PixelFormat::Rgb24, width, height).map_err(core_error)?;
        if let Some(mut planes) = rgb.planes_mut() {
            for (row, values) in bytes.chunks_exact(width as usize * 3).enumerate() {
                planes.row(0, row).copy_from_slice(values);
            }
        }
        Ok(rgb)
    }

    /// The frame in its place on the canvas.
    fn placed(&mut self, image: &HostSurface, layout: &Layout, color: &ColorDescription) -> Result<HostSurface, StageError> {
        let (width, height) = layout.canvas;
        let is_ready = |(canvas, painted): &(HostSurface, ColorDescription)| {
            (canvas.format(), canvas.width(), canvas.height()) == (image.format(), width, height) && painted == color
        };
        if !self.canvas.as_ref().is_some_and(is_ready) {
            let mut canvas = self.pool.surface(image.format(), width, height).map_err(core_error)?;
            if image.format().has_alpha()
                && let Some(mut planes) = canvas.planes_mut()
            {
                (0..image.format().planes()).for_each(|plane| planes.plane(plane).fill(255));
            }
            fill(&mut canvas, color, self.change.background).map_err(vision_error)?;
            self.canvas = Some((canvas, *color));
        }
        let Some((canvas, _)) = &self.canvas else { return Ok(image.clone()) };
        let mut result = canvas.copied(&self.pool).map_err(core_error)?;
        let format = image.format();
        if let Some(mut planes) = result.planes_mut() {
            for plane in 0..format.planes() {
                let (left_bytes, above) = format.plane_size(plane, layout.at.0, layout.at.1);
                for row in 0..image.layout(plane).rows {
                    let from = image.row(plane, row);
                    if let Some(to) = planes.row(plane, above + row).get_mut(left_bytes..left_bytes + from.len()) {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
        Ok(result)
    }
}

/// Whether samples of two Y'CbCr frames have the same colour meaning.
fn same_meaning(from: &ColorDescription, to: &ColorDescription) -> bool {
    from.matrix_or_default() == to.matrix_or_default() && from.is_full_range(false) == to.is_full_range(false)
}

/// Transforms detections, zones and frame properties; removes detections outside of the frame and returns their number.
fn map_things(item: &mut FrameItem, mapping: &FrameMapping) -> u64 {
    if *mapping == FrameMapping::IDENTITY {
        return 0;
    }
    let (width, height) = (item.frame.width as f32, item.frame.height as f32);
    let is_inside = |bbox: &BBox| !bbox.is_finite() || (bbox.x2 > 0.0 && bbox.y2 > 0.0 && bbox.x1 < width && bbox.y1 < height);
    let (mapped, outside): (Vec<_>, Vec<_>) =
        item.detections.iter().map(|found| mapping.detection(found)).partition(|found| is_inside(&found.bbox));
    item.detections = mapped;
    if let Some(attributes) = item.attachments.get::<FrameAttributes>() {
        let mapped: Vec<Attribute> = attributes.0.iter().map(|attribute| attribute.mapped(mapping)).collect();
        item.attachments.insert(FrameAttributes(mapped));
    }
    if let Some(mut zones) = item.attachments.get::<FrameZones>().cloned() {
        for zone in &mut zones.zones {
            zone.points = zone.points.iter().map(|point| mapping.point(*point)).collect();
        }
        for line in &mut zones.lines {
            (line.from, line.to) = (mapping.point(line.from), mapping.point(line.to));
        }
        item.attachments.insert(zones);
    }
    outside.len() as u64
}
