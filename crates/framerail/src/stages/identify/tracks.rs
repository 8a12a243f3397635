//! Gives names to the faces of a frame, and keeps them along tracks.

use std::collections::HashMap;

/// A face this much less similar than required is somebody else, even if its track had the name.
const CLEARLY_DIFFERENT: f32 = 0.25;

/// When a face gets a name and keeps it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Minimum cosine similarity.
    pub(super) similarity: f32,
    /// Seconds for which a track keeps its name without being recognised.
    pub(super) keep_secs: f64,
}

/// A face of a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) track: Option<u64>,
    /// Similarity to each person; empty if it was not compared.
    pub(super) similarities: Vec<f32>,
}

/// A person, by index, and the similarity of this frame; 0 if it was not compared.
pub(super) type Name = (usize, f32);

/// The named tracks of a stream.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    /// Person, and seconds of the last frame in which the track was recognised.
    named: HashMap<u64, (usize, f64)>,
}

impl Tracks {
    /// The name of each face of a frame. Each person is named at most once.
    pub(super) fn name(&mut self, seen: &[Seen], secs: f64, rules: Rules) -> Vec<Option<Name>> {
        // A clock that is set back starts again.
        self.named.retain(|_, (_, last)| (0.0..=rules.keep_secs).contains(&(secs - *last)));
        let mut names: Vec<Option<Name>> = vec![None; seen.len()];
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (face, seen) in seen.iter().enumerate() {
            let similar = seen.similarities.iter().enumerate().filter(|(_, value)| **value >= rules.similarity);
            pairs.extend(similar.map(|(person, value)| (*value, face, person)));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let is_taken = |names: &[Option<Name>], person: usize| names.iter().flatten().any(|(taken, _)| *taken == person);
        for (similarity, face, person) in pairs {
            if names[face].is_none() && !is_taken(&names, person) {
                names[face] = Some((person, similarity));
            }
        }
        for (face, seen) in seen.iter().enumerate() {
            let Some(track) = seen.track else { continue };
            if let Some((person, _)) = names[face] {
                self.named.insert(track, (person, secs));
                continue;
            }
            let Some(&(person, _)) = self.named.get(&track) else { continue };
            let similarity = seen.similarities.get(person).copied();
            let is_other = similarity.is_some_and(|similarity| similarity < rules.similarity - CLEARLY_DIFFERENT);
            if is_other {
                self.named.remove(&track);
            } else if !is_taken(&names, person) {
                names[face] = Some((person, similarity.unwrap_or(0.0)));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { similarity: 0.5, keep_secs: 1.0 };

    fn seen(track: u64, similarities: &[f32]) -> Seen {
        Seen { track: Some(track), similarities: similarities.to_vec() }
    }

    fn people(names: &[Option<Name>]) -> Vec<Option<usize>> {
        names.iter().map(|name| name.map(|(person, _)| person)).collect()
    }

    #[test]
    fn the_most_similar_face_gets_the_name_and_nobody_else() {
        let mut tracks = Tracks::default();
        let faces = [seen(1, &[0.6, 0.2]), seen(2, &[0.9, 0.7]), seen(3, &[0.4, 0.3])];
        assert_eq!(people(&tracks.name(&faces, 0.0, RULES)), [None, Some(0), None], "one face is one person");
        let faces = [seen(1, &[0.6, 0.7]), seen(2, &[0.9, 0.1])];
        assert_eq!(people(&tracks.name(&faces, 0.1, RULES)), [Some(1), Some(0)]);
    }

    #[test]
    fn a_track_keeps_its_name_for_a_time_unless_it_is_somebody_else() {
        let name = |later: &[(f64, &[f32])]| {
            let mut tracks = Tracks::default();
            tracks.name(&[seen(1, &[0.8])], 10.0, RULES);
            later.iter().map(|(secs, similar)| tracks.name(&[seen(1, similar)], *secs, RULES)[0].is_some()).collect::<Vec<_>>()
        };
        assert_eq!(name(&[(10.5, &[0.3]), (11.0, &[]), (11.1, &[0.4])]), [true, true, false]);
        assert_eq!(name(&[(10.1, &[0.1]), (10.2, &[0.4])]), [false, false], "clearly different");
        assert_eq!(name(&[(10.9, &[0.7]), (11.5, &[0.4])]), [true, true], "recognised again");
        assert_eq!(name(&[(3.0, &[0.4])]), [false], "a clock that was set back");
    }

    #[test]
    fn without_identities_each_frame_counts_alone() {
        let mut tracks = Tracks::default();
        let face = |similarity| Seen { track: None, similarities: vec![similarity] };
        assert_eq!(people(&tracks.name(&[face(0.8)], 0.0, RULES)), [Some(0)]);
        assert_eq!(people(&tracks.name(&[face(0.4)], 0.1, RULES)), [None]);
    }

    #[test]
    fn similarity_ignores_length() {
        let person = super::super::people::Person::of("anna", vec![3.0, 4.0]);
        assert!((person.similarity(&[30.0, 40.0]) - 1.0).abs() < 1e-6);
        assert!(person.similarity(&[-4.0, 3.0]).abs() < 1e-6);
        assert!((person.similarity(&[-3.0, -4.0]) + 1.0).abs() < 1e-6);
        assert_eq!(person.similarity(&[0.0, 0.0]), -1.0);
    }
}
