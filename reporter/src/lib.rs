//! What happens to a hit.
//!
//! `reporter` reads the hit log and knows nothing of sockets, indexes or how a hit was found. Each stage
//! reads the log before it by a durable cursor and commits its effect and its cursor in one batch, so that
//! every hit takes effect once, whatever crashes. Time comes in as an argument.
//!
//! Reading order: `queue` (what reviewers see) → `router::rule` (what an operator writes) →
//! `router::compile` (rules and a hit's facts to a decision; shards call it too) → `router` (the stage).

mod error;
mod queue;
mod router;

pub use error::RouterError;
pub use queue::{
    HitSummary, QueueEntry, QueueName, QueuePage, QueueSummary, RulesVersion, Verdict, entries, entry, queues,
};
pub use router::{
    Condition, Decision, Gauges, HitFacts, MatchFact, Routed, Router, Rule, RuleTable, Rules, Step,
};
