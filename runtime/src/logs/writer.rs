//! The thread that writes the log. Only this thread waits for standard error and handles its errors.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use super::queue::{Queue, count};

/// The first pause before a write is tried again. Standard error is non-blocking if another process set
/// that on the same terminal.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Starts the thread. It writes to a copy of standard error, which needs no lock of the standard
/// library.
pub(super) fn start(queue: &'static Queue) -> io::Result<()> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (ready, started) = std::sync::mpsc::channel();
    thread::Builder::new().name("log-writer".into()).spawn(move || {
        queue.set_writer();
        let _ = ready.send(());
        let mut writer = Writer { queue, out: stderr, is_cut: false, reporting: 0 };
        let mut chunk = Vec::new();
        loop {
            queue.take(&mut chunk);
            writer.write(&chunk);
        }
    })?;
    started.recv().map_err(io::Error::other)
}

struct Writer<'a, W> {
    queue: &'a Queue,
    out: W,
    /// The last written line has no end.
    is_cut: bool,
    /// Lost lines that a queued line reports.
    reporting: u64,
}

impl<W: Write> Writer<'_, W> {
    /// Writes lines, or counts them as lost. Reports lost ones once a write succeeds again.
    fn write(&mut self, lines: &[u8]) {
        let reporting = std::mem::take(&mut self.reporting);
        let lost = count(self.try_write(lines));
        if lost > 0 {
            self.queue.lose(lost);
            self.queue.report_again(reporting);
            return;
        }
        self.reporting = self.queue.take_unreported();
        if self.reporting > 0 {
            tracing::warn!(lines = self.reporting, "log lines were lost");
        }
    }

    /// Writes lines. Returns those that could not be written.
    fn try_write<'l>(&mut self, lines: &'l [u8]) -> &'l [u8] {
        if self.is_cut && !self.write_all(b"\n").is_empty() {
            return lines;
        }
        let rest = self.write_all(lines);
        let written = &lines[..lines.len() - rest.len()];
        self.is_cut = !rest.is_empty() && written.last().is_some_and(|last| *last != b'\n');
        rest
    }

    /// Writes a text. Returns the rest that could not be written.
    fn write_all<'l>(&mut self, mut text: &'l [u8]) -> &'l [u8] {
        let mut pause = FIRST_PAUSE;
        while !text.is_empty() {
            match self.out.write(text) {
                Ok(0) => break,
                Ok(written) => text = &text[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(_) => break,
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that takes so many bytes and then is full.
    #[derive(Default)]
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.text.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(queue: &Queue, room: usize) -> Writer<'_, Disk> {
        let out = Disk { room, ..Disk::default() };
        Writer { queue, out, is_cut: false, reporting: 0 }
    }

    #[test]
    fn lines_that_a_full_disk_refuses_are_counted_and_the_cut_one_is_ended() {
        let queue = Queue::new();
        let mut writer = writer(&queue, 5);
        writer.write(b"one\ntwo\nthree\n");
        assert_eq!(queue.lost(), 2);
        writer.write(b"four\n");
        assert_eq!(queue.lost(), 3);
        writer.out.room = 100;
        writer.write(b"five\n");
        assert_eq!((queue.lost(), writer.out.text.as_slice()), (3, &b"one\nt\nfive\n"[..]));
        assert_eq!(writer.reporting, 3);
    }

    #[test]
    fn lost_lines_are_reported_until_the_report_is_written() {
        let queue = Queue::new();
        let mut writer = writer(&queue, 0);
        writer.write(b"one\n");
        writer.out.room = 4;
        writer.write(b"two\n");
        assert_eq!(writer.reporting, 1);
        // The line that reports it is lost as well.
        writer.write(b"1 lost\n");
        assert_eq!(queue.lost(), 2);
        writer.out.room = 100;
        writer.write(b"three\n");
        assert_eq!(writer.reporting, 2);
        writer.write(b"2 lost\n");
        assert_eq!((writer.reporting, queue.take_unreported()), (0, 0));
    }
}
