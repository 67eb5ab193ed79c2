//! The directory of a simulated disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::device::Device;
use super::file::SimulatedFile;

type Files = BTreeMap<String, Arc<SimulatedFile>>;

#[derive(Debug, Default)]
pub(super) struct Names {
    files: Files,
    durable: Files,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, Arc<SimulatedFile>),
    Remove(String),
    Rename(String, String),
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Arc<SimulatedFile>> {
        self.files.get(name).map(Arc::clone)
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<SimulatedFile>> {
        self.files.values()
    }

    pub(super) fn used(&self) -> u64 {
        self.files().map(|file| file.used()).sum()
    }

    pub(super) fn create(&mut self, name: &str, file: Arc<SimulatedFile>) {
        self.change(Change::Create(name.to_owned(), file));
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files.get(name).ok_or(io::ErrorKind::NotFound)?.release();
        self.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.files.get(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(replaced) = self.files.get(to) {
            replaced.release();
        }
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.files);
    }

    /// Each change since the last sync meets its fate.
    pub(super) fn cut(&mut self, survives: &mut dyn FnMut() -> bool) {
        for change in std::mem::take(&mut self.pending) {
            if survives() {
                apply(&mut self.durable, change);
            }
        }
        self.files.clone_from(&self.durable);
    }

    /// A copy whose files are its own.
    pub(super) fn fork(&self, device: &Arc<Device>) -> Self {
        let mut copies: Vec<(Arc<SimulatedFile>, Arc<SimulatedFile>)> = Vec::new();
        let mut copy = |file: &Arc<SimulatedFile>| {
            let known = copies.iter().find(|(original, _)| Arc::ptr_eq(original, file));
            let known = known.map(|(_, copy)| Arc::clone(copy));
            known.unwrap_or_else(|| {
                let copy = Arc::new(file.fork(device));
                copies.push((Arc::clone(file), Arc::clone(&copy)));
                copy
            })
        };
        let mut all = |files: &Files| {
            files.iter().map(|(name, file)| (name.clone(), copy(file))).collect::<Files>()
        };
        let (files, durable) = (all(&self.files), all(&self.durable));
        let pending = self.pending.iter().map(|change| match change {
            Change::Create(name, file) => Change::Create(name.clone(), copy(file)),
            other => other.clone(),
        });
        Self { files, durable, pending: pending.collect() }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.files, change.clone());
        self.pending.push(change);
    }
}

fn apply(files: &mut Files, change: Change) {
    match change {
        Change::Create(name, file) => drop(files.insert(name, file)),
        Change::Remove(name) => drop(files.remove(&name)),
        Change::Rename(from, to) => {
            if let Some(file) = files.remove(&from) {
                files.insert(to, file);
            }
        }
    }
}
