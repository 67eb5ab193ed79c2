//! The fuzz targets of the crate `tests`, driven by libFuzzer: `tests/fuzz/run` starts it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tests::fuzz::Target;

/// The target, by name: libFuzzer keeps the command line for itself.
static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    tests::fuzz::target(&name).unwrap_or_else(|| {
        let known: Vec<_> = tests::fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("FUZZ_TARGET is {name:?}: set it to one of {}", known.join(", "));
        std::process::exit(2)
    })
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
