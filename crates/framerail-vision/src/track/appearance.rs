//! Appearance of detections and tracks: embeddings of unit length.

/// An embedding of length 1; that of a track is smoothed over its detections.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Appearance(Vec<f32>);

impl Appearance {
    /// `None` for an embedding without a direction: empty, all zeros, or not finite.
    pub(crate) fn new(embedding: &[f32]) -> Option<Self> {
        let norm = embedding.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        (norm.is_finite() && norm > 0.0).then(|| Self(embedding.iter().map(|value| (f64::from(*value) / norm) as f32).collect()))
    }

    /// Cosine of the angle between both; `None` for embeddings of different models.
    pub(crate) fn similarity(&self, other: &Self) -> Option<f64> {
        (self.0.len() == other.0.len()).then(|| f64::from(self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum::<f32>()))
    }

    /// Moves towards another embedding; `keep` is the share of the present one.
    fn follow(&mut self, seen: &Self, keep: f64) {
        if self.0.len() != seen.0.len() {
            self.clone_from(seen);
            return;
        }
        let keep = keep as f32;
        let mixed: Vec<f32> = self.0.iter().zip(&seen.0).map(|(now, seen)| keep * now + (1.0 - keep) * seen).collect();
        // Opposite embeddings may cancel out.
        if let Some(mixed) = Self::new(&mixed) {
            *self = mixed;
        }
    }
}

/// Updates the appearance of a track with that of a detection, if it has one.
pub(crate) fn follow(appearance: &mut Option<Appearance>, seen: Option<&Appearance>, keep: f64) {
    match (appearance.as_mut(), seen) {
        (Some(appearance), Some(seen)) => appearance.follow(seen, keep),
        (None, Some(seen)) => *appearance = Some(seen.clone()),
        (_, None) => {}
    }
}

/// Cosine of the angle between two embeddings, where both are known.
pub(crate) fn similarity(a: Option<&Appearance>, b: Option<&Appearance>) -> Option<f64> {
    a?.similarity(b?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_without_a_direction_have_no_appearance() {
        for embedding in [&[][..], &[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0]] {
            assert_eq!(Appearance::new(embedding), None);
        }
        assert_eq!(Appearance::new(&[3.0, 4.0]), Some(Appearance(vec![0.6, 0.8])));
    }

    #[test]
    fn a_track_follows_its_detections_and_other_models_are_not_compared() {
        let (east, north) = (Appearance::new(&[1.0, 0.0]), Appearance::new(&[0.0, 2.0]));
        let mut track = None;
        follow(&mut track, east.as_ref(), 0.9);
        follow(&mut track, None, 0.9);
        assert_eq!(track, east);
        let mut last = 0.0;
        for _ in 0..40 {
            follow(&mut track, north.as_ref(), 0.9);
            let now = similarity(track.as_ref(), north.as_ref()).expect("the same length");
            assert!(now > last && now < 1.0 + 1e-6);
            last = now;
        }
        assert!(last > 0.99);
        let longer = Appearance::new(&[1.0, 0.0, 0.0]);
        assert_eq!(similarity(track.as_ref(), longer.as_ref()), None);
        follow(&mut track, longer.as_ref(), 0.9);
        assert_eq!(track, longer);
    }
}
