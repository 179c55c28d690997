//! What a lookup lists, against brute force: random banks of tenants, thresholds, contents that are paused or removed,
//! banks that are off or deleted, duplicates without end, and lists that are short.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use index::bank::{
    Ask, Bank, BankChange, BankOptions, BankState, Banks, ENABLED, LoadProgress, NewContent, Slice,
};
use index::store::{Durability, MemoryStore};
use index::{
    BankId, ContentId, Digest, Distance, FindRule, FindScratch, Found, Hash256, Match, Nearest, Scratch,
    Signal, SignalType, Tenant,
};
use proptest::prelude::*;

const NAMES: [&str; 5] = ["ACME.ONE", "ACME.TWO", "BETA.ONE", "ALL_ONE", "ALL_TWO"];

/// A banked content.
#[derive(Clone, Debug)]
struct Held {
    bank: usize,
    /// Bits in which its hash differs from the one that is asked for.
    bits: u16,
    removed: bool,
    /// Paused until this second; [`ENABLED`] if it is not.
    until: u64,
}

/// A bank.
#[derive(Clone, Debug)]
struct Of {
    threshold: Option<u16>,
    ratio: f64,
    deleted: bool,
}

/// What is asked.
#[derive(Clone, Debug)]
struct Asked {
    threshold: Option<u16>,
    limit: usize,
    every_bank: bool,
    tenant: Option<&'static str>,
    now_s: Option<u64>,
    off_counts: bool,
    /// Only these banks count.
    banks: Option<Vec<usize>>,
    notes_all: bool,
}

fn held() -> impl Strategy<Value = Held> {
    // Few distances: most of a bank are duplicates.
    let bits = prop_oneof![4 => Just(0u16), 4 => Just(31), 2 => 0u16..70, 1 => Just(32)];
    let until = prop_oneof![8 => Just(ENABLED), 1 => Just(0u64), 1 => Just(50), 1 => Just(150)];
    (0..NAMES.len(), bits, prop::bool::weighted(0.15), until).prop_map(|(bank, bits, removed, until)| Held {
        bank,
        bits,
        removed,
        until,
    })
}

fn of() -> impl Strategy<Value = Of> {
    let threshold = prop::option::weighted(0.3, 0u16..60);
    (threshold, prop_oneof![4 => Just(1.0), 1 => Just(0.0)], prop::bool::weighted(0.1))
        .prop_map(|(threshold, ratio, deleted)| Of { threshold, ratio, deleted })
}

fn asked() -> impl Strategy<Value = Asked> {
    let tenant = prop_oneof![Just(None), Just(Some("ACME")), Just(Some("BETA")), Just(Some("NOBODY"))];
    let banks = prop::option::weighted(0.3, prop::collection::vec(0..NAMES.len(), 0..4));
    let how = (prop::option::of(0u16..129), 1usize..6, any::<bool>());
    (how, tenant, prop::option::weighted(0.7, Just(100u64)), any::<bool>(), banks, any::<bool>()).prop_map(
        |((threshold, limit, every_bank), tenant, now_s, off_counts, banks, notes_all)| Asked {
            threshold,
            limit,
            every_bank,
            tenant,
            now_s,
            off_counts,
            banks,
            notes_all,
        },
    )
}

fn hash(bits: u16) -> Hash256 {
    let mut bytes = [0x0f; 32];
    (0..usize::from(bits)).for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
    Hash256(bytes)
}

fn digest(bits: u16) -> Digest {
    Digest::new(&[if bits < 32 { 7 } else { 8 }; 16]).unwrap()
}

fn change(banks: &Banks, change: BankChange) -> index::bank::BankAnswer {
    banks.apply(vec![change.into()], 0).remove(0).unwrap()
}

fn load(store: &Arc<MemoryStore>, segment_max: Option<usize>) -> Banks {
    let options = BankOptions { segment_max, durability: Durability::Wal, ..BankOptions::default() };
    Banks::load(store.clone(), options, &LoadProgress::default()).unwrap().0
}

/// Banks that hold this, the first half of it in segments.
fn banks(contents: &[Held], of: &[Of], segment_max: Option<usize>) -> (Banks, Vec<ContentId>) {
    let store = Arc::new(MemoryStore::default());
    let mut banks = load(&store, segment_max);
    for name in NAMES {
        change(&banks, BankChange::Create { name: name.to_string(), enabled_ratio: 1.0 });
    }
    let mut ids = Vec::new();
    for (at, held) in contents.iter().enumerate() {
        if at == contents.len() / 2 {
            drop(banks);
            banks = load(&store, segment_max);
        }
        let md5 = Signal::Exact(SignalType::Md5, digest(held.bits));
        let signals = vec![Signal::Pdq(hash(held.bits)), md5];
        let contents = vec![NewContent { signals, ..NewContent::default() }];
        ids.push(
            change(&banks, BankChange::Add { bank: NAMES[held.bank].to_string(), contents }).first_content,
        );
    }
    for (held, content) in contents.iter().zip(&ids) {
        let bank = NAMES[held.bank].to_string();
        let (content, note, disabled_until) = (*content, None, Some(held.until));
        change(&banks, BankChange::Edit { bank: bank.clone(), content, note, disabled_until });
        if held.removed {
            change(&banks, BankChange::Remove { bank, content });
        }
    }
    for (name, of) in NAMES.into_iter().zip(of) {
        let threshold = Some(of.threshold.and_then(Distance::new));
        let name = name.to_string();
        let enabled_ratio = Some(of.ratio);
        change(&banks, BankChange::Update { name: name.clone(), new_name: None, enabled_ratio, threshold });
        if of.deleted {
            change(&banks, BankChange::Delete { name });
        }
    }
    (banks, ids)
}

/// What brute force finds: content, bank, distance and whether it counts, nearest first.
fn oracle(
    contents: &[Held],
    ids: &[ContentId],
    of: &[Of],
    asked: &Asked,
    distance: impl Fn(u16) -> Option<u16>,
    own: bool,
) -> Vec<(u16, ContentId, usize, bool)> {
    let mut found = Vec::new();
    for (held, content) in contents.iter().zip(ids) {
        let (name, bank) = (NAMES[held.bank], &of[held.bank]);
        let is_everybodys = !name.contains('.');
        let seen = asked.tenant.is_none_or(|tenant| is_everybodys || name.starts_with(&format!("{tenant}.")));
        let Some(bits) = distance(held.bits).filter(|_| seen && !held.removed && !bank.deleted) else {
            continue;
        };
        let within = asked.threshold.unwrap_or_else(|| bank.threshold.unwrap_or(31));
        if own && bits > within {
            continue;
        }
        let paused = asked.now_s.is_some_and(|now_s| held.until == 0 || held.until > now_s);
        let off = bank.ratio <= 0.0 && !asked.off_counts;
        let wanted = asked.banks.as_ref().is_none_or(|banks| banks.contains(&held.bank));
        found.push((bits, *content, held.bank, !paused && !off && wanted));
    }
    found.sort_unstable();
    found
}

/// Compares rows with what brute force lists.
fn agrees<M: index::Ranked>(
    nearest: &Nearest<M>,
    expected: &[(u16, ContentId, usize, bool)],
    asked: &Asked,
    bank_of: impl Fn(usize) -> BankId,
) {
    let noted: Vec<_> = expected.iter().filter(|(.., counts)| *counts || asked.notes_all).collect();
    let counted: Vec<_> = expected.iter().filter(|(.., counts)| *counts).collect();
    let mut listed: Vec<(u32, ContentId, BankId)> = Vec::new();
    for (at, (bits, content, bank, _)) in counted.iter().enumerate() {
        let bank = bank_of(*bank);
        if at < asked.limit || asked.every_bank && listed.iter().all(|row| row.2 != bank) {
            listed.push((u32::from(*bits), *content, bank));
        }
    }
    let is_watched = |content: &ContentId| content.0.is_multiple_of(5);
    let watched = noted.iter().map(|(_, content, ..)| *content).find(|content| is_watched(content));
    let Some(row) = nearest.rows().first() else {
        assert!(noted.is_empty() && counted.is_empty(), "nothing was found of {expected:?}");
        return;
    };
    let found: Vec<_> =
        nearest.listed(row).iter().map(|hit| (hit.rank().0, hit.rank().1, hit.bank())).collect();
    assert_eq!(found, listed, "{asked:?}");
    assert_eq!(row.total as usize, counted.len());
    assert_eq!(row.watched, watched);
    assert_eq!(row.noted, noted.first().map(|(bits, content, ..)| (u32::from(*bits), *content)));
}

fn state_of(banks: &Banks, tenant: Option<&str>) -> Arc<BankState> {
    banks.state_of(tenant.map(|name| Tenant::try_from(name.to_string()).unwrap()).as_ref())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_short_list_holds_what_brute_force_puts_first(
        contents in prop::collection::vec(held(), 1..60),
        of in prop::collection::vec(of(), NAMES.len()),
        asks in prop::collection::vec(asked(), 1..8),
        segment_max in prop::option::of(1usize..20),
        idle: bool,
    ) {
        let (banks, ids) = banks(&contents, &of, segment_max);
        while banks.merge_step(idle) {}
        let known: Vec<Option<BankId>> =
            NAMES.map(|name| banks.state().directory.named(name).map(|bank| bank.id)).to_vec();
        let bank_of = |at: usize| known[at].unwrap();
        for asked in &asks {
            let state = state_of(&banks, asked.tenant);
            let calls = RefCell::new(0);
            let on_match = |content: ContentId, _| {
                *calls.borrow_mut() += 1;
                content.0.is_multiple_of(5)
            };
            let wanted = |bank: &Bank| asked.banks.iter().flatten().any(|at| known[*at] == Some(bank.id));
            let ask = Ask {
                limit: asked.limit,
                every_bank: asked.every_bank,
                now_s: asked.now_s,
                off_counts: asked.off_counts,
                banks: if asked.banks.is_some() { Some(&wanted) } else { None },
                notes_all: asked.notes_all,
                on_match: Some(&on_match),
            };
            let threshold = asked.threshold.and_then(Distance::new);
            let pdq = oracle(&contents, &ids, &of, asked, Some, true);
            let md5 = oracle(&contents, &ids, &of, asked, |bits| (bits < 32).then_some(0), false);

            let mut nearest: Nearest<Found> = Nearest::default();
            state.search_pdq(&[hash(0)], threshold, &ask, &mut Slice::whole(), &mut Scratch::default(), &mut nearest);
            agrees(&nearest, &pdq, asked, bank_of);
            let noted = pdq.iter().filter(|(.., counts)| *counts || asked.notes_all).count();
            prop_assert_eq!(calls.take(), noted, "each match is told of once");
            let kind = SignalType::Md5;
            state.search_exact(kind, &[digest(0)], &ask, &mut Slice::whole(), &mut Scratch::default(), &mut nearest);
            agrees(&nearest, &md5, asked, bank_of);

            let (rule, mut room) = (FindRule { threshold, ..FindRule::default() }, FindScratch::default());
            let mut found: Nearest<Match> = Nearest::default();
            for (signal, expected) in [(Signal::Pdq(hash(0)), &pdq), (Signal::Exact(kind, digest(0)), &md5)] {
                state.find_all(&[signal], &rule, &ask, &mut room, &mut found);
                agrees(&found, expected, asked, bank_of);
            }

            // A scan lists the same of each query, however many others are asked beside it.
            let counted: Vec<_> = pdq.iter().filter(|(.., counts)| *counts).collect();
            let mut rows = 0;
            let queries = [hash(0), Hash256([0xf0; 32]), hash(0)];
            let whole = state.scan(&queries, threshold, &ask, || true, |row| {
                rows += 1;
                assert_eq!(row.total as usize, counted.len());
                assert!(row.query % 2 == 0 && row.listed.first().map(|hit| hit.content) == counted.first().map(|hit| hit.1));
                true
            });
            prop_assert!(whole);
            prop_assert_eq!(rows, if counted.is_empty() { 0 } else { 2 });
        }
    }
}

/// Of each query: its listed matches, how many there are, what was noted and what is watched for.
type Listed = Vec<(Vec<(u32, ContentId, BankId)>, u32, Option<(u32, ContentId)>, Option<ContentId>)>;

/// Calls `search` with the number of queries that are done until all are; lists what it found of each.
fn in_slices(
    queries: usize,
    patience: usize,
    mut search: impl FnMut(usize, &mut Slice<'_>, &mut Nearest<Found>) -> usize,
) -> (Listed, usize) {
    let (mut listed, mut interrupted, mut interruptions) = (Listed::new(), None, 0);
    while listed.len() < queries {
        let asked = Cell::new(0);
        let goes_on = || {
            asked.set(asked.get() + 1);
            asked.get() <= patience
        };
        let mut nearest = Nearest::default(); // another's search comes between
        let mut slice = Slice { goes_on: &goes_on, interrupted: interrupted.take() };
        let whole = search(listed.len(), &mut slice, &mut nearest);
        interrupted = slice.interrupted;
        interruptions += usize::from(interrupted.is_some());
        assert!(whole > 0 || interrupted.is_some(), "a slice that came nowhere");
        let mut rows = nearest.rows().iter().peekable();
        for query in 0..whole as u32 {
            listed.push(rows.next_if(|row| row.query == query).map_or_else(Default::default, |row| {
                let told = nearest.listed(row).iter();
                let told = told.map(|hit| (u32::from(hit.distance.bits()), hit.content, hit.bank)).collect();
                (told, row.total, row.noted, row.watched)
            }));
        }
        assert_eq!(rows.next(), None);
    }
    (listed, interruptions)
}

#[test]
fn an_interrupted_search_lists_what_a_whole_one_does() {
    let held: Vec<Held> = (0..400)
        .map(|at| Held { bank: at % NAMES.len(), bits: 0, removed: at % 11 == 0, until: [1, 0, 200][at % 3] })
        .collect();
    let of = [(); NAMES.len()].map(|()| Of { threshold: None, ratio: 1.0, deleted: false });
    let (banks, _) = banks(&held, &of, Some(30_000));
    let add = |first: u16, count: usize| {
        for (at, name) in NAMES.into_iter().enumerate() {
            let content = |number: usize| {
                let bits = (first + number as u16 * 7 + at as u16) % 200;
                let md5 = Signal::Exact(SignalType::Md5, digest(bits % 32));
                NewContent { signals: vec![Signal::Pdq(hash(bits)), md5], ..NewContent::default() }
            };
            let contents = (0..count).map(content).collect();
            change(&banks, BankChange::Add { bank: name.to_string(), contents });
        }
    };
    add(3, 40_000 / NAMES.len());
    while banks.merge_step(true) {}
    add(5, 12_000 / NAMES.len());
    let queries = [hash(0), Hash256([0xf0; 32]), hash(90), hash(0), hash(7)];
    let digests = [digest(0), digest(40), digest(0)];
    let on_match = |content: ContentId, _| content.0.is_multiple_of(5);
    let mut interruptions = 0;
    for (tenant, threshold, limit) in
        [(None, Some(128), 3), (None, None, 1), (Some("ACME"), Some(31), 300), (None, Some(255), 5)]
    {
        let state = state_of(&banks, tenant);
        let ask = Ask { notes_all: true, on_match: Some(&on_match), ..Ask::matching(limit, 100) };
        let threshold = threshold.and_then(Distance::new);
        let mut scratch = Scratch::default();
        let mut pdq = |patience| {
            in_slices(queries.len(), patience, |done, slice, nearest| {
                state.search_pdq(&queries[done..], threshold, &ask, slice, &mut scratch, nearest)
            })
        };
        let (expected, none) = pdq(usize::MAX);
        assert!(none == 0 && expected[0].1 > 1000, "{expected:?}");
        for patience in [0, 1, 4] {
            let (listed, interrupted) = pdq(patience);
            assert!(listed == expected, "{tenant:?}, {threshold:?}, {patience}");
            interruptions += interrupted;
        }
        let mut exact = |patience| {
            in_slices(digests.len(), patience, |done, slice, nearest| {
                state.search_exact(SignalType::Md5, &digests[done..], &ask, slice, &mut scratch, nearest)
            })
        };
        let (expected, _) = exact(usize::MAX);
        for patience in [0, 3] {
            let (listed, interrupted) = exact(patience);
            assert!(listed == expected && listed[0].1 > 10_000, "{tenant:?}, {patience}");
            interruptions += interrupted;
        }
    }
    assert!(interruptions > 100, "{interruptions}");
}
