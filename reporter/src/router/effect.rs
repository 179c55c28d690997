//! What follows when rules have spoken: jobs, automatic decisions, webhooks, bank additions; and what a person escalates.

use std::collections::BTreeSet;

use index::store::StoreError;
use serde_json::{Value, json};

use super::case::Case;
use super::policy::Catalog;
use super::rule::{Action, Rule};
use super::settle::{Firing, Placing, Routed, Way};
use super::table::Source;
use crate::desk::decision::{self, Decider, Decision, DecisionKind, MediaDecision, ReportWords};
use crate::desk::incident::{Classification, IncidentType};
use crate::desk::item::{Found, Item, Screening, item};
use crate::desk::job::{Enqueue, Job, JobKind, PRIORITY, PRIORITY_CSAM, Reason, add_hit, enqueue, put_job};
use crate::desk::ncmec::{Escalation, JobMedia, add_media, escalate, media_of};
use crate::desk::queue::{QueueName, Verdict};
use crate::desk::{outbox, settings};
use crate::error::DeskError;
use crate::tip::organisation::organisation;
use crate::tx::Tx;

/// Writes the jobs; says whether one of them is NCMEC's. The case's hits belong to the first of them.
pub fn carry_out(
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    case: &Case,
    placing: Placing<'_>,
    now_ms: u64,
) -> Result<(Vec<Routed>, bool), DeskError> {
    let mut routed = Vec::new();
    let mut hits = case.hits.clone();
    // A rule that may not decide alone still sends to where people do.
    let ncmec =
        placing.ncmec.or(placing.decide.map(|(rule, _)| (None, Way { rule: Some(rule), priority: None })));
    let escalated = ncmec.is_some();
    if let Some((queue, way)) = ncmec {
        let what = Escalation {
            item: &case.item,
            user: None,
            queue: queue.as_ref(),
            reason: reason(case, way.rule, now_ms),
            priority: priority(case, way),
            now_ms,
        };
        let mut job = escalate(tx, &catalog.settings, what)?;
        let is_new = job.reasons_total == 1;
        routed.push(Routed::new(way.rule, &job.queue, hits.len()));
        finish(tx, &mut job, case, &mut hits, now_ms)?;
        // Only what no person has begun to look at.
        if let Some((rule, incident)) = placing.decide
            && is_new
            && job.kind == JobKind::Ncmec
            && let Some(bank) = trusted_bank(catalog, case)
        {
            let words = automatic_words(tx, catalog, &job, incident)?;
            let by = Decider::Automatic { rule: rule.name.clone(), rule_version: rule.version, bank };
            decide_alone(tx, &mut job, by, words, now_ms)?;
        }
    }
    for (queue, way) in placing.review {
        let what = Enqueue {
            kind: JobKind::Review,
            subject: &case.item.key,
            queue: &queue,
            priority: priority(case, way),
            reason: reason(case, way.rule, now_ms),
            now_ms,
        };
        let mut job = enqueue(tx, what)?;
        routed.push(Routed::new(way.rule, &queue, hits.len()));
        finish(tx, &mut job, case, &mut hits, now_ms)?;
    }
    Ok((routed, escalated))
}

/// Where a case stands in its queue: where its rule says, or before the others if it is reported as child abuse.
fn priority(case: &Case, way: Way<'_>) -> u8 {
    let csam = case.report.as_ref().is_some_and(|report| report.csam);
    way.priority.unwrap_or(if csam { PRIORITY_CSAM } else { PRIORITY })
}

/// Decides a job without a person. It is recorded as that: nobody viewed anything, and nothing is classified.
fn decide_alone(
    tx: &mut Tx<'_>,
    job: &mut Job,
    by: Decider,
    words: ReportWords,
    now_ms: u64,
) -> Result<(), DeskError> {
    let decided = Decision {
        job: job.id,
        kind: DecisionKind::Report,
        by,
        at_ms: now_ms,
        revision: job.revision,
        request: None,
        reason: None,
        webhooks: Vec::new(),
        report: Some(words),
    };
    decision::record(tx, job, &decided, now_ms)
}

/// Adds to a job what came with the case, and writes it.
fn finish(
    tx: &mut Tx<'_>,
    job: &mut Job,
    case: &Case,
    hits: &mut Vec<index::Position>,
    now_ms: u64,
) -> Result<(), StoreError> {
    if job.kind == JobKind::Review {
        let fetchable = case.shown().filter(|media| media.url.is_some());
        add_media(tx, job, &case.item, fetchable, Some(&case.in_words()), now_ms)?;
    }
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
    case.matches.iter().find(|found| is_trusted(catalog, found)).map(|found| found.hit.bank_name.clone())
}

fn is_trusted(catalog: &Catalog, found: &Found) -> bool {
    catalog.settings.trusted_banks.contains(&found.hit.bank_name)
}

/// What an automatic report says: what matched in trusted banks, and nothing else of the user's, as nobody looked at it.
fn automatic_words(
    tx: &Tx<'_>,
    catalog: &Catalog,
    job: &Job,
    incident_type: IncidentType,
) -> Result<ReportWords, StoreError> {
    let trusted = |media: &JobMedia| media.matches.iter().any(|found| is_trusted(catalog, found));
    let matched = media_of(tx, job.id, 0, usize::MAX)?.into_iter().filter(trusted);
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
pub fn act(
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
                for media in case.meant() {
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

/// Where new NCMEC jobs wait of the organisation for which a job's queue reports; none if it has set none.
fn queue_of(tx: &Tx<'_>, job: &Job) -> Result<Option<QueueName>, StoreError> {
    let whose = settings::queue(tx, &job.queue)?.and_then(|queue| queue.organisation).unwrap_or_default();
    Ok(organisation(tx, &whose)?.and_then(|organisation| organisation.queue))
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
    let queue = queue_of(tx, from)?;
    let what =
        Escalation { item: &of, user: Some(user), queue: queue.as_ref(), reason, priority: PRIORITY, now_ms };
    let words = what.reason.words.clone();
    let mut job = escalate(tx, &catalog.settings, what)?;
    // What the reviewer saw comes along, also what the item no longer keeps.
    job.media_truncated |= from.media_truncated;
    for listed in media_of(tx, from.id, 0, usize::MAX)? {
        let its = Item { created_ms: listed.created_ms, ..Item::bare(listed.item.clone(), now_ms) };
        add_media(tx, &mut job, &its, &[listed.into_media()], Some(&words), now_ms)?;
    }
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
