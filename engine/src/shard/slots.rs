//! Who gets a place on a full shard.
//!
//! A newcomer is never shut out by connections that do nothing: where all places are taken, the one that has been silent
//! longest gives up its own, strangers before guests, and those of the address with most connections first. One that works
//! is never asked to: it may be silent for as long as it worked before, up to a second. One address cannot take all places.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Refused, Shard};

/// Silence after which a connection gives up its place, however long it worked.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// Silence after which one does that never asked anything: clients send Hello, and what they want to know, at once.
const SILENT_MIN: Duration = Duration::from_millis(20);
/// Connections that are being closed and still count, beyond the limit.
const PARTING_MAX: usize = 64;

impl Shard {
    /// Makes sure that there is a place for one more connection of this address.
    pub(super) fn make_place(&mut self, peer: IpAddr, now: Instant) -> Result<(), Refused> {
        let limits = self.limits;
        if self.connections.len() < limits.connections_max.min(limits.connections_per_address_max) {
            return Ok(());
        }
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        let mut staying = 0;
        for connection in self.connections.values().filter(|connection| !connection.parting) {
            *of_address.entry(connection.peer).or_default() += 1;
            staying += 1;
        }
        let own = of_address.get(&peer).copied().unwrap_or(0);
        let crowded = own >= limits.connections_per_address_max;
        if !crowded && staying < limits.connections_max {
            return Ok(());
        }
        if self.connections.len() >= limits.connections_max + PARTING_MAX {
            return Err(Refused);
        }
        // Strangers before guests, then who has most connections, then who has been silent for longest.
        let victim = self
            .connections
            .values_mut()
            .filter(|connection| !connection.parting && (!crowded || connection.peer == peer))
            .filter_map(|connection| {
                let (stranger, silent) = (connection.guest.is_none(), connection.silent_for(now));
                let limit = connection.worked_for().clamp(SILENT_MIN, SILENT_MAX);
                (silent > limit).then(|| ((stranger, of_address[&connection.peer], silent), connection))
            })
            .max_by_key(|(rank, _)| *rank);
        let Some((_, victim)) = victim else { return Err(Refused) };
        self.counts.closed.fetch_add(1, Ordering::Relaxed);
        self.core.timed_out(victim, "all places were taken, and it was silent");
        Ok(())
    }
}
