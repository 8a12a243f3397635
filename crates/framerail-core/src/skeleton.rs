//! Which landmarks of a body are joined by lines.

/// The bones of a pose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skeleton {
    /// Number of landmarks of the model.
    pub points: usize,
    /// Pairs of landmarks, by their index in the model card.
    pub bones: Vec<[usize; 2]>,
}
