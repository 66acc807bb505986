//! Build script: one thing that Cargo.toml cannot say.

fn main() {
    println!("cargo::rerun-if-changed=packaging/build.rs");
    // A position-independent executable has its tables of addresses relocated at each start, which makes half a megabyte of them
    // private to each process: as much as all else of a supervisor, of which every running service has one.
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
