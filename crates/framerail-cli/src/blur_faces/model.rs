//! What a model's card tells about covering what it finds.

use framerail::infer::{CardFile, SearchPath, Task};

use crate::exit::{Failure, MODEL};

/// Tiles for models whose input has the frame's size, and the size at which they are looked at: twice as large.
const TILE: (u32, u32) = (480, 480);
const TILE_INPUT: (u32, u32) = (960, 960);

/// What the command has to know of a model before it runs.
#[derive(Clone, Debug)]
pub struct ModelKind {
    /// What one of its finds is called.
    pub noun: String,
    /// Whether it gives a mask of the whole frame instead of boxes.
    pub is_mask: bool,
    /// Tiles for small things.
    pub tile: (u32, u32),
    /// The size at which tiles are looked at, for models that take any.
    pub tile_input: Option<(u32, u32)>,
}

impl ModelKind {
    /// Reads the model's card.
    ///
    /// # Errors
    /// `MODEL` when there is none, or it cannot be read.
    pub fn of(model: &str) -> Result<Self, Failure> {
        let card = CardFile::find(model, &SearchPath::from_env()).map_err(|error| Failure::new(MODEL, error))?.card;
        let noun = match card.labels.as_slice() {
            [only] => only.clone(),
            _ => "detection".to_owned(),
        };
        let fixed = card.input.width.zip(card.input.height);
        let is_mask = card.output.task() == Task::Segmentation;
        Ok(Self { noun, is_mask, tile: fixed.unwrap_or(TILE), tile_input: fixed.is_none().then_some(TILE_INPUT) })
    }
}
