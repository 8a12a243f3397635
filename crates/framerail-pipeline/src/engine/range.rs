//! Marks the calls of a stage as ranges in NVIDIA's profilers (NVTX) with the feature `nvtx`; does nothing without it.

/// A range on this thread with the stage's name, for the lifetime of the value.
#[cfg(feature = "nvtx")]
pub(super) struct StageRange {
    _range: nvtx::LocalRange,
}

#[cfg(feature = "nvtx")]
impl StageRange {
    pub(super) fn new(name: &str) -> Self {
        // Names come from pipeline text; a name with a zero byte is shown empty.
        Self { _range: nvtx::LocalRange::new(std::ffi::CString::new(name).unwrap_or_default()) }
    }
}

/// Placeholder without the feature.
#[cfg(not(feature = "nvtx"))]
pub(super) struct StageRange;

#[cfg(not(feature = "nvtx"))]
impl StageRange {
    pub(super) fn new(_: &str) -> Self {
        Self
    }
}
