//! What the vault promises, against bytes in memory and files that somebody changed.

use std::fs;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::secrets::KeyFile;

const MAX: u64 = 1 << 30;
const SEALED_CHUNK: usize = CHUNK + 16;
const HEAD: usize = 8;

fn vault_in(folder: &Path, reserve: u64) -> Vault {
    let wrap = Arc::new(KeyFile::open(&folder.join("kek"), None).unwrap());
    Vault::open(folder, wrap, Arc::new(Disk::new(folder, Some(reserve)))).unwrap()
}

fn vault() -> (TempDir, Vault) {
    let folder = tempfile::tempdir().unwrap();
    let vault = vault_in(folder.path(), 0);
    (folder, vault)
}

fn store(vault: &Vault, from: impl Read, bytes_max: u64) -> Result<Kept, VaultError> {
    vault.store(vault.fresh_id()?, from, bytes_max)
}

/// Bytes that do not repeat, so that a chunk at a wrong place shows.
fn content(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn file(folder: &TempDir, id: BlobId, ending: &str) -> PathBuf {
    folder.path().join(format!("evidence/{id}{ending}"))
}

fn files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path().join(FOLDER)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(vault: &Vault, id: BlobId) -> Result<Vec<u8>, String> {
    let mut reader = vault.open_blob(id).map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    reader.read_to_end(&mut all).map_err(|error| error.to_string())?;
    assert_eq!(all.len() as u64, reader.length());
    Ok(all)
}

#[test]
fn what_was_stored_is_read_whole_and_known_by_its_digests() {
    let (folder, vault) = vault();
    for length in [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 77] {
        let bytes = content(length);
        let kept = store(&vault, &bytes[..], MAX).unwrap();
        assert_eq!(kept.bytes, length as u64);
        assert_eq!(kept.sha256[..], Sha256::digest(&bytes)[..]);
        assert_eq!(kept.md5[..], Md5::digest(&bytes)[..]);
        assert_eq!(read(&vault, kept.id).unwrap(), bytes);
        assert_eq!(read(&vault_in(folder.path(), 0), kept.id).unwrap(), bytes, "after a restart");
        let stored = fs::read(file(&folder, kept.id, BLOB)).unwrap();
        assert!(length < 16 || !stored.windows(16).any(|window| window == &bytes[..16]));
        let mode = fs::metadata(file(&folder, kept.id, KEYS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(kept.id.to_string().parse::<BlobId>().unwrap(), kept.id);
    }
    assert_eq!(vault.list().unwrap().len(), 8);
    assert!("../../etc/passwd".parse::<BlobId>().is_err() && "AB".repeat(16).parse::<BlobId>().is_err());
}

/// Gives a few bytes at a time, as a network does.
struct Drip<'b>(&'b [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(self.1).min(into.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// The obvious model: a slice of the bytes.
    #[test]
    fn a_range_is_the_same_slice(
        length in 0..4 * CHUNK,
        drip in 1..100_000usize,
        ranges in proptest::collection::vec((0..5 * CHUNK as u64, 0..2 * CHUNK), 1..12),
    ) {
        let (_folder, vault) = vault();
        let bytes = content(length);
        let kept = store(&vault, Drip(&bytes, drip), MAX).unwrap();
        let mut reader = vault.open_blob(kept.id).unwrap();
        for (from, count) in ranges {
            reader.seek(SeekFrom::Start(from)).unwrap();
            let mut range = vec![0; count];
            let mut got = 0;
            while let Ok(more @ 1..) = reader.read(&mut range[got..]) {
                got += more;
            }
            let begin = (from as usize).min(length);
            prop_assert_eq!(&range[..got], &bytes[begin..(begin + count).min(length)]);
        }
    }
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused_when_it_is_opened() {
    let (folder, vault) = vault();
    for length in [0, 10, CHUNK, 3 * CHUNK, 3 * CHUNK + 10] {
        let kept = store(&vault, &content(length)[..], MAX).unwrap();
        let path = file(&folder, kept.id, BLOB);
        let whole = fs::read(&path).unwrap();
        let boundaries = (0..=3).map(|chunk| HEAD + chunk * SEALED_CHUNK);
        let near = boundaries.flat_map(|at| [at.saturating_sub(1), at, at + 1, at + 15, at + 16, at + 17]);
        for cut in near.chain([0, 1, whole.len() - 1]).filter(|cut| *cut < whole.len()) {
            fs::write(&path, &whole[..cut]).unwrap();
            let error = vault.open_blob(kept.id).err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{length} bytes, cut to {cut}, open"));
            assert!(error.contains("is damaged") && error.contains("restore"), "{error}");
        }
        // Nor is anything taken that was put behind the end.
        for more in [1, 16, 17, SEALED_CHUNK] {
            fs::write(&path, [&whole[..], &whole[HEAD..].repeat(9)[..more.min(whole.len())]].concat())
                .unwrap();
            assert!(vault.open_blob(kept.id).is_err(), "{length} bytes and {more}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_gives_an_error_and_no_byte_of_its_chunk() {
    let (folder, vault) = vault();
    let bytes = content(2 * CHUNK + 100);
    let kept = store(&vault, &bytes[..], MAX).unwrap();
    let path = file(&folder, kept.id, BLOB);
    let whole = fs::read(&path).unwrap();
    let places = (0..whole.len()).step_by(1009).chain(0..HEAD).chain(whole.len() - 20..whole.len());
    for at in places {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, flipped).unwrap();
        let Ok(mut reader) = vault.open_blob(kept.id) else { continue };
        let mut got = Vec::new();
        assert!(reader.read_to_end(&mut got).is_err(), "byte {at}");
        assert_eq!(got, bytes[..got.len()]);
        assert!(got.len() <= (at - HEAD) / SEALED_CHUNK * CHUNK, "byte {at}");
    }
    fs::write(&path, whole).unwrap();
    let key = file(&folder, kept.id, KEYS);
    let whole = fs::read(&key).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&key, flipped).unwrap();
        assert!(matches!(vault.open_blob(kept.id), Err(VaultError::Damaged { .. })), "byte {at} of the key");
    }
    fs::write(&key, whole).unwrap();
    assert_eq!(read(&vault, kept.id).unwrap(), bytes);
}

#[test]
fn chunks_and_files_cannot_change_places() {
    let (folder, vault) = vault();
    let bytes = content(4 * CHUNK);
    let (one, other) = (store(&vault, &bytes[..], MAX).unwrap(), store(&vault, &bytes[..], MAX).unwrap());
    let path = file(&folder, one.id, BLOB);
    let whole = fs::read(&path).unwrap();
    let chunk = |number: usize| &whole[HEAD + number * SEALED_CHUNK..HEAD + (number + 1) * SEALED_CHUNK];
    for order in [[1, 0, 2, 3], [0, 2, 1, 3], [0, 0, 2, 3], [0, 1, 3, 2]] {
        let swapped: Vec<&[u8]> = [&whole[..HEAD]].into_iter().chain(order.map(chunk)).collect();
        fs::write(&path, swapped.concat()).unwrap();
        assert!(read(&vault, one.id).is_err(), "{order:?}");
    }
    // The other's content, the other's key, both of them: what is there is not what this id stands for.
    let other_content = fs::read(file(&folder, other.id, BLOB)).unwrap();
    let other_key = fs::read(file(&folder, other.id, KEYS)).unwrap();
    let key_path = file(&folder, one.id, KEYS);
    let own_key = fs::read(&key_path).unwrap();
    for (content, key) in [(&other_content, &own_key), (&whole, &other_key), (&other_content, &other_key)] {
        fs::write(&path, content).unwrap();
        fs::write(&key_path, key).unwrap();
        assert!(matches!(vault.open_blob(one.id), Err(VaultError::Damaged { .. })));
    }
}

#[test]
fn what_was_destroyed_is_gone_and_destroying_again_is_nothing() {
    let (folder, vault) = vault();
    let (kept, stays) =
        (store(&vault, &b"secret"[..], MAX).unwrap(), store(&vault, &b"more"[..], MAX).unwrap());
    let mut under_way = vault.open_blob(kept.id).unwrap();
    assert!(vault.destroy(kept.id).unwrap());
    assert!(matches!(vault.open_blob(kept.id), Err(VaultError::Gone(id)) if id == kept.id));
    assert!(!vault.destroy(kept.id).unwrap());
    assert_eq!(vault.list().unwrap(), [stays.id]);
    assert_eq!(files(&folder).len(), 2);
    assert_eq!(read(&vault, stays.id).unwrap(), b"more");
    // Whoever was reading may end; the next cannot begin.
    assert_eq!(io::read_to_string(&mut under_way).unwrap(), "secret");
}

/// The steps one by one, with a restart between them, as after kill -9.
#[test]
fn a_destruction_that_was_cut_short_is_listed_opens_no_more_and_can_be_ended() {
    type Step = fn(&TempDir, &Vault, BlobId);
    let steps: [(&str, Step); 3] = [
        ("the key is written over", |_, vault, id| {
            assert!(vault.folder.overwrite(&format!("{id}{KEYS}")).unwrap());
        }),
        ("the key is gone", |_, vault, id| assert!(vault.destroy_key(id).unwrap())),
        ("the content alone is gone", |folder, _, id| fs::remove_file(file(folder, id, BLOB)).unwrap()),
    ];
    for (name, step) in steps {
        let (folder, vault) = vault();
        let bytes = content(CHUNK + 9);
        let kept = store(&vault, &bytes[..], MAX).unwrap();
        let wrapped = fs::read(file(&folder, kept.id, KEYS)).unwrap();
        step(&folder, &vault, kept.id);
        let vault = vault_in(folder.path(), 0);
        assert!(vault.open_blob(kept.id).is_err(), "{name}");
        assert_eq!(vault.list().unwrap(), [kept.id], "{name}");
        assert!(vault.destroy(kept.id).unwrap(), "{name}");
        assert!(files(&folder).is_empty(), "{name}");
        assert!(wrapped.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn what_was_not_whole_when_the_program_ended_is_gone_after_and_nothing_else_is() {
    let (folder, vault) = vault();
    let whole = store(&vault, &b"whole"[..], MAX).unwrap();
    let id = |digit: &str| digit.repeat(32);
    let place = |name: String| folder.path().join(FOLDER).join(name);
    // As they are left: while the content is written; before the key has its name; before the content has.
    fs::write(place(format!("{}.blob.new", id("1"))), "x").unwrap();
    fs::write(place(format!("{}.blob.new", id("2"))), "x").unwrap();
    fs::write(place(format!("{}.key.new", id("2"))), "x").unwrap();
    fs::write(place(format!("{}.blob.new", id("3"))), "x").unwrap();
    fs::write(place(format!("{}.key", id("3"))), "x").unwrap();
    // A key or a content by itself may be half of what somebody restores.
    fs::write(place(format!("{}.key", id("4"))), "x").unwrap();
    fs::write(place(format!("{}.blob", id("5"))), "x").unwrap();
    fs::write(place("notes.new".to_string()), "x").unwrap();
    let vault = vault_in(folder.path(), 0);
    let mut left = vec![
        format!("{}.blob", whole.id),
        format!("{}.key", whole.id),
        format!("{}.key", id("4")),
        format!("{}.blob", id("5")),
        "notes.new".to_string(),
    ];
    left.sort();
    assert_eq!(files(&folder), left);
    assert_eq!(read(&vault, whole.id).unwrap(), b"whole");
}

/// Fails when it has given so much.
struct Breaks(usize);

impl Read for Breaks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.0.min(into.len()).min(10_000);
        self.0 -= count;
        if count == 0 { Err(io::Error::other("the host is gone")) } else { Ok(count) }
    }
}

#[test]
fn what_cannot_be_stored_whole_leaves_nothing_and_says_why() {
    let (folder, vault) = vault();
    let error = store(&vault, Breaks(200_000), MAX).unwrap_err();
    assert!(
        matches!(&error, VaultError::Source(_)) && error.to_string().contains("the host is gone"),
        "{error}"
    );
    let error = store(&vault, &content(100_000)[..], 99_999).unwrap_err();
    assert!(matches!(error, VaultError::TooLong { max: 99_999 }));
    store(&vault, &content(100_000)[..], 100_000).unwrap();
    let before = files(&folder);
    let full = vault_in(folder.path(), u64::MAX);
    let error = store(&full, &b"x"[..], MAX).unwrap_err();
    assert!(matches!(error, VaultError::Full(_)) && error.to_string().contains("free space"), "{error}");
    assert_eq!(files(&folder), before);
}

#[test]
fn a_disk_that_fills_up_in_the_midst_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("SKIPPED: a tmpfs cannot be mounted here (needs root)");
        return;
    }
    let vault = vault_in(folder.path(), 0);
    let small = store(&vault, &b"before"[..], MAX).unwrap();
    let error = store(&vault, &content(2 << 20)[..], MAX).unwrap_err();
    let (left, kept) = (files(&folder).len(), read(&vault, small.id));
    drop(vault);
    let _ = std::process::Command::new("umount").arg("-l").arg(folder.path()).status();
    assert!(matches!(error, VaultError::Full(_)), "{error}");
    assert_eq!((left, kept.unwrap()), (2, b"before".to_vec()));
}

#[test]
fn links_are_refused() {
    let (folder, vault) = vault();
    let kept = store(&vault, &b"mine"[..], MAX).unwrap();
    for ending in [BLOB, KEYS] {
        let path = file(&folder, kept.id, ending);
        let moved = folder.path().join("elsewhere");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        assert!(matches!(vault.open_blob(kept.id), Err(VaultError::Disk { .. })), "{ending}");
        if ending == KEYS {
            assert!(vault.destroy(kept.id).is_err(), "what a link points to is not written over");
            assert!(fs::read(&moved).unwrap().iter().any(|byte| *byte != 0));
        }
        fs::remove_file(&path).unwrap();
        fs::rename(&moved, &path).unwrap();
    }
    assert_eq!(fs::metadata(file(&folder, kept.id, KEYS)).unwrap().nlink(), 1);
    drop(vault);
    fs::rename(folder.path().join(FOLDER), folder.path().join("moved")).unwrap();
    symlink(folder.path().join("moved"), folder.path().join(FOLDER)).unwrap();
    let wrap = Arc::new(KeyFile::open(&folder.path().join("kek"), None).unwrap());
    let disk = Arc::new(Disk::new(folder.path(), Some(0)));
    assert!(matches!(Vault::open(folder.path(), wrap, disk), Err(VaultError::Disk { .. })));
}

#[test]
fn evidence_is_noticed_before_a_key_is_made_over_it() {
    let (folder, vault) = vault();
    assert!(!holds_any(folder.path()).unwrap());
    let kept = store(&vault, &b"x"[..], MAX).unwrap();
    assert!(holds_any(folder.path()).unwrap());
    vault.destroy(kept.id).unwrap();
    assert!(!holds_any(folder.path()).unwrap());
}
