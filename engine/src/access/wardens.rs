//! A warden for each key, made when the key is used first, shared by both ports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reporter::access::{Budget, Key};

use crate::defence::{Alarms, Allowance, KeyNumber, Limits, Warden};

/// The wardens of all keys that were used.
pub struct Wardens {
    alarms: Alarms,
    known: Mutex<HashMap<u64, (Budget, Arc<Warden>)>>,
}

impl Wardens {
    /// None yet; what they see goes there.
    pub fn new(alarms: Alarms) -> Self {
        Self { alarms, known: Mutex::default() }
    }

    /// Where alarms are raised.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The warden of a key. Another budget is another warden: an admin's change begins anew.
    pub fn of(&self, key: &Key) -> Arc<Warden> {
        let mut known = self.known();
        let warden = match known.get(&key.number) {
            Some((budget, warden)) if *budget == key.budget => warden.clone(),
            _ => {
                let Budget { per_hour, per_day } = key.budget;
                let allowance = Allowance { lookups_per_hour: per_hour, lookups_per_day: per_day };
                let number = KeyNumber(key.number);
                let warden = Arc::new(Warden::new(number, allowance, Limits::default(), self.alarms.clone()));
                known.insert(key.number, (key.budget, warden.clone()));
                warden
            }
        };
        if let Some(frozen) = key.frozen.as_ref().filter(|_| !warden.is_frozen()) {
            warden.freeze(&frozen.why); // before a restart, or a change of its budget
        }
        warden
    }

    /// Lets a key ask again.
    pub fn thaw(&self, number: u64) {
        if let Some((_, warden)) = self.known().get(&number) {
            warden.thaw();
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, (Budget, Arc<Warden>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
