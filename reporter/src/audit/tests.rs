//! Whatever is done to a log without its key is found, and the first bad record named.

mod proofs;

use index::store::{Batch, Durability, MemoryStore, Range, Store};
use proptest::prelude::*;
use serde_json::json;

use super::*;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn entry(number: u64) -> Entry {
    Entry {
        who: format!("person {}", number % 3),
        action: if number.is_multiple_of(2) { "job.decide" } else { "jobs.list" }.to_string(),
        about: format!("job {number}"),
        details: if number.is_multiple_of(4) { json!({ "was": number }) } else { Value::Null },
        child_safety: number.is_multiple_of(5),
    }
}

/// Stands in for a signature: nobody here knows another key.
fn sign_with(key: &str) -> impl Fn(&[u8]) -> Hex<64> {
    move |bytes| {
        let half = Sha256::new().chain_update(key).chain_update(bytes).finalize();
        let mut both = [0; 64];
        both[..32].copy_from_slice(&half);
        both[32..].copy_from_slice(&half);
        Hex(both)
    }
}

fn genuine(bytes: &[u8], signature: &Hex<64>) -> bool {
    sign_with("key")(bytes) == *signature
}

/// A log of so many records, in several commits; its head is signed after every `every`, with its tree.
fn written(records: u64, every: u64) -> (MemoryStore, String) {
    let store = MemoryStore::default();
    let mut heads = String::new();
    for number in 1..=records {
        let mut tx = Tx::new(&store);
        let record = append(&mut tx, entry(number), 1000 + number).unwrap();
        store.commit(tx.into_batch(), Durability::Sync).unwrap();
        if number.is_multiple_of(every) {
            let root = Some(root_at(&store, number).unwrap());
            let head = Head { number, hash: record.hash, root, at_ms: 2000 + number };
            heads += &head.signed(sign_with("key")).line();
        }
    }
    (store, heads)
}

fn rows(store: &dyn Store) -> Rows {
    let mut rows = Rows::new();
    store
        .scan(SPACE, Range::ALL, &mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn of_rows(rows: Rows) -> MemoryStore {
    let (store, mut batch) = (MemoryStore::default(), Batch::default());
    rows.into_iter().for_each(|(key, row)| batch.put(SPACE, key, row));
    store.commit(batch, Durability::Sync).unwrap();
    store
}

fn checked(store: &dyn Store, heads: &str) -> Verdict {
    verify(store, &mut Heads::new(heads.as_bytes()), &genuine).unwrap()
}

/// The first bad record of these rows.
fn first_bad(rows: Rows, heads: &str) -> Option<u64> {
    checked(&of_rows(rows), heads).fault.map(|fault| fault.record)
}

fn place(rows: &Rows, number: u64) -> usize {
    rows.iter().position(|(key, _)| *key == record_key(number)).unwrap()
}

/// What somebody without the key can do: the record in its place, with what follows from it anew and the tree forgotten.
fn forge(store: &dyn Store, from: u64, rehash_until: u64) -> Rows {
    let mut rows = rows(store);
    rows.retain(|(key, _)| branches::read_branch_key(key).is_none() && key != branches::TREE_KEY);
    let mut previous = StoredRow::read(&rows[place(&rows, from)].1).unwrap().previous;
    for number in from..=rehash_until {
        let at = place(&rows, number);
        let stored = StoredRow::read(&rows[at].1).unwrap();
        let mut body: Value = serde_json::from_slice(&stored.body[1..]).unwrap();
        if number == from {
            body["who"] = json!("somebody else");
        }
        let body = json_row(ROW_VERSION, &body);
        let hash = record_hash(number, &previous, &body);
        rows[at].1 = [&previous.0[..], &hash.0, &body].concat();
        if rows.iter().all(|(key, _)| key[..] <= record_key(number)[..] || key == TIP_KEY) {
            let tip = rows.iter().position(|(key, _)| key == TIP_KEY).unwrap();
            rows[tip].1 = [&encode_u64(number)[..], &hash.0].concat();
        }
        previous = hash;
    }
    rows
}

#[test]
fn an_untouched_log_is_sound_and_says_how_far_it_is_signed() {
    let (store, heads) = written(20, 7);
    let verdict = checked(&store, &heads);
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!((verdict.records, verdict.heads, verdict.signed.unwrap().number), (20, 2, 14));
    assert!(checked(&MemoryStore::default(), "").is_sound());
}

#[test]
fn every_byte_of_every_row_counts() {
    for every in [1, 3, 100] {
        let (store, heads) = written(6, every);
        let rows = rows(&store);
        for number in 1..=6 {
            let at = place(&rows, number);
            for byte in 0..rows[at].1.len() {
                for flip in [0x01, 0x20, 0x80] {
                    let mut rows = rows.clone();
                    rows[at].1[byte] ^= flip;
                    assert_eq!(first_bad(rows, &heads), Some(number), "byte {byte} of record {number}");
                }
            }
            let mut rows = rows.clone();
            rows[at].1.push(b' ');
            assert_eq!(first_bad(rows, &heads), Some(number));
        }
    }
}

#[test]
fn every_byte_of_every_key_counts() {
    let (store, heads) = written(6, 100);
    let rows = rows(&store);
    for number in 1..=6 {
        let at = place(&rows, number);
        for byte in 0..rows[at].0.len() {
            for bit in 0..8 {
                let mut rows = rows.clone();
                rows[at].0[byte] ^= 1 << bit;
                // It may have come to lie on a record before it, whose place it took.
                let first =
                    read_record_key(&rows[at].0).filter(|other| *other > 0).unwrap_or(number).min(number);
                // The later of two rows with one key is stored.
                let moved = rows.remove(at);
                rows.push(moved);
                assert_eq!(first_bad(rows, &heads), Some(first), "byte {byte} of the key of {number}");
            }
        }
        let mut rows = rows.clone();
        rows.push((record_key(number)[..8].to_vec(), Vec::new()));
        assert!(first_bad(rows, &heads).is_some(), "a row that no log has");
    }
}

#[test]
fn a_record_that_is_gone_is_missed() {
    let (store, heads) = written(8, 3);
    for number in 1..=8 {
        let mut rows = rows(&store);
        let at = place(&rows, number);
        rows.remove(at);
        assert_eq!(first_bad(rows, &heads), Some(number));
    }
}

#[test]
fn two_records_that_changed_places_are_found_at_the_first() {
    let (store, heads) = written(8, 3);
    for one in 1..=8 {
        for other in one + 1..=8 {
            let mut rows = rows(&store);
            let (a, b) = (place(&rows, one), place(&rows, other));
            let row = std::mem::take(&mut rows[a].1);
            rows[a].1 = std::mem::replace(&mut rows[b].1, row);
            assert_eq!(first_bad(rows, &heads), Some(one), "{one} and {other}");
        }
    }
}

#[test]
fn a_cut_tail_is_found_even_if_the_row_of_the_end_was_cut_with_it() {
    let (store, heads) = written(9, 3);
    for left in 0..9 {
        let mut rows = rows(&store);
        rows.retain(|(key, _)| read_record_key(key).is_none_or(|number| number <= left));
        assert_eq!(first_bad(rows.clone(), &heads), Some(left + 1), "the row of the end is as it was");
        assert_eq!(first_bad(rows.clone(), ""), Some(left + 1), "and needs no signed head");
        let tip = rows.iter().position(|(key, _)| key == TIP_KEY).unwrap();
        if left == 0 {
            rows.remove(tip);
        } else {
            let hash = StoredRow::read(&rows[place(&rows, left)].1).unwrap().hash;
            rows[tip].1 = [&encode_u64(left)[..], &hash.0].concat();
        }
        assert_eq!(first_bad(rows, &heads), Some(left + 1), "the row of the end was cut with it");
    }
}

#[test]
fn the_row_of_the_end_counts_too() {
    let (store, heads) = written(5, 100);
    let rows = rows(&store);
    let tip = rows.iter().position(|(key, _)| key == TIP_KEY).unwrap();
    for byte in 0..rows[tip].1.len() {
        for bit in 0..8 {
            let mut rows = rows.clone();
            rows[tip].1[byte] ^= 1 << bit;
            let says = decode_u64(SPACE, &rows[tip].1[..8]).unwrap();
            let first = if says < 5 { says + 1 } else { if says > 5 { 6 } else { 5 } };
            assert_eq!(first_bad(rows, &heads), Some(first));
        }
    }
    let mut without = rows.clone();
    without.remove(tip);
    assert_eq!(first_bad(without, &heads), Some(6));
}

#[test]
fn a_forged_chain_is_found_by_its_heads_alone() {
    let (store, signed) = written(9, 1);
    let unsigned = "";
    for from in 1..=9 {
        let forged = forge(&store, from, 9);
        assert_eq!(first_bad(forged.clone(), unsigned), None, "without heads it is as good as the true one");
        assert_eq!(first_bad(forged.clone(), &signed), Some(from), "the first that is not the signed one");
        // A head every third record: the fault lies between two of them, and the first doubtful one is named.
        let (lines, third): (Vec<&str>, _) = (signed.lines().collect(), |line: usize| line % 3 == 2);
        let sparse: String = lines
            .iter()
            .enumerate()
            .filter(|(at, _)| third(*at))
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        assert_eq!(first_bad(forged, &sparse), Some((from - 1) / 3 * 3 + 1));
        if from < 9 {
            // Only one record is made anew: what follows does not go with it.
            let one = forge(&store, from, from);
            assert_eq!(first_bad(one.clone(), unsigned), Some(from));
            assert_eq!(first_bad(one, &signed), Some(from));
        }
    }
    // Heads that the forger signs with a key of his own.
    let forged = of_rows(forge(&store, 4, 9));
    let end = tip(&Tx::new(&forged)).unwrap();
    let root = Some(root_at(&forged, end.number).unwrap());
    assert!(checked(&forged, "").is_sound(), "a tree can be made, too");
    let head = Head { number: end.number, hash: end.hash, root, at_ms: 1 };
    let verdict = checked(&forged, &head.signed(sign_with("another key")).line());
    assert_eq!((verdict.bad_line.unwrap().line, verdict.signed), (1, None));
}

#[test]
fn every_byte_of_the_heads_counts() {
    let (store, heads) = written(6, 2);
    let lines: Vec<&str> = heads.lines().collect();
    for byte in 0..heads.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = heads.clone().into_bytes();
            changed[byte] ^= flip;
            let verdict = verify(&store, &mut Heads::new(&changed[..]), &genuine).unwrap();
            let line = heads[..byte].matches('\n').count() as u64 + 1;
            assert_eq!(verdict.bad_line.clone().map(|bad| bad.line), Some(line), "byte {byte}: {verdict:?}");
        }
    }
    for (bad, changed) in [
        (2, [lines[1], lines[0], lines[2]]), // moved
        (2, [lines[0], lines[0], lines[2]]), // twice
        (2, [lines[0], "", lines[2]]),
    ] {
        let verdict = checked(&store, &(changed.join("\n") + "\n"));
        assert_eq!(verdict.bad_line.map(|bad| bad.line), Some(bad));
    }
    let endless = "[".repeat(5000);
    assert!(!checked(&store, &endless).is_sound() && !checked(&store, &endless.replace('[', " ")).is_sound());
}

#[test]
fn a_last_line_that_was_cut_by_a_crash_is_tolerated_and_said() {
    let (store, heads) = written(6, 3);
    let first = heads.find('\n').unwrap() + 1;
    for end in first..=heads.len() {
        let mut lines = Heads::new(&heads.as_bytes()[..end]);
        let verdict = verify(&store, &mut lines, &genuine).unwrap();
        let whole = end + 1 >= heads.len();
        assert!(verdict.is_sound(), "cut at {end}: {verdict:?}");
        assert_eq!(verdict.signed.unwrap().number, if whole { 6 } else { 3 });
        assert_eq!(lines.torn(), !whole && end > first, "cut at {end}");
    }
}

#[test]
fn pages_go_both_ways_and_through_filters() {
    let (store, _) = written(25, 100);
    let numbers = |side, limit, filter: &Filter| {
        let page = page(&store, side, limit, filter, true).unwrap();
        let number = |shown: &Shown| match shown {
            Shown::Open(record) => record.number,
            Shown::Sealed { number, .. } => *number,
        };
        (page.entries.iter().map(number).collect::<Vec<_>>(), page.next)
    };
    let all = Filter::default();
    assert_eq!(numbers(Side::Before(None), 3, &all), (vec![25, 24, 23], Some(23)));
    assert_eq!(numbers(Side::Before(Some(23)), 2, &all), (vec![22, 21], Some(21)));
    assert_eq!(numbers(Side::Before(Some(3)), 2, &all), (vec![2, 1], None));
    assert_eq!(numbers(Side::After(0), 2, &all), (vec![1, 2], Some(2)));
    assert_eq!(numbers(Side::After(23), 9, &all), (vec![24, 25], None));
    assert_eq!(numbers(Side::After(u64::MAX), 9, &all), (vec![], None));
    let decided = Filter { action: Some("job".into()), who: Some("person 1".into()), about: None };
    assert_eq!(numbers(Side::After(0), 3, &decided), (vec![4, 10, 16], Some(16)));
    assert_eq!(numbers(Side::After(16), 3, &decided), (vec![22], None));
    let one = Filter { about: Some("job 7".into()), ..Filter::default() };
    assert_eq!(numbers(Side::Before(None), 3, &one), (vec![7], None));
    let words = |action: &str| Filter { action: Some(action.into()), ..Filter::default() };
    assert_eq!(numbers(Side::After(20), 9, &words("job.decide")).0, [22, 24]);
    assert_eq!(numbers(Side::After(20), 9, &words("jobs.")).0, [21, 23, 25]);
    assert_eq!(numbers(Side::After(20), 9, &words("job.dec")).0, [0; 0]);
}

#[test]
fn a_sealed_record_shows_its_place_in_the_chain_and_nothing_else() {
    let (store, _) = written(10, 100);
    let open = page(&store, Side::After(0), 99, &Filter::default(), true).unwrap();
    let sealed = page(&store, Side::After(0), 99, &Filter::default(), false).unwrap();
    assert_eq!((open.entries.len(), sealed.entries.len()), (10, 10));
    for (open, sealed) in open.entries.iter().zip(&sealed.entries) {
        let (open, sealed) = (json!(open), json!(sealed));
        if open["child_safety"] == false {
            assert_eq!(open, sealed);
            continue;
        }
        let expected = json!({ "number": open["number"], "at_ms": open["at_ms"], "previous": open["previous"],
            "hash": open["hash"], "sealed": true });
        assert_eq!(sealed, expected);
    }
    let about = Filter { about: Some("job 5".into()), ..Filter::default() };
    assert_eq!(page(&store, Side::After(0), 99, &about, true).unwrap().entries.len(), 1);
    assert_eq!(
        page(&store, Side::After(0), 99, &about, false).unwrap().entries,
        [],
        "a filter is no peephole"
    );
}

#[test]
fn the_same_entry_never_has_the_same_hash() {
    let hash = || {
        let store = MemoryStore::default();
        append(&mut Tx::new(&store), entry(1), 1).unwrap().hash
    };
    assert_ne!(hash(), hash(), "a guess could be tried on a sealed record");
}

proptest! {
    #[test]
    fn any_log_is_sound_whatever_was_taken_back_in_between(
        groups in proptest::collection::vec(
            proptest::collection::vec((any::<bool>(), "\\PC{0,20}", any::<i64>(), any::<bool>()), 0..5), 0..8),
    ) {
        let store = MemoryStore::default();
        let (mut heads, mut kept) = (String::new(), Vec::new());
        for group in groups {
            let mut tx = Tx::new(&store);
            for (refused, text, number, child_safety) in group {
                let savepoint = tx.savepoint();
                let entry = Entry {
                    who: text.clone(), action: "a.b".into(), about: text.clone(),
                    details: json!({ text: [number, null] }), child_safety,
                };
                let record = append(&mut tx, entry, number.unsigned_abs()).unwrap();
                if refused { tx.rollback(savepoint) } else { kept.push(record) }
            }
            store.commit(tx.into_batch(), Durability::Sync).unwrap();
            let end = tip(&Tx::new(&store)).unwrap();
            if end.number > heads.lines().last().map_or(0, |line| serde_json::from_str::<SignedHead>(line).unwrap().number) {
                let root = Some(root_at(&store, end.number).unwrap());
                heads += &Head { number: end.number, hash: end.hash, root, at_ms: 5 }.signed(sign_with("key")).line();
            }
        }
        let verdict = checked(&store, &heads);
        prop_assert!(verdict.is_sound(), "{:?}", verdict);
        prop_assert_eq!(verdict.records, kept.len() as u64);
        prop_assert_eq!(verdict.signed.map_or(0, |head| head.number), kept.len() as u64);
        for (at, record) in kept.iter().enumerate() {
            prop_assert_eq!(record.number, at as u64 + 1);
            let found = super::record(&Tx::new(&store), record.number).unwrap();
            prop_assert_eq!(found.as_ref(), Some(record));
        }
    }
}
