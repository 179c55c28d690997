//! Whether the log is what was written, without the program that wrote it: every row in its place, every hash, the whole
//! chain and tree, and every head that was signed. One pass over rows and heads, one of each in memory.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use index::store::{Range, Store, StoreError};

use super::branches::{TREE_KEY, read_branch_key, stored};
use super::tree::{Branch, Growing, leaf};
use super::{
    BadLine, Genuine, Head, Line, SPACE, SignedHead, StoredRow, TIP_KEY, Tip, genesis, read_record_key,
    read_tip, record_hash,
};

/// What is wrong with the log, from where on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record} {reason}")]
pub struct Fault {
    /// The first record that cannot be trusted; one after the last where it is the end that is wrong.
    pub record: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that are sound, from the first on.
    pub records: u64,
    /// The last signed head that they bear out.
    pub signed: Option<Head>,
    /// Genuine heads that were read.
    pub heads: u64,
    /// The first thing that is wrong with the log.
    pub fault: Option<Fault>,
    /// The first thing that is wrong with the heads.
    pub bad_line: Option<BadLine>,
}

impl Verdict {
    /// Whether all is as it was written.
    pub fn is_sound(&self) -> bool {
        self.fault.is_none() && self.bad_line.is_none()
    }
}

/// Checks the log of a store that nobody writes meanwhile, against heads in the order in which they were signed.
pub fn verify(
    store: &dyn Store,
    heads: &mut dyn Iterator<Item = Result<Line, BadLine>>,
    genuine: &Genuine<'_>,
) -> Result<Verdict, StoreError> {
    let mut check = Check {
        heads,
        genuine,
        next: None,
        signed_number: 0,
        last: Tip { number: 0, hash: genesis() },
        tip: None,
        tree: Growing::default(),
        branches: VecDeque::new(),
        stored: stored(store),
        stray: None,
        verdict: Verdict::default(),
    };
    check.pull();
    store.scan(SPACE, Range::ALL, &mut |key, row| {
        match check.row(key, row) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(fault) => check.verdict.fault = Some(fault),
        }
        ControlFlow::Break(())
    })?;
    if check.verdict.fault.is_none() {
        check.verdict.fault = check.end().err();
    }
    // The lines that are left are still looked at: each must be genuine.
    while check.next.is_some() {
        check.pull();
    }
    Ok(check.verdict)
}

struct Check<'a> {
    heads: &'a mut dyn Iterator<Item = Result<Line, BadLine>>,
    genuine: &'a Genuine<'a>,
    /// The next head that a record must bear out.
    next: Option<SignedHead>,
    /// The record of the last genuine head that was read.
    signed_number: u64,
    /// The last record that is sound.
    last: Tip,
    tip: Option<Result<Tip, StoreError>>,
    /// Of the records that are sound.
    tree: Growing,
    /// Those that the last of them completes and that have not been met.
    branches: VecDeque<Branch>,
    /// How many records have stored branches.
    stored: Result<u64, StoreError>,
    /// A key that no row of the log has.
    stray: Option<Vec<u8>>,
    verdict: Verdict,
}

fn fault(record: u64, reason: impl Into<String>) -> Result<(), Fault> {
    Err(Fault { record, reason: reason.into() })
}

impl Check<'_> {
    /// Goes to the next genuine head.
    fn pull(&mut self) {
        self.next = None;
        while self.next.is_none()
            && let Some(read) = self.heads.next()
        {
            match read.and_then(|line| self.genuine_line(line)) {
                Ok(head) => {
                    self.verdict.heads += 1;
                    self.signed_number = head.number;
                    self.next = Some(head);
                }
                Err(bad) => drop(self.verdict.bad_line.get_or_insert(bad)),
            }
        }
    }

    fn genuine_line(&self, line: Line) -> Result<SignedHead, BadLine> {
        let head = line.genuine(self.genuine)?;
        if head.number <= self.signed_number {
            let reason = format!(
                "signs record {} although record {} was signed before: the log was cut, or lines were moved",
                head.number, self.signed_number
            );
            return Err(BadLine { line: line.line, reason });
        }
        Ok(head)
    }

    /// The record that the last head which is borne out signed.
    fn proven(&self) -> u64 {
        self.verdict.signed.map_or(0, |head| head.number)
    }

    fn row(&mut self, key: &[u8], row: &[u8]) -> Result<(), Fault> {
        match read_record_key(key) {
            Some(number) if number > self.last.number => self.record(number, row),
            _ if key == TIP_KEY => {
                self.tip = Some(read_tip(row));
                Ok(())
            }
            _ if key == TREE_KEY => Ok(()),
            _ => match read_branch_key(key) {
                Some((number, level)) if number == self.last.number => self.branch(level, row),
                // Told in the end: if the key is a changed one, the record that is missing says more.
                _ => {
                    self.stray.get_or_insert_with(|| key.to_vec());
                    Ok(())
                }
            },
        }
    }

    /// A branch of the tree that is stored behind the last record.
    fn branch(&mut self, level: u32, row: &[u8]) -> Result<(), Fault> {
        let is_due =
            self.branches.pop_front().is_some_and(|due| due.level == level && due.hash.0[..] == *row);
        match is_due {
            true => Ok(()),
            false => fault(
                self.last.number,
                "has another branch of the tree behind it than those before give: proofs with it are wrong",
            ),
        }
    }

    /// Whether all branches behind the last record were met that have to be there.
    fn branches_met(&self) -> Result<(), Fault> {
        let number = self.last.number;
        match &self.stored {
            Ok(stored) if number <= *stored && !self.branches.is_empty() => {
                fault(number, "lacks a branch of the tree that should lie behind it")
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, number: u64, row: &[u8]) -> Result<(), Fault> {
        self.branches_met()?;
        let expected = self.last.number + 1;
        if number != expected {
            return fault(expected, format!("is missing: the next one there is {number}"));
        }
        let unread = |error: StoreError| Fault { record: number, reason: format!("does not read: {error}") };
        let stored = StoredRow::read(row).map_err(unread)?;
        if record_hash(number, &stored.previous, stored.body) != stored.hash {
            return fault(number, "was changed, or stood elsewhere: its bytes do not give its hash");
        }
        if stored.previous != self.last.hash {
            let before = self.last.number;
            // Of two that do not go together a signature tells which is genuine; without one the earlier is doubtful.
            return match self.proven() == before {
                true => {
                    fault(number, "does not follow what is before it: it and what follows were rewritten")
                }
                false => fault(
                    before,
                    format!("is not the one that record {number} follows: one of the two was rewritten"),
                ),
            };
        }
        stored.record(number).map_err(unread)?;
        self.branches = self.tree.push(leaf(&stored.hash.0)).into();
        if let Some(head) = self.next.filter(|head| head.number == number) {
            if head.hash != stored.hash {
                let (first, at_ms) = (self.proven() + 1, head.at_ms);
                let which = if first < number {
                    format!("or one of those up to record {number} was rewritten")
                } else {
                    "was rewritten".to_string()
                };
                return fault(first, format!("{which}: the head that was signed at {at_ms} is another one"));
            }
            if head.root.is_some_and(|root| root != self.tree.root()) {
                let at_ms = head.at_ms;
                return fault(
                    number,
                    format!(
                        "ends another tree than the one that was signed at {at_ms}: the signer took a false one"
                    ),
                );
            }
            self.verdict.signed = Some(head.head());
            self.pull();
        }
        self.last = Tip { number, hash: stored.hash };
        self.verdict.records = number;
        Ok(())
    }

    /// Whether the log ends where it should.
    fn end(&mut self) -> Result<(), Fault> {
        let (last, after) = (self.last.number, self.last.number + 1);
        self.branches_met()?;
        if let Some(head) = self.next {
            let SignedHead { number, at_ms, .. } = head;
            return fault(
                after,
                format!("is missing: the log ends before it, but record {number} was signed at {at_ms}"),
            );
        }
        match self.tip.take() {
            None if last == 0 => {}
            None => return fault(after, "may be missing: the row that says where the log ends is not there"),
            Some(Err(error)) => return fault(after, format!("may be missing: {error}")),
            Some(Ok(tip)) if tip.number > last => {
                return fault(
                    after,
                    format!("is missing: the log says that it ends with record {}", tip.number),
                );
            }
            Some(Ok(tip)) if tip.number < last => {
                let reason =
                    format!("is beyond the end: the log says that it ends with record {}", tip.number);
                return fault(tip.number + 1, reason);
            }
            Some(Ok(tip)) if tip.hash != self.last.hash => {
                return fault(last, "was rewritten, or the row that says where the log ends");
            }
            Some(Ok(_)) => {}
        }
        match &self.stored {
            Ok(stored) if *stored > last => {
                return fault(after, format!("is missing: the tree says that it has {stored} records"));
            }
            Ok(_) => {}
            Err(error) => return fault(after, format!("may be missing: of the tree, {error}")),
        }
        match &self.stray {
            None => Ok(()),
            Some(key) => fault(after, format!("may be in a row that no log has, under the key {key:02x?}")),
        }
    }
}
