//! Banks against a plain model: random changes in random groups, failing commits, reloads.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use index::bank::{
    Ask, BankChange, BankError, BankOptions, BankRequest, Banks, ENABLED, LoadProgress, LoadReport,
    NewContent, Storing,
};
use index::store::segments::{MemorySegments, SegmentStore};
use index::store::{Batch, Durability, Keyspace, MemoryStore, Range, Store, StoreError, Visit};
use index::{
    ContentId, Distance, FindRule, FindScratch, Frame, Hash256, Nearest, RequestId, Scratch, Signal,
    SignalType,
};
use proptest::prelude::*;

/// When everything here happens.
const NOW_MS: u64 = 1_000_000;

/// A store whose commits can be made to fail.
#[derive(Default)]
struct Moody {
    inner: MemoryStore,
    failing: AtomicBool,
}

impl Store for Moody {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(space, key)
    }

    fn scan(&self, space: Keyspace, range: Range<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(space, range, visit)
    }

    fn snapshot(&self) -> Arc<dyn Store + '_> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(StoreError::DiskFull { path: "here".into() });
        }
        self.inner.commit(batch, durability)
    }
}

fn load(
    store: &Arc<Moody>,
    segments: &Arc<MemorySegments>,
    segment_max: Option<usize>,
) -> (Banks, LoadReport) {
    let (store, segments): (Arc<dyn Store>, Arc<dyn SegmentStore>) = (store.clone(), segments.clone());
    let storing = Storing { worth: 3, lag: 12, ..Storing::into(segments) }; // so few that every way is gone
    let options = BankOptions { storing: Some(storing), segment_max, ..BankOptions::default() };
    Banks::load(store, options, &LoadProgress::default()).unwrap()
}

fn content(byte: u8) -> NewContent {
    let (pdq, text) =
        (Signal::Pdq(Hash256([byte; 32])), Signal::parse(SignalType::RawText, &words(byte)).unwrap());
    let signals = vec![pdq, exact(byte), text, Signal::Video(video(byte))];
    NewContent { signals, ..NewContent::default() }
}

/// Ten different letters, ten times: two texts are far apart.
fn words(byte: u8) -> String {
    (0..100).map(|at| char::from(b'a' + (at % 10 + 2 * byte) % 26)).collect()
}

/// Three frames, of which the last is too poor to count.
fn video(byte: u8) -> Arc<[Frame]> {
    let frame =
        |at: u8| Frame { hash: Hash256([byte ^ (0x11 * at); 32]), quality: 100, time_ms: u32::from(at) };
    [frame(1), frame(2), Frame { quality: 49, ..frame(3) }].into()
}

/// The exact signal that goes with a byte.
fn exact(byte: u8) -> Signal {
    let kind = SignalType::EXACT[usize::from(byte) % SignalType::EXACT.len()];
    let text = kind
        .bytes()
        .map_or(format!("https://example.com/{byte}"), |bytes| format!("{byte:02x}").repeat(bytes));
    Signal::parse(kind, &text).unwrap()
}

/// Bank name → content id → byte of its hash; contents that are paused; what records of exchanges became.
#[derive(Clone, Default)]
struct Model {
    banks: BTreeMap<String, BTreeMap<u64, u8>>,
    paused: BTreeMap<u64, u64>,
    imported: BTreeMap<(String, u8), u64>,
}

impl Model {
    fn forget(&mut self, name: &str) {
        for id in self.banks.remove(name).unwrap_or_default().keys() {
            self.paused.remove(id);
        }
        self.imported.retain(|(bank, _), _| bank != name);
    }
}

fn agrees(banks: &Banks, model: &Model) {
    let state = banks.state();
    let listed: BTreeMap<String, u64> =
        state.directory.list().iter().map(|bank| (bank.name.to_string(), bank.contents)).collect();
    let expected: BTreeMap<String, u64> =
        model.banks.iter().map(|(name, contents)| (name.clone(), contents.len() as u64)).collect();
    assert_eq!(listed, expected);
    for id in model.banks.values().flat_map(BTreeMap::keys) {
        let until = model.paused.get(id).copied().unwrap_or(ENABLED);
        assert_eq!(state.paused.until(ContentId(*id)), until, "content {id}");
        assert_eq!(banks.content(ContentId(*id)).unwrap().unwrap().disabled_until, until);
    }
    for (name, bank) in state.directory.list().into_iter().map(|bank| (bank.name.to_string(), bank.id)) {
        let keys: Vec<String> =
            model.imported.keys().filter(|(of, _)| *of == name).map(|(_, key)| key.to_string()).collect();
        assert_eq!(banks.imported(bank).unwrap(), keys);
    }
    for byte in 0..8 {
        let mut found = Vec::new();
        let query = [Hash256([byte; 32])];
        let (whole, mut scratch) = (Distance::new(0).unwrap(), Scratch::default());
        state.tables.pdq.search(&query, whole, &mut scratch, &mut found);
        for kind in SignalType::EXACT {
            let mut exactly = Vec::new();
            let digest = exact(byte).digest().unwrap();
            state.tables.exact(kind).unwrap().search(&[digest], whole, &mut scratch, &mut exactly);
            assert_eq!(
                exactly,
                if kind == exact(byte).kind() { found.clone() } else { Vec::new() },
                "{kind} {byte}"
            );
        }
        let mut others = Nearest::default();
        let text = Signal::parse(SignalType::RawText, &words(byte)).unwrap();
        for signal in [text, Signal::Video(video(byte))] {
            let ask = Ask { off_counts: true, now_s: None, ..Ask::matching(usize::MAX, 0) };
            let (rule, mut room) = (FindRule::default(), FindScratch::default());
            state.find_all(std::slice::from_ref(&signal), &rule, &ask, &mut room, &mut others);
            let found: Vec<_> = found.iter().map(|hit| (hit.content, hit.bank)).collect();
            let others = others.rows().iter().flat_map(|row| others.listed(row));
            let others: Vec<_> = others.map(|hit| (hit.content, hit.bank)).collect();
            assert_eq!(others, found, "{} {byte}", signal.kind());
        }
        let mut found: Vec<(String, u64)> = found
            .iter()
            .map(|hit| (state.directory.get(hit.bank).unwrap().name.to_string(), hit.content.0))
            .collect();
        found.sort();
        let expected: Vec<(String, u64)> = model
            .banks
            .iter()
            .flat_map(|(name, contents)| contents.iter().map(move |(id, held)| (name, id, held)))
            .filter(|(_, _, held)| **held == byte)
            .map(|(name, id, _)| (name.clone(), *id))
            .collect();
        assert_eq!(found, expected, "hash {byte}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Delete(u8),
    Add(u8, Vec<u8>),
    Remove(u8, u8),
    Pause(u8, u8, u64),
    Rename(u8, u8),
    Exchange(u8, Vec<(u8, u8)>, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u8..4).prop_map(Step::Create),
        1 => (0u8..4).prop_map(Step::Delete),
        5 => (0u8..4, prop::collection::vec(0u8..8, 0..4)).prop_map(|(bank, bytes)| Step::Add(bank, bytes)),
        3 => (0u8..4, any::<u8>()).prop_map(|(bank, which)| Step::Remove(bank, which)),
        2 => (0u8..4, any::<u8>(), 0u64..3).prop_map(|(bank, which, until)| Step::Pause(bank, which, until)),
        1 => (0u8..4, 0u8..4).prop_map(|(bank, to)| Step::Rename(bank, to)),
        3 => (0u8..4, prop::collection::vec((0u8..6, 0u8..8), 0..4), prop::collection::vec(0u8..6, 0..3))
            .prop_map(|(bank, put, withdrawn)| Step::Exchange(bank, put, withdrawn)),
    ]
}

fn name(bank: u8) -> String {
    format!("BANK_{bank}")
}

proptest! {
    #[test]
    fn banks_do_what_a_plain_model_does(
        groups in prop::collection::vec((prop::collection::vec(step(), 1..6), 0u8..10, any::<u16>()), 1..20),
        segment_max in prop::option::of(1usize..9),
    ) {
        let store = Arc::new(Moody::default());
        let segments = Arc::new(MemorySegments::default());
        let (mut banks, _) = load(&store, &segments, segment_max);
        let (mut model, mut last_content, mut generation) = (Model::default(), 0, 0);
        for (steps, mood, damage) in groups {
            let (before, ids_before) = (model.clone(), last_content);
            let failing = mood == 0;
            store.failing.store(failing, Ordering::Relaxed);
            let mut requests = Vec::new();
            let mut expected = Vec::new();
            for step in steps {
                let (change, fine) = match step {
                    Step::Create(bank) => {
                        let fine = !model.banks.contains_key(&name(bank));
                        model.banks.entry(name(bank)).or_default();
                        (BankChange::Create { name: name(bank), enabled_ratio: 1.0 }, fine)
                    }
                    Step::Delete(bank) => {
                        model.forget(&name(bank));
                        (BankChange::Delete { name: name(bank) }, true)
                    }
                    Step::Add(bank, bytes) => {
                        let held = model.banks.get_mut(&name(bank));
                        let fine = held.is_some();
                        if let Some(held) = held {
                            for byte in &bytes {
                                last_content += 1;
                                held.insert(last_content, *byte);
                            }
                        }
                        let contents = bytes.into_iter().map(content).collect();
                        (BankChange::Add { bank: name(bank), contents }, fine)
                    }
                    Step::Remove(bank, which) => {
                        let held = model.banks.get_mut(&name(bank));
                        let fine = held.is_some();
                        // Any content there was before this group or in it, or none.
                        let id = u64::from(which) % (last_content + 2);
                        if held.is_some_and(|held| held.remove(&id).is_some()) {
                            model.paused.remove(&id);
                        }
                        (BankChange::Remove { bank: name(bank), content: ContentId(id) }, fine)
                    }
                    Step::Pause(bank, which, until) => {
                        let held = model.banks.get(&name(bank));
                        let fine = held.is_some();
                        let id = u64::from(which) % (last_content + 2);
                        if held.is_some_and(|held| held.contains_key(&id)) {
                            model.paused.insert(id, until);
                        }
                        let note = Some(format!("note {until}"));
                        (BankChange::Edit { bank: name(bank), content: ContentId(id), note, disabled_until: Some(until) }, fine)
                    }
                    Step::Rename(bank, to) => {
                        let (old, new) = (name(bank), name(to));
                        let fine = model.banks.contains_key(&old) && (old == new || !model.banks.contains_key(&new));
                        if fine && old != new {
                            let held = model.banks.remove(&old).unwrap();
                            model.banks.insert(new.clone(), held);
                            let moved = std::mem::take(&mut model.imported).into_iter();
                            let rename = |((of, key), id)| ((if of == old { new.clone() } else { of }, key), id);
                            model.imported = moved.map(rename).collect();
                        }
                        (BankChange::Update { name: old, new_name: Some(new), enabled_ratio: None, threshold: None }, fine)
                    }
                    Step::Exchange(bank, put, withdrawn) => {
                        let bank = name(bank);
                        let fine = model.banks.contains_key(&bank);
                        let last: BTreeMap<u8, u8> = put.iter().copied().collect();
                        if let Some(held) = model.banks.get_mut(&bank) {
                            let mut gone: Vec<u64> = Vec::new();
                            for key in withdrawn.iter().filter(|key| !last.contains_key(key)) {
                                gone.extend(model.imported.remove(&(bank.clone(), *key)));
                            }
                            let mut seen = Vec::new();
                            for (key, _) in &put {
                                if seen.contains(key) {
                                    continue;
                                }
                                seen.push(*key);
                                let (key, byte) = (*key, last[key]);
                                if let Some(id) = model.imported.get(&(bank.clone(), key)) {
                                    match held.get(id) {
                                        Some(other) if *other != byte => gone.push(*id),
                                        _ => continue,
                                    }
                                }
                                last_content += 1;
                                held.insert(last_content, byte);
                                model.imported.insert((bank.clone(), key), last_content);
                            }
                            for id in gone {
                                held.remove(&id);
                                model.paused.remove(&id);
                            }
                        }
                        let put = put.into_iter().map(|(key, byte)| (key.to_string(), content(byte))).collect();
                        let withdrawn = withdrawn.iter().map(u8::to_string).collect();
                        (BankChange::Exchange { bank, put, withdrawn }, fine)
                    }
                };
                requests.push(BankRequest { id: Some(RequestId::fresh_at(NOW_MS)), ..change.into() });
                expected.push(fine);
            }
            let outcomes = banks.apply(requests.clone(), NOW_MS);
            if failing && outcomes.iter().any(|outcome| matches!(outcome, Err(BankError::Store(_)))) {
                model = before;
                last_content = ids_before;
            } else {
                let fine: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
                prop_assert_eq!(&fine, &expected, "{:?}", requests);
                for answer in outcomes.iter().flatten() {
                    prop_assert!(answer.generation.0 >= generation);
                    generation = answer.generation.0;
                }
                // What was done is answered from the window when it comes again, and changes nothing. What was
                // refused left nothing behind; sent again it is judged anew.
                let done: Vec<_> = requests.into_iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()).collect();
                let (requests, outcomes): (Vec<_>, Vec<_>) = done.into_iter().unzip();
                let again = banks.apply(requests.clone(), NOW_MS);
                for ((request, first), again) in requests.into_iter().zip(outcomes).zip(again) {
                    let first = first.unwrap();
                    // What was added to a bank that is gone since is not said to be there.
                    if let BankChange::Add { bank, .. } | BankChange::Exchange { bank, .. } = &request.change {
                        let there = banks.state().directory.named(bank).map(|bank| bank.id);
                        if there != Some(first.bank) {
                            let refused = matches!(again, Err(BankError::Reused { .. } | BankError::NotFound { .. }));
                            prop_assert!(refused, "{again:?}");
                            continue;
                        }
                    }
                    let again = again.unwrap();
                    prop_assert!(again.replayed);
                    prop_assert_eq!((first.first_content, first.contents), (again.first_content, again.contents));
                }
            }
            prop_assert_eq!(banks.state().generation.0, generation);
            store.failing.store(false, Ordering::Relaxed);
            agrees(&banks, &model);
            // Merges, stored segments, reloads and damage come in every order; nothing may show.
            while banks.merge_step(mood % 2 == 0) {}
            agrees(&banks, &model);
            let largest = banks.state().tables.pdq.stats().segments.into_iter().max();
            prop_assert!(largest <= segment_max.or(largest), "{largest:?} in one segment");
            if mood > 2 {
                while banks.store_step().unwrap() {}
            }
            if mood > 5 {
                let (stored, mut damaged) = (banks.state().stored_signals(), false);
                if mood > 7 {
                    segments.change(|chunks| {
                        let nth = usize::from(damage) % chunks.len().max(1);
                        if let Some(chunk) = chunks.values_mut().nth(nth) {
                            let at = usize::from(damage) % chunk.len();
                            if damage % 3 == 0 { chunk.truncate(at) } else { chunk[at] ^= 1 << (damage % 8) }
                            damaged = true;
                        }
                    });
                }
                let report;
                (banks, report) = load(&store, &segments, segment_max);
                prop_assert_eq!(report.rebuilt.is_some(), damaged, "{:?}", report);
                prop_assert_eq!(report.stored, if damaged { 0 } else { stored });
                agrees(&banks, &model);
            }
        }
    }
}
