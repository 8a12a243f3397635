//! Entry points for the fuzz targets in `fuzz/`; compiled only with `--cfg fuzzing`.

use crate::index_cache::{from_bytes, to_bytes};

/// Reads a cached index and writes it again; `None` when the bytes are invalid.
pub fn rewrite_index(bytes: &[u8]) -> Option<Vec<u8>> {
    from_bytes(bytes).map(|index| to_bytes(&index))
}
