//! The banks of a soak, and what lookups must find in them.

use index::{Digest, Hash256, Signal, SignalType};
use loadtest::workload::BankHashes;
use serde_json::json;

use super::Plan;
use crate::{Http, Unanswered};

/// Uniform PDQ hashes.
pub const UNIFORM: &str = "UNIFORM";
/// One PDQ hash in very many contents.
pub const DUPLICATES: &str = "DUPLICATES";
/// MD5 digests.
pub const DIGESTS: &str = "DIGESTS";
/// Texts.
pub const TEXTS: &str = "TEXTS";
/// Grows by imports.
pub const GROWING: &str = "GROWING";
/// Gets contents that are removed again.
pub const CHANGING: &str = "CHANGING";

/// Digests of their bank.
pub const DIGESTS_COUNT: u64 = 5_000;
/// Texts of their bank.
pub const TEXTS_COUNT: u64 = 300;

/// The hash that has very many contents.
pub fn duplicate(seed: u64) -> Hash256 {
    BankHashes::new(seed ^ 0xd0b1e).get(0)
}

/// The hashes of the uniform bank.
pub fn uniform(seed: u64) -> BankHashes {
    BankHashes::new(seed)
}

/// Hashes that are in no bank unless somebody adds them.
pub fn others(seed: u64, whose: u64) -> BankHashes {
    BankHashes::new(seed ^ 0x0ddba11 ^ (whose << 32))
}

/// Digest number `at` of their bank.
pub fn digest(seed: u64, at: u64) -> Signal {
    let bytes = BankHashes::new(seed ^ 0xd16e57).get(at).0;
    Signal::Exact(SignalType::VideoMd5, Digest::new(&bytes[..16]).expect("an MD5 has 16 bytes"))
}

/// Text number `at` of their bank: unlike every other.
pub fn text(seed: u64, at: u64) -> String {
    let words = BankHashes::new(seed ^ 0x7e87).get(at).0;
    words[..12].iter().map(|byte| format!("{} ", WORDS[usize::from(byte % 16)])).collect::<String>()
        + &at.to_string()
}

const WORDS: [&str; 16] = [
    "amber", "brick", "cobalt", "dune", "ember", "flint", "garnet", "hazel", "indigo", "juniper", "krill",
    "linen", "maroon", "nectar", "ochre", "pewter",
];

/// Makes the banks and a rule, so that hits become jobs.
pub fn seed(http: &Http, plan: &Plan) -> Result<(), String> {
    for name in [UNIFORM, DUPLICATES, DIGESTS, TEXTS, GROWING, CHANGING] {
        done(http.try_post("/api/v1/banks", &json!({ "name": name })))?;
    }
    let mut hashes = uniform(plan.seed);
    import(
        http,
        UNIFORM,
        SignalType::Pdq,
        (0..plan.hashes).map(|at| Signal::Pdq(hashes.get(at)).to_string()),
    )?;
    let same = Signal::Pdq(duplicate(plan.seed)).to_string();
    import(http, DUPLICATES, SignalType::Pdq, (0..plan.duplicates).map(|_| same.clone()))?;
    let digests = (0..DIGESTS_COUNT).map(|at| digest(plan.seed, at).to_string());
    import(http, DIGESTS, SignalType::VideoMd5, digests)?;
    import(http, TEXTS, SignalType::RawText, (0..TEXTS_COUNT).map(|at| text(plan.seed, at)))?;
    let post = json!({ "kind": "CONTENT", "fields": [
        { "name": "text", "type": "STRING", "required": true },
        { "name": "author", "type": "RELATED_ITEM" },
        { "name": "pictures", "type": "IMAGE", "container": "ARRAY" }
    ], "roles": { "creatorId": "author" } });
    done(http.try_put("/api/v1/item-types/soak", &post))?;
    let rule = json!({ "when": { "hash_match": { "banks": [UNIFORM] } }, "queue": "soak" });
    done(http.try_put("/api/v1/rules/soak", &rule))
}

/// Imports signals as lines; gives an error unless all were taken.
pub fn import(
    http: &Http,
    bank: &str,
    kind: SignalType,
    signals: impl Iterator<Item = String>,
) -> Result<(), String> {
    let lines: Vec<String> = signals.collect();
    let path = format!("/api/v1/banks/{bank}/import?signal_type={}&format=lines&strict=true", kind.name());
    let answer = http.try_text(&path, lines.join("\n"));
    match &answer {
        Ok((200, said)) if said["imported"].as_u64() == Some(lines.len() as u64) => Ok(()),
        _ => Err(format!("{} signals were not imported into {bank}: {answer:?}", lines.len())),
    }
}

fn done(answer: Result<(u16, serde_json::Value), Unanswered>) -> Result<(), String> {
    match answer {
        Ok((status, _)) if (200..300).contains(&status) => Ok(()),
        other => Err(format!("the soak cannot be set up: {other:?}")),
    }
}
