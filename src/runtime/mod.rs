//! The run lane: namespaces, mounts, exec, handover, reaping.
