//! The inputs that fuzzing found worth keeping, each read once.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tests::fuzz::{TARGETS, Target};

/// Panics where something doesn't hold, after naming the input.
fn replay(target: &Target) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut inputs: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    for input in inputs {
        let data = fs::read(&input).unwrap();
        assert!(data.len() <= target.max_bytes, "{} is too long", input.display());
        println!("{}", input.display());
        (target.run)(&data);
    }
}

#[test]
fn every_input_of_the_corpus_is_survived() {
    std::thread::scope(|scope| {
        for target in &TARGETS {
            scope.spawn(|| replay(target));
        }
    });
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut names: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, TARGETS.map(|target| target.name.to_owned()));
}
