//! A stage's calls as ranges in NVIDIA's profilers (NVTX), with the feature `nvtx`; nothing without it.

/// A range under a stage's name on this thread, for as long as the value lives.
#[cfg(feature = "nvtx")]
pub(super) struct StageRange {
    _range: nvtx::LocalRange,
}

#[cfg(feature = "nvtx")]
impl StageRange {
    pub(super) fn new(name: &str) -> Self {
        // Names come from words of a text; one with a zero byte in it is shown empty.
        Self { _range: nvtx::LocalRange::new(std::ffi::CString::new(name).unwrap_or_default()) }
    }
}

/// Stands for the range where there is none.
#[cfg(not(feature = "nvtx"))]
pub(super) struct StageRange;

#[cfg(not(feature = "nvtx"))]
impl StageRange {
    pub(super) fn new(_: &str) -> Self {
        Self
    }
}
