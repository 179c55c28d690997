//! Proofs about the log for who has signed heads of it and not the log: an auditor, an authority, another machine that
//! watches. What they are shown of others' records is hashes.

use index::store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::tree::{TreeHash, leaf, root_by_inclusion, roots_by_consistency};
use super::{
    BadLine, Genuine, Head, Line, ROW_VERSION, RecordHash, SPACE, StoredRow, branches, record_hash,
    record_key,
};

/// What is proven, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "proves", rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// That a record is in the log.
    Inclusion {
        /// The record.
        number: u64,
        /// Records of the log: the number of a signed head.
        size: u64,
        /// The hash of the record before.
        previous: RecordHash,
        /// Its own.
        hash: RecordHash,
        /// What it says, as it was hashed; absent for who may not see it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// From its leaf to the tree's hash.
        path: Vec<TreeHash>,
    },
    /// That a log begins with an earlier one: nothing that was in it has changed or gone.
    Consistency {
        /// Records of the earlier log: the number of a signed head.
        earlier: u64,
        /// Records of the later one: the number of another.
        size: u64,
        /// RFC 9162, section 2.1.4.
        path: Vec<TreeHash>,
    },
}

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// The record is in the log that was signed.
    Included {
        /// The record.
        number: u64,
        /// The head that says so.
        head: Head,
        /// What the record says, if the proof tells.
        body: Option<String>,
    },
    /// The later log begins with the earlier one.
    Consistent {
        /// The earlier head.
        earlier: Head,
        /// The later one.
        later: Head,
    },
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It does not give what was signed.
    #[error("it does not hold: {0}")]
    Wrong(&'static str),
    /// A line of the heads is none.
    #[error("{0}")]
    Line(#[from] BadLine),
    /// There is nothing to hold it against.
    #[error(
        "no head of {number} records with a tree is among the signed ones: fetch a proof for a head that is, with \
         size=<its number>"
    )]
    NoHead {
        /// Records of the log that it is about.
        number: u64,
    },
}

/// That a record is in the log of the first `size`, for who may see child safety data or not; none if so many have no tree
/// yet, or the record is not among them.
pub fn inclusion(
    store: &dyn Store,
    number: u64,
    size: u64,
    child_safety: bool,
) -> Result<Option<Proof>, StoreError> {
    if !(1..=size).contains(&number) || size > branches::stored(store)? {
        return Ok(None);
    }
    let Some(row) = store.get(SPACE, &record_key(number))? else { return Ok(None) };
    let stored = StoredRow::read(&row)?;
    let sealed = stored.record(number)?.child_safety && !child_safety;
    // JSON, so text, behind its version.
    let text = || stored.body.get(1..).map(|text| String::from_utf8_lossy(text).into_owned());
    let body = if sealed { None } else { text() };
    let path = branches::path(store, number, size)?;
    Ok(Some(Proof::Inclusion { number, size, previous: stored.previous, hash: stored.hash, body, path }))
}

/// That the log of the first `size` records begins with that of the first `earlier`; none if so many have no tree yet, or the
/// earlier one is not the smaller.
pub fn consistency(store: &dyn Store, earlier: u64, size: u64) -> Result<Option<Proof>, StoreError> {
    if !(1..size).contains(&earlier) || size > branches::stored(store)? {
        return Ok(None);
    }
    let path = branches::growth(store, earlier, size)?;
    Ok(Some(Proof::Consistency { earlier, size, path }))
}

impl Proof {
    /// Whether it holds against these heads, which are somebody's own copies: nothing else is believed.
    pub fn check(
        &self,
        heads: &mut dyn Iterator<Item = Result<Line, BadLine>>,
        genuine: &Genuine<'_>,
    ) -> Result<Proven, Unproven> {
        let (earlier, size) = match *self {
            Self::Inclusion { size, .. } => (None, size),
            Self::Consistency { earlier, size, .. } => (Some(earlier), size),
        };
        let (mut before, mut whole) = (Vec::new(), Vec::new());
        for read in heads {
            let head = read?.genuine(genuine)?.head();
            let Some(root) = head.root else { continue };
            if head.number == size {
                whole.push((head, root));
            }
            if Some(head.number) == earlier {
                before.push((head, root));
            }
        }
        let (head, root) = only(size, &whole)?;
        match self {
            Self::Inclusion { number, previous, hash, body, path, .. } => {
                let bytes = body.as_ref().map(|body| [&[ROW_VERSION], body.as_bytes()].concat());
                if bytes.is_some_and(|bytes| record_hash(*number, previous, &bytes) != *hash) {
                    return Err(Unproven::Wrong("the record's words do not give its hash"));
                }
                let place = number.checked_sub(1).ok_or(Unproven::Wrong("records begin with 1"))?;
                match root_by_inclusion(leaf(&hash.0), place, size, path) {
                    Some(found) if found == root => {
                        Ok(Proven::Included { number: *number, head, body: body.clone() })
                    }
                    _ => Err(Unproven::Wrong("the record is not in the tree that was signed")),
                }
            }
            Self::Consistency { earlier, path, .. } => {
                let (before, old) = only(*earlier, &before)?;
                match roots_by_consistency(old, *earlier, size, path) {
                    Some(found) if found == (old, root) => {
                        Ok(Proven::Consistent { earlier: before, later: head })
                    }
                    _ => Err(Unproven::Wrong("the later log does not begin with the earlier one")),
                }
            }
        }
    }
}

/// The head of so many records. Two that differ were signed for two logs: nothing holds against both.
fn only(number: u64, heads: &[(Head, TreeHash)]) -> Result<(Head, TreeHash), Unproven> {
    let (first, rest) = heads.split_first().ok_or(Unproven::NoHead { number })?;
    match rest.iter().all(|other| other.1 == first.1 && other.0.hash == first.0.hash) {
        true => Ok(*first),
        false => Err(Unproven::Wrong("two heads of as many records were signed, and they are of two logs")),
    }
}
