//! Resizes rows of channels: rows of the frame are first weighted over contiguous memory, then columns are taken with tables.

use framerail_core::{HostSurface, ResizeTaps};

use super::source::{MOST_CHANNELS, SourceRows};
use crate::{
    fixed_kernels::{self as kernels, BLOCK, FEW, Pairs, ROW_PLACES, ROW_STEP, TAP_ONE, TapPlaces, TapRow},
    kernels::add_weighed,
    windows::Windows,
};

/// Maximum taps per position for which fixed-point weights are precise enough.
const MOST_TAPS: usize = 512;
/// Maximum number of float rows that are kept for the next output row.
const MOST_KEPT_ROWS: usize = 128;

/// Converts weights to fixed point with a sum of [`TAP_ONE`]: the largest weight takes all of the rounding.
fn parts(weights: &[f32]) -> Vec<i16> {
    let mut parts: Vec<i32> = weights.iter().map(|weight| (weight * TAP_ONE as f32).round() as i32).collect();
    let off = TAP_ONE - parts.iter().sum::<i32>();
    if let Some(largest) = parts.iter_mut().max() {
        *largest += off;
    }
    parts.into_iter().map(|part| part.clamp(i16::MIN.into(), i16::MAX.into()) as i16).collect()
}

/// The most recently used rows of a frame, as channels.
#[derive(Debug)]
struct Ring<T> {
    channels: usize,
    columns: usize,
    /// Elements of a row of one channel, with padding.
    stride: usize,
    /// The row that each slot holds.
    held: Vec<Option<u32>>,
    elements: Vec<T>,
}

impl<T: Copy + Default> Ring<T> {
    /// Allocates room for `rows` neighbouring rows.
    fn new(channels: usize, columns: usize, rows: usize) -> Self {
        let stride = columns.next_multiple_of(ROW_STEP);
        Self { channels, columns, stride, held: vec![None; rows.max(1)], elements: vec![T::default(); channels * stride * rows.max(1)] }
    }

    fn slot(&self, row: u32) -> usize {
        row as usize % self.held.len()
    }

    /// Makes a row available; `make` fills it if it is not.
    fn fill(&mut self, row: u32, make: impl FnOnce(&mut [&mut [T]])) {
        let slot = self.slot(row);
        if self.held.get(slot) == Some(&Some(row)) {
            return;
        }
        let image = self.channels * self.stride;
        let mut channels: [&mut [T]; MOST_CHANNELS] = Default::default();
        for (out, channel) in channels.iter_mut().zip(self.elements[slot * image..][..image].chunks_exact_mut(self.stride)) {
            *out = &mut channel[..self.columns];
        }
        make(&mut channels[..self.channels]);
        self.held[slot] = Some(row);
    }

    /// Returns a row with its padding.
    fn row(&self, row: u32, channel: usize) -> &[T] {
        &self.elements[(self.slot(row) * self.channels + channel) * self.stride..][..self.stride]
    }
}

/// How columns are taken from a weighted row.
#[derive(Debug)]
enum Columns {
    /// In order, from this one on.
    Straight(usize),
    /// One tap each.
    One(TapPlaces),
    /// Two taps each.
    Two(TapPlaces, Vec<[i16; 2]>),
    /// Up to four taps each.
    Few(TapPlaces, Vec<[i16; FEW]>),
    /// `blocks` blocks of 8 taps each.
    Many { first: Vec<u32>, weights: Vec<[i16; 8]>, blocks: usize },
    /// Any number of taps each, with AVX-512. `docs/reader.md` compares it with the AVX2 variants.
    Pairs(Pairs),
}

/// Places and weights of positions with up to `COUNT` taps each.
fn few<const COUNT: usize>(weights: &[Vec<i16>], first: Vec<u32>, most_windows: usize) -> (TapPlaces, Vec<[i16; COUNT]>) {
    let padded = |weights: &Vec<i16>| std::array::from_fn(|index| weights.get(index).copied().unwrap_or(0));
    let weights: Vec<[i16; COUNT]> = weights.iter().map(padded).collect();
    // Taps without weight need no window.
    let tap = |(first, weights): (&u32, &[i16; COUNT])| {
        let (first, weights) = (*first, *weights);
        (0..COUNT).map(move |index| if weights[index] == 0 { first } else { first + index as u32 })
    };
    let elements: Vec<u32> = first.iter().zip(&weights).flat_map(tap).collect();
    let windows = Windows::new::<2>(&elements, ROW_PLACES, most_windows);
    (TapPlaces { first, windows }, weights)
}

impl Columns {
    /// Creates tables for a row that begins with column `start`.
    fn new(taps: &ResizeTaps, start: u32) -> Self {
        // Padded to whole blocks by repeating the last position.
        let positions = taps.len().next_multiple_of(2 * BLOCK);
        let of: Vec<(u32, &[f32])> = (0..positions).map(|position| taps.at(position.min(taps.len() - 1))).collect();
        let first: Vec<u32> = of.iter().map(|(first, _)| first - start).collect();
        if taps.keeps_pixels() {
            return Columns::Straight(first.first().map_or(0, |first| *first as usize));
        }
        let weights: Vec<Vec<i16>> = of.iter().map(|(_, weights)| parts(weights)).collect();
        let widest = taps.widest();
        if widest > 1
            && Pairs::is_known()
            && let Some(pairs) = Pairs::new(&first, &weights, widest.div_ceil(2))
        {
            return Columns::Pairs(pairs);
        }
        match widest {
            0 | 1 => {
                let windows = Windows::new::<2>(&first, ROW_PLACES, 6);
                Columns::One(TapPlaces { first, windows })
            }
            2 => {
                let (places, weights) = few(&weights, first, 2);
                Columns::Two(places, weights)
            }
            3..=FEW => {
                let (places, weights) = few(&weights, first, 1);
                Columns::Few(places, weights)
            }
            widest => {
                let blocks = widest.div_ceil(8);
                Columns::Many { weights: kernels::many_weights(&weights, blocks), first, blocks }
            }
        }
    }

    /// Returns the columns of a row. They are written to `out`, unless they already lie in order.
    fn apply<'a>(&self, row: &'a TapRow, out: &'a mut [i16]) -> &'a [i16] {
        match self {
            Columns::Straight(start) => return &row[*start..],
            Columns::One(places) => kernels::take(row, places, out),
            Columns::Two(places, weights) => kernels::take_two(row, places, weights, out),
            Columns::Few(places, weights) => kernels::take_few(row, places, weights, out),
            Columns::Many { first, weights, blocks } => kernels::take_many(row, first, weights, *blocks, out),
            Columns::Pairs(pairs) => kernels::take_pairs(row, pairs, out),
        }
        out
    }
}

/// Resizes rows of bytes in 16-bit fixed point, within 0.1 of 255 of exact arithmetic.
#[derive(Debug)]
pub(super) struct ByteFilter {
    down: ResizeTaps,
    down_parts: Vec<i16>,
    across: Columns,
    ring: Ring<u8>,
    weighed: Vec<Box<TapRow>>,
    out: Vec<Vec<i16>>,
}

impl ByteFilter {
    /// Creates a filter for rows that begin with column `start`; `None` when a position has too many taps.
    pub fn new(across: &ResizeTaps, down: &ResizeTaps, (start, columns): (u32, u32), channels: usize) -> Option<Self> {
        if across.widest() > MOST_TAPS || down.widest() > MOST_TAPS {
            return None;
        }
        let tap_row = || -> Option<Box<TapRow>> { vec![0; ROW_PLACES].into_boxed_slice().try_into().ok() };
        Some(Self {
            down_parts: (0..down.len()).flat_map(|position| parts(down.at(position).1)).collect(),
            down: down.clone(),
            across: Columns::new(across, start),
            ring: Ring::new(channels, columns as usize, down.widest()),
            weighed: (0..channels).map(|_| tap_row()).collect::<Option<_>>()?,
            out: vec![vec![0; across.len().next_multiple_of(2 * BLOCK)]; channels],
        })
    }

    pub fn begin(&mut self) {
        self.ring.held.fill(None);
    }

    /// Returns output row `y`: a slice of Q6 values per channel, at least as long as the row.
    pub fn row(&mut self, source: &mut SourceRows, surface: &HostSurface, y: usize) -> [&[i16]; MOST_CHANNELS] {
        let (first, weights) = self.down.at(y);
        let place = self.down.tables().1[y] as usize;
        let parts = &self.down_parts[place..place + weights.len()];
        for row in first..first + weights.len() as u32 {
            self.ring.fill(row, |channels| source.bytes(surface, row as usize, channels));
        }
        let mut found: [&[i16]; MOST_CHANNELS] = Default::default();
        for (channel, ((weighed, out), found)) in self.weighed.iter_mut().zip(&mut self.out).zip(&mut found).enumerate() {
            let stretch = &mut weighed[..self.ring.stride];
            match parts {
                [_] => kernels::widen(self.ring.row(first, channel), stretch),
                _ => {
                    let rows: Vec<(&[u8], i16)> = (first..).zip(parts).map(|(row, part)| (self.ring.row(row, channel), *part)).collect();
                    kernels::weigh(&rows, stretch);
                }
            }
            *found = self.across.apply(weighed, out);
        }
        found
    }
}

/// Resizes rows of floats.
#[derive(Debug)]
pub(super) struct FloatFilter {
    across: ResizeTaps,
    down: ResizeTaps,
    start: u32,
    ring: Ring<f32>,
    weighed: Vec<f32>,
    out: Vec<Vec<f32>>,
}

impl FloatFilter {
    /// Creates a filter for rows that begin with column `start`.
    pub fn new(across: &ResizeTaps, down: &ResizeTaps, (start, columns): (u32, u32), channels: usize) -> Self {
        Self {
            ring: Ring::new(channels, columns as usize, down.widest().min(MOST_KEPT_ROWS)),
            weighed: vec![0.0; channels * columns as usize],
            out: vec![vec![0.0; across.len()]; channels],
            across: across.clone(),
            down: down.clone(),
            start,
        }
    }

    pub fn begin(&mut self) {
        self.ring.held.fill(None);
    }

    /// Returns output row `y`, one row per channel, clamped to 0..=255.
    pub fn row(&mut self, source: &mut SourceRows, surface: &HostSurface, y: usize) -> &mut [Vec<f32>] {
        let (first, weights) = self.down.at(y);
        self.weighed.fill(0.0);
        for (row, weight) in (first..).zip(weights) {
            self.ring.fill(row, |channels| source.floats(surface, row as usize, channels));
            for (channel, weighed) in self.weighed.chunks_exact_mut(self.ring.columns.max(1)).enumerate() {
                add_weighed(self.ring.row(row, channel), *weight, weighed);
            }
        }
        for (weighed, out) in self.weighed.chunks_exact(self.ring.columns).zip(&mut self.out) {
            for (position, out) in out.iter_mut().enumerate() {
                let (first, weights) = self.across.at(position);
                let samples = &weighed[(first - self.start) as usize..][..weights.len()];
                *out = samples.iter().zip(weights).map(|(sample, weight)| sample * weight).sum::<f32>().clamp(0.0, 255.0);
            }
        }
        &mut self.out
    }
}
