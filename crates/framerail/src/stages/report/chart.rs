//! The timeline as SVG, coloured by the page's style sheet.

use std::fmt::Write;

use framerail_core::markup_escaped;

use super::{
    page::clock,
    timeline::{Bin, Timeline},
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 34.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
/// Bottom of the bars; below are the marks of filled frames, then the times.
const BASE: f64 = 120.0;
const MARKS: f64 = 128.0;
const MARK_HEIGHT: f64 = 8.0;
const TIMES: f64 = 158.0;

/// A bar for each part of the stream: detections, filled-in boxes on top, and a mark below parts with filled frames.
pub(super) fn timeline_svg(timeline: &Timeline, plural: &str, label: &str) -> String {
    let bins = timeline.bins();
    let tallest = bins.iter().map(|bin| bin.detected + bin.filled).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT - RIGHT) / bins.len().max(1) as f64;
    let mut svg =
        format!("<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", markup_escaped(label));
    grid(&mut svg, tallest);
    for (index, bin) in bins.iter().enumerate() {
        bar(&mut svg, bin, LEFT + step * index as f64, step, tallest, plural);
    }
    times(&mut svg, timeline);
    svg.push_str("</svg>\n");
    svg
}

fn height_of(count: u32, tallest: u32) -> f64 {
    f64::from(count) / f64::from(tallest) * (BASE - TOP)
}

fn grid(svg: &mut String, tallest: u32) {
    // At most four lines, at whole numbers.
    for count in (0..=tallest).step_by(tallest.div_ceil(4).max(1) as usize) {
        let y = BASE - height_of(count, tallest);
        put(svg, format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT));
        put(svg, format_args!("<text class=\"axis end\" x=\"{}\" y=\"{:.1}\">{count}</text>", LEFT - 6.0, y + 4.0));
    }
}

fn bar(svg: &mut String, bin: &Bin, x: f64, step: f64, tallest: u32, plural: &str) {
    if bin.detected + bin.filled + bin.frames_filled as u32 == 0 {
        return;
    }
    // A hairline between wide bars; narrow ones overlap slightly, so that no gap is visible.
    let width = if step > 4.0 { step - 1.0 } else { step + 0.2 };
    let (seen, filled) = (height_of(bin.detected, tallest), height_of(bin.filled, tallest));
    svg.push_str("<g><title>");
    let _ = write!(svg, "{}: {} {plural} seen, {} filled in", clock(bin.start_secs), bin.detected, bin.filled);
    if let Some(score) = bin.lowest_score {
        let _ = write!(svg, ", lowest score {score:.2}");
    }
    svg.push_str("</title>");
    for (class, top, height) in [("seen", BASE - seen, seen), ("filled", BASE - seen - filled, filled)] {
        if height > 0.0 {
            let _ = write!(svg, "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{top:.1}\" width=\"{width:.2}\" height=\"{height:.1}\"/>");
        }
    }
    if bin.frames_filled > 0 {
        let (x, width) = (x + step / 2.0 - step.max(2.0) / 2.0, step.max(2.0));
        let _ = write!(svg, "<rect class=\"filled\" x=\"{x:.2}\" y=\"{MARKS}\" width=\"{width:.2}\" height=\"{MARK_HEIGHT}\"/>");
    }
    svg.push_str("</g>\n");
}

fn times(svg: &mut String, timeline: &Timeline) {
    let bins = timeline.bins();
    let start = bins.first().map_or(0.0, |bin| bin.start_secs);
    let y = TIMES;
    for (quarter, anchor) in [(0, "start"), (1, "middle"), (2, "middle"), (3, "middle"), (4, "end")] {
        let x = LEFT + (WIDTH - LEFT - RIGHT) * f64::from(quarter) / 4.0;
        // Bins have equal numbers of frames; with a variable frame rate their times are not evenly spaced.
        let secs =
            if quarter == 4 { timeline.end_secs } else { bins.get(bins.len() * quarter as usize / 4).map_or(start, |bin| bin.start_secs) };
        put(svg, format_args!("<text class=\"axis {anchor}\" x=\"{x:.1}\" y=\"{y}\">{}</text>", clock(secs)));
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(svg, "{line}");
}
