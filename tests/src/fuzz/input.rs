//! Cuts an input into parts, so that mutations of one part leave the others alone.

/// Ends a text: no byte of UTF-8.
const END: u8 = 0xff;

/// The rest of an input.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// One byte; `None` at the end.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number from two bytes; missing ones are zero.
    pub(super) fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte().unwrap_or(0), self.byte().unwrap_or(0)])
    }

    /// At most `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The bytes before the next 0xff.
    pub(super) fn part(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == END).unwrap_or(self.0.len());
        let part = self.bytes(end);
        self.byte();
        part
    }

    /// The text before the next 0xff; what is no UTF-8 is replaced.
    pub(super) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.part()).into_owned()
    }
}
