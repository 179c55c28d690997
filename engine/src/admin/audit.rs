//! The audit log over HTTP, in pages; the last signed head for who keeps copies elsewhere, and proofs for who has no more
//! than those.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use reporter::access::Right;
use reporter::audit::{self, Filter, Page, Proof, Side, SignedHead};
use serde::Deserialize;

use super::cases::blocking;
use super::{Admin, Refusal};
use crate::access::Caller;

const PAGE_MAX: usize = 1000;

/// Which records.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Those after this number, oldest first.
    after: Option<u64>,
    /// Those before this number, newest first.
    before: Option<u64>,
    /// At most; 100 if absent, 1000 at most.
    limit: Option<usize>,
    action: Option<String>,
    who: Option<String>,
    about: Option<String>,
}

/// `GET /api/v1/audit[?after=N|before=N][&limit=N][&action=…][&who=…][&about=…]`: newest first; with `after`, oldest first.
pub async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Page>, Refusal> {
    let Query(AuditQuery { after, before, limit, action, who, about }) = query?;
    let side = match (after, before) {
        (Some(_), Some(_)) => return Err(Refusal::bad("give 'after' or 'before', not both")),
        (Some(after), None) => Side::After(after),
        (None, before) => Side::Before(before),
    };
    let (limit, filter) = (limit.unwrap_or(100).clamp(1, PAGE_MAX), Filter { action, who, about });
    // Others get what is child safety data sealed.
    let (store, sees) = (admin.loaded()?.cases.clone(), caller.rights.has(Right::ChildSafety));
    blocking(move || Ok(Json(audit::page(&*store, side, limit, &filter, sees)?))).await
}

/// `GET /api/v1/audit/head`: the last signed head.
pub async fn head(State(admin): State<Arc<Admin>>) -> Result<Json<SignedHead>, Refusal> {
    admin.loaded()?;
    last(&admin).map(Json)
}

fn last(admin: &Admin) -> Result<SignedHead, Refusal> {
    admin.metrics.audit.last().ok_or_else(|| Refusal::not_found("nothing of the audit log is signed yet"))
}

/// What is to be proven.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofQuery {
    /// That this record is in the log.
    record: Option<u64>,
    /// That the log begins with this earlier one, by its number of records.
    earlier: Option<u64>,
    /// Records of the log: the number of a signed head; of the last one if absent.
    size: Option<u64>,
}

/// `GET /api/v1/audit/proof?record=N|earlier=N[&size=N]`: see [`Proof`].
pub async fn proof(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ProofQuery>, QueryRejection>,
) -> Result<Json<Proof>, Refusal> {
    let Query(ProofQuery { record, earlier, size }) = query?;
    let (store, sees) = (admin.loaded()?.cases.clone(), caller.rights.has(Right::ChildSafety));
    let size = size.map_or_else(|| last(&admin).map(|head| head.number), Ok)?;
    blocking(move || {
        let proof = match (record, earlier) {
            (Some(record), None) => audit::inclusion(&*store, record, size, sees)?,
            (None, Some(earlier)) => audit::consistency(&*store, earlier, size)?,
            _ => return Err(Refusal::bad("give 'record' or 'earlier': what is to be proven")),
        };
        proof.map(Json).ok_or_else(|| {
            Refusal::not_found(format!(
                "there is no such proof: of a signed log of {size} records, 'record' is one from 1 on and 'earlier' the \
                 number of one that is smaller"
            ))
        })
    })
    .await
}
