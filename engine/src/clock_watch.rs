//! Watching the clock: each second both are compared, and what happened is told: log, alarm, audit log.

use std::collections::VecDeque;
use std::time::Duration;

use reporter::audit::Entry;
use reporter::desk::{alarm, lease};
use reporter::tip::filing::rows;
use reporter::{DeskError, Turn};
use serde_json::json;

use crate::clock::{Event, clock};
use crate::desk::Desk;
use crate::failpoint::test_number;

const EVERY: Duration = Duration::from_secs(1);
/// Events that wait to be recorded while the desk takes nothing; beyond it the oldest is only in the log.
const WAITING_MAX: usize = 64;
/// Who records.
const WHO: &str = "clock";

/// What is watched with.
pub struct ClockWatch {
    /// Where leases, alarms and the audit log are.
    pub desk: Desk,
    /// What was found when the stamp was read.
    pub found: Option<Event>,
}

impl ClockWatch {
    /// Watches, for ever.
    pub async fn run(self) {
        let every = test_number("HASHWARD_CLOCK_MS").map_or(EVERY, Duration::from_millis);
        // Leases of the process before this one last as long as they may from now at most.
        let mut waiting = VecDeque::from([None]);
        waiting.extend(self.found.inspect(say).map(Some));
        loop {
            while let Some(event) = waiting.front().copied() {
                match self.desk.ask(move |turn| record(turn, event)).await {
                    Ok(()) => drop(waiting.pop_front()),
                    Err(error) => {
                        tracing::warn!(%error, "what the clock did is not on record yet; it is tried again");
                        break;
                    }
                }
            }
            tokio::time::sleep(every).await;
            // Writing a stamp takes a few milliseconds, once a minute.
            let Ok(event) = tokio::task::spawn_blocking(|| clock().observe()).await else { return };
            waiting.extend(event.inspect(say).map(Some));
            if waiting.len() > WAITING_MAX {
                waiting.pop_front();
            }
        }
    }
}

fn say(event: &Event) {
    match event {
        Event::Jumped { .. } => tracing::warn!("{}", words(event)),
        Event::Settled { .. } => tracing::info!("{}", words(event)),
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Jumped { by_ms: 0, .. } => {
            "what the data directory knew of the time does not read, so the wall clock cannot be \
             compared with it: nothing is deleted because of its age until somebody confirms the clock (POST \
             /api/v1/clock/confirm), or it has been steady for an hour"
                .to_string()
        }
        Event::Jumped { by_ms, .. } => format!(
            "the wall clock is {} s {} of where it should be: nothing is deleted because of its age until somebody \
             confirms the clock (POST /api/v1/clock/confirm), or it has been steady for an hour; check NTP and the \
             machine's clock",
            by_ms.unsigned_abs().div_ceil(1000),
            if *by_ms < 0 { "behind" } else { "ahead" }
        ),
        Event::Settled { moved_ms } => format!(
            "the clock was steady for an hour: it is trusted again, which moved the time by {} s",
            moved_ms / 1000
        ),
    }
}

fn record(turn: &mut Turn<'_>, event: Option<Event>) -> Result<(), DeskError> {
    let now_ms = turn.terms.now_ms;
    let (action, moved_ms, details) = match event {
        None => return move_waits(turn, 0),
        Some(Event::Jumped { by_ms, moved_ms }) => {
            let words = words(&Event::Jumped { by_ms, moved_ms });
            alarm::raise(&mut turn.tx, "clock.jumped", "clock", &words, false, now_ms)?;
            ("clock.jumped", moved_ms, json!({ "by_ms": by_ms, "wall_ms": clock().state().wall_ms }))
        }
        Some(Event::Settled { moved_ms }) => ("clock.settled", moved_ms, json!({ "moved_ms": moved_ms })),
    };
    move_waits(turn, moved_ms)?;
    turn.audit(Entry {
        who: WHO.to_string(),
        action: action.to_string(),
        about: "clock".to_string(),
        details,
        child_safety: false,
    })
}

/// Lets leases end and filings be tried when they would have if our time had not moved; and leases never later than their
/// length from now.
pub fn move_waits(turn: &mut Turn<'_>, moved_ms: i64) -> Result<(), DeskError> {
    if moved_ms != 0 {
        rows::moved(&mut turn.tx, moved_ms)?;
    }
    let changed = lease::moved(&mut turn.tx, moved_ms, turn.terms.now_ms)?;
    if changed > 0 {
        tracing::info!(changed, "leases end when they would have, by the time that is used now");
    }
    Ok(())
}
