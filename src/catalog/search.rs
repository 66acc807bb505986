//! `steading search WORD`.

use super::{Catalog, Entry};
use crate::recipe::Name;

impl Catalog {
    /// The recipes in which every word of `text` occurs, best first: by name, alias, category, title, summary. All without a word.
    #[must_use]
    pub fn search(&self, text: &str) -> Vec<&Entry> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let rated = self.entries.iter().filter_map(|entry| {
            let ranks: Option<Vec<u8>> = words.iter().map(|word| rank(entry, word)).collect();
            ranks.map(|ranks| (ranks.into_iter().max().unwrap_or_default(), entry.recipe.name(), entry))
        });
        let mut rated: Vec<_> = rated.collect();
        rated.sort_by_key(|(rank, name, _)| (*rank, *name));
        rated.into_iter().map(|(_, _, entry)| entry).collect()
    }
}

/// How well a lower-case word fits; 0 is best.
fn rank(entry: &Entry, word: &str) -> Option<u8> {
    let head = &entry.recipe.head;
    let names = || std::iter::once(&head.name).chain(&head.aliases).map(Name::as_str);
    let steps: [&dyn Fn() -> bool; 6] = [
        &|| names().any(|name| name == word),
        &|| names().any(|name| name.starts_with(word)),
        &|| names().any(|name| name.contains(word)),
        &|| head.categories.iter().any(|category| category.as_str() == word),
        &|| head.title.to_lowercase().contains(word),
        &|| head.summary.to_lowercase().contains(word) || head.categories.iter().any(|category| category.as_str().contains(word)),
    ];
    steps.iter().zip(0_u8..).find(|(fits, _)| fits()).map(|(_, rank)| rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fit_comes_first() {
        let catalog = Catalog::built_in().unwrap();
        let search = |text: &str| catalog.search(text).iter().map(|entry| entry.recipe.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(search("PG"), ["postgres"]);
        assert_eq!(search("database"), ["postgres", "redis"]);
        assert_eq!(search("memory"), ["memcached", "redis"]);
        assert_eq!(search("cache memory"), ["memcached", "redis"]);
        assert_eq!(search("sql nothing"), Vec::<String>::new());
        assert_eq!(search("").len(), catalog.entries().len());
    }
}
