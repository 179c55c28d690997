//! Spreads what costs the kernel much, accepting and closing sockets, over the turns of a thread.
//!
//! Thousands of connections that come or go at once hold up neither the connections that are open nor the next newcomer:
//! after each few of them, the thread's other tasks run and its sockets are looked at.

use async_channel::{Receiver, Sender, bounded};

/// Sockets accepted, or closed, before other tasks have their turn. With 16 neighbours waited longer, and newcomers too.
pub const TOGETHER: usize = 4;

/// Counts what is done in a row.
#[derive(Debug, Default)]
pub struct Round(usize);

impl Round {
    /// Counts one more; returns whether others have their turn now.
    pub fn is_over(&mut self) -> bool {
        self.0 = (self.0 + 1) % TOGETHER;
        self.0 == 0
    }
}

/// Makes the channel through which [`hand_out`] gives turns.
pub fn turns() -> (Sender<()>, Receiver<()>) {
    bounded(TOGETHER)
}

/// Hands out turns, a few before each `yield_now`, until nobody is left who takes one.
pub async fn hand_out<Y: Future<Output = ()>>(turns: Sender<()>, yield_now: impl Fn() -> Y) {
    let mut round = Round::default();
    while turns.send(()).await.is_ok() {
        if round.is_over() {
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once, yield_now};

    use super::*;

    #[test]
    fn a_few_turns_are_handed_out_at_once() {
        let (turns, taken) = turns();
        let mut pacing = pin!(hand_out(turns, yield_now));
        for _ in 0..50 {
            assert!(block_on(poll_once(pacing.as_mut())).is_none());
            let given = std::iter::from_fn(|| taken.try_recv().ok()).count();
            assert_eq!(given, TOGETHER, "in one turn");
        }
        drop(taken);
        block_on(pacing);
    }
}
