//! A file's bytes in memory, by pages: one of zeros takes no memory, and copies share the others.

use std::io;
use std::sync::Arc;

/// Bytes of a page, the unit in which memory is taken: a page of zeros takes none until
/// something else is written to it.
pub(super) const PAGE: usize = 4096;

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: u64,
    /// An absent page is zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Pages {
    /// The file's length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out`; `UnexpectedEof` when the file ends before that.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if end(offset, out.len())? > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let (page, within) = place(offset + done as u64)?;
            let piece = (PAGE - within).min(out.len() - done);
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => {
                    out[done..done + piece].copy_from_slice(&bytes[within..within + piece]);
                }
                None => out[done..done + piece].fill(0),
            }
            done += piece;
        }
        Ok(())
    }

    /// Writes all of `data`, extending the file as needed.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.len = self.len.max(end(offset, data.len())?);
        let mut done = 0;
        while done < data.len() {
            let (page, within) = place(offset + done as u64)?;
            let piece = &data[done..data.len().min(done + PAGE - within)];
            self.write_page(page, within, piece);
            done += piece.len();
        }
        Ok(())
    }

    /// Cuts the file, or extends it with zeros.
    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len < self.len {
            let (page, within) = place(len)?;
            self.pages.truncate(page + 1);
            if let Some(Some(bytes)) = self.pages.get_mut(page) {
                Arc::make_mut(bytes)[within..].fill(0);
            }
        }
        self.len = len;
        Ok(())
    }

    /// Extends the file with zeros, if it is shorter.
    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Whether something else than zeros was ever written to a page.
    pub(super) fn is_taken(&self, page: usize) -> bool {
        self.pages.get(page).is_some_and(Option::is_some)
    }

    fn write_page(&mut self, page: usize, within: usize, piece: &[u8]) {
        if !self.is_taken(page) && piece.iter().all(|byte| *byte == 0) {
            return;
        }
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let bytes = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(bytes)[within..within + piece.len()].copy_from_slice(piece);
    }
}

/// The page that an offset lies in, and where in it.
fn place(offset: u64) -> io::Result<(usize, usize)> {
    let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    Ok((offset / PAGE, offset % PAGE))
}

fn end(offset: u64, len: usize) -> io::Result<u64> {
    offset.checked_add(len as u64).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn zeros_take_no_memory() {
        let mut file = Pages::default();
        file.extend(1 << 40);
        file.write(1 << 30, &[0; 100_000]).unwrap();
        assert!(file.pages.is_empty());
    }

    #[test]
    fn a_copy_keeps_what_is_written_over_in_the_original() {
        let mut file = Pages::default();
        file.write(0, &[7; 5000]).unwrap();
        let copy = file.clone();
        file.write(4090, &[8; 20]).unwrap();
        let mut bytes = [0; 20];
        copy.read(4090, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 20]);
    }
}
