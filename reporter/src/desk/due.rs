//! Lists of what waits for a time: rows whose key is a prefix, the time (u64), and what tells them apart.

use std::ops::ControlFlow;

use index::store::{Keyspace, Range, StoreError};

use crate::tx::{Row, Tx, after_prefix};

/// Longer than anything in these lists waits (pauses grow to an hour). What waits for longer was listed before the clock was
/// set back: it is due, or it would wait until the clock is there again.
const WAIT_MS_MAX: u64 = 2 * 3_600_000;

/// Rows of a list that are due, first ones first, at most so many.
pub fn due(
    tx: &Tx<'_>,
    space: Keyspace,
    prefix: &[u8],
    now_ms: u64,
    max: usize,
) -> Result<Vec<Row>, StoreError> {
    let place = |ms: u64| [prefix, &ms.to_be_bytes()].concat();
    let (now, never) = (place(now_ms.saturating_add(1)), place(now_ms.saturating_add(WAIT_MS_MAX)));
    let end = after_prefix(prefix);
    let mut found = Vec::new();
    for (from, to) in [(prefix, Some(&now[..])), (&never[..], end.as_deref())] {
        if found.len() >= max {
            break;
        }
        tx.scan_readable(space, Range { from, to, backwards: false }, &mut |key, row| {
            found.push((key.to_vec(), row.to_vec()));
            if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;

    #[test]
    fn what_waits_for_longer_than_anything_may_is_due() {
        let store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let (now_ms, hour_ms) = (500 * 24 * 3_600_000_u64, 3_600_000_u64);
        for (at, due_ms) in
            [now_ms, now_ms + 1, now_ms + hour_ms, now_ms + 24 * hour_ms, 5].iter().enumerate()
        {
            tx.put(Keyspace::Outbox, [&b"d"[..], &due_ms.to_be_bytes()].concat(), [at as u8]);
            tx.put(Keyspace::Outbox, [&b"e"[..], &due_ms.to_be_bytes()].concat(), [9]);
        }
        let found = |max| -> Vec<u8> {
            let rows = due(&tx, Keyspace::Outbox, b"d", now_ms, max).unwrap();
            rows.into_iter().map(|(_, row)| row[0]).collect()
        };
        assert_eq!((found(9), found(2), found(1)), (vec![4, 0, 3], vec![4, 0], vec![4]));
        assert_eq!(due(&tx, Keyspace::Outbox, b"d", u64::MAX, 9).unwrap().len(), 5);
    }
}
