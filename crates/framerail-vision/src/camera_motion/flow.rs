//! Follows a point from one frame to the next: Lucas and Kanade's method on a pyramid.

use super::gray::Gray;

/// Reach of the square that is compared.
const REACH: usize = 5;

/// Steps per level.
const STEPS: usize = 12;

/// A step shorter than this ends the search, in pixels of the level.
const DONE: f32 = 0.02;

/// Maximum mean difference of the squares at the end, in grey levels: beyond it the point is hidden, or something else.
const MAX_DIFFERENCE: f32 = 12.0;

/// Where the point of the first level of `before` is in that of `after`; `None` where it cannot be found.
///
/// Source: J.-Y. Bouguet, Pyramidal Implementation of the Lucas Kanade Feature Tracker, 2000.
pub(super) fn follow(before: &[Gray], after: &[Gray], (x, y): (f32, f32)) -> Option<(f32, f32)> {
    let mut buffers = (Vec::new(), Vec::new());
    let (mut shift_x, mut shift_y) = (0.0f32, 0.0f32);
    let mut found = None;
    for (level, (before, after)) in before.iter().zip(after).enumerate().rev() {
        let scale = (1u32 << level) as f32;
        (shift_x, shift_y) = (shift_x * 2.0, shift_y * 2.0);
        // A pixel of a level is the mean of four of the previous one, so their centres differ.
        let from = ((x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5);
        found = step_by_step(before, after, from, (shift_x, shift_y), &mut buffers);
        match found {
            Some(shift) => (shift_x, shift_y) = shift,
            // Smaller levels may be too small for the square.
            None if level > 0 => {}
            None => return None,
        }
    }
    found.map(|(shift_x, shift_y)| (x + shift_x, y + shift_y))
}

/// The shift at one level, from a first guess.
fn step_by_step(
    before: &Gray,
    after: &Gray,
    from: (f32, f32),
    guess: (f32, f32),
    (wanted, now): &mut (Vec<f32>, Vec<f32>),
) -> Option<(f32, f32)> {
    if !before.holds(from, REACH + 1) {
        return None;
    }
    let side = 2 * REACH + 1;
    before.square(from, REACH + 1, wanted);
    let wide = side + 2;
    let at = |row: usize, column: usize| wanted[(row + 1) * wide + column + 1];
    let mut gradients = Vec::with_capacity(side * side);
    let (mut xx, mut xy, mut yy) = (0.0f32, 0.0f32, 0.0f32);
    for row in 0..side {
        for column in 0..side {
            let across = (wanted[(row + 1) * wide + column + 2] - wanted[(row + 1) * wide + column]) / 2.0;
            let down = (wanted[(row + 2) * wide + column + 1] - wanted[row * wide + column + 1]) / 2.0;
            (xx, xy, yy) = (xx + across * across, xy + across * down, yy + down * down);
            gradients.push((at(row, column), across, down));
        }
    }
    let determinant = xx * yy - xy * xy;
    if determinant <= 1e-3 * (xx + yy).max(1.0) {
        return None;
    }
    let (mut shift_x, mut shift_y) = guess;
    let mut difference = f32::INFINITY;
    for _ in 0..STEPS {
        let place = (from.0 + shift_x, from.1 + shift_y);
        if !after.holds(place, REACH) {
            return None;
        }
        after.square(place, REACH, now);
        let (mut bx, mut by, mut total) = (0.0f32, 0.0f32, 0.0f32);
        for ((wanted, across, down), now) in gradients.iter().zip(now.iter()) {
            let off = wanted - now;
            (bx, by, total) = (bx + off * across, by + off * down, total + off.abs());
        }
        difference = total / gradients.len() as f32;
        let (step_x, step_y) = ((yy * bx - xy * by) / determinant, (xx * by - xy * bx) / determinant);
        (shift_x, shift_y) = (shift_x + step_x, shift_y + step_y);
        if step_x.hypot(step_y) < DONE {
            break;
        }
    }
    (difference < MAX_DIFFERENCE && shift_x.is_finite() && shift_y.is_finite()).then_some((shift_x, shift_y))
}
