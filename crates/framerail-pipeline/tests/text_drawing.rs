//! Drawings of the graph.
#![allow(clippy::unwrap_used)]

use framerail_pipeline::{
    DrawnEdge, DrawnStage, GraphDrawing, RunStats, Traffic,
    stats::{EdgeStats, StageStats, StreamTotals},
};

const FORMAT: &str = "1280x720 yuv420p 29.97 fps on cpu + detections with 5 landmarks (centerface)";

fn node(name: &str) -> DrawnStage {
    DrawnStage { name: name.into(), details: vec!["2400 frames, 2 workers".into(), "busy 98%".into()], is_limiting: false }
}

fn edge(from: &str, to: &str) -> DrawnEdge {
    let traffic = Traffic { frames_per_sec: 24.94, mean_depth: 3.2, max_depth: 4, capacity: 4, dropped: 7 };
    DrawnEdge { from: from.into(), to: to.into(), format: FORMAT.into(), traffic: Some(traffic) }
}

/// Merging sources, an edge that skips a layer, and branches.
fn drawing() -> GraphDrawing {
    let mut nodes: Vec<DrawnStage> = ["a", "b", "merge <&> \"x\"", "tee", "save", "blur", "write"].map(node).into();
    nodes[3].is_limiting = true;
    let merge = "merge <&> \"x\"";
    let pairs =
        [("a", merge), ("b", merge), ("a", "tee"), (merge, "tee"), ("tee", "save"), ("tee", "blur"), ("blur", "write"), ("b", "nowhere")];
    GraphDrawing { nodes, edges: pairs.map(|(from, to)| edge(from, to)).into() }
}

struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

fn number(node: &roxmltree::Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).map_or(0.0, |text| text.parse().unwrap())
}

fn rects(document: &roxmltree::Document<'_>) -> Vec<Rect> {
    let boxes = document.descendants().filter(|node| node.attribute("class").is_some_and(|class| class.starts_with("box")));
    let rect = |node: roxmltree::Node<'_, '_>| {
        let value = |name: &str| number(&node, name);
        Rect { x: value("x"), y: value("y"), width: value("width"), height: value("height") }
    };
    boxes.map(rect).collect()
}

#[test]
fn svg_is_well_formed_and_says_everything() {
    let svg = drawing().svg();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> = document.descendants().filter(|node| node.has_tag_name("text")).filter_map(|node| node.text()).collect();
    for wanted in ["merge <&> \"x\"", "limits the run", "24.9 frames/s", "queue mean 3.2, max 4 of 4", "7 dropped", "1280x720 yuv420p"] {
        assert!(texts.contains(&wanted), "{wanted} is not in {texts:?}");
    }
    assert_eq!(texts.iter().filter(|text| **text == "limits the run").count(), 1);
    assert_eq!(rects(&document).len(), 7);
    let heads = document.descendants().filter(|node| node.attribute("class") == Some("head")).count();
    assert_eq!(heads, 7, "an arrow for each edge between known stages");
}

#[test]
fn boxes_are_apart_and_hold_their_text() {
    let svg = drawing().svg();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let root = document.root_element();
    let boxes = rects(&document);
    for (index, a) in boxes.iter().enumerate() {
        assert!(a.x >= 0.0 && a.y >= 0.0 && a.x + a.width <= number(&root, "width") && a.y + a.height <= number(&root, "height"));
        for b in boxes.iter().skip(index + 1) {
            let apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
            assert!(apart, "two boxes overlap");
        }
    }
    for text in document.descendants().filter(|node| node.attribute("text-anchor") == Some("middle")) {
        let (x, y) = (number(&text, "x"), number(&text, "y"));
        let holder = boxes.iter().find(|rect| x > rect.x && x < rect.x + rect.width && y > rect.y && y < rect.y + rect.height).unwrap();
        // 0.62 em is the mean character width in DejaVu Sans, the widest of the requested fonts.
        let width = text.text().unwrap_or_default().chars().count() as f64 * 0.62 * number(&text, "font-size");
        assert!(width <= holder.width, "{:?} is wider than its box", text.text());
    }
    // Labels are next to boxes, not on top of them.
    for label in document.descendants().filter(|node| node.attribute("text-anchor") == Some("start")) {
        let (x, y) = (number(&label, "x"), number(&label, "y"));
        assert!(!boxes.iter().any(|rect| x >= rect.x && x <= rect.x + rect.width && y >= rect.y && y <= rect.y + rect.height));
    }
}

#[test]
fn dot_quotes_names_and_marks_the_limit() {
    let dot = drawing().dot();
    assert!(dot.starts_with("digraph pipeline {") && dot.ends_with("}\n"));
    assert!(dot.contains(r#""merge <&> \"x\"" -> "tee" [label="1280x720"#), "{dot}");
    assert!(dot.contains(r##""tee" [label="tee\n2400 frames, 2 workers\nbusy 98%\nlimits the run", fillcolor="#ffe3c2""##), "{dot}");
}

#[test]
fn odd_graphs_are_drawn_too() {
    let cycle = GraphDrawing { nodes: vec![node("a"), node("b")], edges: vec![edge("a", "b"), edge("b", "a"), edge("a", "a")] };
    let control = GraphDrawing { nodes: vec![node("a\u{0}\n\u{1b}b"), node("映画")], edges: vec![edge("a\u{0}\n\u{1b}b", "映画")] };
    for drawing in [GraphDrawing::default(), cycle, control] {
        roxmltree::Document::parse(&drawing.svg()).unwrap();
    }
}

#[test]
fn a_drawing_of_a_run_has_rates_and_the_limit() {
    let stage = |name: &str, frames_in, workers, busy_secs| StageStats {
        name: name.into(),
        workers,
        frames_in,
        frames_out: 100,
        busy_secs,
        ..StageStats::default()
    };
    let edges = vec![EdgeStats {
        from: "read".into(),
        to: "infer".into(),
        capacity: 4,
        depth: 0,
        mean_depth: 3.5,
        max_depth: 4,
        frames: 100,
        dropped: 0,
        format: FORMAT.into(),
    }];
    let stats = RunStats {
        wall_secs: 4.0,
        cpu_secs: 7.0,
        memory_bytes: 0,
        memory_peak_bytes: 0,
        frame_memory_peak_bytes: 0,
        frame_memory_limit_bytes: 0,
        limiting_stage: Some("infer".into()),
        stages: vec![stage("read", 0, 1, 1.0), stage("infer", 100, 2, 7.0)],
        edges,
        streams: Vec::new(),
        earlier_streams: StreamTotals::default(),
    };
    let drawing = GraphDrawing::from_stats(&stats);
    assert_eq!(drawing.nodes[0].details, ["100 frames", "busy 25%"]);
    assert_eq!(drawing.nodes[1].details, ["100 frames, 2 workers", "busy 88%"]);
    assert_eq!((drawing.nodes[0].is_limiting, drawing.nodes[1].is_limiting), (false, true));
    assert_eq!(drawing.edges[0].traffic.map(|traffic| traffic.frames_per_sec), Some(25.0));
    assert_eq!(stats.limit().as_deref(), Some("infer"));

    // A source that waits for frames to be due sets the pace; its work does not limit the run.
    let mut paced = RunStats { limiting_stage: Some("read".into()), ..stats };
    (paced.stages[0].busy_secs, paced.stages[0].wait_input_secs) = (0.2, 3.7);
    assert_eq!(paced.limit().as_deref(), Some("the pace of the source (read)"));
    let drawing = GraphDrawing::from_stats(&paced);
    assert!(!drawing.nodes[0].is_limiting && drawing.nodes[0].details.contains(&"sets the pace".to_owned()), "{:?}", drawing.nodes[0]);
}

#[cfg(feature = "png")]
#[test]
fn png_shows_the_drawing() {
    let png = drawing().png().unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let svg = drawing().svg();
    let width = number(&roxmltree::Document::parse(&svg).unwrap().root_element(), "width");
    assert_eq!(u32::from_be_bytes(png[16..20].try_into().unwrap()), 2 * width as u32);
    assert!(png.len() > 50_000, "text and boxes are drawn: {} bytes", png.len());
    GraphDrawing::default().png().unwrap();
}
