use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// A child process: it is killed when dropped, and tells its log when the test has failed.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it. What it writes is appended to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Self {
        let (out, err) = (append_to(log), append_to(log));
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} can't be started: {error}"));
        Self { name, child, log: log.to_owned(), ended: None }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, || self.ended())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("a child can be told");
        }
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Ends it at once: SIGKILL.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.child.kill().expect("a child can be killed");
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}---", self.name, self.log());
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn append_to(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.expect("a log can be written")
}
