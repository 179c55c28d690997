//! Settling a case: rules see it, what they say is logged, and everything that follows is written in one transaction.
//!
//! A hit and a report always reach people: what no routing rule takes goes to the default queue. What could not be
//! compared with the banks goes to people as unknown.

use std::collections::BTreeSet;

use index::store::StoreError;
use serde_json::{Value, json};

use super::case::Case;
use super::evaluation::{self, Evaluation};
use super::policy::Catalog;
use super::rule::{Action, Rule, RuleKind, RuleState};
use super::table::{Compiled, Outcome, Source};
use crate::desk::decision::{self, Decider, Decision, DecisionKind, MediaDecision, ReportWords};
use crate::desk::incident::{Classification, IncidentType};
use crate::desk::intake::{Arrival, Needs};
use crate::desk::item::{Item, Screening, item, put_item};
use crate::desk::job::{Enqueue, Job, JobKind, PRIORITY, PRIORITY_CSAM, Reason, add_hit, enqueue, put_job};
use crate::desk::ncmec::{Escalation, escalate, join, media_of};
use crate::desk::outbox;
use crate::desk::queue::{QueueName, Verdict};
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

/// What can be found out beyond a case, for rules that hang on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Askable {
    /// The classifier can be asked.
    pub classifier: bool,
    /// The platform can be asked for an item's maker.
    pub creator: bool,
}

/// A rule that holds, and what it does.
struct Firing<'a> {
    rule: &'a Rule,
    action: &'a Action,
}

/// Where a case goes.
#[derive(Default)]
struct Placing<'a> {
    /// Review queues, each with the rule.
    review: Vec<(QueueName, Option<&'a Rule>)>,
    /// To NCMEC, with the queue and the rule.
    ncmec: Option<(Option<QueueName>, Option<&'a Rule>)>,
    /// Decided without a person, if a trusted bank matched.
    decide: Option<(&'a Rule, IncidentType)>,
}

/// Settles a case.
pub fn settle(
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    mut case: Case,
    askable: Askable,
    now_ms: u64,
) -> Result<Settled, DeskError> {
    if !askable.classifier && case.classified == super::table::Classified::NotAsked {
        case.classified = super::table::Classified::Inapplicable;
    }
    let (firing, results, needed) = evaluate(catalog, &case, now_ms);
    let placing = place(catalog, &case, &firing);
    let wants_user = placing.ncmec.is_some() || placing.decide.is_some();
    let needs = Needs {
        classification: needed,
        creator: wants_user && askable.creator && case.item.user().is_none(),
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
        join(tx, &catalog.settings, &kept)?;
    }
    put_item(tx, kept)?;
    Ok(Settled::Done(routed))
}

/// Places a report of child abuse, with what is known of it now.
pub fn place_reported(
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    arrival: &mut Arrival,
    now_ms: u64,
) -> Result<Vec<Routed>, DeskError> {
    let case = Case::of_arrival(arrival);
    let placing = Placing { ncmec: Some((None, None)), ..Placing::default() };
    let (routed, _) = carry_out(tx, catalog, &case, placing, now_ms)?;
    put_item(tx, case.item)?;
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
    (firing, results, needed)
}

/// Where a case goes by what the rules say.
fn place<'a>(catalog: &Catalog, case: &Case, firing: &[Firing<'a>]) -> Placing<'a> {
    let settings = &catalog.settings;
    let mut placing = Placing::default();
    // Who has it already gets what matched, if something did.
    let again = case.placed && case.hits.is_empty() && case.matches.is_empty();
    let csam = case.report.as_ref().is_some_and(|report| report.csam);
    if csam && !again {
        placing.ncmec = Some((None, None)); // past the routing rules
    }
    // Proactive rules first: whether one of them asks for routing decides whether a routing rule's answer is heard.
    let asks = firing.iter().any(|firing| {
        firing.rule.kind == RuleKind::Proactive && *firing.action == Action::Enqueue { queue: None }
    });
    let must = !csam && (case.report.is_some() || !case.hits.is_empty() || !case.matches.is_empty());
    let heard = must || asks;
    let mut routed = false;
    for Firing { rule, action } in firing {
        let routing = rule.kind == RuleKind::Routing;
        if routing && !heard {
            continue;
        }
        match action {
            Action::Enqueue { queue: Some(queue) } => {
                routed |= routing;
                if !placing.review.iter().any(|(other, _)| other == queue) {
                    placing.review.push((queue.clone(), Some(*rule)));
                }
            }
            Action::EnqueueNcmec { queue } => {
                routed |= routing;
                placing.ncmec.get_or_insert((queue.clone(), Some(*rule)));
            }
            Action::Decide { incident_type } => {
                routed |= routing;
                placing.decide.get_or_insert((rule, *incident_type));
            }
            Action::Enqueue { queue: None } | Action::Webhook { .. } | Action::AddToBank { .. } => {}
        }
    }
    if heard && !routed {
        placing.review.push((settings.default_queue.clone(), None));
    }
    let unknown = case.item.media.iter().any(|media| matches!(media.screening, Screening::Unknown { .. }));
    if unknown
        && !case.placed
        && placing.review.is_empty()
        && placing.ncmec.is_none()
        && placing.decide.is_none()
    {
        placing.review.push((settings.triage_queue.clone(), None));
    }
    placing
}

/// Writes the jobs; says whether one of them is NCMEC's. The case's hits belong to the first of them.
fn carry_out(
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    case: &Case,
    placing: Placing<'_>,
    now_ms: u64,
) -> Result<(Vec<Routed>, bool), DeskError> {
    let mut routed = Vec::new();
    let mut hits = case.hits.clone();
    let decide =
        placing.decide.and_then(|(rule, incident)| Some((rule, incident, trusted_bank(catalog, case)?)));
    // A rule that may not decide alone still sends to where people do.
    let ncmec = placing.ncmec.or(placing.decide.map(|(rule, _)| (None, Some(rule))));
    let escalated = ncmec.is_some();
    if let Some((queue, rule)) = ncmec {
        let csam = case.report.as_ref().is_some_and(|report| report.csam);
        let reason = reason(case, rule, now_ms);
        let what = Escalation { item: &case.item, user: None, queue: queue.as_ref(), reason, csam, now_ms };
        let mut job = escalate(tx, &catalog.settings, what)?;
        let is_new = job.reasons_total == 1;
        finish(tx, &mut job, case, &mut hits)?;
        routed.push(Routed {
            rule: rule.map(|rule| rule.name.clone()),
            queue: job.queue.clone(),
            hits: case.hits.len() as u64,
        });
        // Only what no person has begun to look at.
        if let Some((rule, incident, bank)) = decide.filter(|_| is_new && job.kind == JobKind::Ncmec) {
            let words = automatic_words(tx, &job, incident)?;
            let decided = Decision {
                job: job.id,
                kind: DecisionKind::Report,
                by: Decider::Automatic { rule: rule.name.clone(), rule_version: rule.version, bank },
                at_ms: now_ms,
                revision: job.revision,
                request: None,
                reason: None,
                webhooks: Vec::new(),
                report: Some(words),
            };
            decision::record(tx, &mut job, &decided, now_ms)?;
        }
    }
    for (queue, rule) in placing.review {
        let csam = case.report.as_ref().is_some_and(|report| report.csam);
        let priority = if csam { PRIORITY_CSAM } else { PRIORITY };
        let what = Enqueue {
            kind: JobKind::Review,
            subject: &case.item.key,
            queue: &queue,
            priority,
            reason: reason(case, rule, now_ms),
            now_ms,
        };
        let mut job = enqueue(tx, what)?;
        routed.push(Routed { rule: rule.map(|rule| rule.name.clone()), queue, hits: hits.len() as u64 });
        finish(tx, &mut job, case, &mut hits)?;
    }
    Ok((routed, escalated))
}

/// Adds to a job what came with the case, and writes it.
fn finish(
    tx: &mut Tx<'_>,
    job: &mut Job,
    case: &Case,
    hits: &mut Vec<index::Position>,
) -> Result<(), StoreError> {
    for position in hits.drain(..) {
        add_hit(tx, job, position)?;
    }
    if let Some(report) = &case.report {
        job.add_report(&report.id);
        report.thread.iter().for_each(|item| job.add_thread(item));
    }
    let unknown = case.item.media.iter().find_map(|media| match &media.screening {
        Screening::Unknown { why } => {
            Some(format!("{} could not be compared with the banks: {why}", media.field))
        }
        _ => None,
    });
    if job.trouble.is_none() {
        job.trouble = unknown;
    }
    put_job(tx, job);
    Ok(())
}

fn reason(case: &Case, rule: Option<&Rule>, now_ms: u64) -> Reason {
    Reason {
        at_ms: now_ms,
        item: case.item.key.clone(),
        words: case.in_words(),
        rule: rule.map(|rule| rule.name.clone()),
        rule_version: rule.map(|rule| rule.version),
        verdict: rule.map_or(Verdict::Review, |rule| rule.verdict),
    }
}

/// The trusted bank that the case matched.
fn trusted_bank(catalog: &Catalog, case: &Case) -> Option<String> {
    let trusted = &catalog.settings.trusted_banks;
    case.matches.iter().map(|found| &found.hit.bank_name).find(|bank| trusted.contains(bank)).cloned()
}

/// What an automatic report says: what matched, as nobody looked at it.
fn automatic_words(tx: &Tx<'_>, job: &Job, incident_type: IncidentType) -> Result<ReportWords, StoreError> {
    let matched = media_of(tx, job.id, 0, usize::MAX)?.into_iter().filter(|media| !media.matches.is_empty());
    let decided = matched.map(|media| MediaDecision {
        media: media.number,
        classification: Classification::Unclassified,
        annotations: Vec::new(),
        viewed: false,
        unviewable: None,
    });
    Ok(ReportWords {
        incident_type,
        escalate: None,
        additional_info: None,
        media: decided.collect(),
        supplemental_files: Vec::new(),
        threads: Vec::new(),
        contents: Vec::new(),
    })
}

/// What rules do besides placing, each thing once however many rules say it.
fn act(
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    case: &Case,
    firing: &[Firing<'_>],
    now_ms: u64,
) -> Result<(), DeskError> {
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut banks: BTreeSet<&str> = BTreeSet::new();
    for Firing { action, .. } in firing {
        match action {
            Action::Webhook { name } if told.insert(name) => {
                let rules: Vec<&Rule> =
                    firing.iter().filter(|other| other.action == *action).map(|other| other.rule).collect();
                outbox::put_delivery(tx, name, body(catalog, case, name, &rules), now_ms)?;
            }
            Action::AddToBank { bank } if banks.insert(bank) => {
                let note = format!("item {} of type {}", case.item.key.id, case.item.key.type_id);
                for media in case.item.media.iter().filter(|media| !media.signals.is_empty()) {
                    outbox::put_addition(tx, bank, media.signals.clone(), note.clone(), now_ms)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a webhook is told, in the words of Coop's custom actions (specs/coop.md 4.2), and what matched.
fn body(catalog: &Catalog, case: &Case, webhook: &str, rules: &[&Rule]) -> Value {
    let key = &case.item.key;
    let type_name = catalog.types.get(&key.type_id).map_or(key.type_id.as_str(), |of| of.name.as_str());
    json!({
        "item": { "id": key.id, "typeId": key.type_id, "typeName": type_name },
        "policies": case.report.iter().filter_map(|report| report.policy_id.as_ref()).map(|id| json!({ "id": id })).collect::<Vec<_>>(),
        "rules": rules.iter().map(|rule| json!({ "id": rule.name, "name": rule.name, "version": rule.version })).collect::<Vec<_>>(),
        "action": { "id": webhook },
        "custom": {},
        "matches": case.matches.iter().take(100).map(|found| json!({
            "bank": found.hit.bank_name, "content": found.hit.content, "signalType": found.signal_type,
            "distance": found.hit.distance,
        })).collect::<Vec<_>>(),
        "source": match case.source { Source::Upload => "upload", Source::Items => "items", Source::Report => "report" },
    })
}

/// Makes an NCMEC job of what a person escalates out of a review job, and ends that one. `user` where a person knows who
/// is behind it.
pub fn escalate_job(
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    from: &mut Job,
    user: Option<crate::desk::item::ItemKey>,
    reviewer: &str,
    now_ms: u64,
) -> Result<Job, DeskError> {
    if from.kind == JobKind::Ncmec {
        return Err(DeskError::Conflict { problem: format!("job {} is an NCMEC job already", from.id) });
    }
    let of = item(tx, &from.subject)?.unwrap_or_else(|| Item::bare(from.subject.clone(), now_ms));
    let Some(user) = user.or_else(|| of.user().cloned()) else {
        return Err(DeskError::field(
            "/user",
            format!("no user is known behind item {}: name one as {{\"id\", \"typeId\"}}", from.subject.id),
        ));
    };
    let words = from.reasons.first().map_or(String::new(), |reason| format!(" ({})", reason.words));
    let reason = Reason {
        at_ms: now_ms,
        item: of.key.clone(),
        words: format!("escalated by {reviewer}{words}"),
        rule: None,
        rule_version: None,
        verdict: Verdict::Review,
    };
    let what = Escalation { item: &of, user: Some(user), queue: None, reason, csam: false, now_ms };
    let mut job = escalate(tx, &catalog.settings, what)?;
    from.reports.iter().for_each(|report| job.add_report(report));
    from.threads.iter().for_each(|thread| job.add_thread(thread));
    put_job(tx, &job);
    let decided = Decision {
        job: from.id,
        kind: DecisionKind::EnqueueNcmec,
        by: Decider::Reviewer { name: reviewer.to_string() },
        at_ms: now_ms,
        revision: from.revision,
        request: None,
        reason: None,
        webhooks: Vec::new(),
        report: None,
    };
    decision::record(tx, from, &decided, now_ms)?;
    if let Some(closed) = &mut from.closed {
        closed.became = Some(job.id);
    }
    put_job(tx, from);
    Ok(job)
}

/// A rule without the others, for its replay.
pub fn holds(compiled: &Compiled, case: &Case) -> Outcome {
    compiled.evaluate(&case.facts(), &mut |_, _| {})
}
