//! OCI distribution client. The only user of `reqwest`; knows nothing of the store.

/// Settings of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Mirrors, tried in order.
    pub mirrors: Vec<String>,
    /// Plain HTTP.
    pub insecure: bool,
}
