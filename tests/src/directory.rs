use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Made since this process started.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A directory of a test's own, removed when it is dropped.
pub struct Directory(PathBuf);

impl Directory {
    /// A new one, empty.
    #[must_use]
    pub fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pannier-tests-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left over from a process with the same id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory can be made for temporary files");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it, and says where.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
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

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
