//! For whom is reported to NCMEC: organisations' settings and credentials. Credentials go in and never come out.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use reporter::access::{Sight, is_child_safety};
use reporter::desk::settings;
use reporter::tip::organisation::{self, Credentials, OrgName, Organisation};
use reporter::{At, DeskError, Tx};
use serde::Serialize;
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::circuits::Part;

type Body = Result<Json<Value>, JsonRejection>;

/// An organisation as it is shown.
#[derive(Serialize)]
pub struct Shown {
    #[serde(flatten)]
    organisation: Organisation,
    /// What may be known of its credentials.
    credentials: Value,
}

impl Shown {
    fn new(tx: &Tx<'_>, organisation: Organisation) -> Result<Self, DeskError> {
        let credentials = organisation::credentials(tx, &organisation.name)?;
        let credentials = credentials.map_or(json!({ "set": false }), |kept| known(&kept));
        Ok(Self { organisation, credentials })
    }
}

fn known(credentials: &Credentials) -> Value {
    json!({ "set": true, "username": credentials.username, "environment": credentials.environment })
}

/// An organisation's name, as paths have it.
fn name(text: &str) -> Result<OrgName, Refusal> {
    let given = json!(text);
    Ok(settings::organisation_name(&At::new(&given, "name in the path")).map_err(DeskError::from)?)
}

fn found(tx: &Tx<'_>, name: &OrgName) -> Result<Organisation, DeskError> {
    let found = organisation::organisation(tx, name)?;
    found.ok_or_else(|| DeskError::NotFound { what: "organisation", name: name.to_string() })
}

/// `GET /api/v1/organisations`
pub async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<Shown>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let tx = Tx::new(&*store);
        let all = organisation::organisations(&tx)?.into_iter();
        Ok(Json(all.map(|one| Shown::new(&tx, one)).collect::<Result<_, _>>()?))
    })
    .await
}

/// `GET /api/v1/organisations/{name}`
pub async fn show(State(admin): State<Arc<Admin>>, Path(text): Path<String>) -> Result<Json<Shown>, Refusal> {
    let (name, store) = (name(&text)?, admin.loaded()?.cases.clone());
    blocking(move || {
        let tx = Tx::new(&*store);
        Ok(Json(Shown::new(&tx, found(&tx, &name)?)?))
    })
    .await
}

/// `PUT /api/v1/organisations/{name}`: sets an organisation up, or changes it: what is not given is as if never set.
pub async fn put(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Json<Shown>, Refusal> {
    let Json(body) = body?;
    let new = Organisation::read(name(&text)?, &At::new(&body, "")).map_err(DeskError::from)?;
    let sight = caller.sight();
    // URLs and texts are not told: they may hold secrets of the platform's.
    let told = json!({
        "internet_detail": new.internet_detail,
        "industry_classification": new.industry_classification,
        "queue": new.queue,
        "actions_on_report": new.actions_on_report,
        "at_once": new.at_once,
    });
    let deed = Deed::new(&caller, "organisation.change", format!("organisation {}", new.name)).with(told);
    let kept = admin.loaded()?.act(deed, move |turn, _| {
        check(&turn.tx, &sight, &new)?;
        organisation::put_organisation(&mut turn.tx, &new);
        Shown::new(&turn.tx, new)
    });
    Ok(Json(kept.await?))
}

/// That what an organisation names is there: webhooks, and a queue for child safety data that reports for it.
fn check(tx: &Tx<'_>, sight: &Sight, new: &Organisation) -> Result<(), DeskError> {
    for (at, action) in new.actions_on_report.iter().enumerate() {
        if settings::webhook(tx, action)?.is_none() {
            let pointer = format!("/actions_on_report/{at}");
            return Err(DeskError::field(pointer, format!("there is no webhook '{action}'")));
        }
    }
    let Some(name) = &new.queue else { return Ok(()) };
    let refuse = |problem: String| Err(DeskError::field("/queue", problem));
    let (all, own) = (settings::settings(tx)?, settings::queue(tx, name)?);
    let Some(queue) = own.filter(|queue| sight.sees_queue(&all, name, Some(queue))) else {
        return refuse(format!("there is no queue '{name}': set it up first"));
    };
    if !is_child_safety(&all, name, Some(&queue)) {
        return refuse(format!("'{name}' is not for child safety data: set its 'child_safety' first"));
    }
    if queue.organisation.unwrap_or_default() != new.name {
        return refuse(format!(
            "what is decided in '{name}' is reported for another organisation: set its 'organisation' first"
        ));
    }
    Ok(())
}

/// Refuses to take away what organisations name.
pub fn unnamed(
    tx: &Tx<'_>,
    what: &str,
    name: &str,
    names: impl Fn(&Organisation) -> bool,
) -> Result<(), DeskError> {
    let all = organisation::organisations(tx)?;
    let naming: Vec<&str> = all.iter().filter(|one| names(one)).map(|one| one.name.as_str()).collect();
    if naming.is_empty() {
        return Ok(());
    }
    let problem =
        format!("the {what} '{name}' is named by organisations: {}; change those first", naming.join(", "));
    Err(DeskError::Conflict { problem })
}

/// `PUT /api/v1/organisations/{name}/credentials {"username", "password", "environment"}`
pub async fn put_credentials(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let (name, Json(body)) = (name(&text)?, body?);
    let new = Credentials::read(&At::new(&body, "")).map_err(DeskError::from)?;
    let deed = Deed::new(&caller, "organisation.credentials", format!("organisation {name}"));
    let deed = deed.with(json!({ "environment": new.environment }));
    let of = name.clone();
    let kept = admin.loaded()?.act(deed, move |turn, _| {
        found(&turn.tx, &name)?;
        organisation::put_credentials(&mut turn.tx, &name, &new);
        Ok(known(&new))
    });
    let kept = kept.await?;
    // Whether these are right is asked now, not when the old ones would have been asked about again.
    admin.circuits.hurry(&Part::Organisation(of), Instant::now());
    admin.loaded()?.filing.notify_one();
    Ok(Json(kept))
}

/// `DELETE /api/v1/organisations/{name}/credentials`: from then on nothing is reported for it.
pub async fn remove_credentials(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = name(&text)?;
    let deed = Deed::new(&caller, "organisation.forget_credentials", format!("organisation {name}"));
    let removed = admin.loaded()?.act(deed, move |turn, _| {
        if organisation::credentials(&turn.tx, &name)?.is_none() {
            return Err(DeskError::NotFound { what: "login of organisation", name: name.to_string() });
        }
        organisation::forget_credentials(&mut turn.tx, &name);
        Ok(())
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}
