use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::binary;
use crate::directory::Directory;
use crate::process::Process;
use crate::untested::untested;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/shim.c");

/// Fails what the program asks of its disk, and moves its clock, while it runs.
pub struct Shim {
    library: &'static Path,
    directory: Directory,
}

impl Shim {
    /// A shim that changes nothing yet; none, and a word on it, where it can't be put before the
    /// program: without a C compiler, or with a program that is linked statically.
    #[must_use]
    pub fn new(test: &str) -> Option<Self> {
        static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match LIBRARY.get_or_init(build) {
            Ok(library) => Some(Self { library, directory: Directory::new() }),
            Err(why) => {
                untested(test, why);
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
            ("LD_PRELOAD".to_owned(), text(self.library)),
            ("SHIM_DIR".to_owned(), text(self.directory.path())),
            ("SHIM_FILES".to_owned(), text(files)),
        ]
    }
}

/// Compiles the shim once for all tests of this process, and tries whether the program takes it.
fn build() -> Result<PathBuf, String> {
    let library = std::env::temp_dir().join(format!("pannier-shim-{}.so", std::process::id()));
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([SOURCE, "-ldl"]);
    let compiled = compile.output().map_err(|error| format!("cc can't be started: {error}"))?;
    if !compiled.status.success() {
        return Err(format!("cc: {}", String::from_utf8_lossy(&compiled.stderr)));
    }
    let shim =
        Shim { library: Box::leak(library.clone().into_boxed_path()), directory: Directory::new() };
    let log = shim.directory.path().join("log");
    let mut probe = Command::new(binary::path());
    probe.arg("--version").envs(shim.environment(Path::new("/nowhere")));
    Process::start("pannier", &mut probe, &log).wait();
    if shim.directory.path().join("loaded").exists() {
        return Ok(library);
    }
    Err("the program is linked statically: LD_PRELOAD does not reach it".to_owned())
}
