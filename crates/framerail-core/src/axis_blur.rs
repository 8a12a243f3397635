//! Parameters of a blur along one axis.

/// A blur along one axis: averages groups of `step` samples, applies three box filters to the averages, then interpolates linearly back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisBlur {
    /// Samples averaged into one first; at least 1.
    pub step: u32,
    /// Widths of the box filters, odd; 1 leaves values unchanged.
    pub widths: [u32; 3],
}
