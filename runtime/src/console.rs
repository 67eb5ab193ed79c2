//! Standard output, as the commands use it.

use std::io::{self, ErrorKind, IsTerminal, Write};

/// Prints a text. A reader that has seen enough (`| head -1`) is no error.
///
/// # Errors
///
/// When standard output can't be written for another reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// The columns of the terminal that standard output is; `None` where it is none, or doesn't tell.
#[must_use]
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(&out).ok().map(|size| size.ws_col.into());
    set.or_else(asked).filter(|columns| *columns > 0)
}
