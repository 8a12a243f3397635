//! A Kalman filter for boxes: four measured quantities, of which the first few have a speed.

use super::camera::CameraMotion;

/// Mean and covariance of a state of `N` numbers: the four measured ones, then the speeds per frame of the first `N - 4` of them.
///
/// Source: R. E. Kalman, A New Approach to Linear Filtering and Prediction Problems, 1960. The covariance is updated in Joseph form.
#[derive(Clone, Debug)]
pub(crate) struct Kalman<const N: usize> {
    pub(crate) mean: [f64; N],
    covariance: [[f64; N]; N],
}

/// Number of measured quantities.
const MEASURED: usize = 4;

impl<const N: usize> Kalman<N> {
    /// Creates a filter at rest at a measurement, with these variances.
    pub(crate) fn new(measured: [f64; MEASURED], variances: [f64; N]) -> Self {
        let (mut mean, mut covariance) = ([0.0; N], [[0.0; N]; N]);
        for (place, value) in mean.iter_mut().zip(measured) {
            *place = value;
        }
        for (index, variance) in variances.into_iter().enumerate() {
            covariance[index][index] = variance;
        }
        Self { mean, covariance }
    }

    /// The measured quantities, predicted `frames` ahead.
    pub(crate) fn ahead(&self, frames: f64) -> [f64; MEASURED] {
        std::array::from_fn(|index| self.mean[index] + self.mean.get(MEASURED + index).map_or(0.0, |speed| speed * frames))
    }

    /// Predicts the state `frames` ahead; `noise` holds the variances that one frame adds.
    pub(crate) fn predict(&mut self, frames: f64, noise: &[f64; N]) {
        for (index, value) in self.ahead(frames).into_iter().enumerate() {
            self.mean[index] = value;
        }
        let p = &mut self.covariance;
        for speed in MEASURED..N {
            let moving = p[speed];
            for (value, moving) in p[speed - MEASURED].iter_mut().zip(moving) {
                *value += frames * moving;
            }
        }
        for row in p.iter_mut() {
            for speed in MEASURED..N {
                row[speed - MEASURED] += frames * row[speed];
            }
        }
        for (index, variance) in noise.iter().enumerate() {
            p[index][index] += frames * variance;
        }
    }

    /// Maps the state to the next frame's coordinates: the first two quantities are a position, the others are multiplied by `factors`.
    pub(crate) fn move_camera(&mut self, motion: &CameraMotion, factors: [f64; 2]) {
        let turned = |from: &[f64; N]| {
            let mut to = *from;
            for part in to.chunks_mut(MEASURED) {
                if let [x, y, others @ ..] = part {
                    (*x, *y) = motion.vector((*x, *y));
                    others.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
                }
            }
            to
        };
        self.mean = turned(&self.mean);
        self.mean[0] += motion.shift_x;
        self.mean[1] += motion.shift_y;
        // J P J', where P is symmetric.
        let half = self.covariance.map(|row| turned(&row));
        self.covariance = std::array::from_fn(|row| turned(&std::array::from_fn(|column| half[column][row])));
    }

    /// Updates the state with a measurement of these variances.
    pub(crate) fn update(&mut self, measured: &[f64; MEASURED], noise: &[f64; MEASURED]) {
        let p = &self.covariance;
        let mut projected: [[f64; MEASURED]; MEASURED] = std::array::from_fn(|row| std::array::from_fn(|column| p[row][column]));
        for (index, variance) in noise.iter().enumerate() {
            projected[index][index] += variance;
        }
        let Some(inverse) = inverse(&projected) else { return };
        let gain: [[f64; MEASURED]; N] =
            std::array::from_fn(|row| std::array::from_fn(|column| (0..MEASURED).map(|k| p[row][k] * inverse[k][column]).sum()));
        let residual: [f64; MEASURED] = std::array::from_fn(|index| measured[index] - self.mean[index]);
        for (value, gain) in self.mean.iter_mut().zip(&gain) {
            *value += gain.iter().zip(&residual).map(|(gain, residual)| gain * residual).sum::<f64>();
        }
        // (I - KH) P (I - KH)' + K R K', where KH is the gain in the first columns.
        let kept = |row: usize, column: usize| f64::from(row == column) - gain[row].get(column).copied().unwrap_or(0.0);
        let half: [[f64; N]; N] =
            std::array::from_fn(|row| std::array::from_fn(|column| (0..N).map(|k| kept(row, k) * p[k][column]).sum()));
        self.covariance = std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let carried: f64 = (0..N).map(|k| half[row][k] * kept(column, k)).sum();
                carried + (0..MEASURED).map(|k| gain[row][k] * noise[k] * gain[column][k]).sum::<f64>()
            })
        });
    }
}

/// Inverts a symmetric positive definite matrix by Gauss-Jordan elimination; `None` for other matrices.
fn inverse(matrix: &[[f64; MEASURED]; MEASURED]) -> Option<[[f64; MEASURED]; MEASURED]> {
    let mut left = *matrix;
    let mut right: [[f64; MEASURED]; MEASURED] = std::array::from_fn(|row| std::array::from_fn(|column| f64::from(row == column)));
    for pivot in 0..MEASURED {
        let divisor = left[pivot][pivot];
        if !divisor.is_finite() || divisor <= 0.0 {
            return None;
        }
        for column in 0..MEASURED {
            left[pivot][column] /= divisor;
            right[pivot][column] /= divisor;
        }
        let (left_pivot, right_pivot) = (left[pivot], right[pivot]);
        for row in (0..MEASURED).filter(|row| *row != pivot) {
            let factor = left[row][pivot];
            for column in 0..MEASURED {
                left[row][column] -= factor * left_pivot[column];
                right[row][column] -= factor * right_pivot[column];
            }
        }
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_mover_is_followed_and_its_speed_found() {
        let mut filter = Kalman::<7>::new([0.0, 10.0, 400.0, 1.0], [10.0, 10.0, 10.0, 10.0, 1e4, 1e4, 1e4]);
        for frame in 1..40 {
            filter.predict(1.0, &[1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 0.0001]);
            let t = f64::from(frame);
            filter.update(&[3.0 * t, 10.0 - t, 400.0, 1.0], &[1.0, 1.0, 10.0, 10.0]);
        }
        assert!((filter.mean[4] - 3.0).abs() < 1e-3 && (filter.mean[5] + 1.0).abs() < 1e-3, "{:?}", filter.mean);
        let [x, y, area, ratio] = filter.ahead(10.0);
        assert!((x - 147.0).abs() < 0.05 && (y + 39.0).abs() < 0.05 && (area - 400.0).abs() < 0.5 && (ratio - 1.0).abs() < 1e-3);
    }

    #[test]
    fn a_moved_camera_moves_position_speed_and_their_covariance() {
        let motion = CameraMotion { cos: 0.0, sin: 2.0, shift_x: 5.0, shift_y: -3.0 };
        let mut filter = Kalman::<7>::new([10.0, 20.0, 400.0, 0.5], [1.0, 4.0, 9.0, 16.0, 25.0, 36.0, 49.0]);
        filter.mean[4..].copy_from_slice(&[1.0, 2.0, 3.0]);
        filter.move_camera(&motion, [4.0, 1.0]);
        assert_eq!(filter.mean, [-35.0, 17.0, 1600.0, 0.5, -4.0, 2.0, 12.0]);
        let variances: Vec<f64> = (0..7).map(|index| filter.covariance[index][index]).collect();
        assert_eq!(variances, [16.0, 4.0, 144.0, 16.0, 144.0, 100.0, 784.0]);
    }

    #[test]
    fn inverses_are_inverse() {
        let matrix = [[4.0, 1.0, 0.5, 0.0], [1.0, 3.0, 0.2, 0.1], [0.5, 0.2, 2.0, 0.3], [0.0, 0.1, 0.3, 1.0]];
        let found = inverse(&matrix).expect("positive definite");
        for (number, row) in matrix.iter().enumerate() {
            for column in 0..4 {
                let product: f64 = row.iter().zip(&found).map(|(value, row)| value * row[column]).sum();
                assert!((product - f64::from(number == column)).abs() < 1e-12);
            }
        }
        assert!(inverse(&[[0.0; 4]; 4]).is_none());
    }
}
