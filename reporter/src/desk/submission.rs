//! What platforms send, as Coop takes it (specs/coop.md 4.5): items, and reports by users. Read whole before anything of
//! it is stored, with a pointer to every field that is wrong.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use index::Tenant;
use serde_json::Value;

use super::item::{Item, ItemKey, Report};
use super::kind::{ItemKind, ItemType, Role, time_ms};
use crate::desk::decision::read_key;
use crate::read::{At, FieldError};

/// Items of one request, and the size of one.
pub const ITEMS_MAX: usize = 5000;
const ITEM_BYTES_MAX: usize = 1 << 20;
/// Answers to answers that are followed to see whether they go round.
const PARENTS_MAX: usize = 64;

/// An item that is not taken: its place in the request, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its place in the list.
    pub place: usize,
    /// Whether its fields are wrong, or it itself.
    pub data: bool,
    /// What is wrong.
    pub errors: Vec<FieldError>,
}

/// The items of a request.
#[derive(Debug, Default)]
pub struct Submission {
    /// Good ones.
    pub items: Vec<Item>,
    /// The others.
    pub refused: Vec<Refused>,
}

/// A report with what came along.
#[derive(Debug)]
pub struct Reported {
    /// The report; its id is still to be given.
    pub report: Report,
    /// The item that is reported.
    pub item: Item,
    /// Items around it.
    pub others: Vec<Item>,
}

/// What an item answers to, if it is stored; to see whether answers go round.
pub type ParentOf<'a> = dyn Fn(&ItemKey) -> Option<ItemKey> + 'a;

/// The item types that a sender may name: all of them, or a tenant's own.
pub fn types_of<'t>(
    types: &'t BTreeMap<String, ItemType>,
    tenant: Option<&Tenant>,
) -> Cow<'t, BTreeMap<String, ItemType>> {
    let Some(tenant) = tenant else { return Cow::Borrowed(types) };
    let own = types.iter().filter(|(id, _)| tenant.owns(id));
    Cow::Owned(own.map(|(id, of)| (id.clone(), of.clone())).collect())
}

/// The first reference in a body, at whatever depth, to an item that is not the tenant's: it would put what the tenant
/// sends beside what others sent.
pub fn foreign(tenant: &Tenant, at: &At<'_>) -> Option<FieldError> {
    match at.value() {
        Value::Object(map) => map.iter().find_map(|(name, value)| match value {
            Value::String(of) if name == "typeId" && !tenant.owns(of) => {
                Some(at.under(name, value).wrong(format!(
                    "names item type '{}': a key of tenant {tenant} names types that begin with '{tenant}.'",
                    crate::error::clip(of)
                )))
            }
            // Nothing is in the others, and a body has very many of them.
            Value::Object(_) | Value::Array(_) => foreign(tenant, &at.under(name, value)),
            _ => None,
        }),
        Value::Array(list) => {
            let mut inner =
                list.iter().enumerate().filter(|(_, value)| value.is_object() || value.is_array());
            inner.find_map(|(place, value)| foreign(tenant, &at.under(&place.to_string(), value)))
        }
        _ => None,
    }
}

/// Reads `{"items": […]}`.
pub fn read_items(
    body: &Value,
    types: &BTreeMap<String, ItemType>,
    parent_of: &ParentOf<'_>,
    now_ms: u64,
) -> Result<Submission, FieldError> {
    let root = At::new(body, "");
    let list = root.need("items")?;
    let items = list.list()?;
    if items.is_empty() || items.len() > ITEMS_MAX {
        return Err(list.wrong(format!("has {} items, use 1 to {ITEMS_MAX}", items.len())));
    }
    let mut submission = Submission::default();
    let mut places = Vec::new();
    for (place, at) in items.iter().enumerate() {
        match read_item(at, types, now_ms) {
            Ok(item) => {
                submission.items.push(item);
                places.push(place);
            }
            Err((data, errors)) => submission.refused.push(Refused { place, data, errors }),
        }
    }
    let round = circles(&submission.items, types, parent_of);
    let mut at = 0;
    submission.items.retain(|item| {
        let place = places[at];
        at += 1;
        if !round.contains(&item.key) {
            return true;
        }
        let field = types.get(&item.key.type_id).and_then(|of| of.roles.get(&Role::ParentId));
        let pointer = format!("/items/{place}/data/{}", field.map_or("", String::as_str));
        let problem = "goes round: following what it answers to leads back to the item itself".to_string();
        submission.refused.push(Refused { place, data: true, errors: vec![FieldError { pointer, problem }] });
        false
    });
    submission.refused.sort_by_key(|refused| refused.place);
    Ok(submission)
}

/// Reads one item of a known type. The error says whether its data is wrong.
pub fn read_item(
    at: &At<'_>,
    types: &BTreeMap<String, ItemType>,
    now_ms: u64,
) -> Result<Item, (bool, Vec<FieldError>)> {
    let of_item = |error: FieldError| (false, vec![error]);
    let bytes = serde_json::to_string(at.value()).map_or(0, |text| text.len());
    if bytes > ITEM_BYTES_MAX {
        return Err(of_item(
            at.wrong(format!("has {bytes} bytes, {ITEM_BYTES_MAX} at most: send URLs, not files")),
        ));
    }
    let id = at.need("id").and_then(|id| id.id().map(str::to_string)).map_err(of_item)?;
    let (type_at, partial) = type_of(at).map_err(of_item)?;
    let type_id = type_at.id().map_err(of_item)?;
    let Some(of) = types.get(type_id) else {
        return Err(of_item(
            type_at
                .wrong(format!("there is no item type '{}': describe it first", crate::error::clip(type_id))),
        ));
    };
    let data = at.need("data").map_err(of_item)?;
    let mut wrong = of.check(&data, partial);
    let key = ItemKey::new(type_id, id);
    if wrong.is_empty()
        && let Ok(map) = data.object()
    {
        let item = Item { partial, ..Item::new(key, of, map.clone(), now_ms) };
        for (role, related) in [(Role::CreatorId, &item.creator), (Role::ThreadId, &item.thread)] {
            if related.as_ref() == Some(&item.key) {
                let field = of.roles.get(&role).map_or("", String::as_str);
                wrong.push(data.under(field, &Value::Null).wrong("goes round: it names the item itself"));
            }
        }
        if wrong.is_empty() {
            return Ok(item);
        }
    }
    Err((true, wrong))
}

/// The item's type, written in one of Coop's two ways, and whether fields may be missing.
fn type_of<'v>(at: &At<'v>) -> Result<(At<'v>, bool), FieldError> {
    let variant = |at: Option<At<'_>>| match at {
        None => Ok(false),
        Some(variant) => variant.one_of(&[("original", false), ("partial", true)]),
    };
    match at.field("typeId")? {
        Some(id) => Ok((id, variant(at.field("typeSchemaVariant")?)?)),
        None => match at.field("type")? {
            Some(of) => Ok((of.need("id")?, variant(of.field("schemaVariant")?)?)),
            None => Err(at.need("typeId").err().unwrap_or_else(|| at.wrong("has no typeId"))),
        },
    }
}

/// The items whose answers-to goes round, among these and stored ones.
fn circles(items: &[Item], types: &BTreeMap<String, ItemType>, parent_of: &ParentOf<'_>) -> HashSet<ItemKey> {
    let parent = |item: &Item| parent(item, types);
    let among: BTreeMap<&ItemKey, Option<ItemKey>> =
        items.iter().map(|item| (&item.key, parent(item))).collect();
    let mut round = HashSet::new();
    for item in items {
        let mut next = parent(item);
        for _ in 0..PARENTS_MAX {
            let Some(above) = next else { break };
            if above == item.key {
                round.insert(item.key.clone());
                break;
            }
            next = match among.get(&above) {
                Some(parent) => parent.clone(),
                None => parent_of(&above),
            };
        }
    }
    round
}

/// What an item answers to.
pub fn parent(item: &Item, types: &BTreeMap<String, ItemType>) -> Option<ItemKey> {
    let value = types.get(&item.key.type_id)?.role(Role::ParentId, &item.data)?;
    read_key(&At::new(value, "")).ok()
}

/// Reads a report; its id is given by who stores it.
pub fn read_report(
    body: &Value,
    types: &BTreeMap<String, ItemType>,
    now_ms: u64,
) -> Result<Reported, (bool, Vec<FieldError>)> {
    let root = At::new(body, "");
    let plain = |error: FieldError| (false, vec![error]);
    let reporter = root.need("reporter").and_then(|at| {
        at.field("kind")?.map_or(Ok(()), |kind| kind.one_of(&[("user", ()), ("rule", ())]))?;
        read_key(&at)
    });
    let reported_ms = root.field("reportedAt").and_then(|at| match at {
        None => Ok(now_ms),
        Some(at) => time_ms(at.value()).ok_or_else(|| at.wrong("is not a time: use 2026-01-31T12:00:00Z")),
    });
    let (reporter, reported_ms) = (reporter.map_err(plain)?, reported_ms.map_err(plain)?);
    let item = read_item(&root.need("reportedItem").map_err(plain)?, types, now_ms)?;
    let reason = root.field("reportedForReason").map_err(plain)?;
    let words = |name: &str| match &reason {
        None => Ok(None),
        Some(reason) => reason.field(name)?.map(|text| text.text_to(10_000).map(str::to_string)).transpose(),
    };
    let csam = reason
        .as_ref()
        .map_or(Ok(None), |reason| reason.field("csam"))
        .and_then(|csam| csam.map_or(Ok(false), |csam| csam.flag()));
    let others_wrong = "is not given with a thread: the thread's own items say it";
    let additional = root.field("additionalItems").map_err(plain)?;
    if let Some(additional) = additional.as_ref().filter(|_| item.kind == Some(ItemKind::Thread)) {
        return Err(plain(additional.wrong(others_wrong)));
    }
    let mut others = Vec::new();
    let mut thread = Vec::new();
    for (name, of_thread) in [("reportedItemThread", true), ("additionalItems", false)] {
        let Some(list) = root.field(name).map_err(plain)? else { continue };
        for at in list.list().map_err(plain)? {
            let other = read_item(&at, types, now_ms)?;
            if of_thread {
                thread.push(other.key.clone());
            }
            others.push(other);
            if others.len() > ITEMS_MAX {
                return Err(plain(list.wrong(format!("{ITEMS_MAX} items at most"))));
            }
        }
    }
    if let Some(list) = root.field("reportedItemsInThread").map_err(plain)? {
        for at in list.list().map_err(plain)? {
            thread.push(read_key(&at).map_err(plain)?);
        }
    }
    let report = Report {
        id: String::new(),
        reporter,
        reported_ms,
        received_ms: now_ms,
        item: item.key.clone(),
        policy_id: words("policyId").map_err(plain)?,
        reason: words("reason").map_err(plain)?,
        csam: csam.map_err(plain)?,
        thread,
    };
    Ok(Reported { report, item, others })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn types() -> BTreeMap<String, ItemType> {
        let user = json!({ "kind": "USER", "fields": [{ "name": "name", "type": "STRING" }] });
        let post = json!({ "kind": "CONTENT", "fields": [
            { "name": "text", "type": "STRING", "required": true }, { "name": "author", "type": "RELATED_ITEM" },
            { "name": "parent", "type": "RELATED_ITEM" }, { "name": "pictures", "type": "IMAGE", "container": "ARRAY" }
        ], "roles": { "creatorId": "author", "parentId": "parent" } });
        let thread = json!({ "kind": "THREAD", "fields": [] });
        let read =
            |id: &str, value: &Value| (id.to_string(), ItemType::read(id, &At::new(value, "")).unwrap());
        [read("user", &user), read("post", &post), read("thread", &thread)].into()
    }

    fn post(id: &str, data: Value) -> Value {
        json!({ "id": id, "typeId": "post", "data": data })
    }

    fn reads(body: Value) -> Submission {
        read_items(&body, &types(), &|_| None, 7).unwrap()
    }

    fn pointers(submission: &Submission) -> Vec<&str> {
        submission
            .refused
            .iter()
            .flat_map(|refused| &refused.errors)
            .map(|error| error.pointer.as_str())
            .collect()
    }

    #[test]
    fn bad_items_are_pointed_at_and_good_ones_are_read() {
        let submission = reads(json!({ "items": [
            post("1", json!({ "text": "a", "author": { "id": "u", "typeId": "user" } })),
            post("2", json!({})),
            { "id": "3", "typeId": "nothing", "data": {} },
            { "id": "", "typeId": "post", "data": {} },
            { "id": "5", "type": { "id": "post", "schemaVariant": "partial" }, "data": { "text": null } },
            post("6", json!({ "text": "x".repeat(2 << 20) })),
            { "id": "7", "typeId": "post" },
        ] }));
        assert_eq!(submission.items.iter().map(|item| item.key.id.as_str()).collect::<Vec<_>>(), ["1", "5"]);
        assert_eq!(submission.items[0].creator, Some(ItemKey::new("user", "u")));
        assert_eq!(
            pointers(&submission),
            ["/items/1/data/text", "/items/2/typeId", "/items/3/id", "/items/5", "/items/6/data"]
        );
        assert!(submission.refused[3].errors[0].problem.contains("1048576 at most"));
    }

    #[test]
    fn items_that_answer_to_themselves_are_refused() {
        let parent = |id: &str, parent: &str| {
            post(id, json!({ "text": "a", "parent": { "id": parent, "typeId": "post" } }))
        };
        let submission = reads(
            json!({ "items": [parent("1", "2"), parent("2", "1"), parent("3", "1"), parent("4", "4")] }),
        );
        assert_eq!(
            pointers(&submission),
            ["/items/0/data/parent", "/items/1/data/parent", "/items/3/data/parent"]
        );
        // Over what is stored, too.
        let stored = |key: &ItemKey| (key.id == "9").then(|| ItemKey::new("post", "1"));
        let body = json!({ "items": [parent("1", "9")] });
        assert_eq!(read_items(&body, &types(), &stored, 7).unwrap().refused.len(), 1);
        let own = reads(
            json!({ "items": [post("1", json!({ "text": "a", "author": { "id": "1", "typeId": "post" } }))] }),
        );
        assert_eq!(pointers(&own), ["/items/0/data/author"]);
    }

    #[test]
    fn a_report_is_read_whole_or_refused_with_its_place() {
        let body = json!({
            "reporter": { "kind": "user", "typeId": "user", "id": "r" }, "reportedAt": "1970-01-01T00:00:05Z",
            "reportedItem": post("1", json!({ "text": "a" })),
            "reportedForReason": { "policyId": "p", "reason": "bad", "csam": true },
            "reportedItemThread": [post("0", json!({ "text": "before" }))],
            "reportedItemsInThread": [{ "id": "0", "typeId": "post" }],
            "additionalItems": [post("2", json!({ "text": "more" }))]
        });
        let reported = read_report(&body, &types(), 7).unwrap();
        let report = &reported.report;
        assert_eq!((report.reported_ms, report.csam, report.reason.as_deref()), (5000, true, Some("bad")));
        assert_eq!((reported.item.key.id.as_str(), reported.others.len(), report.thread.len()), ("1", 2, 2));
        let says = |change: fn(&mut Value)| {
            let mut body = body.clone();
            change(&mut body);
            read_report(&body, &types(), 7).unwrap_err().1[0].pointer.clone()
        };
        assert_eq!(says(|body| body["reporter"]["id"] = json!(null)), "/reporter/id");
        assert_eq!(says(|body| body["reportedItem"]["data"] = json!({})), "/reportedItem/data/text");
        assert_eq!(says(|body| body["reportedForReason"]["csam"] = json!("yes")), "/reportedForReason/csam");
        assert_eq!(
            says(|body| body["reportedItemThread"][0]["typeId"] = json!("x")),
            "/reportedItemThread/0/typeId"
        );
        assert_eq!(
            says(|body| body["reportedItem"] = json!({ "id": "t", "typeId": "thread", "data": {} })),
            "/additionalItems"
        );
    }
}
