//! The early layers in horizontal strips: the same answers in much less memory.
//!
//! A model's first feature maps are by far its largest. Where a stretch of layers begins and ends in one tensor and every
//! layer works row by row (convolutions need some rows above and below), the stretch can run for one strip of rows after the
//! other, so that the large tensors in between exist only a strip at a time. A stretch ends at the first tensor that is small
//! beside its largest; the next begins there.
//!
//! Whatever is not understood is left as it stands.

use std::collections::{HashMap, HashSet};

use super::{InputShape, number};

mod graph;
mod rewrite;

use graph::{Graph, Kind, Node, Shape};
use rewrite::StripNames;

/// How the early layers of a model run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strips {
    /// In strips where a feature map is large: more than 32 MB.
    #[default]
    Auto,
    /// Whole.
    Off,
    /// The largest stretch in this many strips, smaller ones in fewer.
    Count(u32),
}

/// Up to this size of the largest feature map, strips save too little to be worth their extra rows.
const MIN_LARGEST_BYTES: u64 = 32 << 20;
/// What the largest feature map of one strip takes. For CenterFace at 1280x736 (8 strips) smaller ones save no more.
const STRIP_BYTES: u64 = 12 << 20;
/// A stretch ends where a tensor is at most this part of its largest: it is held twice when its strips are put together.
const END_SHARE: u64 = 4;
/// The most strips of a stretch.
pub(crate) const MAX_STRIPS: u32 = 64;
/// Bounds on what is looked at and copied, far beyond models that gain.
const MAX_GRAPH_NODES: usize = 20_000;
const MAX_STRETCHES: usize = 8;
const MAX_STRETCH_NODES: usize = 128;

/// Layers from one tensor to another, with nothing else going in or out.
struct Stretch<'a> {
    start: &'a str,
    end: &'a str,
    /// Indices of the nodes, in order.
    nodes: Vec<usize>,
    largest_bytes: u64,
    strips: u32,
}

/// Rows from the first to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rows {
    first: i64,
    end: i64,
}

/// The model with its early layers in strips; `None` when it gains nothing or is not understood.
pub(super) fn in_strips(model: &[u8], opset: u64, input: &InputShape, strips: Strips) -> Option<Vec<u8>> {
    let graph = Graph::read(model, opset)?;
    if graph.nodes.len() > MAX_GRAPH_NODES {
        return None;
    }
    let mut shapes = HashMap::from([(input.name.as_str(), Shape::of_input(&input.dims)?)]);
    let mut stretches = find_stretches(&graph, &input.name, &mut shapes);
    let largest = stretches.iter().map(|stretch| stretch.largest_bytes).max()?;
    let strip_bytes = match strips {
        Strips::Off => return None,
        Strips::Auto if largest <= MIN_LARGEST_BYTES => return None,
        Strips::Auto => STRIP_BYTES,
        Strips::Count(count) => largest.div_ceil(u64::from(count.clamp(1, MAX_STRIPS))),
    };
    for stretch in &mut stretches {
        let rows = shapes.get(stretch.end).map_or(1, |shape| shape.rows);
        stretch.strips = stretch.largest_bytes.div_ceil(strip_bytes.max(1)).min(u64::from(MAX_STRIPS)).min(rows) as u32;
    }
    stretches.retain(|stretch| stretch.strips > 1);
    if stretches.is_empty() { None } else { write_stretches(model, &graph, &stretches, &shapes) }
}

/// Every stretch from the input on, one behind the other.
fn find_stretches<'a>(graph: &Graph<'a>, input: &'a str, shapes: &mut HashMap<&'a str, Shape>) -> Vec<Stretch<'a>> {
    let mut stretches: Vec<Stretch<'a>> = Vec::new();
    while stretches.len() < MAX_STRETCHES {
        let (start, from) = match stretches.last() {
            None => (input, 0),
            Some(last) => (last.end, last.nodes.last().map_or(0, |node| node + 1)),
        };
        match find_stretch(graph, start, from, shapes) {
            Some(stretch) => stretches.push(stretch),
            None => break,
        }
    }
    stretches
}

/// The shortest stretch from a tensor to one that is small beside the largest in between.
fn find_stretch<'a>(graph: &Graph<'a>, start: &'a str, from: usize, shapes: &mut HashMap<&'a str, Shape>) -> Option<Stretch<'a>> {
    let mut members = HashMap::from([(start, *shapes.get(start)?)]);
    let (mut waiting, mut nodes, mut largest_bytes) = (HashMap::new(), Vec::new(), 0);
    for (index, node) in graph.nodes.iter().enumerate().skip(from) {
        let Some((output, shape)) = node.output_in_strips(&members, graph) else { continue };
        if nodes.len() >= MAX_STRETCH_NODES {
            return None;
        }
        nodes.push(index);
        members.insert(output, shape);
        for input in &node.inputs {
            if let Some(uses) = waiting.get_mut(input) {
                *uses -= 1;
                if *uses == 0 {
                    waiting.remove(input);
                }
            }
        }
        // A tensor that nobody uses waits for ever, so that no stretch goes past it.
        waiting.insert(output, graph.uses.get(output).copied().unwrap_or(1));
        let bytes = shape.bytes()?;
        largest_bytes = largest_bytes.max(bytes);
        if waiting.len() == 1 && bytes <= largest_bytes / END_SHARE && graph.uses.contains_key(output) {
            shapes.insert(output, shape);
            return Some(Stretch { start, end: output, nodes, largest_bytes, strips: 1 });
        }
    }
    None
}

fn write_stretches(model: &[u8], graph: &Graph<'_>, stretches: &[Stretch<'_>], known: &HashMap<&str, Shape>) -> Option<Vec<u8>> {
    let mut replaced = HashSet::new();
    let mut written = HashMap::new();
    let mut constants = Vec::new();
    for (index, stretch) in stretches.iter().enumerate() {
        let mut names = StripNames::new(index, graph);
        let nodes = write_stretch(graph, stretch, known, &mut names)?;
        constants.extend(names.into_constants());
        replaced.extend(stretch.nodes.iter().copied());
        // In place of the last node: everything that the stretch needs stands before it.
        written.insert(*stretch.nodes.last()?, nodes);
    }
    rewrite::model(model, &replaced, &written, &constants)
}

/// The nodes of one stretch, once for each strip, and one that puts the strips together.
fn write_stretch(graph: &Graph<'_>, stretch: &Stretch<'_>, known: &HashMap<&str, Shape>, names: &mut StripNames<'_>) -> Option<Vec<u8>> {
    let nodes: Vec<&Node<'_>> = stretch.nodes.iter().map(|index| graph.nodes.get(*index)).collect::<Option<_>>()?;
    let mut shapes = HashMap::from([(stretch.start, *known.get(stretch.start)?)]);
    for node in &nodes {
        let (output, shape) = node.output_in_strips(&shapes, graph)?;
        shapes.insert(output, shape);
    }
    let height = shapes.get(stretch.end)?.rows as i64;
    let count = i64::from(stretch.strips);
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    for strip in 0..count {
        names.strip = strip;
        let wanted = Rows { first: height * strip / count, end: height * (strip + 1) / count };
        let have = rows_needed(&nodes, stretch, &shapes, wanted)?;
        for node in &nodes {
            write_node(node, &shapes, &have, names, &mut out)?;
        }
        ends.push(names.of(stretch.end)?);
    }
    rewrite::concat(&ends, stretch.end, &mut out);
    Some(out)
}

/// The rows of each tensor that a strip of the last one is made of.
fn rows_needed<'a>(
    nodes: &[&Node<'a>],
    stretch: &Stretch<'a>,
    shapes: &HashMap<&'a str, Shape>,
    wanted: Rows,
) -> Option<HashMap<&'a str, Rows>> {
    let mut needed = HashMap::from([(stretch.end, wanted)]);
    for node in nodes.iter().rev() {
        let rows = *needed.get(node.outputs.first()?)?;
        for input in &node.inputs {
            let Some(shape) = shapes.get(input) else { continue };
            let more = node.input_rows(rows, shape)?.rows;
            let all = needed.entry(*input).or_insert(more);
            *all = Rows { first: all.first.min(more.first), end: all.end.max(more.end) };
        }
    }
    // The first tensor is there whole; each use takes its own rows from it.
    needed.insert(stretch.start, Rows { first: 0, end: shapes.get(stretch.start)?.rows as i64 });
    Some(needed)
}

fn write_node<'a>(
    node: &Node<'a>,
    shapes: &HashMap<&'a str, Shape>,
    have: &HashMap<&'a str, Rows>,
    names: &mut StripNames<'_>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let output = *node.outputs.first()?;
    let rows = *have.get(output)?;
    let (mut inputs, mut padding) = (Vec::with_capacity(node.inputs.len()), None);
    for input in &node.inputs {
        let Some(shape) = shapes.get(input) else {
            inputs.push((*input).to_owned());
            continue;
        };
        let need = node.input_rows(rows, shape)?;
        let held = *have.get(input)?;
        let name = names.of_or_whole(input);
        inputs.push(if held == need.rows { name } else { names.slice(&name, held, need.rows, out)? });
        if matches!(node.kind, Kind::Conv(_)) {
            padding = Some((need.above, need.below));
        }
    }
    let name = names.make(output)?;
    rewrite::node(node, &inputs, &name, padding, out)
}
