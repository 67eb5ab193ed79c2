//! A directory of files that mostly repeat one byte, as one small file.

use std::fs;
use std::path::Path;

/// A byte that comes so often in a row is counted.
const RUN: usize = 8;

/// A file: its name, and its bytes in pieces: some as they are, then one so many times.
type Packed = (String, Vec<(Vec<u8>, u8, usize)>);

/// Packs the files of a directory.
///
/// # Panics
/// When it can't be read.
#[must_use]
pub fn pack(dir: &Path) -> Vec<u8> {
    let mut files: Vec<Packed> = fs::read_dir(dir)
        .expect("a directory can be listed")
        .map(|entry| {
            let entry = entry.expect("a directory can be listed");
            let bytes = fs::read(entry.path()).expect("a file can be read");
            let name = entry.file_name().into_string().expect("names are plain");
            (name, pieces(&bytes))
        })
        .collect();
    files.sort();
    postcard::to_stdvec(&files).expect("names and bytes can be encoded")
}

/// Writes packed files into a directory that is there.
///
/// # Panics
/// When it can't be written.
pub fn unpack(packed: &[u8], dir: &Path) {
    let files: Vec<Packed> = postcard::from_bytes(packed).expect("it was packed by pack");
    for (name, pieces) in files {
        let mut bytes = Vec::new();
        for (plain, byte, count) in pieces {
            bytes.extend(plain);
            bytes.resize(bytes.len() + count, byte);
        }
        fs::write(dir.join(name), bytes).expect("a file can be written");
    }
}

fn pieces(bytes: &[u8]) -> Vec<(Vec<u8>, u8, usize)> {
    let mut pieces = Vec::new();
    let mut plain = Vec::new();
    for run in bytes.chunk_by(|one, next| one == next) {
        if run.len() >= RUN {
            pieces.push((std::mem::take(&mut plain), run[0], run.len()));
        } else {
            plain.extend(run);
        }
    }
    if !plain.is_empty() {
        pieces.push((plain, 0, 0));
    }
    pieces
}
