//! The crate from outside: containers of real engines, and files in real overlay mounts. Needs root.

#![forbid(unsafe_code)]

mod containers_files;
mod containers_real;
mod hashing;
mod layers;
mod matrix;
mod overlay;
mod pipeline;
mod scripts;
