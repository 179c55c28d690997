//! `/m/raw_lookup`, `/m/lookup` and `/m/compare`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use index::bank::{Ask, Bank, BankState};
use index::{BankId, FindScratch, Match, Nearest, Nearness, Row, Signal};
use serde_json::{Map, Value, json};

use super::super::Refusal;
use super::super::cases::blocking;
use super::Admin;
use super::answer::{Answer, Fault, json};
use super::coin::flip;
use super::fields::{Fields, Pairs, first, json_body};
use super::media::{self, Hashes, Upload};
use super::signals::{installed, parse};
use crate::access::{Caller, Seen};

/// Matches told of one signal, nearest first; beyond it the nearest of every further bank, and the header
/// `hashward-matches-total` says how many there are.
const LISTED_MAX: usize = 4096;

thread_local! {
    /// Room a search needs, used again by the next one on this thread.
    static ROOM: RefCell<(FindScratch, Nearest<Match>)> = RefCell::default();
}

/// What a signal matched.
pub struct Searched {
    /// The nearest of what counts, and the nearest of every bank.
    pub listed: Vec<Match>,
    /// What is noted of the question, whatever counts of the answer.
    rows: Vec<Row>,
}

impl Searched {
    /// How many matches there are, if not all are listed.
    fn uncut_total(&self) -> Option<usize> {
        let total = self.rows.iter().map(|row| row.total as usize).sum();
        (total > self.listed.len()).then_some(total)
    }
}

/// What matches a signal, as far as the gate lets it pass. Texts and videos are searched for away from this thread, not
/// more of them at once than there are CPUs: they take milliseconds.
pub async fn search(
    admin: &Arc<Admin>,
    state: &Arc<BankState>,
    signal: &Signal,
    gate: &Arc<Gate>,
) -> Result<Searched, Fault> {
    if !signal.kind().is_rebuilt() {
        return Ok(search_here(admin, state, signal, gate));
    }
    let turn = admin.turns.machines().await?;
    let (admin, state, signal, gate) = (admin.clone(), state.clone(), signal.clone(), gate.clone());
    blocking(move || {
        let found = search_here(&admin, &state, &signal, &gate);
        drop(turn);
        Ok(found)
    })
    .await
}

fn search_here(admin: &Admin, state: &BankState, signal: &Signal, gate: &Gate) -> Searched {
    let seen = Seen::new(&admin.door);
    let on_match = |content, _| seen.is_honeytoken(content);
    let passes =
        |bank: &Bank| gate.wanted.has(bank.id) && gate.coin.is_none_or(|coin| bank.enabled_ratio >= coin);
    let ask = Ask {
        limit: LISTED_MAX,
        every_bank: true,
        now_s: gate.now_s,
        off_counts: true, // the coin says which banks do
        banks: Some(&passes),
        notes_all: true,
        on_match: Some(&on_match),
    };
    ROOM.with_borrow_mut(|(room, nearest)| {
        state.find_all(std::slice::from_ref(signal), &admin.config.find_rule(), &ask, room, nearest);
        let listed = nearest.rows().iter().flat_map(|row| nearest.listed(row)).copied().collect();
        Searched { listed, rows: nearest.rows().to_vec() }
    })
}

/// The banks a lookup is limited to: exact names between commas; no name limits nothing.
struct Wanted(Option<Vec<BankId>>);

impl Wanted {
    fn of(state: &BankState, banks: Option<&str>) -> Self {
        let names = banks.filter(|names| !names.is_empty());
        Self(
            names.map(|names| {
                names.split(',').filter_map(|name| Some(state.directory.named(name)?.id)).collect()
            }),
        )
    }

    fn has(&self, bank: BankId) -> bool {
        self.0.as_ref().is_none_or(|banks| banks.contains(&bank))
    }
}

/// The signal a request names.
pub fn signal(admin: &Admin, kind: &str, text: &str) -> Result<Signal, Fault> {
    let kind = installed(admin, kind).ok_or_else(|| Fault::bad(format!("No such SignalType '{kind}'")))?;
    parse(kind, text).map_err(|fault| Fault::bad(format!("invalid signal: {fault}")))
}

/// While banks load, lookups say so in HMA's words.
pub fn state(admin: &Admin, caller: &Caller) -> Result<Arc<BankState>, Fault> {
    match admin.loaded() {
        Ok(loaded) => Ok(loaded.banks_of(caller)),
        Err(_) => Err(Fault::Message(StatusCode::SERVICE_UNAVAILABLE, "index not yet ready".into())),
    }
}

/// `GET /m/raw_lookup?signal_type=…&signal=…[&banks=A,B][&include_distance=true]`: every content within the
/// threshold, whether its bank matches at present or not.
pub async fn raw_lookup(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Query(query): Pairs,
) -> Answer {
    let mut fields = Fields::of_query(&query);
    let (text, kind) = (fields.text("signal"), fields.text("signal_type"));
    let with_distance = fields.truth("include_distance").unwrap_or(false);
    fields.done()?;
    let signal = signal(&admin, &kind, &text)?;
    let state = state(&admin, &caller)?;
    let gate = Arc::new(Gate::open(&state, first(&query, "banks")));
    let found = search(&admin, &state, &signal, &gate).await?;
    may_be_told(&admin, &caller, signal, &found)?;
    let shown = |hit: &Match| {
        if with_distance {
            json!({ "bank_content_id": hit.content, "distance": hit.nearness.text() })
        } else {
            json!(hit.content)
        }
    };
    let matches: Vec<Value> = found.listed.iter().map(shown).collect();
    Ok(with_total(json(&json!({ "matches": matches })), found.uncut_total()))
}

/// Which matches count: the banks asked for, contents that are not disabled, banks that the coin keeps.
pub struct Gate {
    wanted: Wanted,
    coin: Option<f64>,
    now_s: Option<u64>,
}

impl Gate {
    /// For one lookup of one signal type.
    pub fn new(state: &BankState, banks: Option<&str>, coin: f64) -> Self {
        Self { wanted: Wanted::of(state, banks), coin: Some(coin), now_s: Some(crate::clock::now_s()) }
    }

    /// Whatever is banked, in the banks asked for.
    pub fn open(state: &BankState, banks: Option<&str>) -> Self {
        Self { wanted: Wanted::of(state, banks), coin: None, now_s: None }
    }
}

/// Matches by the names of their banks.
pub fn by_bank(state: &BankState, found: &[Match]) -> BTreeMap<String, Vec<Match>> {
    let mut banks = BTreeMap::<String, Vec<Match>>::new();
    for hit in found {
        let Some(bank) = state.directory.get(hit.bank) else { continue };
        banks.entry(bank.name.to_string()).or_default().push(*hit);
    }
    banks
}

fn shown_by_bank(state: &BankState, found: &[Match]) -> Value {
    let shown = |hit: &Match| json!({ "bank_content_id": hit.content, "distance": hit.nearness.text() });
    let banks = by_bank(state, found);
    banks.into_iter().map(|(name, found)| (name, found.iter().map(shown).collect::<Value>())).collect()
}

/// With a header that says how many matches there are, where not all are listed.
fn with_total(mut answer: Response, total: Option<usize>) -> Response {
    if let Some(total) = total {
        answer.headers_mut().insert("hashward-matches-total", total.into());
    }
    answer
}

/// `GET /m/lookup` of a signal or a URL.
pub async fn lookup(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Query(query): Pairs,
) -> Answer {
    let mut fields = Fields::of_query(&query);
    fields.truth("bypass_coinflip"); // checked and, as in HMA, without effect here
    fields.done()?;
    let (url, kind, text) = (first(&query, "url"), first(&query, "signal_type"), first(&query, "signal"));
    if let Some(url) = url {
        media::needs_hasher(&admin)?;
        state(&admin, &caller)?;
        let hashes = media::hash_url(&admin, url, &query).await?;
        let mut answer = look_up_hashes(&admin, &caller, &hashes, &query, false).await?;
        return Ok(json(&match kind {
            Some(kind) => answer.remove(kind).unwrap_or_else(|| json!({})),
            None => Value::Object(answer),
        }));
    }
    let (Some(kind), Some(text)) = (kind, text) else {
        return Err(Fault::bad("Either url or both signal and signal_type are required"));
    };
    let signal = signal(&admin, kind, text)?;
    let state = state(&admin, &caller)?;
    let gate = Arc::new(Gate::new(&state, first(&query, "banks"), flip(first(&query, "seed"))));
    let found = search(&admin, &state, &signal, &gate).await?;
    may_be_told(&admin, &caller, signal, &found)?;
    Ok(with_total(json(&shown_by_bank(&state, &found.listed)), found.uncut_total()))
}

/// Refuses a key that reads the list out.
fn may_be_told(admin: &Admin, caller: &Caller, signal: Signal, found: &Searched) -> Result<(), Fault> {
    let mut seen = Seen::new(&admin.door);
    seen.note(&[signal], &found.rows);
    Ok(admin.door.judge_all(caller, seen).map_err(Refusal::from)?)
}

/// `POST /m/lookup` of a file.
pub async fn lookup_file(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Query(query): Pairs,
    request: Request,
) -> Answer {
    media::needs_hasher(&admin)?;
    state(&admin, &caller)?;
    let form = Upload::read(&admin, request).await?;
    let hashes = media::hash_upload(&admin, form, &query).await?;
    let bypass = first(&query, "bypass_coinflip") == Some("true");
    Ok(json(&Value::Object(look_up_hashes(&admin, &caller, &hashes, &query, bypass).await?)))
}

async fn look_up_hashes(
    admin: &Arc<Admin>,
    caller: &Caller,
    hashes: &Hashes,
    query: &[(String, String)],
    bypass: bool,
) -> Result<Map<String, Value>, Fault> {
    let state = state(admin, caller)?;
    let (mut answer, mut seen) = (Map::new(), Seen::new(&admin.door));
    for (kind, text) in hashes {
        let signal = signal(admin, kind.name(), text)?;
        let coin = if bypass { 0.0 } else { flip(first(query, "seed")) };
        let gate = Arc::new(Gate::new(&state, first(query, "banks"), coin));
        let found = search(admin, &state, &signal, &gate).await?;
        seen.note(&[signal], &found.rows);
        answer.insert(kind.name().to_string(), shown_by_bank(&state, &found.listed));
    }
    admin.door.judge_all(caller, seen).map_err(Refusal::from)?;
    Ok(answer)
}

/// `POST /m/compare {"<type>": [a, b], …}`
pub async fn compare(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Bytes) -> Answer {
    let Value::Object(given) = json_body(&headers, &body)? else {
        return Err(Fault::bad("Request input was not a dict"));
    };
    let mut answer = Map::new();
    for (name, pair) in &given {
        let kind =
            installed(&admin, name).ok_or_else(|| Fault::bad(format!("No such SignalType '{name}'")))?;
        let Value::Array(pair) = pair else {
            return Err(Fault::bad(format!("Comparison hashes for {name} was not a list")));
        };
        let [one, other] = pair.as_slice() else {
            return Err(Fault::bad("Comparison hash list length must be exactly 2"));
        };
        let read = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            parse(kind, text).map_err(|fault| Fault::bad(format!("Invalid {name} hash: {fault}")))
        };
        let (near, nearness) = Nearness::between(&read(one)?, &read(other)?, &admin.config.find_rule());
        let how = match nearness {
            Nearness::Bits(distance) => json!({ "distance": distance }),
            Nearness::Same => json!({}),
            Nearness::Edits { edits, .. } => json!({ "distance": edits }),
            Nearness::Frames { query_percent, banked_percent } => {
                json!({ "query_match_percent": query_percent, "compared_match_percent": banked_percent })
            }
        };
        answer.insert(name.clone(), json!([near, how]));
    }
    Ok(json(&Value::Object(answer)))
}
