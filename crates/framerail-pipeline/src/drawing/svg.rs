//! Writes the graph as SVG, for light and dark pages.

use framerail_core::markup_escaped;

use super::{
    GraphDrawing,
    layout::{ArrowLayout, BoxLayout, DETAIL_FONT, DETAIL_LINE, LABEL_FONT, LABEL_LINE, Layout, NODE_FONT},
};

/// Text that marks the limiting stage, in addition to its colour.
pub(super) const LIMITING: &str = "limits the run";

/// Light colours by default, for viewers without media queries.
const STYLE: &str = "
  .page { fill: #ffffff; }
  .box { fill: #eef3fa; stroke: #5b7aa6; }
  .limiting { fill: #ffedd5; stroke: #c2570c; stroke-width: 2.5; }
  .name { fill: #14243d; font-weight: 600; }
  .detail { fill: #44546b; }
  .mark { fill: #9a3d00; font-weight: 600; }
  .edge { stroke: #7688a3; }
  .head { fill: #7688a3; }
  .format { fill: #2c3b52; }
  .traffic { fill: #5a6a82; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0f1621; }
    .box { fill: #1c2a3f; stroke: #6f93c6; }
    .limiting { fill: #45270d; stroke: #f59542; }
    .name { fill: #edf3fc; }
    .detail { fill: #b3c2d8; }
    .mark { fill: #ffb877; }
    .edge { stroke: #8598b5; }
    .head { fill: #8598b5; }
    .format { fill: #d5e0f0; }
    .traffic { fill: #a3b4cc; }
  }
";

impl GraphDrawing {
    /// A self-contained SVG with colours for light and dark pages.
    pub fn svg(&self) -> String {
        let layout = Layout::new(self);
        let (width, height) = (layout.width.ceil(), layout.height.ceil());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             font-family=\"DejaVu Sans, Verdana, system-ui, sans-serif\">\n"
        );
        svg += &format!("<title>{}</title>\n<style>{STYLE}</style>\n", markup_escaped(&self.title()));
        svg += &format!("<rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"12\"/>\n");
        layout.arrows.iter().for_each(|arrow| svg += &arrow_svg(arrow));
        layout.boxes.iter().for_each(|node| svg += &box_svg(node));
        svg + "</svg>\n"
    }

    fn title(&self) -> String {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        let limiting = self.nodes.iter().find(|node| node.is_limiting).map(|node| format!("; {} {LIMITING}", node.name));
        format!("Pipeline: {}{}", names.join(", "), limiting.unwrap_or_default())
    }
}

fn box_svg(layout: &BoxLayout<'_>) -> String {
    let BoxLayout { node, x, y, width, height } = layout;
    let class = if node.is_limiting { "box limiting" } else { "box" };
    let mut svg = format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"8\"/>\n");
    let middle = x + width / 2.0;
    let mut baseline = y + 26.0;
    svg += &text_svg("name", NODE_FONT, "middle", middle, baseline, &node.name);
    baseline += 2.0;
    for line in &node.details {
        baseline += DETAIL_LINE;
        svg += &text_svg("detail", DETAIL_FONT, "middle", middle, baseline, line);
    }
    if node.is_limiting {
        svg += &text_svg("mark", DETAIL_FONT, "middle", middle, baseline + DETAIL_LINE, LIMITING);
    }
    svg
}

fn arrow_svg(arrow: &ArrowLayout) -> String {
    const HEAD: f64 = 9.0;
    let mut path = String::new();
    let mut previous: Option<(f64, f64)> = None;
    for (index, (x, y)) in arrow.points.iter().enumerate() {
        let end = if index + 1 == arrow.points.len() { x - HEAD } else { *x };
        path += &match previous {
            None => format!("M{x:.1} {y:.1}"),
            Some((_, from_y)) if (from_y - y).abs() < 0.5 => format!(" L{end:.1} {y:.1}"),
            Some((from_x, from_y)) => {
                let middle = (from_x + x) / 2.0;
                format!(" C{middle:.1} {from_y:.1} {middle:.1} {y:.1} {end:.1} {y:.1}")
            }
        };
        previous = Some((*x, *y));
    }
    let mut svg = format!("<path class=\"edge\" d=\"{path}\" fill=\"none\" stroke-width=\"1.6\"/>\n");
    if let Some((x, y)) = previous {
        let back = x - HEAD - 1.0;
        svg += &format!("<path class=\"head\" d=\"M{x:.1} {y:.1} L{back:.1} {:.1} L{back:.1} {:.1} Z\"/>\n", y - 4.5, y + 4.5);
    }
    let first = arrow.label_y - 7.0 - LABEL_LINE * (arrow.above.len().saturating_sub(1)) as f64;
    for (index, line) in arrow.above.iter().enumerate() {
        svg += &text_svg("format", LABEL_FONT, "start", arrow.label_x, first + LABEL_LINE * index as f64, line);
    }
    for (index, line) in arrow.below.iter().enumerate() {
        svg += &text_svg("traffic", LABEL_FONT, "start", arrow.label_x, arrow.label_y + 15.0 + LABEL_LINE * index as f64, line);
    }
    svg
}

fn text_svg(class: &str, size: f64, anchor: &str, x: f64, y: f64, text: &str) -> String {
    let text = markup_escaped(text);
    format!("<text class=\"{class}\" font-size=\"{size}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>\n")
}
