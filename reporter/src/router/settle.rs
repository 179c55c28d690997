//! Settling a case: rules see it, what they say is logged, and everything that follows is written in one transaction.
//!
//! A hit and a report always reach people: what no routing rule takes goes to the default queue. What could not be
//! compared with the banks goes to people as unknown.

use super::case::Case;
use super::effect::{act, carry_out};
use super::evaluation::{self, Evaluation};
use super::policy::Catalog;
use super::rule::{Action, Rule, RuleKind, RuleState};
use super::table::{Classified, Outcome};
use crate::desk::evidence;
use crate::desk::incident::IncidentType;
use crate::desk::intake::{Arrival, Needs};
use crate::desk::item::{Screening, put_item};
use crate::desk::ncmec::join;
use crate::desk::queue::QueueName;
use crate::error::DeskError;
use crate::tx::Tx;

/// What came of a case.
#[derive(Debug)]
pub enum Settled {
    /// Everything that follows is written. What took hits or the report where, for those who count.
    Done(Vec<Routed>),
    /// Something must be found out first; nothing is written.
    Needs(Needs, Box<Case>),
}

/// One placing of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The rule that placed it; none for the default.
    pub rule: Option<String>,
    /// Where.
    pub queue: QueueName,
    /// Hits that belong to the job.
    pub hits: u64,
}

impl Routed {
    /// By this rule into this queue.
    pub fn new(rule: Option<&Rule>, queue: &QueueName, hits: usize) -> Self {
        Self { rule: rule.map(|rule| rule.name.clone()), queue: queue.clone(), hits: hits as u64 }
    }
}

/// What can be found out beyond a case, for rules that hang on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Askable {
    /// The classifier can be asked.
    pub classifier: bool,
    /// The platform can be asked for an item's maker.
    pub creator: bool,
}

/// By what a case is settled.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Rules, types and settings.
    pub catalog: &'a Catalog,
    /// What can be found out for rules.
    pub askable: Askable,
    /// Now, in milliseconds since 1970 (UTC).
    pub now_ms: u64,
}

/// A rule that holds, and what it does.
pub struct Firing<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// One of the things it does.
    pub action: &'a Action,
}

/// By which rule, and where it stands in its queue; by the default if there is no rule.
#[derive(Clone, Copy, Default)]
pub struct Way<'a> {
    /// The rule.
    pub rule: Option<&'a Rule>,
    /// The priority that it names.
    pub priority: Option<u8>,
}

/// Where a case goes.
#[derive(Default)]
pub struct Placing<'a> {
    /// Review queues.
    pub review: Vec<(QueueName, Way<'a>)>,
    /// To NCMEC, with the queue.
    pub ncmec: Option<(Option<QueueName>, Way<'a>)>,
    /// Decided without a person, if a trusted bank matched.
    pub decide: Option<(&'a Rule, IncidentType)>,
}

/// Settles a case.
pub fn settle(tx: &mut Tx<'_>, terms: Terms<'_>, mut case: Case) -> Result<Settled, DeskError> {
    let Terms { catalog, askable, now_ms } = terms;
    if !askable.classifier && case.classified == Classified::NotAsked {
        case.classified = Classified::Inapplicable;
    }
    let (firing, results, needed) = evaluate(catalog, &case, now_ms);
    let placing = place(catalog, &case, &firing);
    let wants_user = placing.ncmec.is_some() || placing.decide.is_some();
    let needs = Needs {
        classification: needed,
        creator: wants_user && askable.creator && case.item.user().is_none() && case.is_known_to(catalog),
    };
    if needs != Needs::default() {
        return Ok(Settled::Needs(needs, Box::new(case)));
    }
    let evaluated = evaluation::put(tx, Evaluation::of(&case, catalog.table.version, results, now_ms))?;
    let (routed, escalated) = carry_out(tx, catalog, &case, placing, now_ms)?;
    act(tx, catalog, &case, &firing, now_ms)?;
    let mut kept = case.item;
    kept.evaluated = Some(evaluated);
    if !escalated {
        join(tx, &catalog.settings, &kept, now_ms)?;
    }
    evidence::take(tx, &mut kept)?;
    put_item(tx, kept)?;
    Ok(Settled::Done(routed))
}

/// Places a report of child abuse, with what is known of it now.
pub fn place_reported(
    tx: &mut Tx<'_>,
    terms: Terms<'_>,
    arrival: &mut Arrival,
) -> Result<Vec<Routed>, DeskError> {
    let case = Case::of_arrival(arrival);
    let placing = Placing { ncmec: Some((None, Way::default())), ..Placing::default() };
    let (routed, _) = carry_out(tx, terms.catalog, &case, placing, terms.now_ms)?;
    evidence::take(tx, &mut arrival.item)?;
    put_item(tx, arrival.item.clone())?;
    arrival.placed = true;
    Ok(routed)
}

/// Asks every rule: proactive ones all, routing ones up to the first live one that holds. Gives what the live ones do,
/// the results for the log, and whether something hangs on the classifier.
fn evaluate<'a>(catalog: &'a Catalog, case: &Case, now_ms: u64) -> (Vec<Firing<'a>>, String, bool) {
    let facts = case.facts();
    let routes = !case.hits.is_empty() || !case.matches.is_empty() || case.report.is_some();
    let (mut firing, mut results, mut needed, mut taken) = (Vec::new(), String::new(), false, false);
    for compiled in catalog.table.rules() {
        let rule = &compiled.rule;
        let state = rule.state_at(now_ms);
        let live = state == RuleState::Live;
        let runs = match rule.kind {
            RuleKind::Proactive => live || state == RuleState::Background,
            // Which queue the routed go to is asked of those that are, and by proactive rules of all.
            RuleKind::Routing => (live && !taken) || state == RuleState::Background,
        };
        let mut letters = vec!['-'; compiled.leaves()];
        let outcome = if runs {
            Some(compiled.evaluate(&facts, &mut |at, outcome| letters[at] = outcome.letter()))
        } else {
            None
        };
        evaluation::write(&mut results, state, outcome, &letters);
        match outcome {
            Some(Outcome::Passed) if live => {
                if rule.kind == RuleKind::Routing {
                    taken = true;
                }
                firing.extend(rule.actions.iter().map(|action| Firing { rule, action }));
            }
            Some(Outcome::Needed) if live && (rule.kind == RuleKind::Proactive || routes) => needed = true,
            _ => {}
        }
    }
    if !is_routed(case, &firing) {
        firing.retain(|firing| firing.rule.kind == RuleKind::Proactive);
    }
    (firing, results, needed)
}

/// Whether routing rules are heard: what matched or was reported is placed by them, and whatever a proactive rule wants
/// to have routed. A report of child abuse is not.
fn is_routed(case: &Case, firing: &[Firing<'_>]) -> bool {
    let csam = case.report.as_ref().is_some_and(|report| report.csam);
    let must = !csam && (case.report.is_some() || !case.hits.is_empty() || !case.matches.is_empty());
    let asks = |firing: &Firing<'_>| {
        firing.rule.kind == RuleKind::Proactive
            && matches!(firing.action, Action::Enqueue { queue: None, .. })
    };
    must || firing.iter().any(asks)
}

/// Where a case goes by what the rules say.
fn place<'a>(catalog: &Catalog, case: &Case, firing: &[Firing<'a>]) -> Placing<'a> {
    let settings = &catalog.settings;
    let mut placing = Placing::default();
    // Who has it already gets what matched, if something did.
    let again = case.placed && case.hits.is_empty() && case.matches.is_empty();
    let csam = case.report.as_ref().is_some_and(|report| report.csam);
    if csam && !again {
        placing.ncmec = Some((None, Way::default())); // past the routing rules
    }
    let mut routed = false;
    for Firing { rule, action } in firing {
        let routing = rule.kind == RuleKind::Routing;
        let way = |priority: &Option<u8>| Way { rule: Some(rule), priority: *priority };
        match action {
            // What goes to NCMEC's queue is for NCMEC: no second step by hand (specs/coop.md 2.1.4).
            Action::Enqueue { queue: Some(queue), priority } if *queue == settings.ncmec_queue => {
                routed |= routing;
                placing.ncmec.get_or_insert((None, way(priority)));
            }
            Action::Enqueue { queue: Some(queue), priority } => {
                routed |= routing;
                if !placing.review.iter().any(|(other, _)| other == queue) {
                    placing.review.push((queue.clone(), way(priority)));
                }
            }
            Action::EnqueueNcmec { queue, priority } => {
                routed |= routing;
                placing.ncmec.get_or_insert((queue.clone(), way(priority)));
            }
            Action::Decide { incident_type } => {
                routed |= routing;
                placing.decide.get_or_insert((rule, *incident_type));
            }
            Action::Enqueue { queue: None, .. } | Action::Webhook { .. } | Action::AddToBank { .. } => {}
        }
    }
    let heard = is_routed(case, firing);
    if heard && !routed && settings.default_queue == settings.ncmec_queue {
        placing.ncmec.get_or_insert((None, Way::default()));
    } else if heard && !routed {
        placing.review.push((settings.default_queue.clone(), Way::default()));
    }
    let unknown = case.item.media.iter().any(|media| matches!(media.screening, Screening::Unknown { .. }));
    if unknown
        && !case.placed
        && placing.review.is_empty()
        && placing.ncmec.is_none()
        && placing.decide.is_none()
    {
        placing.review.push((settings.triage_queue.clone(), Way::default()));
    }
    placing
}
