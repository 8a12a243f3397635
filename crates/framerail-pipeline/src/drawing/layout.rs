//! Positions of boxes and arrows: layers from left to right, with labels in the gaps between them.
//!
//! An edge that skips layers gets a slot in each of them, so that it crosses no box. Vertical positions within a layer are a least-squares
//! fit to those of the neighbours that keeps the minimum distances, swept back and forth.

use super::{DrawnStage, GraphDrawing};

pub(super) const NODE_FONT: f64 = 15.0;
pub(super) const DETAIL_FONT: f64 = 11.5;
pub(super) const LABEL_FONT: f64 = 11.0;
pub(super) const LABEL_LINE: f64 = 14.5;
pub(super) const DETAIL_LINE: f64 = 16.0;
const MARGIN: f64 = 24.0;
const NODE_PADDING: f64 = 16.0;
const NODE_HEAD: f64 = 42.0;
const ROW_GAP: f64 = 28.0;
const BEND: f64 = 44.0;
const STRAIGHT: f64 = 14.0;
const ARROW_ROOM: f64 = 22.0;
/// Characters per line of a label.
const LABEL_CHARACTERS: usize = 22;
const SWEEPS: usize = 12;

/// A box.
pub(super) struct BoxLayout<'a> {
    pub(super) node: &'a DrawnStage,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An arrow through points, with label lines above and below it.
pub(super) struct ArrowLayout {
    /// Start, intermediate slots and end; x at the left and right side of each.
    pub(super) points: Vec<(f64, f64)>,
    /// Start of the horizontal segment with the label, and its y.
    pub(super) label_x: f64,
    pub(super) label_y: f64,
    pub(super) above: Vec<String>,
    pub(super) below: Vec<String>,
}

/// The whole drawing, in pixels.
pub(super) struct Layout<'a> {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) boxes: Vec<BoxLayout<'a>>,
    pub(super) arrows: Vec<ArrowLayout>,
}

/// A slot in a layer: a box, or space for an edge to pass.
struct Slot {
    layer: usize,
    /// Space above and below its centre.
    above: f64,
    below: f64,
    y: f64,
    node: Option<usize>,
}

struct Link {
    /// Slots from the source node to the target node.
    path: Vec<usize>,
    above: Vec<String>,
    below: Vec<String>,
}

impl Link {
    fn label_width(&self) -> f64 {
        self.above.iter().chain(&self.below).map(|line| text_width(line, LABEL_FONT)).fold(0.0, f64::max)
    }

    /// Space that the label takes above and below its arrow.
    fn label_room(&self) -> (f64, f64) {
        (LABEL_LINE * self.above.len() as f64 + 6.0, LABEL_LINE * self.below.len() as f64 + 6.0)
    }
}

impl<'a> Layout<'a> {
    pub(super) fn new(drawing: &'a GraphDrawing) -> Self {
        let mut slots = place_nodes(drawing);
        let links = place_edges(drawing, &mut slots);
        let layers = order_layers(&slots, &links);
        settle(&mut slots, &links, &layers);
        draw(drawing, &slots, &links, &layers)
    }
}

/// A slot for each node, in the layer given by its longest path from a source.
fn place_nodes(drawing: &GraphDrawing) -> Vec<Slot> {
    let index = |name: &str| drawing.nodes.iter().position(|node| node.name == name);
    let edges: Vec<(usize, usize)> = drawing.edges.iter().filter_map(|edge| Some((index(&edge.from)?, index(&edge.to)?))).collect();
    // An edge that shares both ends with other edges needs a separate slot for its label.
    let length = |(from, to): &(usize, usize)| {
        let crowded = edges.iter().filter(|other| other.0 == *from).count() > 1 && edges.iter().filter(|other| other.1 == *to).count() > 1;
        if crowded { 2 } else { 1 }
    };
    let lengths: Vec<usize> = edges.iter().map(length).collect();
    let mut depth = vec![0; drawing.nodes.len()];
    // At most as many rounds as nodes, which also terminates for a cycle; valid graphs have none.
    for _ in 0..drawing.nodes.len() {
        for ((from, to), length) in edges.iter().zip(&lengths) {
            depth[*to] = depth[*to].max((depth[*from] + length).min(2 * drawing.nodes.len()));
        }
    }
    let slot = |(index, node): (usize, &DrawnStage)| {
        let half = node_height(node) / 2.0;
        Slot { layer: depth[index], above: half, below: half, y: 0.0, node: Some(index) }
    };
    drawing.nodes.iter().enumerate().map(slot).collect()
}

/// The edges, with a new slot in each layer that they skip.
fn place_edges(drawing: &GraphDrawing, slots: &mut Vec<Slot>) -> Vec<Link> {
    let index = |name: &str| drawing.nodes.iter().position(|node| node.name == name);
    let mut links = Vec::new();
    for edge in &drawing.edges {
        let (Some(from), Some(to)) = (index(&edge.from), index(&edge.to)) else { continue };
        let above = label_lines(&edge.format);
        let below = edge.traffic.map(|traffic| traffic.lines()).unwrap_or_default();
        let mut link = Link { path: vec![from], above, below };
        for layer in slots[from].layer + 1..slots[to].layer {
            slots.push(Slot { layer, above: 8.0, below: 8.0, y: 0.0, node: None });
            link.path.push(slots.len() - 1);
        }
        link.path.push(to);
        // The label is next to the box or slot at either end of the edge: both need space for it.
        let (above, below) = link.label_room();
        for slot in [link.path[0], link.path[1]] {
            slots[slot].above = slots[slot].above.max(above);
            slots[slot].below = slots[slot].below.max(below);
        }
        links.push(link);
    }
    links
}

/// The slots of each layer from top to bottom, ordered by the mean position of their predecessors to reduce crossings.
fn order_layers(slots: &[Slot], links: &[Link]) -> Vec<Vec<usize>> {
    let count = slots.iter().map(|slot| slot.layer + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<usize>> = Vec::new();
    let mut rank = vec![0.0; slots.len()];
    for layer in 0..count {
        let mut members: Vec<usize> = (0..slots.len()).filter(|slot| slots[*slot].layer == layer).collect();
        let mean_rank = |slot: &usize| mean(givers(*slot, links).map(|giver| rank[giver])).unwrap_or(0.0);
        // Slots with the same predecessor are sorted by the order of the edges.
        let first_link = |slot: &usize| links.iter().position(|link| link.path.contains(slot)).unwrap_or(0);
        members.sort_by(|a, b| mean_rank(a).total_cmp(&mean_rank(b)).then(first_link(a).cmp(&first_link(b))));
        for (place, slot) in members.iter().enumerate() {
            rank[*slot] = place as f64;
        }
        layers.push(members);
    }
    layers
}

fn givers<'l>(slot: usize, links: &'l [Link]) -> impl Iterator<Item = usize> + 'l {
    links.iter().flat_map(|link| link.path.windows(2)).filter(move |step| step[1] == slot).map(|step| step[0])
}

fn takers<'l>(slot: usize, links: &'l [Link]) -> impl Iterator<Item = usize> + 'l {
    links.iter().flat_map(|link| link.path.windows(2)).filter(move |step| step[0] == slot).map(|step| step[1])
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Computes vertical positions: each slot near its neighbours, without overlap.
fn settle(slots: &mut [Slot], links: &[Link], layers: &[Vec<usize>]) {
    for sweep in 0..=SWEEPS {
        let rightwards = sweep % 2 == 0;
        let order: Vec<&Vec<usize>> = if rightwards { layers.iter().collect() } else { layers.iter().rev().collect() };
        for layer in order {
            let wanted: Vec<f64> = layer
                .iter()
                .map(|slot| {
                    let own = slots[*slot].y;
                    let near = if rightwards {
                        mean(givers(*slot, links).map(|other| slots[other].y))
                    } else {
                        mean(takers(*slot, links).map(|other| slots[other].y))
                    };
                    near.unwrap_or(own)
                })
                .collect();
            let distances: Vec<f64> = layer.windows(2).map(|pair| slots[pair[0]].below + slots[pair[1]].above + ROW_GAP).collect();
            for (slot, y) in layer.iter().zip(spread(&wanted, &distances)) {
                slots[*slot].y = y;
            }
        }
    }
}

/// The least-squares fit to the wanted positions that keeps at least these distances (pool adjacent violators).
fn spread(wanted: &[f64], distances: &[f64]) -> Vec<f64> {
    let mut offsets = vec![0.0];
    for distance in distances {
        offsets.push(offsets[offsets.len() - 1] + distance);
    }
    // Blocks of (sum, count) with rising means.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (value, offset) in wanted.iter().zip(&offsets) {
        let mut block = (value - offset, 1);
        while let Some(last) = blocks.last().filter(|last| last.0 / last.1 as f64 > block.0 / block.1 as f64) {
            block = (block.0 + last.0, block.1 + last.1);
            blocks.pop();
        }
        blocks.push(block);
    }
    let means = blocks.iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / *count as f64, *count));
    means.zip(offsets).map(|(mean, offset)| mean + offset).collect()
}

fn draw<'a>(drawing: &'a GraphDrawing, slots: &[Slot], links: &[Link], layers: &[Vec<usize>]) -> Layout<'a> {
    let top = slots.iter().map(|slot| slot.y - slot.above).fold(f64::INFINITY, f64::min);
    let bottom = slots.iter().map(|slot| slot.y + slot.below).fold(f64::NEG_INFINITY, f64::max);
    let top = if top.is_finite() { top } else { 0.0 };
    let columns = place_columns(drawing, slots, links, layers);
    let boxes = slots.iter().filter_map(|slot| {
        let node = drawing.nodes.get(slot.node?)?;
        let column = columns.get(slot.layer)?;
        let height = node_height(node);
        Some(BoxLayout { node, x: column.x, y: slot.y - top + MARGIN - height / 2.0, width: column.width, height })
    });
    let arrows = links.iter().filter_map(|link| draw_arrow(slots, link, links, &columns, MARGIN - top));
    let width = columns.last().map_or(0.0, |column| column.x + column.width) + MARGIN;
    let height = if bottom.is_finite() { bottom - top } else { 0.0 } + 2.0 * MARGIN;
    Layout { width: width.max(2.0 * MARGIN), height, boxes: boxes.collect(), arrows: arrows.collect() }
}

struct Column {
    x: f64,
    width: f64,
    /// Space for edges to bend, at the left of the gap after it.
    bend: f64,
    /// Space for edges to merge, at the right of that gap.
    merge: f64,
}

/// Whether this part of an edge keeps the height of its start and bends late, because several edges merge at its end.
fn bends_late(step: &[usize], links: &[Link]) -> bool {
    givers(step[1], links).count() > 1 && takers(step[0], links).count() == 1
}

fn place_columns(drawing: &GraphDrawing, slots: &[Slot], links: &[Link], layers: &[Vec<usize>]) -> Vec<Column> {
    let mut x = MARGIN;
    let mut columns = Vec::new();
    for (layer, members) in layers.iter().enumerate() {
        let nodes = members.iter().filter_map(|slot| drawing.nodes.get(slots[*slot].node?));
        let width = nodes.map(node_width).fold(40.0, f64::max);
        let leaving: Vec<&Link> = links.iter().filter(|link| slots[link.path[0]].layer == layer).collect();
        let label = leaving.iter().map(|link| link.label_width()).fold(0.0, f64::max);
        let steps = || links.iter().flat_map(|link| link.path.windows(2)).filter(|step| slots[step[0]].layer == layer);
        let bent = || steps().filter(|step| (slots[step[0]].y - slots[step[1]].y).abs() > 0.5);
        let bend = if bent().any(|step| !bends_late(step, links)) { BEND } else { STRAIGHT };
        let merge = if bent().any(|step| bends_late(step, links)) { BEND } else { 0.0 };
        columns.push(Column { x, width, bend, merge });
        x += width + bend + label + merge + ARROW_ROOM;
    }
    columns
}

fn draw_arrow(slots: &[Slot], link: &Link, links: &[Link], columns: &[Column], shift: f64) -> Option<ArrowLayout> {
    let (first, last) = (*link.path.first()?, *link.path.last()?);
    let start = columns.get(slots[first].layer)?;
    let mut points = vec![(start.x + start.width, slots[first].y + shift)];
    for step in link.path.windows(2) {
        let (column, next) = (columns.get(slots[step[0]].layer)?, columns.get(slots[step[1]].layer)?);
        let (from_y, to_y) = (slots[step[0]].y + shift, slots[step[1]].y + shift);
        let run_y = if bends_late(step, links) { from_y } else { to_y };
        points.push((column.x + column.width + column.bend, run_y));
        points.push((next.x - ARROW_ROOM - column.merge, run_y));
        points.push((next.x, to_y));
        if step[1] != last {
            points.push((next.x + next.width, to_y));
        }
    }
    let label_y = points.get(1)?.1;
    Some(ArrowLayout { label_x: points.get(1)?.0, label_y, points, above: link.above.clone(), below: link.below.clone() })
}

fn node_height(node: &DrawnStage) -> f64 {
    NODE_HEAD + DETAIL_LINE * (node.details.len() + usize::from(node.is_limiting)) as f64
}

fn node_width(node: &DrawnStage) -> f64 {
    let name = text_width(&node.name, NODE_FONT) * 1.12;
    let limiting = if node.is_limiting { text_width(super::svg::LIMITING, DETAIL_FONT) * 1.12 } else { 0.0 };
    node.details.iter().map(|line| text_width(line, DETAIL_FONT)).fold(name.max(limiting), f64::max) + 2.0 * NODE_PADDING
}

/// Estimated width of a text in pixels; an upper bound for common wide sans-serif fonts (DejaVu Sans).
pub(super) fn text_width(text: &str, font_size: f64) -> f64 {
    let em = |character: char| match character {
        'i' | 'j' | 'l' | '\'' | '|' => 0.32,
        '.' | ',' | ':' | ';' | ' ' | '!' | 'f' | 't' | 'r' | '(' | ')' | '/' | '-' | 'I' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 1.0,
        upper if upper.is_ascii_uppercase() => 0.78,
        ascii if ascii.is_ascii() => 0.645,
        _ => 1.05,
    };
    text.chars().map(em).sum::<f64>() * font_size
}

/// Lines of an edge's label: the frame format, then the attachments, each wrapped evenly.
fn label_lines(format: &str) -> Vec<String> {
    let mut parts = format.split(" + ");
    let mut lines = parts.next().map(wrap_evenly).unwrap_or_default();
    parts.for_each(|part| lines.extend(wrap_evenly(&format!("+ {part}"))));
    lines
}

/// Wraps into as few lines as possible, with the longest line as short as possible.
fn wrap_evenly(text: &str) -> Vec<String> {
    let lines = wrap(text, LABEL_CHARACTERS);
    let even = |characters: &usize| wrap(text, *characters).len() == lines.len();
    let shortest = (1..LABEL_CHARACTERS).rev().take_while(even).last().unwrap_or(LABEL_CHARACTERS);
    wrap(text, shortest)
}

/// Wraps a text at spaces into lines of at most this many characters, if words allow.
fn wrap(text: &str, characters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= characters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_keeps_distances_and_stays_near() {
        assert_eq!(spread(&[10.0], &[]), [10.0]);
        assert_eq!(spread(&[0.0, 0.0, 0.0], &[78.0, 78.0]), [-78.0, 0.0, 78.0]);
        assert_eq!(spread(&[0.0, 500.0], &[40.0]), [0.0, 500.0]);
        assert!(spread(&[], &[]).is_empty());
    }

    #[test]
    fn wraps_at_spaces() {
        assert_eq!(wrap("1280x720 yuv420p 25 fps on cpu", 19), ["1280x720 yuv420p 25", "fps on cpu"]);
        let lines = ["1280x720 yuv420p", "25 fps on cpu", "+ detections with 5", "landmarks (retina)"];
        assert_eq!(label_lines("1280x720 yuv420p 25 fps on cpu + detections with 5 landmarks (retina)"), lines);
        assert!(label_lines("").is_empty());
    }
}
