//! The yard: U0 and the file server of all images.
