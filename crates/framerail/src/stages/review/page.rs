//! The page: one HTML file with styles, script, data and images included.

use std::{fmt::Write, path::Path};

use framerail_core::{BBox, DetectionOrigin, StreamInfo, markup_escaped};
use serde_json::{Value, json};

use super::{
    super::report::image::{Jpeg, base64},
    gather::{Doubt, Gathered, Place, Track},
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("review.js");

/// Content of the page.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// The model's class in singular and plural: `face`, `faces`.
    singular: String,
    plural: String,
}

impl Subject {
    pub(super) fn of(labels: &[String]) -> Self {
        let singular = match labels {
            [only] => only.clone(),
            _ => "detection".to_owned(),
        };
        Self { plural: format!("{singular}s"), singular }
    }
}

/// The whole file.
pub(super) fn html(subject: &Subject, info: &StreamInfo, detections: Option<&Path>, gathered: &Gathered) -> String {
    let title = markup_escaped(&format!("Review: {} in {}", subject.plural, info.name));
    let data = data(subject, info, detections, gathered).to_string().replace('<', "\\u003c");
    let mut html = String::with_capacity(data.len() + STYLE.len() + SCRIPT.len() + 2048);
    // Writing to a string does not fail.
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
         img-src data:\">\n<meta name=\"generator\" content=\"framerail {}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main></main>\n<noscript>This page needs JavaScript. It loads nothing from elsewhere.</noscript>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
    );
    html
}

fn data(subject: &Subject, info: &StreamInfo, detections: Option<&Path>, gathered: &Gathered) -> Value {
    let (first, last) = gathered.span.unwrap_or_default();
    let shown: Vec<Value> = gathered
        .shown
        .iter()
        .map(|(frame, shown)| {
            let boxes: Vec<Value> = shown.boxes.iter().map(|(id, bbox)| json!({ "track": id, "box": corners(bbox) })).collect();
            json!({ "frame": frame, "secs": secs(shown.secs), "image": url(&shown.jpeg), "boxes": boxes })
        })
        .collect();
    json!({
        "one": subject.singular,
        "many": subject.plural,
        "name": info.name,
        "input": info.source.to_string(),
        "detections": detections.map(|path| path.to_string_lossy()),
        "size": [gathered.size.0, gathered.size.1],
        "rate": gathered.rate,
        "first": first,
        "last": last,
        "frames": gathered.frames,
        "covered": gathered.covered_frames,
        "boxes": gathered.boxes,
        "filled": gathered.filled,
        "tracks": gathered.tracks.values().map(track).collect::<Vec<_>>(),
        "places": gathered.places.iter().map(place).collect::<Vec<_>>(),
        "shown": shown,
    })
}

fn track(track: &Track) -> Value {
    let thumbnails: Vec<Value> = track
        .thumbnails
        .iter()
        .map(|thumbnail| {
            let origin = match thumbnail.origin {
                DetectionOrigin::Detected => "seen",
                DetectionOrigin::Interpolated | DetectionOrigin::Held => "filled",
            };
            let (image, score) = (url(&thumbnail.jpeg), rounded(thumbnail.score, 2));
            json!({ "frame": thumbnail.frame, "secs": secs(thumbnail.secs), "score": score, "origin": origin, "image": image })
        })
        .collect();
    let (start, end) = (&track.first, &track.last);
    json!({
        "id": track.id,
        "first": start.0,
        "last": end.0,
        "from": secs(start.1),
        "to": secs(end.1),
        "seen": track.seen,
        "filled": track.filled,
        "best": rounded(track.best, 2),
        "lowest": rounded(track.lowest, 2),
        "thumbnails": thumbnails,
    })
}

fn place(place: &Place) -> Value {
    let kind = match place.doubt {
        Doubt::Gap => "gap",
        Doubt::Ends => "ends",
        Doubt::Begins => "begins",
    };
    let side = |side: &Option<(u64, BBox)>| side.as_ref().map(|(id, bbox)| json!({ "track": id, "box": corners(bbox) }));
    let (before, after) = (side(&place.before), side(&place.after));
    json!({ "kind": kind, "first": place.first, "last": place.last, "secs": secs(place.secs), "before": before, "after": after })
}

fn corners(bbox: &BBox) -> [f64; 4] {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(|at| rounded(at, 1))
}

fn rounded(value: f32, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (f64::from(value) * scale).round() / scale
}

fn secs(secs: f64) -> f64 {
    (secs * 1000.0).round() / 1000.0
}

fn url(jpeg: &Jpeg) -> String {
    format!("data:image/jpeg;base64,{}", base64(&jpeg.bytes))
}
