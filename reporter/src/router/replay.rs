//! What a rule would have done: it is asked about the hits of the last days, before it goes live.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use index::Position;
use index::store::keys::decode_hit;
use index::store::{Keyspace, Range, Store, StoreError};
use serde::Serialize;

use super::case::Case;
use super::table::{Compiled, Outcome};
use crate::desk::item::ItemKey;
use crate::desk::settings::settings;
use crate::tx::Tx;

/// Hits that one replay looks at.
pub const HITS_MAX: u64 = 1_000_000;

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replayed {
    /// Hits that were looked at, newest first.
    pub hits: u64,
    /// Those the rule would have taken.
    pub passed: u64,
    /// Those it would not.
    pub failed: u64,
    /// Those of which it cannot be said: a field or the classifier's answer is not known.
    pub unknown: u64,
    /// Of those taken, how many matched in each bank.
    pub banks: BTreeMap<String, u64>,
    /// The first of those taken.
    pub samples: Vec<Sample>,
    /// Whether there were more hits than a replay looks at.
    pub truncated: bool,
}

/// A hit that a rule would have taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The hit.
    pub position: Position,
    /// Its item.
    pub item: ItemKey,
    /// What it matched.
    pub matched: String,
}

/// Asks a rule about the hits since a time. A scan without locks: what comes meanwhile is not seen.
pub fn replay(
    store: &dyn Store,
    rule: &Compiled,
    since_ms: u64,
    samples: usize,
) -> Result<Replayed, StoreError> {
    let tx = Tx::new(store);
    let settings = settings(&tx)?;
    let mut replayed = Replayed::default();
    let mut failed = None;
    store.scan(Keyspace::Hits, Range::ALL.reversed(), &mut |_, row| {
        let case = decode_hit(row).and_then(|hit| {
            let received_ms = hit.received_ms;
            Case::of_hit(&tx, &settings, &hit).map(|case| (case, received_ms, hit.position))
        });
        let (case, received_ms, position) = match case {
            Ok(case) => case,
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        };
        if received_ms < since_ms {
            return ControlFlow::Break(());
        }
        if replayed.hits == HITS_MAX {
            replayed.truncated = true;
            return ControlFlow::Break(());
        }
        replayed.hits += 1;
        match rule.evaluate(&case.facts(), &mut |_, _| {}) {
            Outcome::Passed => {
                replayed.passed += 1;
                let mut banks: Vec<&str> =
                    case.matches.iter().map(|found| found.hit.bank_name.as_str()).collect();
                banks.sort_unstable();
                banks.dedup();
                banks.into_iter().for_each(|bank| *replayed.banks.entry(bank.to_string()).or_default() += 1);
                if replayed.samples.len() < samples {
                    let sample = Sample { position, item: case.item.key.clone(), matched: case.in_words() };
                    replayed.samples.push(sample);
                }
            }
            Outcome::Failed => replayed.failed += 1,
            Outcome::Inapplicable | Outcome::Errored | Outcome::Needed => replayed.unknown += 1,
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(replayed),
    }
}
