//! A blur along one axis as plain numbers.

/// A blur along one axis: means of `step` samples, then three running means over odd numbers of those, then back linearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisBlur {
    /// Samples that are made one first; at least 1.
    pub step: u32,
    /// Widths of the running means, odd; 1 leaves values as they are.
    pub widths: [u32; 3],
}
