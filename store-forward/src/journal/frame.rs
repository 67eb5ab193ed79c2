//! One record in a segment.
//!
//! Little-endian, packed, right after the frame before it; it never spans segments:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 4 | CRC32C of everything after this field |
//! | 4 | 4 | length of the payload |
//! | 8 | 8 | lsn, from 1 |
//! | 16 | 4 | generation of the opening that wrote it |
//! | 20 | 4 | behind: lsn minus the highest lsn that was durable when this was written |
//! | 24 | length | payload |
//!
//! `behind` tells a frame lost to a power cut from one lost by the disk: if a later frame knew
//! the missing one to be durable, the disk lost it. After the last frame of a batch come 24 zeros
//! (less at the segment's end), which the next batch overwrites.

use crate::ids::Lsn;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 24;

/// What follows the last frame.
pub(super) const END: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) crc: u32,
    pub(super) len: u32,
    pub(super) lsn: Lsn,
    pub(super) generation: u32,
    pub(super) behind: u32,
}

impl Frame {
    /// Reads a header; whether it belongs to a frame is not known before [`Frame::checks`].
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, lsn @ .., i, j, k, l, m, n, o, p] = *bytes;
        Self {
            crc: u32::from_le_bytes([a, b, c, d]),
            len: u32::from_le_bytes([e, f, g, h]),
            lsn: Lsn(u64::from_le_bytes(lsn)),
            generation: u32::from_le_bytes([i, j, k, l]),
            behind: u32::from_le_bytes([m, n, o, p]),
        }
    }

    /// Whether the checksum of these bytes, header and payload, is right.
    pub(super) fn checks(&self, frame: &[u8]) -> bool {
        frame.get(4..).is_some_and(|rest| crc32c::crc32c(rest) == self.crc)
    }

    /// Bytes of header and payload.
    pub(super) fn bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.len)
    }

    /// The highest number known durable when this was written.
    pub(super) fn watermark(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_sub(u64::from(self.behind)))
    }
}

/// Appends a frame to `out`; `len` is the payload's length.
pub(super) fn encode(
    out: &mut Vec<u8>,
    len: u32,
    lsn: Lsn,
    generation: u32,
    behind: u32,
    payload: &[u8],
) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(len.to_le_bytes());
    out.extend(lsn.0.to_le_bytes());
    out.extend(generation.to_le_bytes());
    out.extend(behind.to_le_bytes());
    out.extend(payload);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The number of the first frame in a buffer of whole frames.
pub(super) fn first_lsn(buffer: &[u8]) -> Option<Lsn> {
    headers(buffer).next().map(|frame| frame.lsn)
}

/// How many bytes of a buffer of whole frames fit in `room`, and the last number among them.
pub(super) fn prefix(buffer: &[u8], room: u64) -> Option<(usize, Lsn)> {
    let mut fitting = None;
    let mut end = 0;
    for frame in headers(buffer) {
        end += HEADER_BYTES + frame.len as usize;
        if end as u64 > room {
            break;
        }
        fitting = Some((end, frame.lsn));
    }
    fitting
}

/// How many further segments of `capacity` a buffer of whole frames needs after `room`.
pub(super) fn segments_needed(buffer: &[u8], mut room: u64, capacity: u64) -> usize {
    let mut needed = 0;
    for frame in headers(buffer) {
        if frame.bytes() > room {
            needed += 1;
            room = capacity;
        }
        room -= frame.bytes();
    }
    needed
}

fn headers(buffer: &[u8]) -> impl Iterator<Item = Frame> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let frame = Frame::parse(rest.first_chunk()?);
        rest = &rest[HEADER_BYTES + frame.len as usize..];
        Some(frame)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_frame_has_these_bytes() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 5, Lsn(0x0102_0304_0506_0708), 9, 3, b"hello");
        let golden = [
            0x22, 0xcc, 0x32, 0x4a, // crc
            5, 0, 0, 0, // length
            8, 7, 6, 5, 4, 3, 2, 1, // lsn
            9, 0, 0, 0, // generation
            3, 0, 0, 0, // behind
            b'h', b'e', b'l', b'l', b'o',
        ];
        assert_eq!(bytes, golden);
        let frame = Frame::parse(golden.first_chunk().unwrap());
        assert!(frame.checks(&golden));
        assert_eq!(frame.watermark(), Lsn(0x0102_0304_0506_0705));
    }

    #[test]
    fn a_batch_is_cut_between_frames() {
        let mut bytes = Vec::new();
        for lsn in 1..=4 {
            encode(&mut bytes, 6, Lsn(lsn), 1, 0, b"abcdef");
        }
        assert_eq!(prefix(&bytes, 29), None);
        assert_eq!(prefix(&bytes, 30), Some((30, Lsn(1))));
        assert_eq!(prefix(&bytes, 89), Some((60, Lsn(2))));
        assert_eq!(prefix(&bytes, 500), Some((120, Lsn(4))));
        assert_eq!(segments_needed(&bytes, 120, 60), 0);
        assert_eq!(segments_needed(&bytes, 119, 60), 1);
        assert_eq!(segments_needed(&bytes, 0, 60), 2);
        assert_eq!(first_lsn(&bytes[60..]), Some(Lsn(3)));
        assert_eq!(first_lsn(&[]), None);
    }
}
