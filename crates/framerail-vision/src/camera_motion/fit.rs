//! Fits a similarity to pairs of points, some of which are wrong.

use crate::track::CameraMotion;

type Point = (f32, f32);

/// Samples of two pairs.
const SAMPLES: usize = 120;

/// Pairs within this distance agree, in pixels.
const NEAR: f64 = 1.0;

/// Minimum number of pairs that agree, and their minimum share of all.
const FEWEST: usize = 8;
const MIN_SHARE: f64 = 0.3;

/// Seed of the samples: results are the same in every run.
const SEED: u64 = 0x5851_f42d_4c95_7f2d;

/// The similarity on which most pairs agree; `None` if too few do.
pub(super) fn similarity(pairs: &[(Point, Point)]) -> Option<CameraMotion> {
    if pairs.len() < FEWEST {
        return None;
    }
    let mut state = SEED;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % pairs.len()
    };
    let mut best: (usize, Option<CameraMotion>) = (0, None);
    for _ in 0..SAMPLES {
        let Some(motion) = fitted([pairs[next()], pairs[next()]].iter()) else { continue };
        let count = pairs.iter().filter(|pair| agrees(&motion, pair)).count();
        if count > best.0 {
            best = (count, Some(motion));
        }
    }
    let mut motion = best.1?;
    for _ in 0..3 {
        motion = fitted(pairs.iter().filter(|pair| agrees(&motion, pair)))?;
    }
    let count = pairs.iter().filter(|pair| agrees(&motion, pair)).count();
    (count >= FEWEST && count as f64 >= MIN_SHARE * pairs.len() as f64).then_some(motion)
}

fn agrees(motion: &CameraMotion, (from, to): &(Point, Point)) -> bool {
    let (x, y) = motion.point((from.0.into(), from.1.into()));
    (x - f64::from(to.0)).hypot(y - f64::from(to.1)) < NEAR
}

/// The similarity with the least squared error.
fn fitted<'a>(pairs: impl Iterator<Item = &'a (Point, Point)> + Clone) -> Option<CameraMotion> {
    let count = pairs.clone().count() as f64;
    let mean = |of: fn(&(Point, Point)) -> f32| pairs.clone().map(|pair| f64::from(of(pair))).sum::<f64>() / count;
    let (from_x, from_y) = (mean(|pair| pair.0.0), mean(|pair| pair.0.1));
    let (to_x, to_y) = (mean(|pair| pair.1.0), mean(|pair| pair.1.1));
    let (mut along, mut across, mut square) = (0.0, 0.0, 0.0);
    for (from, to) in pairs {
        let (x, y) = (f64::from(from.0) - from_x, f64::from(from.1) - from_y);
        let (u, v) = (f64::from(to.0) - to_x, f64::from(to.1) - to_y);
        (along, across, square) = (along + x * u + y * v, across + x * v - y * u, square + x * x + y * y);
    }
    if !square.is_finite() || square <= 1.0 {
        return None;
    }
    let (cos, sin) = (along / square, across / square);
    Some(CameraMotion { cos, sin, shift_x: to_x - cos * from_x + sin * from_y, shift_y: to_y - sin * from_x - cos * from_y })
}
