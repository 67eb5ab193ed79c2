use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::directory::Directory;
use crate::untested::untested;

/// A small file system of a test's own, unmounted when it is dropped.
pub struct Volume {
    directory: Directory,
    /// The block device's name, where it has one.
    device: Option<String>,
}

impl Volume {
    /// One of that many MiB in memory; none, and a word on it, where nothing may be mounted.
    #[must_use]
    pub fn in_memory(test: &str, mib: u32) -> Option<Self> {
        let volume = Self { directory: Directory::new(), device: None };
        let size = format!("size={mib}m");
        mounted(test, volume, &["-t", "tmpfs", "-o", &size, "none"])
    }

    /// An ext4 of that many MiB in a file.
    ///
    /// # Panics
    /// When the file can't be made.
    #[must_use]
    pub fn ext4(test: &str, mib: u32) -> Option<Self> {
        let volume = Self { directory: Directory::new(), device: None };
        let image = volume.directory.path().join("image");
        let file = File::create(&image).expect("a file can be made");
        file.set_len(u64::from(mib) << 20).expect("a file can be extended");
        let image = image.display().to_string();
        if let Err(why) = run("mkfs.ext4", &["-q", "-F", &image]) {
            untested(test, &why);
            return None;
        }
        let mut volume = mounted(test, volume, &["-o", "loop,errors=remount-ro", &image])?;
        let point = volume.path();
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts can be listed");
        let line = mounts.lines().find(|line| line.contains(&point.display().to_string()));
        let device = line.and_then(|line| line.split(' ').next()?.strip_prefix("/dev/"));
        volume.device = device.map(str::to_owned);
        Some(volume)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// Takes all the room there is.
    ///
    /// # Panics
    /// When that fails for any other reason.
    pub fn fill(&self) {
        let mut file = File::create(self.path().join("ballast")).expect("a file can be made");
        for piece in [1 << 20, 4096, 512] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        // What was only promised to us could be taken back.
        let _ = file.sync_all();
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When it was not taken.
    pub fn empty(&self) {
        fs::remove_file(self.path().join("ballast")).expect("it was filled");
    }

    /// Mounts it read-only, or writable again. Nothing may be open for writing.
    ///
    /// # Panics
    /// When it can't be.
    pub fn set_writable(&self, writable: bool) {
        let how = if writable { "remount,rw" } else { "remount,ro" };
        run("mount", &["-o", how, &self.path().display().to_string()]).expect("a remount");
    }

    /// Makes the kernel find an error in the ext4: it becomes read-only under whoever uses it.
    ///
    /// # Panics
    /// When it is no ext4.
    pub fn break_down(&self) {
        let device = self.device.as_deref().expect("it has a device");
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        fs::write(trigger, "tests").expect("an error can be made");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &self.path().display().to_string()]);
    }
}

fn mounted(test: &str, volume: Volume, arguments: &[&str]) -> Option<Volume> {
    let point = volume.path();
    fs::create_dir(&point).expect("a directory can be made");
    let point = point.display().to_string();
    match run("mount", &[arguments, &[&point]].concat()) {
        Ok(()) => Some(volume),
        Err(why) => {
            untested(test, &why);
            None
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program} can't be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(format!("{program}: {said}"))
}
