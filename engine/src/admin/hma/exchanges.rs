//! `/c/exchanges` and `/c/exchange/NAME`: hash-sharing programmes and what is fetched from them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use index::bank::{BankChange, BankRequest};
use ingest::exchange::{APIS, Api, Field, api, check};
use reporter::access::Right;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use super::super::cases::blocking;
use super::Admin;
use super::answer::{Answer, Fault, json, message, text};
use super::fields::{Fields, json_body};
use crate::access::Caller;
use crate::exchanges::{Exchange, Exchanges};

fn exchanges(admin: &Admin) -> Result<Exchanges, Fault> {
    Ok(admin.loaded()?.exchanges.clone())
}

/// `GET /c/exchanges/apis`
pub async fn apis(State(admin): State<Arc<Admin>>) -> Answer {
    Ok(json(&APIS.iter().filter(|api| is_offered(&admin, api)).map(|api| json!(api.name)).collect()))
}

/// Whether a programme is there for this server: those that read files are not unless directories are named for them.
fn is_offered(admin: &Admin, api: &Api) -> bool {
    !api.reads_files || !admin.config.list_dirs.is_empty()
}

fn offered(admin: &Admin, name: &str) -> Option<&'static Api> {
    api(name).filter(|api| is_offered(admin, api))
}

fn no_api(name: &str) -> Fault {
    Fault::bad(format!("no such Exchange API '{name}'"))
}

/// `GET /c/exchanges/api/NAME`
pub async fn show_api(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Answer {
    let api = offered(&admin, &name).ok_or_else(|| no_api(&name))?;
    authentication(&admin, api).await
}

async fn authentication(admin: &Admin, api: &'static Api) -> Answer {
    let exchanges = exchanges(admin)?;
    let has = blocking(move || exchanges.has_credentials(api.name).map_err(Fault::from)).await?;
    Ok(json(
        &json!({ "has_set_authentification": has, "supports_authentification": api.credentials.is_some() }),
    ))
}

/// `POST /c/exchanges/api/NAME {"credential_json"?: {…}}`: an empty object removes what is stored.
pub async fn set_credentials(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let api = offered(&admin, &name).ok_or_else(|| no_api(&name))?;
    let Value::Object(given) = json_body(&headers, &body)? else {
        return Err(Fault::bad("this endpoint expects a json object payload"));
    };
    match given.get("credential_json") {
        None | Some(Value::Null) => {}
        Some(Value::Object(credentials)) => {
            let checked = if credentials.is_empty() { None } else { Some(known(api, credentials)?) };
            let exchanges = exchanges(&admin)?;
            blocking(move || exchanges.set_credentials(api.name, checked.as_ref()).map_err(Fault::from))
                .await?;
        }
        Some(_) => return Err(Fault::bad("Field `credential_json` must be object")),
    }
    authentication(&admin, api).await
}

fn known(api: &Api, credentials: &Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let fields = api.credentials.ok_or_else(|| Fault::bad(format!("{} takes no credentials", api.name)))?;
    if let Some(name) =
        credentials.keys().find(|name| !fields.iter().any(|field| field.name == name.as_str()))
    {
        return Err(Fault::bad(format!("{} has no credential field '{name}'", api.name)));
    }
    // The fault's words show what was sent, which may be a secret: the field's name must do.
    check(fields, credentials).map_err(|_| {
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        Fault::bad(format!("the credentials of {} are texts named {}", api.name, names.join(", ")))
    })
}

/// `GET /c/exchanges/api/NAME/schema`
pub async fn schema(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Answer {
    let api =
        offered(&admin, &name).ok_or_else(|| Fault::missing(format!("Exchange API '{name}' not found")))?;
    let shown = |fields: &[Field]| json!({ "fields": fields.iter().map(Field::shown).collect::<Vec<_>>() });
    Ok(json(&json!({
        "config_schema": shown(api.config),
        "credentials_schema": api.credentials.map_or(Value::Null, shown),
    })))
}

/// `GET /c/exchanges`
pub async fn list(State(admin): State<Arc<Admin>>) -> Answer {
    let exchanges = exchanges(&admin)?;
    Ok(json(&json!(blocking(move || exchanges.names().map_err(Fault::from)).await?)))
}

/// `POST /c/exchanges {"bank", "api", "api_json"?}`: makes the exchange and its bank.
pub async fn create(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let given = json_body(&headers, &body)?;
    let field = |name: &str| given.get(name).filter(|value| !value.is_null());
    let bank = field("bank").ok_or_else(|| Fault::bad("bank is required"))?;
    let fits = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let bank = bank.as_str().filter(|name| fits(name));
    let bank = bank.ok_or_else(|| Fault::bad("Field `bank` must match /^[A-Z0-9_]+$/"))?.to_string();
    let config = match field("api_json") {
        None => Map::new(),
        Some(Value::Object(config)) => config.clone(),
        Some(_) => return Err(Fault::bad("Field `api_json` must be object")),
    };
    let name =
        field("api").and_then(Value::as_str).ok_or_else(|| Fault::bad("Field `api_type` is required"))?;
    let api = offered(&admin, name).ok_or_else(|| Fault::bad(format!("No such exchange type '{name}'")))?;
    if api.reads_files && !caller.rights.has(Right::Admin) {
        let words =
            format!("an exchange of {name} reads files of the server: only an administrator makes one");
        return Err(Fault::Message(StatusCode::FORBIDDEN, words));
    }
    let unparsed = |fault: String| Fault::bad(format!("Failed to parse `api_json` - {fault}"));
    let enabled = match config.get("enabled") {
        None => true,
        Some(Value::Bool(enabled)) => *enabled,
        Some(_) => {
            return Err(unparsed("wrong value type for field \"enabled\" - should be \"bool\"".into()));
        }
    };
    let config = check(api.config, &config).map_err(unparsed)?;
    let exchange = Exchange { api: api.name.to_string(), enabled, config, status: Default::default() };
    let request = BankRequest {
        beside: Exchanges::row(&bank, &exchange),
        ..BankChange::Create { name: bank, enabled_ratio: 1.0 }.into()
    };
    admin.loaded()?.curator.change(request).await?;
    Ok(message(StatusCode::CREATED, "Created successfully"))
}

async fn find(admin: &Admin, name: &str) -> Result<Exchange, Fault> {
    let (exchanges, wanted) = (exchanges(admin)?, name.to_string());
    let found = blocking(move || exchanges.get(&wanted).map_err(Fault::from)).await?;
    found.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Fault {
    Fault::missing(format!("Exchange '{name}' not found"))
}

/// An exchange as HMA prints it: needed fields, name, programme, whether it is on, the other fields.
struct Shown<'a>(&'a str, &'a Exchange);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Shown(name, exchange) = self;
        let fields = api(&exchange.api).map_or(&[][..], |api| api.config);
        let value = |field: &Field| exchange.config.get(field.name);
        let mut map = serializer.serialize_map(None)?;
        for field in fields.iter().filter(|field| field.default.is_none()) {
            map.serialize_entry(field.name, &value(field))?;
        }
        map.serialize_entry("name", name)?;
        map.serialize_entry("api", &exchange.api)?;
        map.serialize_entry("enabled", &exchange.enabled)?;
        for field in fields.iter().filter(|field| field.default.is_some()) {
            map.serialize_entry(field.name, &value(field))?;
        }
        map.end()
    }
}

fn shown(name: &str, exchange: &Exchange) -> Response {
    // A map with text keys, written to memory: it cannot fail.
    let text_form = serde_json::to_string_pretty(&Shown(name, exchange)).unwrap_or_default();
    text(StatusCode::OK, "application/json", text_form)
}

/// `GET /c/exchange/NAME`
pub async fn show(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Answer {
    Ok(shown(&name, &find(&admin, &name).await?))
}

/// `GET /c/exchange/NAME/status`
pub async fn status(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Answer {
    let exchange = find(&admin, &name).await?;
    Ok(json(&json!(exchange.status)))
}

/// `PUT /c/exchange/NAME {"enabled"?}`
pub async fn update(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let mut fields = Fields::of_body(&headers, &body, "ExchangeUpdateRequest")?;
    let enabled = fields.truth("enabled");
    fields.done()?;
    let exchange = match enabled {
        None => find(&admin, &name).await?,
        Some(enabled) => {
            let (exchanges, wanted) = (exchanges(&admin)?, name.clone());
            let changed = blocking(move || exchanges.enable(&wanted, enabled).map_err(Fault::from)).await?;
            changed.ok_or_else(|| missing(&name))?
        }
    };
    Ok(shown(&name, &exchange))
}

/// `DELETE /c/exchange/NAME`, its bank with it; one that is not there is gone already.
pub async fn remove(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Answer {
    if find(&admin, &name).await.is_ok() {
        let exchanges = exchanges(&admin)?;
        let bank_there = admin.loaded()?.banks.state().directory.named(&name).is_some();
        if bank_there {
            let beside = Exchanges::deletion(&name);
            let request = BankRequest { beside, ..BankChange::Delete { name }.into() };
            admin.loaded()?.curator.change(request).await?;
        } else {
            blocking(move || exchanges.forget(&name).map_err(Fault::from)).await?;
        }
    }
    Ok(message(StatusCode::OK, "Exchange deleted"))
}
