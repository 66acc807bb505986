//! Image config + plan -> OCI runtime spec. Pure.
