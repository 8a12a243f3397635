//! Outlines of masks.

/// A shape centred at the origin, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outline {
    /// A rectangle that ends at the centres of the outermost pixels it covers.
    Rectangle {
        /// Half its width.
        half_width: f64,
        /// Half its height.
        half_height: f64,
    },
    /// An ellipse, rotated clockwise.
    Ellipse {
        /// Half axis that is horizontal at rotation 0.
        across: f64,
        /// The other half axis.
        along: f64,
        /// Cosine of the rotation angle.
        cos: f64,
        /// Sine of the rotation angle.
        sin: f64,
    },
}

impl Outline {
    /// Inverse squares of the half axes of the ellipse that bounds the soft edge, and of the ellipse itself; zeros for rectangles.
    pub fn inverse_squares(&self, feather: f64) -> [(f64, f64); 2] {
        match *self {
            Outline::Rectangle { .. } => [(0.0, 0.0); 2],
            Outline::Ellipse { across, along, .. } => [feather + 0.5, 0.0].map(|reach| inverse_squares(across, along, reach)),
        }
    }

    /// Half the width and height of the bounding box.
    pub fn reach(&self) -> (f64, f64) {
        match *self {
            Outline::Rectangle { half_width, half_height } => (half_width, half_height),
            Outline::Ellipse { across, along, cos, sin } => ((across * cos).hypot(along * sin), (across * sin).hypot(along * cos)),
        }
    }

    /// The part of the row at `y` from the centre that contains every point inside the outline or within `reach` of it.
    pub fn span(&self, y: f64, reach: f64) -> Option<(f64, f64)> {
        match *self {
            Outline::Rectangle { half_width, half_height } => {
                (y.abs() <= half_height + reach).then_some((-half_width - reach, half_width + reach))
            }
            Outline::Ellipse { across, along, cos, sin } => {
                let (p, q) = inverse_squares(across, along, reach);
                let (a, b) = (cos * cos * p + sin * sin * q, y * cos * sin * (p - q));
                let discriminant = b * b - a * (y * y * (sin * sin * p + cos * cos * q) - 1.0);
                (discriminant >= 0.0).then(|| ((-b - discriminant.sqrt()) / a, (-b + discriminant.sqrt()) / a))
            }
        }
    }

    /// Distance from the outline in pixels (first-order approximation for ellipses); 0 or less inside.
    pub fn distance(&self, x: f64, y: f64) -> f64 {
        match *self {
            Outline::Rectangle { half_width, half_height } => {
                let (dx, dy) = ((x.abs() - half_width).max(0.0), (y.abs() - half_height).max(0.0));
                (dx * dx + dy * dy).sqrt()
            }
            Outline::Ellipse { across, along, cos, sin } => {
                let (u, v) = ((x * cos + y * sin) / across, (y * cos - x * sin) / along);
                let norm = |x: f64, y: f64| (x * x + y * y).sqrt();
                let (radius, slope) = (norm(u, v), norm(u / across, v / along));
                if slope > 0.0 { (radius - 1.0) * radius / slope } else { 0.0 }
            }
        }
    }
}

/// Inverse squares of an ellipse's half axes, scaled so that its nearest points lie past `reach`: the span of a row then
/// follows from a quadratic in x.
fn inverse_squares(across: f64, along: f64, reach: f64) -> (f64, f64) {
    let scale = 1.0 + reach / across.min(along);
    ((across * scale).powi(-2), (along * scale).powi(-2))
}
