//! Small lookups of all connections, searched together: several queries in flight hide what one alone would
//! wait for from memory.
//!
//! Nobody waits for company. A small lookup is set aside while other connections have their part of a turn, and is
//! searched at the end of the turn; with nothing else to do that is at once.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use index::{Distance, Hash256, SignalType, Tenant};
use ingest::wire::QueryView;

use super::connection::{Connection, ConnectionId};
use super::gate;
use super::serve::{Core, Told};

/// Hashes of a lookup that is small: one that keeps the memory busy by itself is searched where it came from.
const SMALL: usize = 32;
/// With so many hashes set aside nobody waits any longer.
const ENOUGH: usize = 128;

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
    /// Searches what is set aside and answers it.
    pub(super) fn answer_gathered(&mut self, connections: &mut HashMap<ConnectionId, Connection>) {
        let Gather { mut hashes, mut lookups, threshold, tenant } = std::mem::take(&mut self.gather);
        let state = self.views.newest(&self.parts.banks, tenant.as_ref());
        let began = Instant::now();
        self.search_pdq(&state, &hashes, threshold);
        let each = began.elapsed() / hashes.len().max(1) as u32;
        // Verdicts look at the hashes where those of a frame lie.
        std::mem::swap(&mut self.pdq, &mut hashes);
        let mut next = 0;
        for lookup in &lookups {
            let first = next;
            next += self.found[first..].iter().take_while(|hit| hit.query < lookup.hashes.end).count();
            // A connection that is gone needs no answer.
            let Some(connection) = connections.get_mut(&lookup.connection) else { continue };
            let (hashes, found) = (lookup.hashes.start as usize..lookup.hashes.end as usize, first..next);
            match self.is_told(connection, SignalType::Pdq, hashes, found.clone()) {
                Ok(()) => {
                    let base = lookup.hashes.start;
                    self.judge(&state, found, base, SignalType::Pdq, tenant.as_ref(), |_| Told::default());
                    self.answer_lookup(&state, connection, lookup.correlation);
                }
                Err(why) => self.refuse(connection, gate::refused(lookup.correlation, &why)),
            }
            connection.share.spend(each * (lookup.hashes.len() as u32));
            connection.gathered -= 1;
            connection.bells.output();
        }
        std::mem::swap(&mut self.pdq, &mut hashes);
        // Their room is used again.
        hashes.clear();
        lookups.clear();
        self.gather = Gather { hashes, lookups, threshold, tenant };
    }
}
