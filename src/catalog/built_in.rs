//! The recipes of this build.

/// Name and text of each file in `catalog/`, sorted by name. A test compares the list with the directory.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("memcached", include_str!("../../catalog/memcached.toml")),
    ("nginx", include_str!("../../catalog/nginx.toml")),
    ("postgres", include_str!("../../catalog/postgres.toml")),
    ("redis", include_str!("../../catalog/redis.toml")),
];
