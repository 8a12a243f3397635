//! Draws the background of generated frames: a coloured gradient and a square, both moving.

use crate::frame_code;

/// Draws frame `number` as packed R, G, B (and alpha) into `out`, resizing it. In interlaced frames, rows of the second field
/// show the moving parts half a frame later.
pub(crate) fn draw(out: &mut Vec<u8>, width: u32, height: u32, number: u64, alpha: bool, interlaced: bool) {
    out.clear();
    for y in 0..height {
        let time = number as f64 + if interlaced && y % 2 == 1 { 0.5 } else { 0.0 };
        for x in 0..width {
            let (u, v) = ((f64::from(x) + 0.5) / f64::from(width), (f64::from(y) + 0.5) / f64::from(height));
            let rgb = match frame_code::is_white(number, u, v) {
                Some(white) => [if white { 255 } else { 0 }; 3],
                None => moving(u, v, time),
            };
            out.extend_from_slice(&rgb);
            if alpha {
                out.push(if frame_code::is_white(number, u, v).is_some() { 255 } else { (64.0 + 191.0 * u) as u8 });
            }
        }
    }
}

fn moving(u: f64, v: f64, time: f64) -> [u8; 3] {
    // The square crosses the margin above the frame code in 20 frames.
    let square = (time * 0.05).fract() * 0.8;
    if v < 0.16 && v > 0.02 && u >= square && u < square + 0.2 {
        return [240, 200, 40];
    }
    let wave = |phase: f64| {
        let t = (phase + time * 0.03).rem_euclid(1.0);
        (60.0 + 140.0 * (1.0 - (2.0 * t - 1.0).abs())) as u8
    };
    [wave(u), wave((u + v) / 2.0), wave(v + 0.4)]
}
