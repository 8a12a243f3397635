//! Resizes rows of a frame in 8-bit arithmetic, as FFmpeg and OpenCV do.
//!
//! Source: swscale's conversion of 8-bit planar 4:2:0 and 4:2:2 to RGB; OpenCV's `resize` with `INTER_LINEAR` on 8-bit samples.

use framerail_core::{ChannelMix, FastYuv, HostSurface, PixelFormat};

use crate::{
    kernels::{self, BYTE_ROW_CAPACITY, ByteRow},
    sampling::{Geometry, Resampler, Window},
};

/// A weight of 1 in fixed point.
const ONE: f32 = 2048.0;

/// How rows of stored samples become rows of 8-bit channels.
pub(crate) enum ToBytes<'a> {
    /// FFmpeg's 16-bit arithmetic; `order[c]` is the output channel of red, green or blue.
    Fast { yuv: FastYuv, order: [usize; 3] },
    /// These weights, rounded to the nearest.
    Exact(&'a [ChannelMix]),
}

/// The two source positions of an output position, with the weight of each in 1/2048.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    first: u32,
    second: u32,
    weights: [i16; 2],
}

/// Returns the taps of one axis. Positions beyond the frame take its edge.
fn taps(origin: f64, extent: f64, out: u32, pixels: u32) -> impl Iterator<Item = Tap> {
    let last = i64::from(pixels) - 1;
    let (whole, part) = (origin.floor(), origin - origin.floor());
    (0..out).map(move |position| {
        // Single precision from here on, as in OpenCV.
        let at = ((f64::from(position) + 0.5) * (extent / f64::from(out)) - 0.5 + part) as f32;
        let near = at.floor();
        let weight = at - near;
        let first = near as i64 + whole as i64;
        let weights = [1.0 - weight, weight].map(|weight| (weight * ONE).round_ties_even() as i16);
        Tap { first: first.clamp(0, last) as u32, second: (first + 1).clamp(0, last) as u32, weights }
    })
}

/// How the columns of an output row are taken from a row of 8-bit samples.
#[derive(Debug)]
enum Columns {
    /// In order, without resizing.
    Straight,
    /// Interpolated between an element and the next.
    Lerp { first: Vec<u32>, weights: Vec<[i16; 2]> },
}

impl Columns {
    /// Creates tables for a row that starts at column `start`.
    fn new(taps: &[Tap], start: u32) -> Self {
        let whole = |tap: &Tap| if tap.first == tap.second { [ONE as i16, 0] } else { tap.weights };
        if taps.iter().zip(start..).all(|(tap, column)| tap.first == column && whole(tap)[1] == 0) {
            return Columns::Straight;
        }
        Columns::Lerp { first: taps.iter().map(|tap| tap.first - start).collect(), weights: taps.iter().map(whole).collect() }
    }
}

/// A source row resized to the output's width, for each channel.
#[derive(Debug, Default)]
struct ResizedRow {
    source: Option<u32>,
    channels: [Vec<i16>; 3],
}

/// The two rows between which an output row is interpolated.
pub(crate) struct RowPair<'a> {
    rows: [&'a ResizedRow; 2],
    weights: [i16; 2],
}

impl RowPair<'_> {
    /// Writes a channel's values (0 to 255), scaled and shifted.
    pub fn write(&self, channel: usize, scale: f32, shift: f32, out: &mut [f32]) {
        kernels::mix_byte_rows(self.rows.map(|row| &row.channels[channel][..]), self.weights, scale, shift, out);
    }
}

/// Computes the 8-bit channels of one source row at a time.
#[derive(Debug)]
struct ByteRows {
    format: PixelFormat,
    /// Reads stored samples of the columns from `start` on, without resizing.
    samples: Resampler,
    /// First column; even, so that it starts a pair of pixels that share chroma.
    start: usize,
    columns: usize,
    chroma: [Vec<i16>; 3],
    mixed: Vec<f32>,
    bytes: [Box<ByteRow>; 3],
}

impl ByteRows {
    fn new(geometry: &Geometry, start: u32, columns: u32) -> Self {
        let window = Window { x: start.into(), y: 0.0, width: columns.into(), height: geometry.height.into() };
        let samples = Resampler::new(Geometry { window, out_width: columns, out_height: geometry.height, ..*geometry });
        let columns = columns as usize;
        Self {
            format: geometry.format,
            samples,
            start: start as usize,
            columns,
            chroma: [0, 1, 2].map(|_| vec![0; columns.div_ceil(2)]),
            mixed: vec![0.0; columns],
            bytes: [0, 1, 2].map(|_| Box::new([0; BYTE_ROW_CAPACITY])),
        }
    }

    /// Fills the channels' bytes from source row `y`.
    fn fill(&mut self, surface: &HostSurface, y: u32, to_bytes: &ToBytes<'_>) {
        match to_bytes {
            ToBytes::Fast { yuv, order } => self.fill_fast(surface, y as usize, yuv, *order),
            ToBytes::Exact(mixes) => {
                let samples = self.samples.row(surface, y as usize);
                for (mix, bytes) in mixes.iter().zip(&mut self.bytes) {
                    kernels::mix_channel(samples, ChannelMix { scale: 1.0, shift: 0.0, ..*mix }, &mut self.mixed);
                    kernels::round_to_bytes(&self.mixed, &mut bytes[..]);
                }
            }
        }
    }

    fn fill_fast(&mut self, surface: &HostSurface, y: usize, yuv: &FastYuv, order: [usize; 3]) {
        let (_, shift_y) = self.format.chroma_shift();
        let stretch = |plane: usize, y: usize, start: usize| &surface.row(plane, y)[start..];
        let (cb, cr) = (stretch(1, y >> shift_y, self.start / 2), stretch(2, y >> shift_y, self.start / 2));
        kernels::chroma_terms(cb, cr, yuv, self.chroma.each_mut().map(Vec::as_mut_slice));
        let luma = &stretch(0, y, self.start)[..self.columns];
        for (terms, channel) in self.chroma.iter().zip(order) {
            kernels::add_luma(luma, terms, yuv, &mut self.bytes[channel][..self.columns]);
        }
    }
}

/// Resizes a frame's rows, as 8-bit channels.
#[derive(Debug)]
pub(crate) struct ByteResampler {
    geometry: Geometry,
    down: Vec<Tap>,
    across: Columns,
    source: ByteRows,
    rows: [ResizedRow; 2],
}

impl ByteResampler {
    pub fn new(geometry: Geometry) -> Self {
        let Geometry { width, height, window, out_width, out_height, .. } = geometry;
        let across: Vec<Tap> = taps(window.x, window.width, out_width, width).collect();
        let down = taps(window.y, window.height, out_height, height).collect();
        let first = across.iter().map(|tap| tap.first).min().unwrap_or(0);
        let last = across.iter().map(|tap| tap.second).max().unwrap_or(0);
        let start = first & !1;
        let row = || ResizedRow { source: None, channels: [0, 1, 2].map(|_| vec![0; out_width as usize]) };
        let source = ByteRows::new(&geometry, start, last - start + 1);
        Self { geometry, down, across: Columns::new(&across, start), source, rows: [row(), row()] }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Discards the rows of the previous frame.
    pub fn begin(&mut self) {
        for row in &mut self.rows {
            row.source = None;
        }
    }

    /// Returns the rows that make up row `y` of the output, with `channels` channels filled.
    pub fn row(&mut self, surface: &HostSurface, y: usize, channels: usize, to_bytes: &ToBytes<'_>) -> RowPair<'_> {
        let tap = self.down[y];
        if self.rows[0].source != Some(tap.first) {
            self.rows.swap(0, 1);
        }
        for (slot, source) in [(0, tap.first), (1, tap.second)] {
            if tap.first == tap.second && slot == 1 || self.rows[slot].source == Some(source) {
                continue;
            }
            self.source.fill(surface, source, to_bytes);
            let row = &mut self.rows[slot];
            row.source = Some(source);
            for (bytes, out) in self.source.bytes.iter().zip(&mut row.channels).take(channels) {
                match &self.across {
                    Columns::Straight => kernels::widen_bytes(&bytes[..], out),
                    Columns::Lerp { first, weights } => kernels::lerp_bytes(bytes, first, weights, out),
                }
            }
        }
        let second = if tap.first == tap.second { 0 } else { 1 };
        RowPair { rows: [&self.rows[0], &self.rows[second]], weights: tap.weights }
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorDescription, ColorMatrix, ColorRange, Frame, PixelFormat, TensorLayout};

    use crate::{
        ChannelOrder, Fit, Preprocess, Preprocessor, Sampling,
        test_images::{code_at, frame, image, noisy, rgb_at},
    };

    type Rgb = [i32; 3];

    fn run(spec: Preprocess, frame: &Frame) -> Vec<f32> {
        let mut out = vec![f32::NAN; spec.elements()];
        let mut preprocessor = Preprocessor::new(spec).expect("valid").with_sampling(Sampling::Bilinear8Bit);
        preprocessor.run(frame, &mut out).expect("host frame");
        // Run again: nothing of the previous run may remain.
        preprocessor.run(frame, &mut out).expect("host frame");
        out
    }

    fn spec(width: u32, height: u32) -> Preprocess {
        let (fit, channel_order, layout) = (Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Thwc);
        Preprocess { width, height, fit, channel_order, layout, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
    }

    /// OpenCV's `INTER_LINEAR` on 8-bit samples, pixel by pixel.
    fn resized(rgb: &[Rgb], (w, h): (usize, usize), (width, height): (u32, u32)) -> Vec<f32> {
        let tap = |position: u32, out: u32, side: usize| {
            let at = ((f64::from(position) + 0.5) * side as f64 / f64::from(out) - 0.5) as f32;
            let weight = at - at.floor();
            let parts = [1.0 - weight, weight].map(|weight| (weight * 2048.0).round_ties_even() as i32);
            (at.floor() as isize, parts)
        };
        let mut out = Vec::new();
        for y in 0..height {
            let (top, down) = tap(y, height, h);
            for x in 0..width {
                let (left, mut across) = tap(x, width, w);
                if left < 0 || left + 1 >= w as isize {
                    across = [2048, 0];
                }
                let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
                let (near, far) = (inside(left, w), inside(left + 1, w));
                let sums = |row: isize| {
                    let row = inside(row, h) * w;
                    [0, 1, 2].map(|channel| rgb[row + near][channel] * across[0] + rgb[row + far][channel] * across[1])
                };
                for (upper, lower) in sums(top).into_iter().zip(sums(top + 1)) {
                    let value = ((down[0] * (upper >> 4)) >> 16) + ((down[1] * (lower >> 4)) >> 16) + 2;
                    out.push((value >> 2) as f32);
                }
            }
        }
        out
    }

    fn pixels(frame: &Frame, pixel: impl Fn(usize, usize) -> Rgb) -> Vec<Rgb> {
        (0..frame.height as usize).flat_map(|y| (0..frame.width as usize).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect()
    }

    #[test]
    fn equals_opencvs_arithmetic_at_any_size() {
        for format in [PixelFormat::Rgb24, PixelFormat::Bgra, PixelFormat::Gbrp, PixelFormat::Yuv420p10, PixelFormat::Nv12] {
            for (w, h) in [(45, 31), (64, 48), (1, 1), (2, 33)] {
                let frame = frame(noisy(format, w, h), ColorDescription::default());
                let surface = frame.surface.host().expect("host");
                let rgb = pixels(&frame, |x, y| rgb_at(surface, &frame.color, x, y).map(|v| v.round_ties_even() as i32));
                for (width, height) in [(45, 31), (64, 32), (20, 17), (90, 62), (45, 48), (33, 31), (1, 2)] {
                    let expected = resized(&rgb, (w as usize, h as usize), (width, height));
                    assert!(run(spec(width, height), &frame) == expected, "{format} {w}x{h} -> {width}x{height}");
                }
            }
        }
    }

    /// The conversion in plain form, with the published factors in Q16.
    fn fast_rgb(luma: i32, cb: i32, cr: i32, factors: [i32; 5], black: i32) -> Rgb {
        let [gain, red, green_cb, green_cr, blue] = factors.map(|factor| (factor + 4) >> 3);
        let part = |value: i32, gain: i32| (value * gain) >> 16;
        let (luma, cb, cr) = (part(luma * 8 - black * 8, gain), cb * 8 - 1024, cr * 8 - 1024);
        [luma + part(cr, red), luma + part(cb, green_cb) + part(cr, green_cr), luma + part(cb, blue)].map(|v| v.clamp(0, 255))
    }

    #[test]
    fn planar_yuv_takes_ffmpegs_fast_way() {
        let tagged = |matrix, range| ColorDescription { matrix, range, ..Default::default() };
        let cases = [
            (ColorDescription::default(), [76309, 104597, -25675, -53279, 132201], 16),
            (tagged(ColorMatrix::Bt709, ColorRange::Limited), [76309, 117489, -13975, -34925, 138438], 16),
            (tagged(ColorMatrix::Unspecified, ColorRange::Full), [65536, 91881, -22553, -46801, 116129], 0),
        ];
        for (color, factors, black) in cases {
            for (format, w, h) in [(PixelFormat::Yuv420p, 61, 34), (PixelFormat::Yuv422p, 64, 30), (PixelFormat::Yuva420p, 1, 2)] {
                // Every code value, including those far outside the limits of RGB.
                let noise = image(format, w, h, |component, x, y| (x * 89 + y * 151 + x * y * 7 + component as u32 * 101) as u16 % 256);
                let frame = frame(noise, color);
                let surface = frame.surface.host().expect("host");
                let (sx, sy) = format.chroma_shift();
                let code = |component, x: usize, y: usize| i32::from(code_at(surface, component, x, y));
                let pixel = |x, y| fast_rgb(code(0, x, y), code(1, x >> sx, y >> sy), code(2, x >> sx, y >> sy), factors, black);
                let rgb = pixels(&frame, pixel);
                for (width, height) in [(w, h), (w, 64), (32, 20), (100, 90)] {
                    let expected = resized(&rgb, (w as usize, h as usize), (width, height));
                    assert!(run(spec(width, height), &frame) == expected, "{format} {color:?} -> {width}x{height}");
                }
            }
        }
    }

    #[test]
    fn orders_layouts_letterbox_and_crops_agree() {
        let frame = frame(noisy(PixelFormat::Yuv420p, 64, 48), ColorDescription::default());
        let rgb = run(spec(32, 24), &frame);
        let boxed = Preprocess {
            fit: Fit::Letterbox { pad: 9, centered: true },
            channel_order: ChannelOrder::Bgr,
            layout: TensorLayout::Tchw,
            scale: 0.5,
            mean: [1.0, 2.0, 3.0],
            std: [2.0, 4.0, 8.0],
            ..spec(32, 30)
        };
        let planar = run(boxed, &frame);
        let element = |value: f32, channel: usize| value * (0.5 / boxed.std[channel]) + -boxed.mean[channel] / boxed.std[channel];
        for channel in 0..3 {
            let plane = &planar[channel * 32 * 30..][..32 * 30];
            assert!(plane[..32 * 3].iter().chain(&plane[32 * 27..]).all(|padded| *padded == element(9.0, channel)));
            for (pixel, found) in plane[32 * 3..32 * 27].iter().enumerate() {
                assert_eq!(*found, element(rgb[pixel * 3 + 2 - channel], channel));
            }
        }
        let gray = run(Preprocess { channel_order: ChannelOrder::Gray, ..spec(32, 24) }, &frame);
        assert!(gray.iter().all(|value| value.fract() == 0.0 && *value > 0.0));

        let whole = run(spec(64, 48), &frame);
        let mut preprocessor = Preprocessor::new(spec(20, 10)).expect("valid").with_sampling(Sampling::Bilinear8Bit);
        let mut part = vec![0.0; 600];
        for left in [30, 31, 60] {
            let (x, crop) = (left as f32, framerail_core::BBox::from_xyxy);
            preprocessor.run_crop(&frame, crop(x, 13.0, x + 20.0, 23.0), &mut part).expect("near the frame");
            for (column, row) in [(0, 0), (7, 3), (19, 9)] {
                let source = ((13 + row) * 64 + (left + column).min(63)) * 3;
                assert_eq!(part[(row * 20 + column) * 3..][..3], whole[source..source + 3], "{left} {column} {row}");
            }
        }
        // Entirely outside, the nearest corner is repeated.
        for (x, y, corner) in [(-900.0, -700.5, 0), (9000.0, 800.0, 64 * 48 - 1)] {
            preprocessor.run_crop(&frame, framerail_core::BBox::from_xyxy(x, y, x + 33.0, y + 10.0), &mut part).expect("in the limits");
            assert!(part.as_chunks::<3>().0.iter().all(|pixel| pixel[..] == whole[corner * 3..][..3]), "{x} {y}");
        }
    }
}
