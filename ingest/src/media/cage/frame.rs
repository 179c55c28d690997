//! Messages between the server and a helper: a head in JSON and bytes beside it, each behind its length.
//!
//! A helper may be in the hands of whoever made the file, so every length is checked before anything is allocated, and
//! bytes that do not read as they should are an error.

use std::io::{self, Read, Write};

use index::{Frame, Hash256};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a head at most.
const HEAD_MAX: usize = 64 << 10;
/// Bytes of a frame: hash, quality, time.
const FRAME_BYTES: usize = 37;

/// Writes a message.
pub fn write(to: &mut impl Write, head: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let lengths = (u32::try_from(head.len()), u32::try_from(bytes.len()));
    let (Ok(head_length), Ok(length)) = lengths else { return Err(wrong("a message is too long")) };
    let mut first = Vec::with_capacity(8 + head.len());
    first.extend_from_slice(&head_length.to_le_bytes());
    first.extend_from_slice(&length.to_le_bytes());
    first.extend_from_slice(&head);
    to.write_all(&first)?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads a message with so many bytes beside its head at most; `None` if the other side is gone before it.
pub fn read<T: DeserializeOwned>(from: &mut impl Read, bytes_max: usize) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 8];
    let mut got = 0;
    while got < lengths.len() {
        match from.read(&mut lengths[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| lengths[at + byte])) as usize;
    let (head_length, length) = (length(0), length(4));
    if head_length > HEAD_MAX || length > bytes_max {
        return Err(wrong("a message is longer than it may be"));
    }
    let mut head = vec![0; head_length];
    from.read_exact(&mut head)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    let head = serde_json::from_slice(&head).map_err(|_| wrong("a message does not read"))?;
    Ok(Some((head, bytes)))
}

/// Puts hashes one behind the other.
pub fn pack_hashes(hashes: &[Hash256]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads hashes that lie one behind the other.
pub fn unpack_hashes(bytes: &[u8]) -> io::Result<Vec<Hash256>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(wrong("hashes are cut"));
    }
    Ok(hashes.iter().map(|hash| Hash256(*hash)).collect())
}

/// Puts frames one behind the other.
pub fn pack_frames(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.len() * FRAME_BYTES);
    for frame in frames {
        bytes.extend_from_slice(&frame.hash.0);
        bytes.push(frame.quality);
        bytes.extend_from_slice(&frame.time_ms.to_le_bytes());
    }
    bytes
}

/// Reads frames that lie one behind the other.
pub fn unpack_frames(bytes: &[u8]) -> io::Result<Vec<Frame>> {
    let (rows, rest) = bytes.as_chunks::<FRAME_BYTES>();
    if !rest.is_empty() {
        return Err(wrong("frames are cut"));
    }
    let frame = |row: &[u8; FRAME_BYTES]| {
        let mut hash = [0; 32];
        hash.copy_from_slice(&row[..32]);
        let time_ms = u32::from_le_bytes([row[33], row[34], row[35], row[36]]);
        Frame { hash: Hash256(hash), quality: row[32].min(100), time_ms }
    };
    Ok(rows.iter().map(frame).collect())
}

/// An error about bytes that do not read.
pub fn wrong(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_comes_back_as_it_was_written() {
        let mut sent = Vec::new();
        write(&mut sent, &("head", 7), b"bytes").unwrap();
        let read = read::<(String, u32)>(&mut &sent[..], 5).unwrap().unwrap();
        assert_eq!(read, (("head".to_string(), 7), b"bytes".to_vec()));
        assert!(super::read::<(String, u32)>(&mut &sent[..], 4).is_err(), "longer than allowed");
        assert!(super::read::<(String, u32)>(&mut &sent[..9], 5).is_err(), "cut");
        assert!(super::read::<(String, u32)>(&mut &b""[..], 5).unwrap().is_none());
        let frames = vec![Frame { hash: Hash256([7; 32]), quality: 9, time_ms: 70_000 }; 3];
        assert_eq!(unpack_frames(&pack_frames(&frames)).unwrap(), frames);
        assert!(unpack_frames(&[0; 38]).is_err());
        assert_eq!(unpack_hashes(&pack_hashes(&[Hash256([3; 32])])).unwrap(), [Hash256([3; 32])]);
    }

    proptest! {
        #[test]
        fn what_a_helper_sends_is_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<super::super::Answer>(&mut &bytes[..], 1000);
            let _ = unpack_frames(&bytes);
            let _ = unpack_hashes(&bytes);
        }
    }
}
