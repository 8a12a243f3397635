//! A picture's brightness in bins, as plain numbers: what is counted on the host, and what devices are given to count.

/// Bins of a [`Histogram`].
pub const HISTOGRAM_BINS: usize = 32;

/// Samples in each bin, dark to bright.
pub type Histogram = [u32; HISTOGRAM_BINS];

/// Which samples of a picture are counted, and in which bin each falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramPlan {
    /// The colour component whose samples are counted.
    pub component: usize,
    /// Every so many columns and rows a sample is counted, from the first on.
    pub spacing: u32,
    /// Bits by which a stored sample is shifted right to give its bin; what lies beyond the last falls in the last.
    pub shift: u32,
}
