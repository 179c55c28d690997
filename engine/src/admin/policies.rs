//! What operators set: item types, rules, queues, webhooks, settings. What a rule names must be there, and what a rule
//! names is not taken away under it.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use reporter::access::is_child_safety;
use reporter::desk::kind::ItemType;
use reporter::desk::settings::{self, Queue, Settings, Webhook};
use reporter::router::evaluation::{self, Evaluation};
use reporter::router::policy::{self, Names, TableRules};
use reporter::router::replay::{Replayed, replay};
use reporter::router::rule::{Rule, read_name};
use reporter::router::table::Compiled;
use reporter::{At, DeskError, FieldError, Tx};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::blocking;
use super::deed::Deed;
use super::organisations::unnamed;
use super::{Admin, Refusal};
use crate::access::Caller;
use crate::clock::now_ms;

const DAY_MS: u64 = 24 * 3_600_000;
const PAGE_MAX: usize = 1000;

type Body = Result<Json<Value>, JsonRejection>;

/// `GET /api/v1/item-types`
pub async fn item_types(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<ItemType>>, Refusal> {
    let catalog = admin.loaded()?.submitter.catalog.load_full();
    Ok(Json(catalog.types.values().cloned().collect()))
}

/// `GET /api/v1/item-types/{id}`
pub async fn item_type(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<ItemType>, Refusal> {
    let catalog = admin.loaded()?.submitter.catalog.load_full();
    catalog.types.get(&id).cloned().map(Json).ok_or_else(|| missing("item type", &id))
}

fn missing(what: &'static str, name: &str) -> Refusal {
    DeskError::NotFound { what, name: name.to_string() }.into()
}

fn named<'v>(name: &'v Value, pointer: &str) -> At<'v> {
    At::new(name, pointer)
}

/// `PUT /api/v1/item-types/{id}`: describes a type, or changes it; each change is a version.
pub async fn put_item_type(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<ItemType>, Refusal> {
    let Json(body) = body?;
    let given = json!(id);
    let id = named(&given, "id in the path").id().map_err(DeskError::from)?.to_string();
    let new = ItemType::read(&id, &At::new(&body, "")).map_err(DeskError::from)?;
    let deed = Deed::new(&caller, "item_type.change", format!("item type {id}"));
    let kept = admin.loaded()?.act(deed, move |turn, deed| {
        turn.catalog_changed = true;
        let kept = settings::put_item_type(&mut turn.tx, new)?;
        deed.tell(json!({ "version": kept.version }));
        Ok(kept)
    });
    Ok(Json(kept.await?))
}

/// `DELETE /api/v1/item-types/{id}`
pub async fn remove_item_type(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let deed = Deed::new(&caller, "item_type.remove", format!("item type {id}"));
    let removed = admin.loaded()?.act(deed, move |turn, _| {
        if !turn.terms.catalog.types.contains_key(&id) {
            return Err(DeskError::NotFound { what: "item type", name: id });
        }
        unused("item type", &id, policy::rules_that(&turn.tx, |rule| policy::speaks_of(rule, &id))?)?;
        settings::forget_item_type(&mut turn.tx, &id);
        turn.catalog_changed = true;
        Ok(())
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses to take away what rules name.
pub fn unused(what: &str, name: &str, rules: Vec<String>) -> Result<(), DeskError> {
    if rules.is_empty() {
        return Ok(());
    }
    Err(DeskError::Conflict {
        problem: format!("the {what} '{name}' is named by rules: {}; change those first", rules.join(", ")),
    })
}

/// `GET /api/v1/rules`: each in its newest version, with what it does now.
pub async fn rules(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<Value>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let mut rules = policy::rules(&Tx::new(&*store))?;
        rules.sort_by(|one, other| (one.order, &one.name).cmp(&(other.order, &other.name)));
        Ok(Json(rules.iter().map(shown).collect()))
    })
    .await
}

fn shown(rule: &Rule) -> Value {
    let mut shown = json!(rule);
    shown["state_now"] = json!(rule.state_at(now_ms()));
    shown
}

/// `GET /api/v1/rules/{name}`
pub async fn rule(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let rule = policy::rule(&Tx::new(&*store), &name)?.ok_or_else(|| missing("rule", &name))?;
        Ok(Json(shown(&rule)))
    })
    .await
}

/// `GET /api/v1/rules/{name}/versions`
pub async fn versions(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Rule>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let versions = policy::versions(&Tx::new(&*store), &name)?;
        if versions.is_empty() { Err(missing("rule", &name)) } else { Ok(Json(versions)) }
    })
    .await
}

/// Reads a rule, and that what it names is there.
fn read_rule(admin: &Admin, name: &str, body: &Value) -> Result<Rule, Refusal> {
    let loaded = admin.loaded()?;
    let (state, catalog) = (loaded.banks.state_owned(), loaded.submitter.catalog.load_full());
    let names = Names { catalog: &catalog, bank: &|bank| state.directory.named(bank).is_some() };
    let given = json!(name);
    let read = read_name(&named(&given, "name in the path"))
        .and_then(|name| Rule::read(&name, &At::new(body, ""), Some(&names)));
    Ok(read.map_err(DeskError::from)?)
}

/// `PUT /api/v1/rules/{name}`: makes a rule, or changes it; each change is a version.
pub async fn put_rule(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body?;
    let rule = read_rule(&admin, &name, &body)?;
    let deed = Deed::new(&caller, "rule.change", format!("rule {name}"));
    let kept = admin.loaded()?.act(deed, move |turn, deed| {
        turn.catalog_changed = true;
        let kept = policy::put_rule(&mut turn.tx, rule, turn.terms.now_ms)?;
        deed.tell(json!({ "version": kept.version }));
        Ok(kept)
    });
    Ok(Json(shown(&kept.await?)))
}

/// `DELETE /api/v1/rules/{name}`: takes a rule out; its versions stay.
pub async fn remove_rule(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let deed = Deed::new(&caller, "rule.remove", format!("rule {name}"));
    let kept = admin.loaded()?.act(deed, move |turn, _| {
        let rule =
            policy::rule(&turn.tx, &name)?.ok_or(DeskError::NotFound { what: "rule", name: name.clone() })?;
        if rule.from_file {
            return Err(DeskError::Conflict {
                problem: format!("'{name}' comes from the rules file: take it out there"),
            });
        }
        turn.catalog_changed = true;
        policy::archive(&mut turn.tx, &name, "", turn.terms.now_ms)
    });
    Ok(Json(shown(&kept.await?)))
}

/// `POST /api/v1/rules/replay {"rule": {…} | "name": "…", "days"?, "samples"?}`: what a rule would have done with the hits
/// of the last days.
pub async fn replay_rule(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Replayed>, Refusal> {
    let Json(body) = body?;
    let at = At::new(&body, "");
    let read = || -> Result<_, DeskError> {
        at.only(&["rule", "name", "days", "samples"])?;
        let days = at.field("days")?.map_or(Ok(7.0), |days| days.number(0.0, 3650.0))?;
        let samples = at.field("samples")?.map_or(Ok(10), |samples| samples.whole(0, 100))?;
        let name = at.field("name")?.map(|name| name.text().map(str::to_string)).transpose()?;
        Ok((days, samples as usize, name))
    };
    let (days, samples, name) = read()?;
    let store = admin.loaded()?.cases.clone();
    let rule = match (name, body.get("rule")) {
        (None, Some(rule)) => read_rule(&admin, rule["name"].as_str().unwrap_or("the rule"), rule)?,
        (Some(name), None) => {
            policy::rule(&Tx::new(&*store), &name)?.ok_or_else(|| missing("rule", &name))?
        }
        _ => return Err(DeskError::field("", "give the rule, or the name of one").into()),
    };
    let compiled = Compiled::new(rule).map_err(DeskError::from)?;
    let since_ms = now_ms().saturating_sub((days * DAY_MS as f64) as u64);
    let turn = admin.turns.of(&caller).await?;
    blocking(move || {
        let _turn = turn;
        Ok(Json(replay(&*store, &compiled, since_ms, samples)?))
    })
    .await
}

/// Which evaluations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationsQuery {
    /// Those after this one, `ms-number`; or since a time in milliseconds.
    after: Option<String>,
    /// At most; 100 if absent, 1000 at most.
    limit: Option<usize>,
}

/// `GET /api/v1/evaluations[?after=ms-number][&limit=N]`: what rules said, oldest first.
pub async fn evaluations(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<EvaluationsQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query?;
    let after = match query.after.as_deref() {
        None => (0, 0),
        Some(text) => {
            evaluation::read_id(text).or_else(|| Some((text.parse().ok()?, 0))).ok_or_else(|| {
                Refusal::bad("after: use ms-number, as 'next' has it, or milliseconds since 1970")
            })?
        }
    };
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        let mut entries: Vec<Evaluation> = evaluation::after(&Tx::new(&*store), after, limit + 1)?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let mut page = json!({ "entries": entries });
        if let Some(last) = entries.last().filter(|_| more) {
            page["next"] = json!(format!("{}-{}", last.at_ms, last.number));
        }
        Ok(Json(page))
    })
    .await
}

/// `GET /api/v1/rule-tables/{version}`: which rules in which versions an evaluation's table had.
pub async fn table(
    State(admin): State<Arc<Admin>>,
    Path(version): Path<String>,
) -> Result<Json<TableRules>, Refusal> {
    let number = version.parse().map_err(|_| Refusal::bad(format!("'{version}' is not a table's number")))?;
    let store = admin.loaded()?.cases.clone();
    blocking(move || {
        policy::table_rules(&Tx::new(&*store), number)?
            .map(Json)
            .ok_or_else(|| missing("rule table", &version))
    })
    .await
}

/// `GET /api/v1/webhooks`
pub async fn webhooks(State(admin): State<Arc<Admin>>) -> Result<Json<Vec<Webhook>>, Refusal> {
    let store = admin.loaded()?.cases.clone();
    blocking(move || Ok(Json(settings::webhooks(&Tx::new(&*store))?))).await
}

/// `PUT /api/v1/webhooks/{name} {"url", "enabled"?}`
pub async fn put_webhook(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Webhook>, Refusal> {
    let Json(body) = body?;
    let given = json!(name);
    let read = || -> Result<Webhook, FieldError> {
        let name = read_name(&named(&given, "name in the path"))?;
        Webhook::read(&name, &At::new(&body, ""))
    };
    let webhook = read().map_err(DeskError::from)?;
    let kept = webhook.clone();
    let deed = Deed::new(&caller, "webhook.change", format!("webhook {}", webhook.name));
    let deed = deed.with(json!({ "enabled": webhook.enabled }));
    let put = admin.loaded()?.act(deed, move |turn, _| {
        settings::put_webhook(&mut turn.tx, &webhook);
        turn.catalog_changed = true;
        Ok(())
    });
    put.await?;
    Ok(Json(kept))
}

/// `DELETE /api/v1/webhooks/{name}`
pub async fn remove_webhook(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let deed = Deed::new(&caller, "webhook.remove", format!("webhook {name}"));
    let removed = admin.loaded()?.act(deed, move |turn, _| {
        if settings::webhook(&turn.tx, &name)?.is_none() {
            return Err(DeskError::NotFound { what: "webhook", name });
        }
        unused("webhook", &name, policy::rules_that(&turn.tx, |rule| policy::tells(rule, &name))?)?;
        unnamed(&turn.tx, "webhook", &name, |one| one.actions_on_report.contains(&name))?;
        settings::forget_webhook(&mut turn.tx, &name);
        turn.catalog_changed = true;
        Ok(())
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/settings`
pub async fn show_settings(State(admin): State<Arc<Admin>>) -> Result<Json<Settings>, Refusal> {
    Ok(Json(admin.loaded()?.submitter.catalog.load_full().settings.clone()))
}

/// `PUT /api/v1/settings`: changes those that are given.
pub async fn put_settings(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Settings>, Refusal> {
    let Json(body) = body?;
    let mut told = body.clone();
    if let Some(url) = told.get_mut("partial_items_url") {
        *url = json!("changed"); // it may hold a secret of the platform's
    }
    let deed = Deed::new(&caller, "settings.change", "settings").with(told);
    let kept = admin.loaded()?.act(deed, move |turn, _| {
        let before = settings::settings(&turn.tx)?;
        let changed = before.changed(&At::new(&body, ""))?;
        if let Some(name) = &changed.alarm_webhook
            && settings::webhook(&turn.tx, name)?.is_none()
        {
            return Err(DeskError::field("/alarm_webhook", format!("there is no webhook '{name}'")));
        }
        // What lies in a queue for child safety stays child safety data when another queue takes its place.
        for former in [&before.ncmec_queue, &before.triage_queue] {
            if !is_child_safety(&changed, former, None) {
                let own = settings::queue(&turn.tx, former)?.unwrap_or_else(|| Queue::new(former.clone()));
                settings::put_queue(&mut turn.tx, &Queue { child_safety: true, ..own });
            }
        }
        settings::put_settings(&mut turn.tx, &changed);
        turn.catalog_changed = true;
        Ok(changed)
    });
    Ok(Json(kept.await?))
}

/// `PUT /api/v1/settings/trusted-banks {"banks": […], "by": "…"}`: matches in these banks may be decided without a person,
/// where a rule says so. Off until somebody switches it on here, by name.
pub async fn trust(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<Settings>, Refusal> {
    let Json(body) = body?;
    let state = admin.loaded()?.banks.state_owned();
    let at = At::new(&body, "");
    let read = || -> Result<(Vec<String>, String), FieldError> {
        at.only(&["banks", "by"])?;
        let mut banks = Vec::new();
        for bank in at.need("banks")?.list()? {
            let name = bank.text()?;
            if state.directory.named(name).is_none() {
                return Err(bank.wrong(format!("there is no bank '{name}'")));
            }
            banks.push(name.to_string());
        }
        let by = match (caller.person(), at.field("by")?) {
            (Some(person), None) => person.to_string(),
            (Some(person), Some(by)) if by.text()? != person => {
                return Err(by.wrong(format!("is not you: you are '{person}'")));
            }
            _ => at.need("by")?.words(128)?.to_string(),
        };
        Ok((banks, by))
    };
    let (banks, by) = read().map_err(DeskError::from)?;
    tracing::warn!(?banks, by, "banks whose matches may be decided without a person");
    let deed =
        Deed::new(&caller, "settings.trust", "trusted banks").with(json!({ "banks": banks, "by": by }));
    let kept = admin.loaded()?.act(deed, move |turn, _| {
        let changed = Settings {
            trusted_banks: banks,
            trusted_by: Some(by),
            trusted_ms: Some(turn.terms.now_ms),
            ..settings::settings(&turn.tx)?
        };
        settings::put_settings(&mut turn.tx, &changed);
        turn.catalog_changed = true;
        Ok(changed)
    });
    Ok(Json(kept.await?))
}
