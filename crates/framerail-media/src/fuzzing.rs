//! Entry points for the fuzz targets in `fuzz/`; compiled only with `--cfg fuzzing`.

use std::io::{Cursor, sink};

use crate::mov_index::MovIndex;

/// Joins the fragments of `fragmented` to a regular file with an index that was split into `head` and `tail`.
pub fn join_fragments(head: &[u8], tail: &[u8], fragmented: &[u8]) {
    let index = MovIndex { head: head.to_vec(), tail_start: head.len() as u64, tail: tail.to_vec() };
    // Errors are fine; only panics and endless loops are bugs.
    let _ = index.write(&mut Cursor::new(fragmented), &mut sink());
}
