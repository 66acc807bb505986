//! Words near a word, for `did you mean`.

/// The candidates nearest to `word`, best first, at most three; empty when none is near.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // Longer words are no typing slip, and the distance takes the product of both lengths.
    if word.is_empty() || word.len() > 64 {
        return Vec::new();
    }
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 128)
        .filter_map(|candidate| {
            let far = distance(&word, candidate);
            // `postgre`, `mem`: what was typed begins the candidate, or the other way round.
            let begins = word.len() >= 3 && (candidate.starts_with(&word) || word.starts_with(candidate) && candidate.len() >= 3);
            (far <= most || begins).then_some((far, candidate))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(3);
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

/// ``did you mean `a`, or `b`?`` for the nearest of the candidates.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near: Vec<String> = nearest(word, candidates).into_iter().map(|name| format!("`{name}`")).collect();
    if near.is_empty() { None } else { Some(format!("did you mean {}?", near.join(" or "))) }
}

/// Edits (insert, delete, replace, swap of neighbours) between two words: optimal string alignment.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_known_ones() {
        for (a, b, far) in [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("redis", "rdeis", 1), ("a", "b", 1)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["postgres", "postgresql", "pg", "redis", "nginx", "memcached"];
        assert_eq!(nearest("postgre", names), ["postgres", "postgresql"]);
        assert_eq!(nearest("Rediss", names), ["redis"]);
        assert_eq!(nearest("ngnix", names), ["nginx"]);
        assert_eq!(nearest("memcache", names), ["memcached"]);
        assert!(nearest("oracle", names).is_empty());
        assert!(nearest(&"x".repeat(100_000), names).is_empty());
        assert_eq!(did_you_mean("postgre", names).unwrap(), "did you mean `postgres` or `postgresql`?");
    }
}
