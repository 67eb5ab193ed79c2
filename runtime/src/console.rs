//! Standard output of the commands.

use std::io::{self, ErrorKind, IsTerminal, Write};

/// Prints a text. A reader that closes the pipe early (`| head -1`) is no error.
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

/// Returns the width of the terminal in columns; `None` if standard output is no terminal or the width
/// is unknown.
#[must_use]
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let variable = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(&out).ok().map(|size| size.ws_col.into());
    variable.or_else(terminal).filter(|columns| *columns > 0)
}
