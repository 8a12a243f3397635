//! Batches made ahead by a thread of their own.

use crate::{Batch, ReaderError};

/// Batches of a selection, made ahead up to the queue that the options ask for. Dropping it ends the thread.
pub struct Batches {
    left: usize,
}

impl Batches {
    /// Batches that are still to come.
    pub fn remaining(&self) -> usize {
        self.left
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ReaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
