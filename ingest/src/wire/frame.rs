//! Frames in a stream of bytes: a length, checked before anything is allocated, then a message.

/// Bytes of the length prefix.
pub const PREFIX: usize = 4;

/// What the beginning of a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Not yet a whole frame.
    Incomplete,
    /// A whole frame: its message lies at `PREFIX..end`.
    Frame {
        /// First byte after the frame.
        end: usize,
    },
    /// The prefix announces more than is allowed; nothing after it can be trusted.
    TooLarge {
        /// Announced bytes.
        length: usize,
    },
}

/// Looks for a frame of at most `length_max` message bytes at the beginning of `bytes`.
pub fn split(bytes: &[u8], length_max: usize) -> Split {
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Split::Incomplete };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > length_max {
        Split::TooLarge { length }
    } else if bytes.len() - PREFIX < length {
        Split::Incomplete
    } else {
        Split::Frame { end: PREFIX + length }
    }
}

/// Appends a message as a frame.
pub fn append(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(message.len() as u32).to_le_bytes());
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        append(b"hello", &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut], 5), Split::Incomplete, "cut at {cut}");
        }
        bytes.extend_from_slice(b"more");
        assert_eq!(split(&bytes, 5), Split::Frame { end: 9 });
        assert_eq!(split(&bytes[..4], 4), Split::TooLarge { length: 5 });
        assert_eq!(split(&[0xff; 4], 1 << 20), Split::TooLarge { length: u32::MAX as usize });
    }
}
