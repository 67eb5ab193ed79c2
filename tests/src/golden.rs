//! Golden stores: what a version wrote, and what the versions after it must find there.
//!
//! `tests/golden/VERSION` holds a store that was closed (`closed.store`) and one as a kill leaves
//! it (`killed.store`), each with what it says of itself (`closed.txt`, `killed.txt`).
//! `cargo run -p tests --bin golden-store` writes those of the current version.

mod describe;
mod make;
mod pack;

pub use describe::describe;
pub use make::{WRITTEN_MS, make};
pub use pack::{pack, unpack};

use std::path::PathBuf;

/// The two stores of each version.
pub const STORES: [&str; 2] = ["closed", "killed"];

/// Where the golden stores are.
#[must_use]
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}
