//! Settings of `blur` that can be changed during the run.

use framerail_pipeline::StageContext;
use framerail_vision::{MaskOptions, MaskShape, MosaicCell, Obscure, Obscurer, VisionError};

use super::super::settings::{Number, OptionSettings, Place};

/// The replacement of a face, and the mask.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    pub(super) obscure: Obscure,
    pub(super) mask: MaskOptions,
}

impl Cover {
    /// # Errors
    /// `OptionOutOfRange`.
    pub(super) fn obscurer(&self) -> Result<Obscurer, VisionError> {
        Obscurer::new(self.obscure.clone(), self.mask)
    }
}

/// The ranges are those of the options.
const PLACES: [Place<Cover>; 6] = [
    Place {
        name: "strength",
        range: 0.01..=2.0,
        unit: "",
        help: "standard deviation of the blur relative to the face's larger side",
        find: |cover| match &mut cover.obscure {
            Obscure::Gaussian { strength } => Some(Number::Real(strength)),
            _ => None,
        },
    },
    Place {
        name: "strength",
        range: 0.01..=4.0,
        unit: "",
        help: "side of the box filter relative to the face's larger side",
        find: |cover| match &mut cover.obscure {
            Obscure::Box { strength } => Some(Number::Real(strength)),
            _ => None,
        },
    },
    Place {
        name: "cell",
        range: 2.0..=4096.0,
        unit: "pixels",
        help: "side of a cell",
        find: |cover| match &mut cover.obscure {
            Obscure::Mosaic { cell: MosaicCell::Pixels(cell) } => Some(Number::Whole(cell)),
            _ => None,
        },
    },
    Place {
        name: "mask_scale",
        range: 0.6..=10.0,
        unit: "",
        help: "size of the mask: the box grows by (mask_scale - 1) of its size on each side",
        find: |cover| Some(Number::Real(&mut cover.mask.mask_scale)),
    },
    Place {
        name: "feather",
        range: 0.0..=1.0,
        unit: "",
        help: "width of the soft edge relative to the face's larger side",
        find: |cover| Some(Number::Real(&mut cover.mask.feather)),
    },
    Place {
        name: "contour_share",
        range: 0.0..=1.0,
        unit: "",
        help: "minimum share of the box that a contour must cover",
        find: |cover| (cover.mask.shape == MaskShape::Contour).then_some(Number::Real(&mut cover.mask.contour_share)),
    },
];

pub(super) struct BlurSettings {
    cover: Cover,
    settings: OptionSettings<Cover>,
}

impl BlurSettings {
    pub(super) fn new(context: &StageContext, mut cover: Cover) -> Self {
        Self { settings: OptionSettings::new(context, &PLACES, &mut cover), cover }
    }

    /// The obscurer from now on, if a setting was changed.
    ///
    /// # Errors
    /// `OptionOutOfRange`.
    pub(super) fn take_changes(&mut self) -> Result<Option<Obscurer>, VisionError> {
        if self.settings.take_changes(&mut self.cover) { self.cover.obscurer().map(Some) } else { Ok(None) }
    }
}
