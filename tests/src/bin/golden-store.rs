//! Writes the golden stores of this version: `cargo run -p tests --bin golden-store`.

use std::fs;
use std::process::ExitCode;

use tests::Directory;
use tests::golden::{describe, directory, make, pack, unpack};

fn main() -> ExitCode {
    let to = directory().join(env!("CARGO_PKG_VERSION"));
    if to.exists() {
        eprintln!("{} is there: a golden store never changes", to.display());
        return ExitCode::FAILURE;
    }
    fs::create_dir_all(&to).expect("a directory can be made");
    let store = Directory::new();
    make(store.path(), |name| {
        let packed = pack(store.path());
        let copy = Directory::new();
        unpack(&packed, copy.path());
        fs::write(to.join(format!("{name}.store")), &packed).expect("a file can be written");
        fs::write(to.join(format!("{name}.txt")), describe(copy.path()))
            .expect("a file can be written");
        println!("{}/{name}.store: {} bytes", to.display(), packed.len());
    });
    ExitCode::SUCCESS
}
