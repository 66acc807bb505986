//! Names -> recipes: the built-in catalog, the user's, search, nearest names, provenance. No network.
