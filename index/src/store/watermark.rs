//! The high-water mark: how far a database's acknowledged writes reach, in a file beside it.
//!
//! RocksDB accepts a torn end of its log, and a flipped bit in the last record looks like one. So after
//! each synced commit, and before anyone is told, the newest sequence number is synced here too; at open
//! the database must reach it. Two slots are written in turn, each a disk block with its own checksum: a
//! write torn by a power cut leaves the other one, which is older by one commit that nobody was told of.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"hashmark";

/// The file with the two slots.
#[derive(Debug)]
pub struct Watermark {
    file: File,
    reached: u64,
    next_slot: u64,
    fresh: bool,
}

impl Watermark {
    /// Opens the file, or makes it, still blank.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?)
    }

    /// Reads the file, which must be there and is never written.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let (mut slots, mut blank) = ([None; 2], true);
        for (slot, found) in slots.iter_mut().enumerate() {
            let mut block = [0; BLOCK];
            match file.read_exact_at(&mut block, (slot * BLOCK) as u64) {
                Ok(()) => {
                    *found = decode(&block);
                    blank &= block.iter().all(|byte| *byte == 0);
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        // A crash while the file was made may leave it empty or zeroed; damage leaves neither.
        let fresh = blank && slots == [None; 2];
        let newest = slots.iter().copied().enumerate().filter_map(|(slot, mark)| Some((mark?, slot))).max();
        let (reached, last_slot) = match newest {
            Some(found) => found,
            None if fresh => (0, 1),
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "neither slot of the high-water file is whole",
                ));
            }
        };
        let mark = Self { file, reached, next_slot: 1 - last_slot as u64, fresh };
        Ok(mark)
    }

    /// Writes the first mark of a fresh file, once the caller is sure that nothing was promised yet.
    pub fn establish(&mut self, path: &Path) -> io::Result<()> {
        if self.fresh {
            // Both slots now, so that raising the mark never has to grow the file.
            self.raise(0)?;
            self.raise(0)?;
            self.file.sync_all()?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            self.fresh = false;
        }
        Ok(())
    }

    /// Whether there is no mark yet. A database that is there must have one.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The newest sequence number known to be acknowledged.
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// Raises the mark durably. Never lowers it.
    pub fn raise(&mut self, sequence: u64) -> io::Result<()> {
        let reached = self.reached.max(sequence);
        self.file.write_all_at(&encode(reached), self.next_slot * BLOCK as u64)?;
        self.file.sync_data()?;
        self.reached = reached;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn encode(mark: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..8].copy_from_slice(&MAGIC);
    block[8..16].copy_from_slice(&mark.to_le_bytes());
    let sum = checksum(&block[..16]);
    block[16..24].copy_from_slice(&sum.to_le_bytes());
    block
}

fn decode(block: &[u8; BLOCK]) -> Option<u64> {
    let word = |at: usize| block[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    (block[..8] == MAGIC && word(16) == Some(checksum(&block[..16]))).then(|| word(8)).flatten()
}

/// FNV-1a: the slot is 16 bytes that only a torn or flipped write can spoil, not an adversary.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_survives_reopening_and_one_spoilt_slot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let mut mark = Watermark::open(&path).unwrap();
        assert!(mark.is_fresh());
        mark.establish(&path).unwrap();
        for sequence in [3, 9, 7] {
            mark.raise(sequence).unwrap();
        }
        assert_eq!(Watermark::open(&path).unwrap().reached(), 9);

        // The newest slot torn: the mark before it stands.
        mark.raise(12).unwrap();
        let newest = 1 - mark.next_slot;
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff; 8], newest * BLOCK as u64 + 8).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().reached(), 9);

        file.write_all_at(&[0xff; 8], (1 - newest) * BLOCK as u64 + 8).unwrap();
        assert!(Watermark::open(&path).is_err(), "both slots spoilt must not read as 'nothing was promised'");
        std::fs::write(&path, [0; BLOCK]).unwrap();
        assert_eq!(
            Watermark::open(&path).unwrap().reached(),
            0,
            "made, and not yet written when the power went"
        );
    }
}
