//! The operating system's disk: a directory that one process owns.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fstatvfs};
use rustix::io::Errno;

use super::{Disk, DiskFile};

/// The file whose lock says that a process owns the directory.
pub(crate) const LOCK: &str = "lock";

/// Zeros are written in pieces of this many bytes where blocks can't be reserved.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Another process owns it.
    #[error(
        "the directory {} is in use by {}: stop that process, or choose another directory",
        dir.display(),
        owner(*pid)
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who owns it, as far as it has said so.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("can't {op} the directory {}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// A directory on the operating system's disk, locked for as long as this lives.
#[derive(Debug)]
pub struct OsDisk {
    path: PathBuf,
    directory: File,
    lock: File,
}

impl OsDisk {
    /// Creates the directory when absent (mode 0700, with its parents) and locks it.
    ///
    /// # Errors
    /// [`DiskError::Locked`] when another process, or this one, has it open already.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let failed = |op| {
            let dir = dir.to_owned();
            move |source| DiskError::Io { dir, op, source }
        };
        create(dir).map_err(failed("create"))?;
        let directory = File::open(dir).map_err(failed("open"))?;
        let lock = open(&dir.join(LOCK)).map_err(failed("write to"))?;
        match lock.try_lock() {
            Ok(()) => sign(&lock).map_err(failed("write to"))?,
            Err(TryLockError::WouldBlock) => {
                return Err(DiskError::Locked { dir: dir.to_owned(), pid: signature(&lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        Ok(Self { path: dir.to_owned(), directory, lock })
    }
}

impl Disk for OsDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile(open(&self.path.join(name))?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn check_place(&self) -> Result<(), String> {
        let found = fs::metadata(self.path.join(LOCK));
        let state = match (found, self.lock.metadata()) {
            (Ok(found), Ok(ours)) if is_same(&found, &ours) => return Ok(()),
            (Ok(_), Ok(_)) => "was replaced",
            (Err(error), _) if is_gone(&error) => "was removed or moved",
            _ => return Ok(()),
        };
        Err(format!("the data directory {} {state}: put it back", self.path.display()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fstatvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), offset, len) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return self.append_zeros(offset.saturating_add(len));
                }
                done => return Ok(done?),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn reload(&self) -> io::Result<()> {
        self.sync()?;
        match fadvise(&self.0, 0, None, Advice::DontNeed) {
            // A kernel built without it, or a file system without a cache.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
            done => Ok(done?),
        }
    }
}

impl OsFile {
    /// Writes zeros from the end of the file up to `end`.
    fn append_zeros(&self, end: u64) -> io::Result<()> {
        let mut at = self.len()?;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.0.write_all_at(&ZEROS[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Creates a directory and the parents it lacks, durably.
fn create(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for parent in missing.iter().filter_map(|it| it.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Leaves our process id in the lock file, for whoever finds it locked.
fn sign(mut lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn signature(mut lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_directory_is_created_with_its_parents_for_its_owner_only() {
        let parent = TempDir::new().unwrap();
        let dir = parent.path().join("deep/store");
        let disk = OsDisk::open(&dir).unwrap();
        disk.open("a").unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let dir = TempDir::new().unwrap();
        let first = OsDisk::open(dir.path()).unwrap();
        let message = OsDisk::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        drop(first);
        OsDisk::open(dir.path()).unwrap();
    }

    #[test]
    fn files_are_written_listed_renamed_and_removed() {
        let dir = TempDir::new().unwrap();
        let disk = OsDisk::open(dir.path()).unwrap();
        let file = disk.open("a").unwrap();
        file.write_at(3, b"abc").unwrap();
        file.sync().unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        let mut bytes = [9; 6];
        disk.open("b").unwrap().read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0abc");
        let past = file.read_at(4, &mut bytes).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_directory_that_is_moved_or_replaced_is_noticed() {
        let parent = TempDir::new().unwrap();
        let (dir, aside) = (parent.path().join("store"), parent.path().join("aside"));
        let disk = OsDisk::open(&dir).unwrap();
        disk.check_place().unwrap();
        fs::rename(&dir, &aside).unwrap();
        let cause = disk.check_place().unwrap_err();
        assert!(cause.contains("was removed or moved"), "{cause}");
        assert!(cause.contains(&dir.display().to_string()), "{cause}");
        let other = OsDisk::open(&dir).unwrap();
        assert!(disk.check_place().unwrap_err().contains("was replaced"));
        drop(other);
        fs::remove_dir_all(&dir).unwrap();
        fs::rename(&aside, &dir).unwrap();
        disk.check_place().unwrap();
    }

    #[test]
    fn allocating_extends_a_file_and_keeps_what_is_there() {
        let dir = TempDir::new().unwrap();
        let disk = OsDisk::open(dir.path()).unwrap();
        let file = disk.open("a").unwrap();
        file.write_at(0, b"abc").unwrap();
        file.allocate(0, 100_000).unwrap();
        assert_eq!(file.len().unwrap(), 100_000);
        let plain = OsFile(open(&dir.path().join("a")).unwrap());
        plain.append_zeros(300_000).unwrap();
        assert_eq!(file.len().unwrap(), 300_000);
        let mut bytes = [9; 4];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"abc\0");
    }
}
