//! Tenants: two platforms on one server, whatever they ask for and however they ask, see nothing of each other.

use std::collections::{BTreeMap, BTreeSet};

use index::{Hash256, RequestId, UploadContext};
use ingest::wire::{Client, ClientOptions, Query};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tests::{Http, Platform, Server, Setup, flipped, hex};

use crate::access::{bearing, with_admin};
use crate::banks::random_hashes;
use crate::items::{hashed, png, settled};

const SCOPES: [&str; 4] = ["match", "distance", "curate", "items"];

/// A tenant's clients of both ports.
struct Guest {
    name: &'static str,
    http: Http,
    client: Client,
    secret: String,
}

impl Guest {
    fn new(server: &Server, admin: &Http, name: &'static str) -> Self {
        let body = json!({ "name": "uploads", "scopes": SCOPES, "tenant": name });
        let (status, made) = admin.post("/api/v1/keys", &body);
        assert_eq!((status, &made["tenant"]), (201, &json!(name)), "{made}");
        let secret = made["secret"].as_str().unwrap().to_string();
        let http = bearing(server, &secret);
        let client = client(server, &secret);
        Self { name, http, client, secret }
    }
}

fn client(server: &Server, secret: &str) -> Client {
    Client::new(server.listen, ClientOptions { token: Some(secret.to_string()), ..ClientOptions::default() })
}

/// What lies where, as the oracle knows it: contents by the full name of their bank.
#[derive(Default)]
struct Truth(BTreeMap<String, BTreeMap<u64, Hash256>>);

impl Truth {
    fn sees(tenant: &str, bank: &str) -> bool {
        bank.split_once('.').is_none_or(|(owner, _)| owner == tenant)
    }

    fn owns(tenant: &str, bank: &str) -> bool {
        bank.split_once('.').is_some_and(|(owner, _)| owner == tenant)
    }

    fn visible(&self, tenant: &str) -> BTreeSet<String> {
        self.0.keys().filter(|bank| Self::sees(tenant, bank)).cloned().collect()
    }

    /// By brute force: contents within 31 bits in banks that the tenant sees.
    fn matches(&self, tenant: &str, query: &Hash256) -> BTreeSet<(String, u64)> {
        let banks = self.0.iter().filter(|(bank, _)| Self::sees(tenant, bank));
        let near = |hash: &Hash256| hash.distance(query).bits() <= 31;
        banks
            .flat_map(|(bank, contents)| {
                contents.iter().filter(|(_, hash)| near(hash)).map(|(id, _)| (bank.clone(), *id))
            })
            .collect()
    }

    /// A bank and a content of it, anybody's.
    fn any(&self, random: &mut ChaCha8Rng) -> Option<(String, u64)> {
        let all: Vec<(&String, &u64)> =
            self.0.iter().flat_map(|(bank, contents)| contents.keys().map(move |id| (bank, id))).collect();
        (!all.is_empty())
            .then(|| all[random.random_range(0..all.len())])
            .map(|(bank, id)| (bank.clone(), *id))
    }
}

/// An answer with a name that the question held taken out: what is there must look like what is not.
fn without(answer: &(u16, String), name: &str) -> (u16, String) {
    (answer.0, answer.1.replace(name, "?"))
}

#[test]
fn two_tenants_random_deeds_and_nothing_leaks() {
    for seed in [1, 2] {
        println!("seed {seed}");
        play(seed);
    }
}

fn play(seed: u64) {
    let (server, admin) = with_admin(Setup::default());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let hashes = random_hashes(seed, 12);
    let mut truth = Truth::default();
    for (at, bank) in ["SHARED", "COMMON"].into_iter().enumerate() {
        assert_eq!(admin.post("/api/v1/banks", &json!({ "name": bank })).0, 201);
        let body = json!({ "signals": { "pdq": hex(&hashes[at]) } });
        let (_, added) = admin.post(&format!("/api/v1/banks/{bank}/contents"), &body);
        let id = added["first_content"].as_u64().unwrap();
        truth.0.insert(bank.to_string(), [(id, hashes[at])].into());
    }
    let mut guests = ["ACME", "BETA"].map(|name| Guest::new(&server, &admin, name));
    for _ in 0..250 {
        let [acme, beta] = &mut guests;
        let (guest, other) = if random.random() { (acme, beta.name) } else { (beta, acme.name) };
        let owner = *[guest.name, guest.name, other, ""].get(random.random_range(0..4usize)).unwrap();
        let own = ["ONE", "TWO", "THREE"][random.random_range(0..3usize)];
        let bank = if owner.is_empty() { "SHARED".to_string() } else { format!("{owner}.{own}") };
        match random.random_range(0..7u32) {
            0 => makes(guest, &mut truth, &bank),
            1 => adds(guest, &mut truth, &bank, &hashes[random.random_range(0..hashes.len())]),
            2 => removes(guest, &mut truth, &bank, &mut random),
            3 => renames(
                guest,
                &mut truth,
                &bank,
                &format!("{}.TWO", [guest.name, other][random.random_range(0..2usize)]),
            ),
            4 => reads(guest, &truth, &bank, &mut random),
            _ => {
                let base = hashes[random.random_range(0..hashes.len())];
                let query = flipped(&base, random.random_range(12..36usize), random.random());
                looks_up(&server, guest, &truth, &query, other);
            }
        }
        let (_, listed) = guest.http.get("/api/v1/banks");
        let names: BTreeSet<String> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|bank| bank["name"].as_str().unwrap().to_string())
            .collect();
        assert_eq!(names, truth.visible(guest.name));
        let (_, listed) = guest.http.get("/c/banks");
        assert!(!listed.to_string().contains(other), "{listed}");
    }
    // The operator sees everything, as it is known.
    let (_, listed) = admin.get("/api/v1/banks");
    let contents: BTreeMap<String, u64> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|bank| (bank["name"].as_str().unwrap().to_string(), bank["contents"].as_u64().unwrap()))
        .collect();
    let expected: BTreeMap<String, u64> =
        truth.0.iter().map(|(bank, contents)| (bank.clone(), contents.len() as u64)).collect();
    assert_eq!(contents, expected);
}

fn makes(guest: &Guest, truth: &mut Truth, bank: &str) {
    let (status, answer) = guest.http.post("/api/v1/banks", &json!({ "name": bank }));
    let expected = match (Truth::owns(guest.name, bank), truth.0.contains_key(bank)) {
        (false, _) => 400,
        (true, true) => 409,
        (true, false) => 201,
    };
    assert_eq!(status, expected, "{} makes {bank}: {answer}", guest.name);
    if status == 201 {
        truth.0.insert(bank.to_string(), BTreeMap::new());
    }
}

fn adds(guest: &Guest, truth: &mut Truth, bank: &str, hash: &Hash256) {
    let body = json!({ "signals": { "pdq": hex(hash) } });
    let (status, answer) = guest.http.post(&format!("/api/v1/banks/{bank}/contents"), &body);
    let contents = truth.0.get_mut(bank).filter(|_| Truth::owns(guest.name, bank));
    assert_eq!(status, if contents.is_some() { 201 } else { 404 }, "{} adds to {bank}: {answer}", guest.name);
    if let Some(contents) = contents {
        contents.insert(answer["first_content"].as_u64().unwrap(), *hash);
    }
}

fn removes(guest: &Guest, truth: &mut Truth, bank: &str, random: &mut ChaCha8Rng) {
    let owns = Truth::owns(guest.name, bank);
    if random.random_range(0..4u32) == 0 {
        let (status, answer) = guest.http.delete(&format!("/api/v1/banks/{bank}"));
        let gone = if owns { truth.0.remove(bank) } else { None };
        // Of what is not there, and of what is another's, nothing is deleted.
        assert_eq!((status, &answer["contents"]), (200, &json!(gone.map_or(0, |gone| gone.len()))), "{bank}");
        return;
    }
    let Some((_, content)) = truth.any(random) else { return };
    let path =
        [format!("/api/v1/banks/{bank}/contents/{content}"), format!("/c/bank/{bank}/content/{content}")];
    let (status, answer) = guest.http.delete(&path[random.random_range(0..2usize)]);
    let there = owns && truth.0.get_mut(bank).is_some_and(|contents| contents.remove(&content).is_some());
    let hmas = answer.get("deleted").is_some();
    // HMA finds a content by its number in whatever bank is named: of the tenant's own ones.
    let elsewhere = hmas && owns && !there && truth.0.contains_key(bank);
    if elsewhere {
        let found = truth
            .0
            .iter_mut()
            .find(|(name, contents)| Truth::owns(guest.name, name) && contents.contains_key(&content));
        let expected = u64::from(found.is_some());
        if let Some((_, contents)) = found {
            contents.remove(&content);
        }
        assert_eq!((status, answer["deleted"].as_u64()), (200, Some(expected)));
        return;
    }
    let removed = answer["contents"].as_u64().or(answer["deleted"].as_u64()).unwrap_or(0);
    assert_eq!(removed, u64::from(there), "{} removes {content} of {bank}: {status} {answer}", guest.name);
}

fn renames(guest: &Guest, truth: &mut Truth, bank: &str, to: &str) {
    let (status, answer) = guest.http.put(&format!("/api/v1/banks/{bank}"), &json!({ "name": to }));
    let expected = if !Truth::owns(guest.name, bank) {
        404
    } else if !Truth::owns(guest.name, to) {
        400
    } else if !truth.0.contains_key(bank) {
        404
    } else if bank != to && truth.0.contains_key(to) {
        409
    } else {
        200
    };
    assert_eq!(status, expected, "{} renames {bank} to {to}: {answer}", guest.name);
    if status == 200 {
        let contents = truth.0.remove(bank).unwrap();
        truth.0.insert(to.to_string(), contents);
    }
}

/// What a bank holds, by every route that tells it: another's bank answers as one that is not there.
fn reads(guest: &Guest, truth: &Truth, bank: &str, random: &mut ChaCha8Rng) {
    let content = truth.any(random).map_or(1, |(_, content)| content);
    let routes = [
        format!("/api/v1/banks/{bank}/contents"),
        format!("/api/v1/banks/{bank}/history"),
        format!("/api/v1/banks/{bank}/export"),
        format!("/c/bank/{bank}/content/{content}?include_signals=true"),
        format!("/api/v1/banks/{bank}"),
        format!("/c/bank/{bank}"),
    ];
    for (at, route) in routes.iter().enumerate() {
        let answer = guest.http.plain("GET", route, None);
        let shown_to_all = at >= 4;
        let opens = truth.0.contains_key(bank)
            && if shown_to_all { Truth::sees(guest.name, bank) } else { Truth::owns(guest.name, bank) };
        if !opens {
            let absent = guest.http.plain("GET", &route.replace(bank, "ABSENT"), None);
            assert_eq!(without(&answer, bank), without(&absent, "ABSENT"), "{} reads {route}", guest.name);
        } else if at != 3 {
            assert_eq!(answer.0, 200, "{} reads {route}: {}", guest.name, answer.1);
        } else {
            let own = |(name, contents): (&String, &BTreeMap<u64, Hash256>)| {
                Truth::owns(guest.name, name) && contents.contains_key(&content)
            };
            assert_eq!(
                answer.0 == 200,
                truth.0.iter().any(own),
                "{} reads {route}: {}",
                guest.name,
                answer.1
            );
        }
    }
}

/// Every way of asking finds what brute force finds in what the tenant sees.
fn looks_up(server: &Server, guest: &mut Guest, truth: &Truth, query: &Hash256, other: &str) {
    let expected = truth.matches(guest.name, query);
    let pairs = |found: &Value, bank: &str, content: &str| -> BTreeSet<(String, u64)> {
        let rows = found.as_array().unwrap().iter();
        rows.map(|row| (row[bank].as_str().unwrap().to_string(), row[content].as_u64().unwrap())).collect()
    };
    let ours = json!({ "signal_type": "pdq", "signals": [hex(query)] });
    let (_, answer) = guest.http.post("/api/v1/lookup", &ours);
    assert_eq!(pairs(&answer["results"][0]["matches"], "bank", "content"), expected, "{answer}");
    let (_, answer) =
        guest.http.post("/api/v1/match", &json!({ "items": [{ "signals": { "pdq": hex(query) } }] }));
    assert_eq!(pairs(&answer["items"][0]["matches"], "bank", "content"), expected, "{answer}");
    let ids: BTreeSet<u64> = expected.iter().map(|(_, id)| *id).collect();
    for banks in ["", &format!("&banks={other}.ONE,{other}.TWO,{other}.THREE")] {
        let (_, answer) =
            guest.http.get(&format!("/m/raw_lookup?signal_type=pdq&signal={}{banks}", hex(query)));
        let found: BTreeSet<u64> =
            answer["matches"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        assert_eq!(found, if banks.is_empty() { ids.clone() } else { BTreeSet::new() }, "{answer}");
    }
    let (_, answer) = guest.http.get(&format!("/m/lookup?signal_type=pdq&signal={}", hex(query)));
    let banks: BTreeSet<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(banks, expected.iter().map(|(bank, _)| bank).collect(), "{answer}");
    // Alone, which is searched together with others', and among many, which is not.
    for copies in [1, 40] {
        let answer = guest.client.lookup(Query::pdq(vec![*query; copies])).unwrap();
        assert_eq!(answer.hits.len(), if expected.is_empty() { 0 } else { copies });
        for hit in &answer.hits {
            let found: BTreeSet<(String, u64)> =
                hit.matches.iter().map(|row| (row.bank_name.clone(), row.content.0)).collect();
            assert_eq!((found, hit.total as usize), (expected.clone(), expected.len()));
        }
    }
    let held: usize = truth
        .0
        .iter()
        .filter(|(bank, _)| Truth::sees(guest.name, bank))
        .map(|(_, contents)| contents.len())
        .sum();
    let told = client(server, &guest.secret).welcome().unwrap().hashes;
    assert_eq!(told, held as u64, "what a Hello is told counts nobody else's");
}

#[test]
fn what_a_tenant_sends_is_its_own_and_meets_nobody_elses() {
    let platform = Platform::start();
    let (mut server, admin) = with_admin(Setup::default().flag("--fetch-allow", "127.0.0.1/32"));
    server.http = admin.clone();
    let user = json!({ "kind": "USER", "fields": [{ "name": "name", "type": "STRING" }] });
    let post = json!({ "kind": "CONTENT", "fields": [
        { "name": "picture", "type": "IMAGE" }, { "name": "author", "type": "RELATED_ITEM" }
    ], "roles": { "creatorId": "author" } });
    for tenant in ["ACME", "BETA"] {
        assert_eq!(admin.put(&format!("/api/v1/item-types/{tenant}.user"), &user).0, 200);
        assert_eq!(admin.put(&format!("/api/v1/item-types/{tenant}.post"), &post).0, 200);
    }
    assert_eq!(admin.put("/api/v1/item-types/post", &post).0, 200);
    let own = json!({ "input": "item_type", "comparator": "MATCHES", "value": "^ACME\\." });
    let acmes = json!({ "order": 1, "when": own, "actions": [{ "enqueue_ncmec": { "queue": "acme" } }] });
    let others = json!({ "order": 2, "matches_min": 1, "actions": [{ "enqueue_ncmec": {} }] });
    for (name, rule) in [("acme", acmes), ("others", others)] {
        let (status, answer) = admin.put(&format!("/api/v1/rules/{name}"), &rule);
        assert_eq!(status, 200, "{answer}");
    }
    let mut guests = ["ACME", "BETA"].map(|name| Guest::new(&server, &admin, name));
    let known = random_hashes(3, 2);
    for guest in &guests {
        let bank = format!("{}.OWN", guest.name);
        assert_eq!(guest.http.post("/api/v1/banks", &json!({ "name": bank })).0, 201);
        let at = usize::from(guest.name == "BETA");
        let body = json!({ "signals": { "pdq": hex(&known[at]) } });
        assert_eq!(guest.http.post(&format!("/api/v1/banks/{bank}/contents"), &body).0, 201);
    }
    // ACME's picture, banked by ACME alone, and fetched for both.
    let file = png(5);
    let url = platform.put("p.png", "image/png", &file);
    let hashed_here = admin_hash(&guests[0].http, &file);
    let body = json!({ "signals": { "pdq": hashed_here } });
    assert_eq!(guests[0].http.post("/api/v1/banks/ACME.OWN/contents", &body).0, 201);

    let item = |tenant: &str, id: &str, picture: Value| {
        json!({ "id": id, "typeId": format!("{tenant}.post"), "data": {
            "picture": picture, "author": { "id": "u1", "typeId": format!("{tenant}.user") } } })
    };
    let send =
        |guest: &Guest, item: Value| guest.http.post("/api/v1/items/async/", &json!({ "items": [item] }));
    for guest in &guests {
        for (place, hash) in known.iter().enumerate() {
            assert_eq!(send(guest, item(guest.name, &format!("given-{place}"), hashed(hash))).0, 202);
        }
        assert_eq!(send(guest, item(guest.name, "fetched", json!(url))).0, 202);
        // Nothing that is another's, or nobody's, can be named.
        let other = if guest.name == "ACME" { "BETA" } else { "ACME" };
        let (status, refused) = send(guest, item(other, "x", hashed(&known[0])));
        assert_eq!((status, &refused["errors"][0]["pointer"]), (400, &json!("/items/0/data/author/typeId")));
        let mut strange = item(guest.name, "x", hashed(&known[0]));
        strange["data"]["author"]["typeId"] = json!("user");
        assert_eq!(send(guest, strange).0, 400);
        let by_type = json!({ "id": "x", "type": { "id": "post" }, "data": {} });
        let (status, refused) = send(guest, by_type);
        assert_eq!(status, 400, "{refused}");
        let report = json!({ "reporter": { "kind": "user", "typeId": format!("{other}.user"), "id": "r" },
            "reportedItem": item(guest.name, "x", hashed(&known[0])) });
        assert_eq!(guest.http.post("/api/v1/report", &report).0, 400);
    }
    // The same request id, sent by both, is two requests.
    let request = RequestId::fresh();
    for guest in &mut guests {
        let context = UploadContext {
            item_id: Some("up".into()),
            item_type: Some("photo".into()),
            creator: Some("u1".into()),
            ..UploadContext::default()
        };
        let query = Query::pdq(known.clone());
        let (answer, receipt) =
            guest.client.submit(request, query, vec![(0, context.clone()), (1, context)]).unwrap();
        let banks: Vec<&str> = answer.hits.iter().map(|hit| hit.matches[0].bank_name.as_str()).collect();
        assert_eq!(banks, [format!("{}.OWN", guest.name)]);
        assert!(!receipt.replayed);
    }
    settled(&server);

    // One user of each platform: the same id, and two jobs, each with what its own platform's banks know.
    for (queue, tenant) in [("acme", "ACME"), ("ncmec", "BETA")] {
        let jobs = server.jobs(queue);
        let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
        assert_eq!(job["subject"], json!({ "id": "u1", "typeId": format!("{tenant}.user") }));
        let hits = server.pages(&format!("/api/v1/jobs/{}/hits", job["id"]));
        let other = if tenant == "ACME" { "BETA" } else { "ACME" };
        assert!(!hits.is_empty());
        for hit in &hits {
            assert!(!hit.to_string().contains(other), "{hit}");
            assert_eq!(hit["context"]["tenant"], tenant, "{hit}");
            assert!(hit["context"]["item_type"].as_str().unwrap().starts_with(tenant), "{hit}");
        }
        let fetched = hits.iter().any(|hit| hit["context"]["item_id"] == "fetched");
        assert_eq!(fetched, tenant == "ACME", "the picture is banked by ACME alone");
    }
}

/// The PDQ hash of a file, as the server makes it.
fn admin_hash(http: &Http, file: &[u8]) -> Value {
    let (status, hashed) = http.upload("/h/hash", "photo", file);
    assert_eq!(status, 200, "{hashed}");
    hashed["pdq"].clone()
}

#[test]
fn a_tenants_key_is_that_for_good_and_opens_what_the_table_says() {
    let (server, admin) = with_admin(Setup::default().flag("--dev", true));
    for scope in ["review", "report", "admin", "audit"] {
        let body = json!({ "name": "k", "scopes": ["match", scope], "tenant": "ACME" });
        let (status, refused) = admin.post("/api/v1/keys", &body);
        assert_eq!((status, &refused["fields"][0]["pointer"]), (400, &json!("/scopes")), "{refused}");
    }
    for wrong in ["acme", "A.B", ""] {
        let body = json!({ "name": "k", "scopes": ["match"], "tenant": wrong });
        assert_eq!(admin.post("/api/v1/keys", &body).0, 400, "{wrong}");
    }
    let (_, made) = admin.post("/api/v1/keys", &json!({ "name": "k", "scopes": SCOPES, "tenant": "ACME" }));
    let place = format!("/api/v1/keys/{}", made["number"]);
    let (status, refused) = admin.put(&place, &json!({ "tenant": "BETA" }));
    assert_eq!((status, &refused["fields"][0]["pointer"]), (400, &json!("/tenant")), "{refused}");
    assert_eq!(admin.put(&place, &json!({ "tenant": "ACME", "name": "uploads" })).0, 200);
    assert_eq!(admin.put(&place, &json!({ "scopes": ["review"] })).0, 400);
    let (status, refused) = admin.post("/api/v1/banks", &json!({ "name": "ACME.A.B" }));
    assert_eq!(status, 400, "{refused}");

    let http = bearing(&server, made["secret"].as_str().unwrap());
    let listed = crate::access::tenants_table();
    let mut opened = 0;
    for ((method, path), may) in crate::access::table() {
        let everybodys = may.iter().any(|who| who.iter().any(|who| who.starts_with("everybody")));
        let all = may[1].len() == 8;
        let by_scope = SCOPES.iter().any(|scope| may[1].contains(*scope));
        let expected = everybodys || all || (by_scope && listed.contains(&path));
        if path == "/api/v1/logout" {
            continue;
        }
        let place = path.split('/').map(|part| if part.starts_with('{') { "0" } else { part });
        let place = place.collect::<Vec<_>>().join("/");
        let (status, text) = http.plain(&method, &place, (method != "GET").then_some("{}"));
        let shut = status == 403 && (text.contains("a tenant's key") || text.contains("it needs the right"));
        assert_eq!(!shut, expected, "{method} {path}: {status} {text}");
        opened += usize::from(expected && by_scope);
    }
    assert!(opened > 20, "{opened} routes");
}
