//! Rows of a picture at another size as channels, in fixed-point arithmetic of 16 bits.
//!
//! Rows are weighed first, over contiguous memory, then columns are taken by tables, both as stored components; then components
//! are mixed. Against exact arithmetic a channel is off by less than 0.2 of 255 before its last rounding.

use framerail_core::{ChannelMix, DType, HostSurface};

use crate::{
    fixed_kernels::{self as kernels, BLOCK, FEW, FixedMix, ROW_PLACES, Samples, TAP_ONE, TapPlaces, TapRow},
    sampling::{AxisTaps, Geometry},
    windows::Windows,
};

/// Most rows or columns that one position is made of; beyond that, the roundings of so many products would add up.
const MOST_TAPS: usize = 32;

/// Weights in parts of `one` that add up to it: the largest takes the rounding of all.
fn parts(taps: &[(u32, f32)], one: i32) -> Vec<i32> {
    let mut parts: Vec<i32> = taps.iter().map(|tap| (tap.1 * one as f32).round() as i32).collect();
    let off = one - parts.iter().sum::<i32>();
    if let Some(largest) = parts.iter_mut().max() {
        *largest += off;
    }
    parts
}

/// For each output row the source rows and their weights, in parts of 32768; a single row has the weight 0.
#[derive(Debug)]
struct RowTaps {
    starts: Vec<u32>,
    taps: Vec<(u32, i16)>,
}

impl RowTaps {
    fn new(taps: &AxisTaps) -> Self {
        let mut table = Self { starts: vec![0], taps: Vec::new() };
        for position in 0..taps.len() {
            let taps = taps.at(position);
            let found = taps.iter().zip(parts(taps, 1 << 15)).filter(|(_, part)| *part > 0);
            // A weight of one does not fit, and needs no product.
            table.taps.extend(found.map(|(tap, part)| (tap.0, i16::try_from(part).unwrap_or(0))));
            table.starts.push(table.taps.len() as u32);
        }
        table
    }

    fn at(&self, position: usize) -> &[(u32, i16)] {
        let range = self.starts[position] as usize..self.starts[position + 1] as usize;
        &self.taps[range]
    }
}

/// How the columns of a component are taken from its row.
#[derive(Debug)]
enum Columns {
    /// As they lie.
    Straight,
    /// Each sample twice, from the first one on.
    Double,
    /// One sample each.
    One(TapPlaces),
    /// Between two samples each.
    Two(TapPlaces, Vec<[i16; 2]>),
    /// Of up to four samples each.
    Few(TapPlaces, Vec<[i16; FEW]>),
    /// Of so many samples each.
    Many { first: Vec<u32>, weights: Vec<i16>, taps: usize },
}

/// The weights of one position, and 0 for samples that are not part of it.
fn padded<const COUNT: usize>(taps: &[(u32, f32)]) -> [i16; COUNT] {
    let parts = parts(taps, TAP_ONE);
    std::array::from_fn(|index| parts.get(index).map_or(0, |part| *part as i16))
}

/// Places and weights of positions of `COUNT` taps each.
fn few<const COUNT: usize>(taps: &[&[(u32, f32)]], first: Vec<u32>, most_windows: usize) -> (TapPlaces, Vec<[i16; COUNT]>) {
    let weights: Vec<[i16; COUNT]> = taps.iter().map(|taps| padded(taps)).collect();
    // Samples without weight are not looked for.
    let tap = |(first, weights): (&u32, &[i16; COUNT])| {
        let (first, weights) = (*first, *weights);
        (0..COUNT).map(move |index| if weights[index] == 0 { first } else { first + index as u32 })
    };
    let elements: Vec<u32> = first.iter().zip(&weights).flat_map(tap).collect();
    let windows = Windows::new::<2>(&elements, ROW_PLACES, most_windows);
    (TapPlaces { first, windows }, weights)
}

impl Columns {
    /// Tables over a row that begins with sample `start`.
    fn new(taps: &AxisTaps, start: u32) -> Self {
        let positions = taps.len().next_multiple_of(2 * BLOCK);
        let of: Vec<&[(u32, f32)]> = (0..positions).map(|position| taps.at(position.min(taps.len() - 1))).collect();
        let first: Vec<u32> = of.iter().map(|taps| taps.first().map_or(0, |tap| tap.0 - start)).collect();
        match taps.widest() {
            0 | 1 => Self::single(taps.len(), first),
            2 => {
                let (places, weights) = few(&of, first, 2);
                Columns::Two(places, weights)
            }
            3..=FEW => {
                let (places, weights) = few(&of, first, 1);
                Columns::Few(places, weights)
            }
            widest => {
                let weights = of.iter().flat_map(|taps| padded::<MOST_TAPS>(taps).into_iter().take(widest)).collect();
                Columns::Many { first, weights, taps: widest }
            }
        }
    }

    fn single(positions: usize, first: Vec<u32>) -> Self {
        let index = &first[..positions];
        if index.iter().zip(0..).all(|(&index, straight)| index == straight) {
            return Columns::Straight;
        }
        if index.iter().enumerate().all(|(position, &index)| index as usize == position / 2) {
            return Columns::Double;
        }
        let windows = Windows::new::<2>(&first, ROW_PLACES, 6);
        Columns::One(TapPlaces { first, windows })
    }

    /// Fills `out`, but for columns that lie straight in the row.
    fn apply(&self, row: &TapRow, out: &mut [i16]) {
        match self {
            Columns::Straight => (),
            Columns::Double => kernels::double(&row[..], out),
            Columns::One(places) => kernels::take(row, places, out),
            Columns::Two(places, weights) => kernels::take_two(row, places, weights, out),
            Columns::Few(places, weights) => kernels::take_few(row, places, weights, out),
            Columns::Many { first, weights, taps } => kernels::take_many(row, first, weights, *taps, out),
        }
    }
}

/// Samples of 8 bits that are picked one for each column, right from the picture's rows.
#[derive(Debug)]
struct BytePicks {
    index: Vec<u32>,
    windows: Windows,
}

impl BytePicks {
    /// Tables over a stretch of so many bytes; `None` where columns lie straight, or are made of several samples.
    fn new(columns: &Columns, step: usize, offset: usize, bytes: usize, positions: usize) -> Option<Self> {
        let element = |sample: u32| sample * step as u32 + offset as u32;
        let index: Vec<u32> = match columns {
            Columns::One(places) => places.first.iter().map(|&sample| element(sample)).collect(),
            Columns::Straight if step > 1 => (0..positions as u32).map(element).collect(),
            _ => return None,
        };
        // What is beyond the last position is not looked at.
        let last = element(0).max(*index.get(positions.checked_sub(1)?)?);
        let index: Vec<u32> = index.into_iter().map(|index| index.min(last)).collect();
        let windows = Windows::new::<1>(&index, bytes, 6)?;
        Some(Self { index, windows })
    }
}

/// One plane's rows, weighed.
#[derive(Debug)]
struct Plane {
    index: usize,
    rows: RowTaps,
    /// First sample of the stretch that is needed.
    start: usize,
    /// Samples of the stretch, over all components of the plane.
    samples: usize,
    /// Components in turn; empty where the plane holds only one.
    mixed: Vec<i16>,
    /// Whether that was done for the row at hand.
    is_mixed: bool,
    /// The output row that the plane's components were made for.
    row: Option<usize>,
}

#[derive(Debug)]
struct Component {
    /// Position in the list of planes.
    plane: usize,
    step: usize,
    offset: usize,
    samples: usize,
    row: Box<TapRow>,
    columns: Columns,
    /// Taken in place of `row` and `columns` where an output row is made of a single row.
    picks: Option<BytePicks>,
    /// Whether `picks` made the last row.
    is_picked: bool,
    out: Vec<i16>,
}

/// Gives a picture's rows at another size, as channels.
#[derive(Debug)]
pub(crate) struct FixedRows {
    samples: Samples,
    planes: Vec<Plane>,
    components: Vec<Component>,
    mixes: Vec<FixedMix>,
    /// For channels that are not stored as bytes.
    words: Vec<i16>,
}

impl FixedRows {
    /// Tables for one geometry and mix; `None` where positions are made of too many samples, or factors are too large.
    pub fn new(geometry: &Geometry, mixes: &[ChannelMix]) -> Option<Self> {
        let format = geometry.format;
        let stored_bits = format.bits() + format.components().first().map_or(0, |component| component.shift);
        let samples = match stored_bits {
            8 => Samples::Bytes,
            16 => Samples::WideWords,
            bits => Samples::Words(15 - bits),
        };
        let mixes = mixes.iter().map(|mix| fixed_mix(mix, stored_bits)).collect::<Option<_>>()?;
        let width = (geometry.out_width as usize).next_multiple_of(2 * BLOCK);
        let (mut planes, mut components) = (Vec::<Plane>::new(), Vec::new());
        for (index, place) in format.color_components().iter().enumerate() {
            let (across, down) = geometry.component_taps(index);
            if across.widest() > MOST_TAPS || down.widest() > MOST_TAPS {
                return None;
            }
            let step = place.step_bytes / format.sample_bytes();
            let (first, last) = across.bounds();
            let count = (last - first + 1) as usize;
            let plane = planes.iter().position(|known| known.index == place.plane).unwrap_or(planes.len());
            if plane == planes.len() {
                let mixed = vec![0; if step == 1 { 0 } else { count * step }];
                let (start, samples) = (first as usize * step, count * step);
                planes.push(Plane { index: place.plane, rows: RowTaps::new(&down), start, samples, mixed, is_mixed: false, row: None });
            }
            let offset = place.offset_bytes / format.sample_bytes();
            let columns = Columns::new(&across, first);
            let picks = (samples == Samples::Bytes).then(|| BytePicks::new(&columns, step, offset, count * step, across.len())).flatten();
            components.push(Component {
                plane,
                step,
                offset,
                samples: count,
                row: vec![0; ROW_PLACES].into_boxed_slice().try_into().ok()?,
                columns,
                picks,
                is_picked: false,
                out: vec![0; width],
            });
        }
        Some(Self { samples, planes, components, mixes, words: vec![0; width] })
    }

    /// Forgets the picture before.
    pub fn begin(&mut self) {
        for plane in &mut self.planes {
            (plane.row, plane.is_mixed) = (None, false);
        }
    }

    /// Works out the components of output row `y`; neighbouring rows of chroma are often made of the same.
    fn fill(&mut self, surface: &HostSurface, y: usize) {
        let mut fresh = [false; 4];
        for (plane, fresh) in self.planes.iter_mut().zip(&mut fresh) {
            let taps = plane.rows.at(y);
            *fresh = plane.row.is_none_or(|known| plane.rows.at(known) != taps);
            (plane.row, plane.is_mixed) = (Some(y), plane.is_mixed && !*fresh);
        }
        for component in self.components.iter_mut().filter(|component| fresh[component.plane]) {
            let plane = &mut self.planes[component.plane];
            component.is_picked = false;
            if let (Some(picks), [(single, _)]) = (&component.picks, plane.rows.at(y)) {
                kernels::take_bytes(plane.stretch(surface, *single, 1), &picks.index, &picks.windows, &mut component.out);
                component.is_picked = true;
                continue;
            }
            let row = &mut component.row[..component.samples];
            if plane.mixed.is_empty() {
                plane.weigh(self.samples, surface, y, row);
            } else {
                plane.mix(self.samples, surface, y);
                kernels::take_component(&plane.mixed, component.step, component.offset, row);
            }
            component.columns.apply(&component.row, &mut component.out);
        }
    }

    /// The components of the row that was filled last; one stands for all where there are no others.
    fn components(&self) -> kernels::Components<'_> {
        let row = |index: usize| {
            let component = self.components.get(index).or(self.components.first());
            component.map_or(&[][..], |component| match component.columns {
                Columns::Straight if !component.is_picked => &component.row[..component.out.len()],
                _ => &component.out,
            })
        };
        [row(0), row(1), row(2)]
    }

    /// Writes row `y` as 8-bit channels, rounded and cut off.
    pub fn bytes(&mut self, surface: &HostSurface, y: usize, out: &mut [&mut [u8]]) {
        self.fill(surface, y);
        kernels::mix_to_bytes(self.components(), &self.mixes, out);
    }

    /// Writes row `y` as elements: channels cut off at 0 and 255, then scaled and shifted.
    pub fn elements(&mut self, surface: &HostSurface, y: usize, mixes: &[ChannelMix], dtype: DType, out: &mut [&mut [u8]]) {
        self.fill(surface, y);
        let mut words = std::mem::take(&mut self.words);
        for ((fixed, mix), out) in self.mixes.iter().zip(mixes).zip(out) {
            kernels::mix_to_words(self.components(), fixed, &mut words);
            match dtype {
                DType::F16 => kernels::words_to_halves(&words, mix.scale, mix.shift, out.as_chunks_mut().0),
                DType::Bf16 => kernels::words_to_bfloats(&words, mix.scale, mix.shift, out.as_chunks_mut().0),
                DType::U8 => kernels::words_to_bytes(&words, mix.scale, mix.shift, out),
                _ => kernels::words_to_floats(&words, mix.scale, mix.shift, out.as_chunks_mut().0),
            }
        }
        self.words = words;
    }
}

impl Plane {
    /// The stretch of a source row, whose samples have so many bytes.
    fn stretch<'a>(&self, surface: &'a HostSurface, row: u32, bytes: usize) -> &'a [u8] {
        &surface.row(self.index, row as usize)[self.start * bytes..(self.start + self.samples) * bytes]
    }

    /// Fills `mixed`, once for all components.
    fn mix(&mut self, samples: Samples, surface: &HostSurface, y: usize) {
        if !self.is_mixed {
            let mut mixed = std::mem::take(&mut self.mixed);
            self.weigh(samples, surface, y, &mut mixed);
            (self.mixed, self.is_mixed) = (mixed, true);
        }
    }

    /// The plane's stretch at output row `y`.
    fn weigh(&self, samples: Samples, surface: &HostSurface, y: usize, out: &mut [i16]) {
        let bytes = samples.size_bytes();
        let row = |row: u32| self.stretch(surface, row, bytes);
        match self.rows.at(y) {
            [(single, _)] => kernels::widen(samples, row(*single), out),
            [first, second] => kernels::weigh(samples, &[(row(first.0), first.1), (row(second.0), second.1)], out),
            several => {
                // Of fixed size, so that nothing is allocated for a row.
                let mut rows: [(&[u8], i16); MOST_TAPS] = [(&[], 0); MOST_TAPS];
                for (slot, (index, weight)) in rows.iter_mut().zip(several) {
                    *slot = (row(*index), *weight);
                }
                kernels::weigh(samples, &rows[..several.len()], out);
            }
        }
    }
}

/// A channel's mix in fixed point; `None` where it does not fit.
fn fixed_mix(mix: &ChannelMix, stored_bits: u32) -> Option<FixedMix> {
    // From one stored step to one of 8 bits.
    let steps = f64::from(1u32 << (stored_bits - 8));
    let fixed = |value: f64| {
        let rounded = value.round();
        (rounded.abs() <= f64::from(i16::MAX)).then_some(rounded as i16)
    };
    let [first, second, third] = mix.gain.map(|gain| fixed(f64::from(gain) * steps * 8192.0));
    Some(FixedMix { gain: [first?, second?, third?], bias: fixed(f64::from(mix.bias) * 32.0)? })
}
