//! The known name nearest to a mistyped one.

/// The candidate with the fewest edits, when there are few enough for a typing error.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (given.chars().count() / 2).clamp(1, 4);
    known
        .into_iter()
        .map(|name| (edits(given, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein distance: insertions, deletions and replacements from one text to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = std::mem::replace(&mut row[0], left);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            left = replaced.min(left + 1).min(diagonal + 1);
            row[j + 1] = left;
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word() {
        let known = ["confidence", "iou", "max_detections"];
        assert_eq!(nearest("confidense", known), Some("confidence"));
        assert_eq!(nearest("wholly different", known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
