use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory of a test's own, removed when it is dropped.
pub struct Directory(TempDir);

impl Directory {
    /// A new one, empty.
    #[must_use]
    pub fn new() -> Self {
        Self(TempDir::new().expect("a directory can be made for temporary files"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file in it, and says where.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let parent = path.parent().expect("a file is in a directory");
        fs::create_dir_all(parent).expect("a directory can be made");
        fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}
