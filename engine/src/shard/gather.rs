//! Small lookups of all connections, searched together: several queries in flight hide what one alone would
//! wait for from memory.
//!
//! Nobody waits for company. A small lookup is set aside while other connections have their part of a turn, and is
//! searched at the end of the turn; with nothing else to do that is at once.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use index::{Distance, Hash256, SignalType, Tenant};
use ingest::wire::QueryView;

use super::connection::{Connection, ConnectionId};
use super::gate;
use super::serve::{Core, Told};
use super::work::{Block, SLICE, fitting};

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
    /// Searches what is set aside and answers it, for a slice: what is left keeps waiting.
    pub(super) fn answer_gathered(&mut self, connections: &mut HashMap<ConnectionId, Connection>) {
        let Gather { mut hashes, mut lookups, threshold, tenant } = std::mem::take(&mut self.gather);
        let state = self.views.newest(&self.parts.banks, tenant.as_ref());
        let watch = self.parts.door.honeytokens();
        let (begun, mut before, mut answered, mut together) =
            (Instant::now(), Duration::ZERO, 0, TOGETHER / 2);
        while answered < lookups.len() && before < SLICE {
            let first = lookups[answered].hashes.start;
            let fits = |lookup: &&Lookup| (lookup.hashes.end - first) as usize <= together;
            let count = lookups[answered..].iter().take_while(fits).count().max(1);
            let group = &lookups[answered..answered + count];
            answered += group.len();
            let end = group.last().map_or(first, |lookup| lookup.hashes.end);
            self.work.clear();
            self.search_pdq(&state, &hashes[first as usize..end as usize], threshold, watch.as_deref());
            let took = begun.elapsed() - before;
            self.count_search((end - first) as usize, took);
            together = fitting((end - first) as usize, took, TOGETHER);
            let each = took / (end - first).max(1);
            let mut row = 0;
            for lookup in group {
                let query = lookup.hashes.start - first;
                let until = lookup.hashes.end - first;
                let rows = self.nearest.rows()[row..].iter().take_while(|row| row.query < until).count();
                let block = Block { rows: row..row + rows, query, hash: 0 };
                row += rows;
                // A connection that is gone needs no answer.
                let Some(connection) = connections.get_mut(&lookup.connection) else { continue };
                self.work.clear();
                self.work
                    .pdq
                    .extend_from_slice(&hashes[lookup.hashes.start as usize..lookup.hashes.end as usize]);
                self.judge(&state, &block, SignalType::Pdq, tenant.as_ref(), |_| Told::default());
                match self.is_told(connection, SignalType::Pdq, lookup.hashes.len()) {
                    Ok(()) => self.answer_lookup(&state, connection, lookup.correlation),
                    Err(why) => self.refuse(connection, gate::refused(lookup.correlation, &why)),
                }
                connection.share.spend(each * (lookup.hashes.len() as u32));
                connection.gathered -= 1;
                connection.bells.output();
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
    }
}
