//! Writes the graph as a Graphviz description.

use super::GraphDrawing;

impl GraphDrawing {
    /// A Graphviz digraph, for layout by `dot`.
    pub fn dot(&self) -> String {
        let mut dot = String::from(
            "digraph pipeline {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fillcolor=\"#eef3fa\", fontname=\"sans-serif\"];\n",
        );
        dot += "  edge [fontname=\"sans-serif\", fontsize=10];\n";
        for node in &self.nodes {
            let limiting = node.is_limiting.then(|| "limits the run".to_owned());
            let lines: Vec<&String> = std::iter::once(&node.name).chain(&node.details).chain(&limiting).collect();
            let color = if node.is_limiting { ", fillcolor=\"#ffe3c2\", color=\"#b45309\"" } else { "" };
            dot += &format!("  {} [label={}{color}];\n", quoted(&[&node.name]), quoted(&lines));
        }
        for edge in &self.edges {
            let traffic = edge.traffic.map(|traffic| traffic.lines()).unwrap_or_default();
            let lines: Vec<&String> = std::iter::once(&edge.format).filter(|format| !format.is_empty()).chain(&traffic).collect();
            dot += &format!("  {} -> {} [label={}];\n", quoted(&[&edge.from]), quoted(&[&edge.to]), quoted(&lines));
        }
        dot + "}\n"
    }
}

/// Lines as a quoted DOT string.
fn quoted(lines: &[&String]) -> String {
    let escape = |line: &&String| line.replace('\\', r"\\").replace('"', "\\\"").replace('\n', " ");
    format!("\"{}\"", lines.iter().map(escape).collect::<Vec<_>>().join("\\n"))
}
