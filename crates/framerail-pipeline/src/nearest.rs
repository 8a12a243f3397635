//! Suggests the name that was probably meant.

/// Below, two names of the same length differ in half of their letters.
const MIN_LIKENESS: f64 = 0.5;

/// The most similar name to `wanted`: within a few typing errors, or one is a prefix of the other.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for name in names {
        let mut likeness = strsim::normalized_damerau_levenshtein(&wanted, name);
        if wanted.len() >= 3 && (name.starts_with(&wanted) || wanted.starts_with(name)) {
            likeness = likeness.max(0.7);
        }
        if likeness > MIN_LIKENESS && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, name));
        }
    }
    best.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_but_no_strangers() {
        let names = ["blur", "draw", "infer", "read", "write", "frames"];
        assert_eq!(nearest("blurr", names), Some("blur"));
        assert_eq!(nearest("raed", names), Some("read"));
        assert_eq!(nearest("Write", names), Some("write"));
        assert_eq!(nearest("inf", names), Some("infer"));
        assert_eq!(nearest("transmogrify", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("resize", ["redis", "read", "review"]), None, "half of the letters differ");
    }
}
