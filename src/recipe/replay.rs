//! Hostile recipes: errors are fine, panics are bugs. The corpus is replayed as it is, and with random damage.

use super::{Selected, parse};
use crate::image::{Digest, ImageConfig, Platform};
use crate::resolve::{self, Host, ImageFacts, Plan, Request};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words that mean something, to be put where they do not belong.
const WORDS: [&str; 28] = [
    "\"",
    "\\",
    "{",
    "}",
    "{{",
    "{value}",
    "{setting.user}",
    "{port.db}",
    "{secret.password}",
    "[",
    "]",
    "]]",
    "\n",
    "=",
    ".",
    "#",
    ",",
    "''",
    "\"\"\"",
    "1",
    "-1",
    "4294967295",
    "18446744073709551616",
    "true",
    "2026-11-12",
    "\u{1}",
    "\u{feff}",
    "ü",
];

/// Name and text of each seed.
fn corpus() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/recipe");
    let seeds = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    seeds
        .map(|seed| {
            let bytes = fs::read(seed.path()).unwrap();
            (seed.file_name().into_string().unwrap(), String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
}

/// What holds for any text: an error says where in the file; a recipe has plans that can be written and read again.
fn hold(text: &str) -> bool {
    let recipe = match parse(text, "seed.toml") {
        Ok(recipe) => recipe,
        Err(error) => {
            assert!(error.to_string().starts_with("seed.toml:"), "{error}");
            return false;
        }
    };
    for version in &recipe.versions {
        let selected = Selected { recipe: &recipe, version, source: "user" };
        let config = ImageConfig { cmd: vec!["x".into()], volumes: vec!["/v".into()], ..ImageConfig::default() };
        let facts = ImageFacts {
            reference: selected.reference().expect("the lint has read it"),
            digest: Digest::of(b"m"),
            index_digest: None,
            config_digest: Digest::of(b"c"),
            platform: Platform::host(),
            layers: Vec::new(),
            config,
        };
        if let Ok(plan) = resolve::plan(&Request::default(), &selected, &facts, &Host::new([127, 0, 0, 1].into())) {
            let written = toml::to_string(&plan).expect("any plan can be written");
            assert_eq!(toml::from_str::<Plan>(&written).expect("what was written can be read"), plan);
            plan.connect.reveal(&|_| Some("s".into())).expect("only secrets are left");
        }
    }
    true
}

#[test]
fn the_corpus_is_read_or_refused() {
    let corpus = corpus();
    let good: Vec<&str> = corpus.iter().filter(|(_, text)| hold(text)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(good, ["every-table.toml", "memcached.toml", "nginx.toml", "postgres.toml", "redis.toml"]);
}

#[test]
fn deep_texts_do_not_exhaust_the_stack() {
    for text in corpus().into_iter().filter(|(name, _)| name.starts_with("deep")).map(|(_, text)| text) {
        for unit in [".a", "{a=", "[", "}", "]"] {
            // A hundred times as deep as the seed, on a stack that a thread really has.
            hold(&text.replace(&unit.repeat(3000), &unit.repeat(200_000)));
        }
    }
}

/// Puts `word` over the characters from `at` on; places are taken modulo the length.
fn damage(text: &str, at: usize, length: usize, word: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = at % (chars.len() + 1);
    let end = (at + length).min(chars.len());
    chars[..at].iter().copied().chain(word.chars()).chain(chars[end..].iter().copied()).collect()
}

proptest! {
    #[test]
    fn damaged_recipes_are_read_or_refused(
        seed in any::<prop::sample::Index>(),
        wounds in prop::collection::vec((any::<usize>(), 0_usize..12, prop::sample::select(&WORDS[..])), 1..4),
    ) {
        let corpus: Vec<String> = corpus().into_iter().filter(|(name, _)| !name.starts_with("deep")).map(|(_, text)| text).collect();
        let mut text = seed.get(&corpus).clone();
        for (at, length, word) in wounds {
            text = damage(&text, at, length, word);
        }
        hold(&text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        hold(&text);
    }
}
