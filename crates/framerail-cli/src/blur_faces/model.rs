//! Properties of a model card that matter for covering.

use framerail::infer::{CardFile, SearchPath, Task};

use crate::exit::{Failure, MODEL};

/// Tile size for models with frame-sized inputs, and their input size: twice as large.
const TILE: (u32, u32) = (480, 480);
const TILE_INPUT: (u32, u32) = (960, 960);

/// Properties of a model that the command needs before the run.
#[derive(Clone, Debug)]
pub struct ModelKind {
    /// The name of its class.
    pub noun: String,
    /// Whether it returns a mask of the whole frame instead of boxes.
    pub is_mask: bool,
    /// Tiles for small objects.
    pub tile: (u32, u32),
    /// The input size for tiles, for models with any input size.
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
