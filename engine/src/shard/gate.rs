//! Who is at the other end of a connection, what they may ask, and what they are told: a key that may not see how near a
//! match is gets the banks alone.

use index::SignalType;
use index::bank::BankState;
use ingest::wire::{ErrorCode, HitRef, Match, QueryView, VERSION, Welcome, WireError};
use reporter::access::Right;

use super::connection::Connection;
use super::serve::{Core, fault, matches_of};
use super::work::Work;
use crate::access::{Caller, Pass};
use crate::defence::Refused;
use crate::metrics::resident_bytes;

/// Who was let in, and how they are known again.
pub(super) struct Guest {
    pub(super) caller: Caller,
    pass: Pass,
}

impl Core {
    pub(super) fn greet(&mut self, connection: &mut Connection, correlation: u64, version: u16, token: &str) {
        let parts = &self.parts;
        let let_in = if version != VERSION {
            let message = format!(
                "protocol version {version} is not spoken here, {VERSION} is: use a client of this server's version"
            );
            Err(fault(correlation, ErrorCode::bad_version, "version", message))
        } else {
            parts.door.hello(token).ok_or_else(|| {
                let message =
                    "the token is missing or wrong: send the server's token, or a key, in Hello".to_string();
                fault(correlation, ErrorCode::unauthorized, "token", message)
            })
        };
        match let_in {
            Ok((caller, pass)) => connection.guest = Some(Guest { caller, pass }),
            Err(refusal) => {
                self.refuse(connection, refusal);
                return connection.part();
            }
        }
        let tenant = connection.tenant();
        let state = self.views.newest(&parts.banks, tenant);
        let welcome = Welcome {
            shard: parts.number,
            shards: parts.shards,
            window_frames: parts.limits.window_frames,
            frame_bytes_max: parts.limits.frame_bytes_max as u32,
            hashes_max: parts.limits.hashes_max as u32,
            server: env!("CARGO_PKG_VERSION").to_string(),
            kernel: parts.kernel.to_string(),
            reactor: parts.reactor.to_string(),
            hashes: hashes(&state, tenant.is_some()),
            rss_bytes: resident_bytes().unwrap_or(0),
        };
        self.replies.welcome(correlation, &welcome, &mut connection.output);
    }

    /// Whether what the frame in work found may be told to who asked so many hashes.
    pub(super) fn is_told(
        &self,
        connection: &Connection,
        kind: SignalType,
        hashes: usize,
    ) -> Result<(), Refused> {
        let Some(guest) = &connection.guest else { return Ok(()) };
        let Work { pdq, nearest, honeytoken, .. } = &self.work;
        match kind {
            SignalType::Pdq => {
                self.parts.door.judge(&guest.caller, pdq, nearest.iter().copied(), *honeytoken)
            }
            _ => self.parts.door.judge_others(&guest.caller, hashes, *honeytoken),
        }
    }

    /// Looks at a connection's guest again, after somebody changed who may call. Whoever may no more is told so.
    pub(super) fn look_again(&mut self, connection: &mut Connection) {
        let Some(guest) = &mut connection.guest else { return };
        match self.parts.door.again(&guest.pass) {
            Some(caller) => guest.caller = caller,
            None if !connection.parting => {
                let message = "the key opens nothing any more".to_string();
                self.refuse(connection, fault(0, ErrorCode::unauthorized, "token", message));
                connection.part();
            }
            None => {}
        }
    }
}

/// Signals that can match; of a tenant's banks and everybody's, if a tenant asks.
fn hashes(state: &BankState, counted: bool) -> u64 {
    if counted {
        return state.directory.list().iter().flat_map(|bank| bank.signals).sum();
    }
    SignalType::ALL.into_iter().map(|kind| state.tables.len(kind) as u64).sum()
}

/// Why a guest may not ask this.
pub(super) fn refusal(
    caller: &Caller,
    correlation: u64,
    right: Right,
    query: &QueryView<'_>,
) -> Option<WireError> {
    if !caller.rights.has(right) {
        let message = format!("the key does not open this: it needs the right '{}'", right.name());
        return Some(fault(correlation, ErrorCode::forbidden, "body", message));
    }
    // What a frozen key submits is recorded all the same; it is told nothing.
    if right == Right::Match
        && let Some(why) = caller.frozen()
    {
        return Some(refused(correlation, &Refused::Frozen { why }));
    }
    let why = caller.refused_threshold(query.signal_type, query.threshold)?;
    Some(fault(correlation, ErrorCode::forbidden, "threshold", why.to_string()))
}

/// What a client is told whose answer is withheld.
pub(super) fn refused(correlation: u64, refused: &Refused) -> WireError {
    let code = match refused {
        Refused::Frozen { .. } => ErrorCode::frozen,
        Refused::Budget { .. } => ErrorCode::over_budget,
    };
    fault(correlation, code, "body", refused.to_string())
}

/// Takes out of an answer how near what is: of each hit the banks stay, in their order.
pub(super) fn veil(hits: &mut [HitRef], matches: &mut Vec<Match>) {
    let all = std::mem::take(matches);
    for hit in hits {
        let first = matches.len();
        for row in &all[matches_of(hit)] {
            if !matches[first..].iter().any(|known| known.bank() == row.bank()) {
                matches.push(Match::new(0, row.bank(), 0));
            }
        }
        matches[first..].sort_unstable_by_key(Match::bank);
        let banks = (matches.len() - first) as u32;
        *hit = HitRef::new(hit.hash(), first as u32, banks, banks, hit.verdict());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veiled_answer_names_each_bank_once_and_nothing_else() {
        let mut matches =
            vec![Match::new(7, 2, 3), Match::new(8, 1, 4), Match::new(9, 2, 5), Match::new(7, 2, 0)];
        let mut hits = [HitRef::new(4, 0, 3, 9, 2), HitRef::new(6, 3, 1, 1, 3)];
        veil(&mut hits, &mut matches);
        let rows: Vec<_> = matches.iter().map(|row| (row.content(), row.bank(), row.distance())).collect();
        assert_eq!(rows, [(0, 1, 0), (0, 2, 0), (0, 2, 0)]);
        let shown: Vec<_> = hits
            .iter()
            .map(|hit| (hit.hash(), hit.first_match(), hit.match_count(), hit.matches_total(), hit.verdict()))
            .collect();
        assert_eq!(shown, [(4, 0, 2, 2, 2), (6, 2, 1, 1, 3)]);
    }
}
