//! Id maps of user namespaces.
