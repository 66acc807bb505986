//! Use cases: install, remove, status, exec ...; transactions.
