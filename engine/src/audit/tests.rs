//! What the signer writes is borne out, and what it must not sign it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use index::store::whole_file::Readers;
use index::store::{Batch, Durability, Keyspace, MemoryStore};
use reporter::audit::{Entry, append as remember, verify};

use super::*;

struct Place {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: Arc::default() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(HEADS_FILE)
    }

    fn signer(&self) -> AuditSigner {
        AuditSigner {
            store: self.store.clone(),
            readers: Readers::Owner,
            key: AuditKey::open(&self.folder.path().join(KEY_FILE), Readers::Owner).unwrap(),
            file: self.file(),
            every: Duration::from_secs(60),
            counts: Arc::default(),
        }
    }

    fn grow(&self, store: &MemoryStore) {
        let mut tx = Tx::new(store);
        let entry = Entry {
            who: "ada".into(),
            action: "a.b".into(),
            about: "c".into(),
            details: serde_json::Value::Null,
            child_safety: false,
        };
        remember(&mut tx, entry, 1).unwrap();
        store.commit(tx.into_batch(), Durability::Sync).unwrap();
    }

    /// Numbers of the heads in the file, all of which the log bears out.
    fn heads(&self) -> Vec<u64> {
        let text = fs::read(self.file()).unwrap_or_default();
        let key = read_public(&self.folder.path().join("audit.pub")).unwrap();
        let genuine = |bytes: &[u8], signature: &_| is_genuine(&key, bytes, signature);
        let verdict = verify(&*self.store, &mut Heads::new(&text[..]), &genuine).unwrap();
        assert!(verdict.is_sound(), "{verdict:?}");
        Heads::new(&text[..]).map(|line| line.unwrap().head.number).collect()
    }
}

#[test]
fn a_log_is_signed_when_it_has_grown_and_at_the_end() {
    let place = Place::new();
    place.signer().round(&mut None).unwrap();
    assert!(!place.file().exists(), "there is nothing to sign");
    place.grow(&place.store);
    let (signer, mut known) = (place.signer(), None);
    for _ in 0..3 {
        signer.round(&mut known).unwrap();
    }
    assert_eq!((place.heads(), signer.counts.last().unwrap().number), (vec![1], 1));
    let (signing, thread) = place.signer().start().unwrap();
    place.grow(&place.store);
    place.grow(&place.store);
    drop(signing);
    thread.join().unwrap();
    assert_eq!(place.heads().last(), Some(&3));
}

#[test]
fn the_file_may_end_anywhere_after_a_crash() {
    let place = Place::new();
    place.grow(&place.store);
    place.signer().round(&mut None).unwrap();
    place.grow(&place.store);
    let first = fs::read(place.file()).unwrap();
    place.signer().round(&mut None).unwrap();
    let both = fs::read(place.file()).unwrap();
    for end in first.len()..=both.len() {
        fs::write(place.file(), &both[..end]).unwrap();
        place.signer().round(&mut None).unwrap();
        assert_eq!(place.heads(), [1, 2], "cut at {end}");
        assert_eq!(fs::read(place.file()).unwrap().len(), both.len());
    }
}

#[test]
fn what_was_signed_and_is_gone_is_not_signed_over() {
    let place = Place::new();
    (0..3).for_each(|_| place.grow(&place.store));
    place.signer().round(&mut None).unwrap();
    let before = fs::read(place.file()).unwrap();
    let (signer, mut known) = (place.signer(), None);
    signer.round(&mut known).unwrap();

    // Another log, as long and longer.
    let other = MemoryStore::default();
    (0..4).for_each(|_| place.grow(&other));
    let mut batch = Batch::default();
    batch.delete_range(Keyspace::Audit, [0], [255]);
    place.store.commit(batch, Durability::Sync).unwrap();
    let refused = |signer: &AuditSigner, known: &mut _| {
        let error = signer.round(known).unwrap_err();
        assert!(matches!(error, SignError::NotBorneOut { number: 3 }), "{error}");
        assert_eq!(fs::read(place.file()).unwrap(), before);
    };
    refused(&signer, &mut known);
    refused(&AuditSigner { store: Arc::new(other), ..place.signer() }, &mut None);
}

#[test]
fn a_log_whose_heads_have_no_tree_gets_one_with_the_next_head() {
    let place = Place::new();
    (0..5).for_each(|_| place.grow(&place.store));
    let end = audit::tip(&Tx::new(&*place.store)).unwrap();
    let signer = place.signer();
    let old = Head { number: end.number, hash: end.hash, root: None, at_ms: 1 };
    fs::write(place.file(), old.signed(|bytes| signer.key.sign(bytes)).line()).unwrap();
    signer.round(&mut None).unwrap();
    assert_eq!(place.heads(), [5], "there is nothing new to sign");
    place.grow(&place.store);
    signer.round(&mut None).unwrap();
    assert_eq!(place.heads(), [5, 6]);
    let root = audit::root_at(&*place.store, 6).unwrap();
    assert_eq!(signer.counts.last().unwrap().root, Some(root), "of all records, the old ones too");
    assert!(audit::inclusion(&*place.store, 2, 6, true).unwrap().is_some());
}

#[test]
fn a_damaged_tree_is_made_anew_and_changed_records_are_not_signed_over() {
    let place = Place::new();
    (0..4).for_each(|_| place.grow(&place.store));
    place.signer().round(&mut None).unwrap();
    let put = |key: &[u8], row: Vec<u8>| {
        let mut batch = Batch::default();
        batch.put(Keyspace::Audit, key, row);
        place.store.commit(batch, Durability::Sync).unwrap();
    };
    // Behind record 4, of its first two levels.
    let branch = |level| [b'r', 0, 0, 0, 0, 0, 0, 0, 4, level];
    put(&branch(2), vec![7; 32]);
    place.grow(&place.store);
    place.signer().round(&mut None).unwrap();
    assert_eq!(place.heads(), [4, 5], "and all is sound");

    let record = &branch(0)[..9];
    let genuine = place.store.get(Keyspace::Audit, record).unwrap().unwrap();
    for byte in [40, 70] {
        // Of its hash, and of its words.
        let mut row = genuine.clone();
        row[byte] ^= 1;
        put(record, row);
        put(&branch(2), vec![7; 32]);
        place.grow(&place.store);
        let refused = place.signer().round(&mut None).unwrap_err().to_string();
        assert!(refused.contains("record 4 was changed"), "{refused}");
    }
    put(record, genuine);
    place.signer().round(&mut None).unwrap();
    assert_eq!(place.heads(), [4, 5, 7]);
}

#[test]
fn a_changed_heads_file_or_key_stops_the_signing_and_is_counted() {
    let place = Place::new();
    place.grow(&place.store);
    place.signer().round(&mut None).unwrap();
    let genuine = fs::read_to_string(place.file()).unwrap();
    fs::write(place.file(), genuine.replace("\"number\":1", "\"number\":2")).unwrap();
    assert!(matches!(place.signer().round(&mut None), Err(SignError::OtherKey)));
    fs::write(place.file(), format!("nonsense\n{genuine}")).unwrap();
    assert!(matches!(place.signer().round(&mut None), Err(SignError::Line(BadLine { line: 1, .. }))));
    let counts = place.signer().counts;
    let (signing, thread) = AuditSigner { counts: counts.clone(), ..place.signer() }.start().unwrap();
    drop(signing);
    thread.join().unwrap();
    assert!(counts.failures.load(Ordering::Relaxed) > 0 && counts.last().is_none());

    let nowhere = place.folder.path().join("no/such/folder/heads");
    let error = AuditSigner { file: nowhere, ..place.signer() }.round(&mut None).unwrap_err();
    assert!(error.to_string().contains("no/such/folder/heads"), "{error}");
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_not_replaced_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(KEY_FILE);
    let key = AuditKey::open(&path, Readers::Owner).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(AuditKey::open(&path, Readers::Owner).unwrap().public(), key.public());
    assert_eq!(read_public(&public_file(&path)).unwrap(), key.public());
    let signature = key.sign(b"words");
    assert!(
        is_genuine(&key.public(), b"words", &signature) && !is_genuine(&key.public(), b"word", &signature)
    );

    fs::remove_file(&path).unwrap();
    let error = AuditKey::open(&path, Readers::Owner).err().unwrap();
    assert!(error.to_string().contains("audit.key is missing"), "{error}");
    fs::write(&path, "short").unwrap();
    assert!(AuditKey::open(&path, Readers::Owner).err().unwrap().to_string().contains("no Ed25519 key"));
}
