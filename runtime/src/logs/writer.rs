//! The thread that writes the log: it alone waits for whatever standard error is, and meets its
//! errors.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use super::queue::{Queue, count};

/// The first and the longest pause before a write is tried again where standard error doesn't block:
/// another process may have set that on the same terminal.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// Starts the thread. Its copy of standard error leaves the standard library's lock alone.
pub(super) fn start(queue: &'static Queue) -> io::Result<()> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (ready, started) = std::sync::mpsc::channel();
    thread::Builder::new().name("log-writer".into()).spawn(move || {
        queue.set_writer();
        let _ = ready.send(());
        let mut writer = Writer { queue, out: stderr, is_cut: false, telling: 0 };
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
    /// Whether the last line that was written has no end.
    is_cut: bool,
    /// Lost lines that a queued line tells of.
    telling: u64,
}

impl<W: Write> Writer<'_, W> {
    /// Writes lines, or counts them as lost; tells of lost ones once something can be written again.
    fn write(&mut self, lines: &[u8]) {
        let telling = std::mem::take(&mut self.telling);
        let lost = count(self.try_write(lines));
        if lost > 0 {
            self.queue.lose(lost);
            self.queue.untell(telling);
            return;
        }
        self.telling = self.queue.take_untold();
        if self.telling > 0 {
            tracing::warn!(lines = self.telling, "log lines were lost");
        }
    }

    /// Returns what could not be written.
    fn try_write<'l>(&mut self, lines: &'l [u8]) -> &'l [u8] {
        if self.is_cut && !self.write_all(b"\n").is_empty() {
            return lines;
        }
        let rest = self.write_all(lines);
        let written = &lines[..lines.len() - rest.len()];
        self.is_cut = !rest.is_empty() && written.last().is_some_and(|last| *last != b'\n');
        rest
    }

    fn write_all<'l>(&mut self, mut text: &'l [u8]) -> &'l [u8] {
        let [mut pause, longest] = PAUSES;
        while !text.is_empty() {
            match self.out.write(text) {
                Ok(0) => break,
                Ok(written) => text = &text[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(longest);
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

    /// Takes so many bytes, then fails, as a full disk does.
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
        Writer { queue, out, is_cut: false, telling: 0 }
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
        assert_eq!(writer.telling, 3);
    }

    #[test]
    fn lost_lines_are_told_of_until_that_line_is_written() {
        let queue = Queue::new();
        let mut writer = writer(&queue, 0);
        writer.write(b"one\n");
        writer.out.room = 4;
        writer.write(b"two\n");
        assert_eq!(writer.telling, 1);
        // The line that tells is lost as well.
        writer.write(b"1 lost\n");
        assert_eq!(queue.lost(), 2);
        writer.out.room = 100;
        writer.write(b"three\n");
        assert_eq!(writer.telling, 2);
        writer.write(b"2 lost\n");
        assert_eq!((writer.telling, queue.take_untold()), (0, 0));
    }
}
