use std::fs;
use std::path::{Path, PathBuf};

use crate::untested::untested;

/// Where the two versions of control groups are, with the names of limit, peak and swap.
const PLACES: [(&str, &str, &str, &str); 2] = [
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.memsw.limit_in_bytes",
    ),
    ("/sys/fs/cgroup", "memory.max", "memory.peak", "memory.swap.max"),
];

/// A control group whose processes have so much memory, page cache included, and no more.
pub struct MemoryLimit {
    group: PathBuf,
    peak: &'static str,
}

impl MemoryLimit {
    /// A limit of that many bytes; none, and a word on it, where no group can be made.
    #[must_use]
    pub fn new(test: &str, bytes: u64) -> Option<Self> {
        for (root, limit, peak, swap) in PLACES {
            let group = Path::new(root).join(format!("pannier-tests-{}", std::process::id()));
            if fs::create_dir(&group).is_err() {
                continue;
            }
            let this = Self { group, peak };
            if fs::write(this.group.join(limit), bytes.to_string()).is_ok() {
                let most = if swap.contains("memsw") { bytes } else { 0 };
                let _ = fs::write(this.group.join(swap), most.to_string());
                return Some(this);
            }
        }
        untested(test, "no control group with a memory limit can be made: it takes root");
        None
    }

    /// Bytes that were in use at most.
    ///
    /// # Panics
    /// When the kernel doesn't tell.
    #[must_use]
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.group.join(self.peak)).expect("a peak");
        text.trim().parse().expect("a number of bytes")
    }

    /// The file that takes the ids of the processes in the group.
    pub(crate) fn members(&self) -> PathBuf {
        self.group.join("cgroup.procs")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}

/// The memory that a process takes now.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// The most memory that a process has taken.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
