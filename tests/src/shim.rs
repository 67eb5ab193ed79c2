use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;
use crate::directory::Directory;
use crate::process::Process;
use crate::untested::untested;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/shim.c");

/// Fails what the program asks of its disk, and moves its clock, while it runs.
pub struct Shim {
    directory: Directory,
}

impl Shim {
    /// A shim that changes nothing yet; none, and a word on it, where it can't be put before the
    /// program: without a C compiler, or with a program that is linked statically.
    #[must_use]
    pub fn new(test: &str) -> Option<Self> {
        let shim = Self { directory: Directory::new() };
        match shim.build().and_then(|()| shim.probe()) {
            Ok(()) => Some(shim),
            Err(why) => {
                untested(test, &why);
                None
            }
        }
    }

    /// From now on that call fails with that errno for the program's own files: `pwrite`,
    /// `fdatasync`, `fsync`, or `open` for files that have to be made.
    pub fn fail(&self, call: &str, errno: i32) {
        self.directory.write(call, &errno.to_string());
    }

    /// The call works again.
    ///
    /// # Panics
    /// When it did not fail.
    pub fn mend(&self, call: &str) {
        std::fs::remove_file(self.directory.path().join(call)).expect("the call failed");
    }

    /// The wall clock shows so many seconds more than it should.
    pub fn set_clock_ahead(&self, seconds: i64) {
        // In one step: the program reads the file meanwhile.
        let new = self.directory.write("clock.new", &seconds.to_string());
        std::fs::rename(new, self.directory.path().join("clock")).expect("a file can be renamed");
    }

    /// What the program's environment must hold for it to be in place; `files` are concerned.
    #[must_use]
    pub fn environment(&self, files: &Path) -> [(String, String); 3] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD".to_owned(), text(&self.library())),
            ("SHIM_DIR".to_owned(), text(self.directory.path())),
            ("SHIM_FILES".to_owned(), text(files)),
        ]
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("shim.so")
    }

    fn build(&self) -> Result<(), String> {
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(self.library()).args([SOURCE, "-ldl"]);
        let compiled = compile.output().map_err(|error| format!("cc can't be started: {error}"))?;
        let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
        compiled.status.success().then_some(()).ok_or(format!("cc: {said}"))
    }

    /// Whether the program takes it.
    fn probe(&self) -> Result<(), String> {
        let mut probe = Command::new(binary::path());
        probe.arg("--version").envs(self.environment(Path::new("/nowhere")));
        let log = self.directory.path().join("log");
        Process::start("pannier", &mut probe, &log).wait();
        let loaded = self.directory.path().join("loaded").exists();
        let why = "the program is linked statically: LD_PRELOAD does not reach it";
        loaded.then_some(()).ok_or(why.to_owned())
    }
}
