//! Resizes rows of a frame, component by component, for any pixel format.
//!
//! Rows are first weighted over contiguous memory; columns are then picked with tables that are built once per geometry.

pub use framerail_core::Sampling;
use framerail_core::{HostSurface, PixelFormat};

use crate::kernels::{self, RowBuffer, row_buffer};

/// The part of a frame that is resampled, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The input and output geometry of a resampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Geometry {
    pub format: PixelFormat,
    pub width: u32,
    pub height: u32,
    pub window: Window,
    pub out_width: u32,
    pub out_height: u32,
    pub sampling: Sampling,
}

/// For each output position, its source positions and their weights.
#[derive(Debug)]
pub(crate) struct AxisTaps {
    starts: Vec<u32>,
    taps: Vec<(u32, f32)>,
}

/// One axis of a component: positions in full-size pixels, with one sample per `1 << shift` of them.
#[derive(Clone, Copy)]
struct Axis {
    /// Samples of the component.
    samples: u32,
    /// Pixels of the frame.
    pixels: u32,
    shift: u32,
    origin: f64,
    extent: f64,
    out: u32,
}

impl Geometry {
    /// The taps of a colour component, across and down.
    pub fn component_taps(&self, component: usize) -> (AxisTaps, AxisTaps) {
        let Self { format, width, height, window, out_width, out_height, sampling } = *self;
        let (columns, rows) = format.component_size(component, width, height);
        let (shift_x, shift_y) = if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) };
        let across = Axis { samples: columns, pixels: width, shift: shift_x, origin: window.x, extent: window.width, out: out_width };
        let down = Axis { samples: rows, pixels: height, shift: shift_y, origin: window.y, extent: window.height, out: out_height };
        (AxisTaps::new(across, sampling), AxisTaps::new(down, sampling))
    }
}

impl AxisTaps {
    fn new(axis: Axis, sampling: Sampling) -> Self {
        let mut table = Self { starts: vec![0], taps: Vec::with_capacity(2 * axis.out as usize) };
        for position in 0..axis.out {
            match sampling {
                Sampling::Bilinear | Sampling::Bilinear8Bit | Sampling::Filter(_) => table.push_bilinear(axis, position),
                Sampling::Area => table.push_area(axis, position),
            }
            table.starts.push(table.taps.len() as u32);
        }
        table
    }

    fn push_bilinear(&mut self, axis: Axis, position: u32) {
        let last = f64::from(axis.pixels - 1);
        let at = ((f64::from(position) + 0.5) * axis.extent / f64::from(axis.out) - 0.5 + axis.origin).clamp(0.0, last);
        let first = at.floor();
        let weight = (at - first) as f32;
        let second = (first + 1.0).min(last) as u32 >> axis.shift;
        let first = first as u32 >> axis.shift;
        if weight == 0.0 || first == second {
            self.taps.push((first, 1.0));
        } else {
            self.taps.extend([(first, 1.0 - weight), (second, weight)]);
        }
    }

    fn push_area(&mut self, axis: Axis, position: u32) {
        let pixels_per_sample = f64::from(1u32 << axis.shift);
        let step = axis.extent / f64::from(axis.out);
        let from = (axis.origin + step * f64::from(position)) / pixels_per_sample;
        let to = from + step / pixels_per_sample;
        let end = f64::from(axis.samples);
        let (from, to) = (from.clamp(0.0, end - 1e-6), to.clamp(1e-6, end));
        let (first, last) = (from.floor() as u32, (to.ceil() as u32).clamp(1, axis.samples) - 1);
        let length = (to - from).max(1e-9);
        for sample in first..=last.max(first) {
            let overlap = to.min(f64::from(sample) + 1.0) - from.max(f64::from(sample));
            if overlap > 0.0 || first == last {
                self.taps.push((sample, (overlap.max(1e-9) / length) as f32));
            }
        }
    }

    /// Number of output positions.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Maximum number of taps of a position.
    pub fn widest(&self) -> usize {
        self.starts.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0)
    }

    /// The taps of one position: neighbouring samples with weights that add up to 1.
    pub fn at(&self, position: usize) -> &[(u32, f32)] {
        let range = self.starts[position] as usize..self.starts[position + 1] as usize;
        &self.taps[range]
    }

    /// The first and the last sample of all positions.
    pub fn bounds(&self) -> (u32, u32) {
        let first = self.taps.iter().map(|tap| tap.0).min().unwrap_or(0);
        let last = self.taps.iter().map(|tap| tap.0).max().unwrap_or(0);
        (first, last)
    }
}

/// How one component's columns are taken from its plane's weighted row.
#[derive(Debug)]
enum Columns {
    /// In order, from this element on.
    Straight(usize),
    /// One element each.
    Pick(Vec<u32>),
    /// Interpolated between two elements each.
    Lerp { first: Vec<u32>, second: Vec<u32>, weight: Vec<f32> },
    /// A weighted sum of elements.
    Sum(AxisTaps),
}

impl Columns {
    /// Creates tables for the elements of a row that starts at `start` and holds `step` elements per sample.
    fn new(taps: AxisTaps, step: usize, offset: usize, start: usize) -> Self {
        let element = |sample: u32| (sample as usize * step + offset - start) as u32;
        let (positions, widest) = (taps.len(), taps.widest());
        if widest > 2 {
            let moved = taps.taps.iter().map(|&(sample, weight)| (element(sample), weight)).collect();
            return Columns::Sum(AxisTaps { starts: taps.starts, taps: moved });
        }
        let ends = |position: usize| {
            let taps = taps.at(position);
            let (first, last) = (taps.first().copied().unwrap_or((0, 1.0)), taps.last().copied().unwrap_or((0, 1.0)));
            (element(first.0), element(last.0), if taps.len() == 2 { last.1 } else { 0.0 })
        };
        let first: Vec<u32> = (0..positions).map(|position| ends(position).0).collect();
        if widest == 2 {
            let second = (0..positions).map(|position| ends(position).1).collect();
            let weight = (0..positions).map(|position| ends(position).2).collect();
            return Columns::Lerp { first, second, weight };
        }
        let origin = first.first().copied().unwrap_or(0);
        if first.iter().zip(origin..).all(|(&index, straight)| index == straight) {
            return Columns::Straight(origin as usize);
        }
        Columns::Pick(first)
    }

    fn apply<'a>(&self, row: &'a RowBuffer, out: &'a mut [f32]) -> &'a [f32] {
        match self {
            Columns::Straight(origin) => return &row[*origin..origin + out.len()],
            Columns::Pick(index) => kernels::pick(row, index, out),
            Columns::Lerp { first, second, weight } => kernels::lerp(row, first, second, weight, out),
            Columns::Sum(taps) => {
                for (position, out) in out.iter_mut().enumerate() {
                    *out = taps.at(position).iter().map(|&(index, weight)| row[index as usize] * weight).sum();
                }
            }
        }
        out
    }
}

/// The rows of one plane that make up an output row, and the range of elements that is needed of them.
#[derive(Debug)]
struct PlaneRows {
    plane: usize,
    rows: AxisTaps,
    /// First element of the range.
    start: usize,
    /// Number of elements in the range.
    len: usize,
    weighed: Box<RowBuffer>,
}

#[derive(Debug)]
struct ComponentColumns {
    /// Index in the list of planes.
    plane: usize,
    columns: Columns,
    row: Vec<f32>,
}

/// Resizes a frame's rows, as stored sample values.
#[derive(Debug)]
pub(crate) struct Resampler {
    geometry: Geometry,
    planes: Vec<PlaneRows>,
    components: Vec<ComponentColumns>,
}

impl Resampler {
    pub fn new(geometry: Geometry) -> Self {
        let Geometry { format, out_width, .. } = geometry;
        let (mut planes, mut components) = (Vec::<PlaneRows>::new(), Vec::new());
        for (index, component) in format.color_components().iter().enumerate() {
            let (taps, down) = geometry.component_taps(index);
            let step = component.step_bytes / format.sample_bytes();
            let (first, last) = taps.bounds();
            let start = first as usize * step;
            let plane = match planes.iter().position(|known| known.plane == component.plane) {
                Some(known) => known,
                None => {
                    let len = (last - first + 1) as usize * step;
                    planes.push(PlaneRows { plane: component.plane, rows: down, start, len, weighed: row_buffer() });
                    planes.len() - 1
                }
            };
            let offset = component.offset_bytes / format.sample_bytes();
            let columns = Columns::new(taps, step, offset, start);
            components.push(ComponentColumns { plane, columns, row: vec![0.0; out_width as usize] });
        }
        Self { geometry, planes, components }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns row `y` of the output for each colour component (one or three; unused entries are empty).
    pub fn row(&mut self, surface: &HostSurface, y: usize) -> [&[f32]; 3] {
        let bytes = self.geometry.format.sample_bytes();
        for plane in &mut self.planes {
            let stretch = plane.start * bytes..(plane.start + plane.len) * bytes;
            let rows = plane.rows.at(y).iter().map(|&(row, weight)| (&surface.row(plane.plane, row as usize)[stretch.clone()], weight));
            kernels::weigh_rows(bytes, rows, &mut plane.weighed[..plane.len]);
        }
        let mut out: [&[f32]; 3] = [&[]; 3];
        for (out, component) in out.iter_mut().zip(&mut self.components) {
            *out = component.columns.apply(&self.planes[component.plane].weighed, &mut component.row);
        }
        out
    }
}
