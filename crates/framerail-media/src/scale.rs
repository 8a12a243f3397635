//! Converts pixel formats and sizes with libswscale.

use std::ptr::{self, NonNull};

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, ColorMatrix, ColorRange, CoreError, FramePool, HostSurface, PixelFormat, surface::MAX_SIDE};

use crate::{MediaError, av::AvFrame, format, matrix_change::MatrixChange};

/// The resampling kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleQuality {
    /// Linear interpolation.
    Bilinear,
    /// Cubic interpolation, FFmpeg's default.
    #[default]
    Bicubic,
    /// Average over the source area: for downscaling.
    Area,
}

/// Options of a [`Converter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScaleOptions {
    /// The kernel.
    pub quality: ScaleQuality,
    /// Exact rounding and full chroma interpolation: slower, closer to the formulas.
    pub accurate: bool,
}

impl ScaleOptions {
    fn flags(self) -> i32 {
        let kernel = match self.quality {
            ScaleQuality::Bilinear => ffi::SWS_BILINEAR,
            ScaleQuality::Bicubic => ffi::SWS_BICUBIC,
            ScaleQuality::Area => ffi::SWS_AREA,
        };
        let exact = ffi::SWS_ACCURATE_RND | ffi::SWS_FULL_CHR_H_INT | ffi::SWS_FULL_CHR_H_INP;
        if self.accurate { kernel | exact } else { kernel }
    }
}

/// Matrix and range of source and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Details {
    source_matrix: ColorMatrix,
    target_matrix: ColorMatrix,
    source_full: bool,
    target_full: bool,
}

/// A rectangle in a frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// The frame that an encoder needs.
pub(crate) struct EncoderFrame<'a> {
    pub(crate) format: ffi::AVPixelFormat,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Matrix and range of its samples.
    pub(crate) color: &'a ColorDescription,
    /// The area that the source is scaled to; the rest is black. Its corner lies on whole chroma samples.
    pub(crate) area: Area,
}

impl<'a> EncoderFrame<'a> {
    /// A frame that the source fills completely.
    pub(crate) fn whole(format: ffi::AVPixelFormat, width: u32, height: u32, color: &'a ColorDescription) -> Self {
        Self { format, width, height, color, area: Area { left: 0, top: 0, width, height } }
    }
}

/// The parameters that a context was prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: (i32, i32, i32),
    target: (i32, i32, i32),
    details: Details,
}

/// A frame for swscale: format, size, planes.
struct Image<'a> {
    format: i32,
    width: i32,
    height: i32,
    planes: [*const u8; 4],
    pitches: [i32; 4],
    /// Keeps the planes borrowed.
    _owner: std::marker::PhantomData<&'a u8>,
}

/// A surface's planes.
fn image(surface: &HostSurface) -> Image<'_> {
    let mut image = Image {
        format: format::av_format(surface.format()).0,
        width: surface.width() as i32,
        height: surface.height() as i32,
        planes: [ptr::null(); 4],
        pitches: [0; 4],
        _owner: std::marker::PhantomData,
    };
    for plane in 0..surface.format().planes() {
        image.planes[plane] = surface.plane(plane).as_ptr();
        image.pitches[plane] = surface.layout(plane).pitch_bytes as i32;
    }
    image
}

/// The output of a conversion.
struct Target {
    format: i32,
    width: u32,
    height: u32,
    planes: [*mut u8; 4],
    pitches: [i32; 4],
}

/// Converts surfaces; keeps its tables between calls with the same parameters.
///
/// The range is kept between Y'CbCr formats; RGB output is full range.
pub struct Converter {
    options: ScaleOptions,
    context: Option<NonNull<ffi::SwsContext>>,
    key: Option<Key>,
    converted: u64,
}

// SAFETY: a swscale context may be used from any thread, one at a time, which `&mut self` ensures.
unsafe impl Send for Converter {}

impl Converter {
    /// Creates a converter.
    pub fn new(options: ScaleOptions) -> Self {
        crate::av::init();
        Self { options, context: None, key: None, converted: 0 }
    }

    /// Returns a copy in another format or size, with the matrix and range of `color`.
    ///
    /// # Errors
    /// `Core` for a size out of range, `Unsupported` for a pair of formats that swscale does not support.
    pub fn convert(
        &mut self,
        source: &HostSurface,
        color: &ColorDescription,
        format: PixelFormat,
        width: u32,
        height: u32,
        pool: &FramePool,
    ) -> Result<HostSurface, MediaError> {
        self.run(&image(source), color, format, width, height, pool)
    }

    /// As [`Converter::convert`], from the matrix and range of `color` to those of `wanted` if the result is Y'CbCr.
    ///
    /// # Errors
    /// As [`Converter::convert`].
    pub fn convert_to(
        &mut self,
        source: &HostSurface,
        color: &ColorDescription,
        format: PixelFormat,
        (width, height): (u32, u32),
        wanted: &ColorDescription,
        pool: &FramePool,
    ) -> Result<HostSurface, MediaError> {
        let source = image(source);
        let target = format::av_format(format).0;
        let mut details = details(source.format, color, target);
        if !is_rgb(target) && !is_gray(target) {
            details.target_matrix = yuv_matrix(wanted);
            details.target_full = wanted.is_full_range(false) || format::name(target).starts_with("yuvj");
        }
        let is_linear = !is_rgb(source.format) && !is_gray(source.format) && details.source_full == details.target_full;
        if self.options.accurate || !is_linear || details.source_matrix == details.target_matrix || !MatrixChange::fits(format) {
            return self.run_with(&source, details, format, width, height, pool);
        }
        let change = MatrixChange::new(details.source_matrix, details.target_matrix, details.target_full);
        details.target_matrix = details.source_matrix;
        let mut surface = self.run_with(&source, details, format, width, height, pool)?;
        change.apply(&mut surface);
        Ok(surface)
    }

    /// As [`Converter::convert`], from a decoder's frame in any FFmpeg format, without scaling.
    pub(crate) fn convert_av(
        &mut self,
        frame: &AvFrame,
        color: &ColorDescription,
        format: PixelFormat,
        pool: &FramePool,
    ) -> Result<HostSurface, MediaError> {
        let image = Image {
            format: frame.format,
            width: frame.width,
            height: frame.height,
            planes: std::array::from_fn(|plane| frame.data[plane].cast_const()),
            pitches: std::array::from_fn(|plane| frame.linesize[plane]),
            _owner: std::marker::PhantomData,
        };
        let side = |side: i32| u32::try_from(side).unwrap_or(0);
        self.run(&image, color, format, side(frame.width), side(frame.height), pool)
    }

    /// Converts to a frame in any FFmpeg format, for an encoder.
    pub(crate) fn convert_to_av(
        &mut self,
        source: &HostSurface,
        color: &ColorDescription,
        wanted: &EncoderFrame<'_>,
    ) -> Result<AvFrame, MediaError> {
        let &EncoderFrame { format, width, height, area, .. } = wanted;
        let mut target = AvFrame::new();
        (target.format, target.width, target.height) = (format.0, width as i32, height as i32);
        // SAFETY: format and size are set, no buffer is there yet; 0 lets FFmpeg choose the alignment.
        let code = unsafe { ffi::av_frame_get_buffer(target.as_mut_ptr(), 0) };
        if code < 0 {
            return Err(crate::av::error("converting a frame", code));
        }
        let source = image(source);
        let details = encoder_details(source.format, color, format.0, wanted.color);
        if (area.width, area.height) != (width, height) {
            target.fill_black(details.target_full)?;
        }
        let pitches = std::array::from_fn(|plane| target.linesize[plane]);
        let planes = target.planes_at(area.left, area.top);
        self.scale_with(&source, details, &Target { format: format.0, width: area.width, height: area.height, planes, pitches })?;
        Ok(target)
    }

    /// Number of surfaces converted so far.
    pub fn converted(&self) -> u64 {
        self.converted
    }

    fn run(
        &mut self,
        source: &Image<'_>,
        color: &ColorDescription,
        format: PixelFormat,
        width: u32,
        height: u32,
        pool: &FramePool,
    ) -> Result<HostSurface, MediaError> {
        let details = details(source.format, color, format::av_format(format).0);
        self.run_with(source, details, format, width, height, pool)
    }

    fn run_with(
        &mut self,
        source: &Image<'_>,
        details: Details,
        format: PixelFormat,
        width: u32,
        height: u32,
        pool: &FramePool,
    ) -> Result<HostSurface, MediaError> {
        let mut surface = pool.surface(format, width, height)?;
        let Some(mut planes) = surface.planes_mut() else {
            return Err(MediaError::Ffmpeg { context: "converting a frame".into(), message: "the pool returned a shared surface".into() });
        };
        let mut target = Target { format: format::av_format(format).0, width, height, planes: [ptr::null_mut(); 4], pitches: [0; 4] };
        for plane in 0..format.planes() {
            target.pitches[plane] = planes.layout(plane).pitch_bytes as i32;
            target.planes[plane] = planes.plane(plane).as_mut_ptr();
        }
        self.scale_with(source, details, &target)?;
        Ok(surface)
    }

    /// Runs swscale; the target's planes must have the memory that their format and size need.
    fn scale_with(&mut self, source: &Image<'_>, details: Details, target: &Target) -> Result<(), MediaError> {
        let in_range = |side: i32| (1..=MAX_SIDE as i32).contains(&side);
        if !in_range(source.width) || !in_range(source.height) {
            return Err(CoreError::SizeOutOfRange { width: source.width as u32, height: source.height as u32 }.into());
        }
        let key = Key {
            source: (source.format, source.width, source.height),
            target: (target.format, target.width as i32, target.height as i32),
            details,
        };
        let context = self.prepared(key)?;
        // SAFETY: the context was made for these sizes and formats; source planes are borrowed for the call and hold
        // their pitch times their rows; target planes were allocated for their size by a pool or by FFmpeg.
        let rows = unsafe {
            ffi::sws_scale(
                context.as_ptr(),
                source.planes.as_ptr(),
                source.pitches.as_ptr(),
                0,
                source.height,
                target.planes.as_ptr(),
                target.pitches.as_ptr(),
            )
        };
        if rows < 0 {
            return Err(crate::av::error("converting a frame", rows));
        }
        self.converted += 1;
        Ok(())
    }

    fn prepared(&mut self, key: Key) -> Result<NonNull<ffi::SwsContext>, MediaError> {
        if let (Some(context), true) = (self.context, self.key == Some(key)) {
            return Ok(context);
        }
        self.release();
        let (source, target) = (key.source, key.target);
        // SAFETY: no preconditions.
        let Some(context) = NonNull::new(unsafe { ffi::sws_alloc_context() }) else {
            return Err(crate::av::error("converting a frame", ffi::AVERROR(libc::ENOMEM)));
        };
        // Set the ranges before initialisation: if only the ranges differ, swscale would otherwise copy the samples unchanged.
        let settings = [
            (c"srcw", source.1.into()),
            (c"srch", source.2.into()),
            (c"src_format", source.0.into()),
            (c"dstw", target.1.into()),
            (c"dsth", target.2.into()),
            (c"dst_format", target.0.into()),
            (c"sws_flags", i64::from(self.options.flags())),
            (c"src_range", key.details.source_full.into()),
            (c"dst_range", key.details.target_full.into()),
        ];
        // SAFETY: a fresh context with options of these names, zero-terminated; unknown formats fail in the last call at the latest.
        let is_ready = unsafe {
            settings
                .into_iter()
                .all(|(name, value): (&std::ffi::CStr, i64)| ffi::av_opt_set_int(context.as_ptr().cast(), name.as_ptr(), value, 0) >= 0)
                && ffi::sws_init_context(context.as_ptr(), ptr::null_mut(), ptr::null_mut()) >= 0
        };
        if !is_ready {
            // SAFETY: made above and freed once.
            unsafe { ffi::sws_freeContext(context.as_ptr()) };
            return Err(MediaError::Unsupported {
                what: format!("conversion from {} to {}", format::name(source.0), format::name(target.0)),
                reason: "FFmpeg's scaler does not know this pair; choose another pixel format".into(),
            });
        }
        let Details { source_matrix, target_matrix, source_full, target_full } = key.details;
        // SAFETY: the context is live and the coefficient tables are static. Formats without colour ignore the call.
        unsafe {
            let source_table = ffi::sws_getCoefficients(source_matrix.code_point().into());
            let target_table = ffi::sws_getCoefficients(target_matrix.code_point().into());
            let unity = 1 << 16;
            ffi::sws_setColorspaceDetails(
                context.as_ptr(),
                source_table,
                source_full.into(),
                target_table,
                target_full.into(),
                0,
                unity,
                unity,
            );
        }
        self.context = Some(context);
        self.key = Some(key);
        Ok(context)
    }

    fn release(&mut self) {
        self.key = None;
        if let Some(context) = self.context.take() {
            // SAFETY: owned by self and freed once.
            unsafe { ffi::sws_freeContext(context.as_ptr()) };
        }
    }
}

impl Drop for Converter {
    fn drop(&mut self) {
        self.release();
    }
}

/// Matrix and ranges for a conversion.
fn details(source_format: i32, color: &ColorDescription, target: i32) -> Details {
    let source_is_rgb = is_rgb(source_format);
    let target_is_rgb = is_rgb(target);
    let source_full = color.is_full_range(source_is_rgb) || format::name(source_format).starts_with("yuvj");
    let target_full = match (source_is_rgb, target_is_rgb) {
        (_, true) => true,
        _ if format::name(target).starts_with("yuvj") => true,
        // As in the `ffmpeg` command: grey frames are full range.
        _ if is_gray(target) && !is_gray(source_format) => true,
        // RGB becomes limited range, as players expect of Y'CbCr, unless the tag requests full range.
        (true, false) => color.range == ColorRange::Full,
        (false, false) => source_full,
    };
    let matrix = yuv_matrix(color);
    Details { source_matrix: matrix, target_matrix: matrix, source_full, target_full }
}

/// As [`details`], for a stream whose matrix and range are fixed.
fn encoder_details(source_format: i32, color: &ColorDescription, target: i32, wanted: &ColorDescription) -> Details {
    let mut details = details(source_format, color, target);
    let is_sampled = |format: i32| !is_rgb(format) && !is_gray(format);
    if is_sampled(source_format) && is_sampled(target) {
        details.target_matrix = yuv_matrix(wanted);
        details.target_full = wanted.is_full_range(false) || format::name(target).starts_with("yuvj");
    }
    details
}

fn yuv_matrix(color: &ColorDescription) -> ColorMatrix {
    match color.matrix_or_default() {
        ColorMatrix::Rgb => ColorMatrix::Bt601,
        matrix => matrix,
    }
}

fn is_gray(format: i32) -> bool {
    format::name(format).starts_with("gray")
}

fn is_rgb(format: i32) -> bool {
    // SAFETY: any number is allowed; descriptors are static.
    let descriptor = unsafe { ffi::av_pix_fmt_desc_get(ffi::AVPixelFormat(format)).as_ref() };
    let rgb = ffi::AV_PIX_FMT_FLAG_RGB | ffi::AV_PIX_FMT_FLAG_PAL;
    descriptor.is_some_and(|descriptor| descriptor.flags & rgb as u64 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(format: PixelFormat, values: [u8; 3]) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, 16, 16).expect("size in range");
        let mut planes = surface.planes_mut().expect("fresh");
        for (plane, value) in values.into_iter().enumerate().take(format.planes()) {
            planes.plane(plane).fill(value);
        }
        surface
    }

    #[test]
    fn matrix_and_range_follow_the_tags() {
        let pool = FramePool::new(2);
        let mut converter = Converter::new(ScaleOptions { accurate: true, ..Default::default() });
        let mut pixel = |values, matrix, range| {
            let color = ColorDescription { matrix, range, ..Default::default() };
            let source = filled(PixelFormat::Yuv444p, values);
            let rgb = converter.convert(&source, &color, PixelFormat::Rgb24, 16, 16, &pool).expect("a known pair");
            [rgb.row(0, 3)[9], rgb.row(0, 3)[10], rgb.row(0, 3)[11]]
        };
        assert_eq!(pixel([16, 128, 128], ColorMatrix::Bt709, ColorRange::Limited), [0, 0, 0]);
        assert_eq!(pixel([235, 128, 128], ColorMatrix::Bt709, ColorRange::Limited), [255, 255, 255]);
        assert_eq!(pixel([77, 128, 128], ColorMatrix::Bt601, ColorRange::Full), [77, 77, 77]);
        // Pure red: Y' = Kr scaled to 16..=235, by each matrix.
        let near = |got: [u8; 3]| got[0] >= 253 && got[1] <= 2 && got[2] <= 2;
        assert!(near(pixel([63, 102, 240], ColorMatrix::Bt709, ColorRange::Limited)));
        assert!(near(pixel([81, 90, 240], ColorMatrix::Bt601, ColorRange::Limited)));
        assert_eq!(converter.converted(), 5);
    }

    #[test]
    fn a_changed_matrix_is_that_of_swscale() {
        // Colours that R'G'B' can hold: swscale clips the others there.
        let pool = FramePool::new(4);
        let mut source = pool.surface(PixelFormat::Yuv420p, 64, 48).expect("size in range");
        let mut planes = source.planes_mut().expect("fresh");
        for row in 0..48 {
            (0..64).zip(planes.row(0, row)).for_each(|(x, sample)| *sample = 60 + x + row as u8);
        }
        for (plane, row) in [1, 2].into_iter().flat_map(|plane| (0..24).map(move |row| (plane, row))) {
            (0..32).zip(planes.row(plane, row)).for_each(|(x, sample)| *sample = 112 + x / 2 + row as u8 / 2 * plane as u8);
        }
        let [sd, hd] = [ColorMatrix::Bt601, ColorMatrix::Bt709].map(|matrix| ColorDescription {
            matrix,
            range: ColorRange::Limited,
            ..Default::default()
        });
        let converted = |accurate| {
            let mut converter = Converter::new(ScaleOptions { quality: ScaleQuality::Bilinear, accurate });
            converter.convert_to(&source, &sd, PixelFormat::Yuv420p, (64, 48), &hd, &pool).expect("a known pair")
        };
        let (fast, accurate) = (converted(false), converted(true));
        for (plane, rows) in [(0, 48), (1, 24), (2, 24)] {
            for row in 0..rows {
                let pairs = fast.row(plane, row).iter().zip(accurate.row(plane, row));
                assert!(pairs.clone().all(|(fast, accurate)| fast.abs_diff(*accurate) <= 2), "{plane}: {:?}", pairs.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn bits_survive_a_round_trip_through_a_deeper_format() {
        let pool = FramePool::new(2);
        let mut converter = Converter::new(ScaleOptions::default());
        let color = ColorDescription::default();
        for value in [16, 100, 235] {
            let source = filled(PixelFormat::Yuv420p, [value, 90, 160]);
            let deep = converter.convert(&source, &color, PixelFormat::Yuv420p10, 16, 16, &pool).expect("a known pair");
            let back = converter.convert(&deep, &color, PixelFormat::Yuv420p, 16, 16, &pool).expect("a known pair");
            assert_eq!([back.row(0, 5)[5], back.row(1, 5)[5], back.row(2, 5)[5]], [value, 90, 160]);
        }
    }
}
