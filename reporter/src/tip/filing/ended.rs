//! The end of a filing: that it is filed, and what follows of that, in one commit.

use serde_json::json;

use super::rows::{put, put_filed};
use super::{FileKind, Filed, Stage, Tip};
use crate::audit;
use crate::cyber_tipline::Environment;
use crate::desk::ncmec::media_of;
use crate::desk::{alarm, outbox, retention};
use crate::error::DeskError;
use crate::tip::organisation::organisation;
use crate::tx::Tx;

/// Before the name of an organisation whose preservation endpoint a delivery goes to; no webhook's name begins so.
pub const PRESERVATION: &str = "@preservation/";

/// Ends a filing as filed; `who` says so.
pub(super) fn conclude(
    tx: &mut Tx<'_>,
    before: &Tip,
    mut done: Tip,
    filed: Filed,
    who: &str,
    now_ms: u64,
) -> Result<(), DeskError> {
    let job = done.job;
    (done.stage, done.held) = (Stage::Filed, None);
    done.filed = Some(filed.clone());
    put(tx, Some(before), &done);
    put_filed(tx, &done, &filed);
    outbox::end_filing(tx, job, done.decided_ms);
    retention::finished(tx, job, now_ms)?;
    if !filed.missing.is_empty() {
        let words = format!(
            "CyberTip {} is filed, and NCMEC does not list {} of its files: tell NCMEC, quoting its records",
            filed.report_id,
            filed.missing.len()
        );
        alarm::raise(tx, "tip.files_missing", &format!("job {job}"), &words, true, now_ms)?;
    }
    if done.environment == Environment::Production {
        tell_platform(tx, &done, filed.report_id, now_ms)?;
    }
    let details = json!({
        "report_id": filed.report_id,
        "environment": done.environment,
        "files_verified": filed.verified,
    });
    let entry = audit::Entry {
        who: who.to_string(),
        action: "tip.filed".to_string(),
        about: format!("job {job}"),
        details,
        child_safety: true,
    };
    audit::append(tx, entry, now_ms)?;
    Ok(())
}

/// The preservation webhook, and what the organisation wants told after a report (the seed, 'Preservation endpoint').
fn tell_platform(tx: &mut Tx<'_>, done: &Tip, report_id: i64, now_ms: u64) -> Result<(), DeskError> {
    let Some(of) = organisation(tx, &done.organisation)? else { return Ok(()) };
    if of.preservation_url.is_some() {
        let mut media = Vec::new();
        for file in &done.files {
            let FileKind::Media { media: number } = &file.kind else { continue };
            let listed = media_of(tx, done.job, number.saturating_sub(1), 1)?;
            for listed in listed.into_iter().filter(|listed| listed.number == *number) {
                if !media.contains(&listed.item) {
                    media.push(listed.item);
                }
            }
        }
        let body = json!({ "user": done.user, "reportedMedia": media, "reportId": report_id.to_string() });
        outbox::put_delivery(tx, &format!("{PRESERVATION}{}", done.organisation), body, now_ms)?;
    }
    for name in &of.actions_on_report {
        let body = json!({
            "item": done.user,
            "action": { "id": name },
            "policies": [], "rules": [], "custom": {},
            "job": done.job,
            "reportId": report_id.to_string(),
        });
        outbox::put_delivery(tx, name, body, now_ms)?;
    }
    Ok(())
}
