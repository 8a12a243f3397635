//! Draws zones and lines into a frame.

use framerail_core::{BBox, Point};

use super::{FrameZones, LineState, ZoneState};
use crate::sketch::Sketch;

/// Colours of zones and lines.
const ZONE_RGB: [u8; 3] = [64, 224, 208];
const LINE_RGB: [u8; 3] = [255, 140, 40];

/// A stroke is painted with its bounding box, so long slanted lines are split into pieces.
const PIECE_PIXELS: f32 = 32.0;

impl Sketch {
    /// Draws outlines of zones with the number of detections inside, and lines with their crossings; an arrow points to the `in` side.
    pub fn zones(&mut self, zones: &FrameZones, line_width: Option<u32>) {
        let width = line_width.unwrap_or_else(|| self.default_line_width()).max(1);
        zones.zones.iter().for_each(|zone| self.zone(zone, width));
        zones.lines.iter().for_each(|line| self.counted_line(line, width));
    }

    fn zone(&mut self, zone: &ZoneState, width: u32) {
        let next = zone.points.iter().cycle().skip(1);
        zone.points.iter().zip(next).for_each(|(from, to)| self.long_line(*from, *to, ZONE_RGB, width));
        // The label is at the highest corner.
        let highest = zone.points.iter().min_by(|a, b| a.y.total_cmp(&b.y));
        if let Some(at) = highest {
            self.tag(*at, &format!("{}: {}", zone.name, zone.count), ZONE_RGB, width);
        }
    }

    fn counted_line(&mut self, line: &LineState, width: u32) {
        self.long_line(line.from, line.to, LINE_RGB, width);
        let middle = Point { x: (line.from.x + line.to.x) / 2.0, y: (line.from.y + line.to.y) / 2.0 };
        let (dx, dy) = (line.to.x - line.from.x, line.to.y - line.from.y);
        let length = dx.hypot(dy).max(1e-3);
        // To the right of the line.
        let reach = width as f32 * 8.0 / length;
        let tip = Point { x: middle.x - dy * reach, y: middle.y + dx * reach };
        self.line(middle, tip, LINE_RGB, width as f32);
        self.dot(tip, LINE_RGB, width as f32 * 3.0);
        self.tag(line.from, &format!("{}: in {} out {}", line.name, line.crossed_in, line.crossed_out), LINE_RGB, width);
    }

    fn long_line(&mut self, from: Point, to: Point, rgb: [u8; 3], width: u32) {
        let (dx, dy) = (to.x - from.x, to.y - from.y);
        let is_slanted = dx.abs().min(dy.abs()) > PIECE_PIXELS;
        let pieces = if is_slanted { (dx.hypot(dy) / PIECE_PIXELS).ceil().clamp(1.0, 1024.0) } else { 1.0 };
        let at = |part: f32| Point { x: from.x + dx * part / pieces, y: from.y + dy * part / pieces };
        for piece in 0..pieces as u16 {
            self.line(at(f32::from(piece)), at(f32::from(piece + 1)), rgb, width as f32);
        }
    }

    /// Draws black text on a bar, inside the frame.
    fn tag(&mut self, at: Point, text: &str, rgb: [u8; 3], scale: u32) {
        let (text_width, text_height) = self.text_size(text, scale);
        let (bar_width, bar_height) = (text_width + 2 * scale, text_height + 2 * scale);
        let (image_width, image_height) = self.size();
        let left = at.x.floor().clamp(0.0, image_width.saturating_sub(bar_width) as f32);
        let top = at.y.floor().clamp(0.0, image_height.saturating_sub(bar_height) as f32);
        self.fill(&BBox::from_xyxy(left, top, left + bar_width as f32, top + bar_height as f32), rgb, 255);
        self.text(left as i64 + i64::from(scale), top as i64 + i64::from(scale), text, [0; 3], scale);
    }
}
