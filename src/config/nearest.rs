//! "Did you mean": the known word that is nearest to one that is not.
//!
//! Used by `config/shape.rs` for keys and words, and by `plan` for the names that a configuration gives its own items.

/// The known word nearest to `word`, if any is near enough to have been meant: at most a third of its letters differ.
///
/// Letter case does not count. Between equally near words, the first wins.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing that is longer than twice a known word is near it, and a distance takes the product of both lengths.
    let long = word.len();
    known
        .into_iter()
        .filter(|candidate| long <= 2 * candidate.len())
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 4] = ["listen", "handler", "timeouts", "max_connections"];

    #[test]
    fn a_slip_of_the_keys_finds_the_word_that_was_meant() {
        for (slip, meant) in [
            ("lisen", "listen"),
            ("Listen", "listen"),
            ("lsiten", "listen"),
            ("timeout", "timeouts"),
            ("max-connections", "max_connections"),
        ] {
            assert_eq!(nearest(slip, KNOWN), Some(meant));
        }
    }

    #[test]
    fn a_word_unlike_all_finds_none() {
        for word in ["", "colour", "x", &"listen".repeat(100_000)] {
            assert_eq!(nearest(word, KNOWN), None);
        }
    }
}
