//! Recipes: the TOML schema, parsing with spans, lint. No disk, no network.
