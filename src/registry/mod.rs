//! OCI distribution client. The only user of `reqwest`; knows nothing of the store.
