//! What of many matches an answer lists, and how their banks are called.

use std::collections::HashSet;

use index::bank::BankState;
use index::{BankId, Found};
use ingest::wire::Match;

/// Lists a hash's matches, nearest first, at most `max`; and past that the nearest of every further bank, so
/// that no rule misses its bank because another one is full of duplicates. `group` holds these already, for a limit that
/// is not smaller.
pub(super) fn list(group: &[Found], max: usize, matches: &mut Vec<Match>) {
    let first = matches.len();
    for (at, found) in group.iter().enumerate() {
        if at < max || !matches[first..].iter().any(|row| row.bank() == found.bank.0) {
            matches.push(Match::new(found.content.0, found.bank.0, found.distance.bits()));
        }
    }
}

/// The name of a bank. A snapshot holds no signal of a bank that its directory does not know.
pub(super) fn bank_name(state: &BankState, bank: BankId) -> &str {
    state.directory.get(bank).map_or("", |bank| &bank.name)
}

/// The banks that occur, each once. Empty, and without allocation, where nothing matched.
pub(super) fn names<'n>(matches: &[Match], name: impl Fn(BankId) -> &'n str) -> Vec<(BankId, &'n str)> {
    let (mut banks, mut known, mut last) = (Vec::new(), HashSet::new(), None);
    for row in matches {
        let bank = BankId(row.bank());
        if last != Some(bank) && known.insert(bank) {
            banks.push((bank, name(bank)));
        }
        last = Some(bank);
    }
    banks
}
