//! Small lookups of all connections, searched together: several queries in flight hide what one alone would
//! wait for from memory.
//!
//! Nobody waits for company. A small lookup is set aside while other connections have their part of a turn, and is
//! searched at the end of the turn; with nothing else to do that is at once.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use index::bank::Slice;
use index::{Distance, Hash256, SignalType, Tenant};
use ingest::wire::QueryView;

use super::connection::{Connection, ConnectionId};
use super::serve::{Core, Told};
use super::work::{Apart, Block, SLICE, fitting};

/// Hashes of a lookup that is small: one that keeps the memory busy by itself is searched where it came from.
const SMALL: usize = 32;
/// With so many hashes set aside nobody waits any longer.
const ENOUGH: usize = 128;

/// Hashes searched together at most; fewer where that takes long, so that a search among duplicates ends soon.
const TOGETHER: usize = 32;

/// Lookups set aside.
#[derive(Default)]
pub(super) struct Gather {
    hashes: Vec<Hash256>,
    lookups: Vec<Lookup>,
    threshold: Option<Distance>,
    /// Whose they all are.
    tenant: Option<Tenant>,
}

struct Lookup {
    connection: ConnectionId,
    correlation: u64,
    /// Its hashes among all that are set aside.
    hashes: Range<u32>,
}

impl Gather {
    /// Sets a lookup aside; says whether it did.
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        correlation: u64,
        tenant: Option<&Tenant>,
        query: &QueryView<'_>,
    ) -> bool {
        let count = query.len();
        let fits = query.signal_type == SignalType::Pdq && count <= SMALL;
        let alike = query.threshold == self.threshold && tenant == self.tenant.as_ref();
        if !fits || !(self.lookups.is_empty() || alike) {
            return false;
        }
        if !alike {
            self.tenant = tenant.cloned();
        }
        self.threshold = query.threshold;
        let first = self.hashes.len() as u32;
        query.append_pdq(&mut self.hashes);
        self.lookups.push(Lookup { connection, correlation, hashes: first..self.hashes.len() as u32 });
        true
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.lookups.is_empty()
    }

    /// Whether enough are to be searched at once.
    pub(super) fn is_full(&self) -> bool {
        self.hashes.len() >= ENOUGH
    }
}

impl Core {
    /// Searches what is set aside and answers it, for a slice: what is left keeps waiting. Returns the connections whose
    /// lookups take longer: they go on in slices, when their connections have their turns.
    pub(super) fn answer_gathered(
        &mut self,
        connections: &mut HashMap<ConnectionId, Connection>,
    ) -> Vec<ConnectionId> {
        let Gather { mut hashes, mut lookups, threshold, tenant } = std::mem::take(&mut self.gather);
        let state = self.views.newest(&self.parts.banks, tenant.as_ref());
        let watch = self.parts.door.honeytokens();
        let begun = Instant::now();
        let goes_on = || begun.elapsed() < SLICE;
        let (mut before, mut answered, mut together) = (Duration::ZERO, 0, TOGETHER / 2);
        let mut apart = Vec::new();
        while answered < lookups.len() && before < SLICE {
            let first = lookups[answered].hashes.start;
            let fits = |lookup: &&Lookup| (lookup.hashes.end - first) as usize <= together;
            let count = lookups[answered..].iter().take_while(fits).count().max(1);
            let group = &lookups[answered..answered + count];
            let end = group.last().map_or(first, |lookup| lookup.hashes.end);
            self.work.clear();
            let wanted = &hashes[first as usize..end as usize];
            let mut slice = Slice { goes_on: &goes_on, interrupted: None };
            let searched = self.search_pdq(&state, wanted, threshold, watch.as_deref(), &mut slice);
            let took = begun.elapsed() - before;
            self.count_search(searched, took);
            together = fitting(searched, took, TOGETHER);
            let each = took / searched.max(1) as u32;
            let until = first + searched as u32;
            let mut row = 0;
            for (at, lookup) in group.iter().enumerate() {
                let is_whole = lookup.hashes.end <= until;
                if !is_whole && at > 0 {
                    break; // comes first next time
                }
                answered += 1;
                let (query, last) = (lookup.hashes.start - first, lookup.hashes.end - first);
                let rows = self.nearest.rows()[row..].iter().take_while(|row| row.query < last).count();
                let block = Block { rows: row..row + rows, query, hash: 0 };
                row += rows;
                // A connection that is gone needs no answer.
                let Some(connection) = connections.get_mut(&lookup.connection) else { continue };
                let its = &hashes[lookup.hashes.start as usize..lookup.hashes.end as usize];
                self.work.clear();
                self.work.pdq.extend_from_slice(its);
                self.judge(&state, &block, SignalType::Pdq, tenant.as_ref(), |_| Told::default());
                connection.gathered -= 1;
                connection.share.spend(each * its.len().min(searched.max(1)) as u32);
                if is_whole {
                    self.tell_lookup(&state, connection, lookup.correlation, SignalType::Pdq, its.len());
                    connection.bells.output();
                } else if !connection.parting {
                    let own = Apart { correlation: lookup.correlation, threshold };
                    self.work.go_apart(own, searched, slice.interrupted.take());
                    self.keep_apart(connection, state.share());
                    apart.push(lookup.connection);
                }
            }
            before = begun.elapsed();
        }
        // Their room is used again.
        lookups.drain(..answered);
        let done = lookups.first().map_or(hashes.len() as u32, |lookup| lookup.hashes.start);
        hashes.drain(..done as usize);
        for lookup in &mut lookups {
            lookup.hashes = lookup.hashes.start - done..lookup.hashes.end - done;
        }
        self.gather = Gather { hashes, lookups, threshold, tenant };
        apart
    }
}
