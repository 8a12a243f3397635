//! Brightness histograms: the result, and the parameters for computing one on the host or a device.

/// Bins of a [`Histogram`].
pub const HISTOGRAM_BINS: usize = 32;

/// Number of samples in each bin, from dark to bright.
pub type Histogram = [u32; HISTOGRAM_BINS];

/// Which samples of a frame are counted, and how they map to bins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramPlan {
    /// The colour component to count.
    pub component: usize,
    /// Distance between counted samples, in columns and rows, starting with the first.
    pub spacing: u32,
    /// Bits by which a stored sample is shifted right to get its bin; larger values count in the last bin.
    pub shift: u32,
}
