//! Rules: a condition and what is done where it holds. Routing rules choose where something goes, the first that holds
//! decides; of proactive rules each that holds acts.
//!
//! Written in JSON over HTTP or in a TOML file, and read by one reader: an error points at its field. What a rule names
//! must be there, except in the file, which may come before its banks.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::condition::{Condition, Known};
use crate::desk::incident::{IncidentType, incident_type};
#[cfg(doc)]
use crate::desk::job::PRIORITY;
use crate::desk::kind::ItemType;
use crate::desk::queue::{QueueName, RulesVersion, Verdict};
use crate::error::RouterError;
use crate::read::{At, FieldError};

/// Rules of a file at most: a shard evaluates them inline for each hit.
const RULES_MAX: usize = 1000;
const NAME_CHARS_MAX: usize = 128;
const ACTIONS_MAX: usize = 20;
const DEFAULT_QUEUE: &str = "default";

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is known by; unique.
    pub name: String,
    /// Which kind.
    pub kind: RuleKind,
    /// What it does now.
    pub state: RuleState,
    /// From when on a live or background rule has expired, in milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Routing rules are tried by it, lowest first.
    pub order: u64,
    /// Only items of these types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_types: Option<Vec<String>>,
    /// The condition as it is written; every hit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Value>,
    /// What is done.
    pub actions: Vec<Action>,
    /// What the uploader is told, if the rule is a routing rule.
    pub verdict: Verdict,
    /// 1 for the first; one more each time it is changed.
    #[serde(default)]
    pub version: u64,
    /// When this version was made, in milliseconds since 1970 (UTC).
    #[serde(default)]
    pub changed_ms: u64,
    /// By whom.
    #[serde(default)]
    pub changed_by: String,
    /// Whether it comes from the rules file, and is changed there.
    #[serde(default)]
    pub from_file: bool,
}

/// Routing rules choose, proactive rules act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// The first that holds decides where something goes.
    Routing,
    /// Each that holds acts.
    Proactive,
}

/// What a rule does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// Nothing.
    Draft,
    /// It is evaluated and logged, and does nothing.
    Background,
    /// It acts.
    Live,
    /// It did until its time was over.
    Expired,
    /// It was taken out.
    Archived,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Puts the item into a review queue: this one, or the one that routing rules choose.
    Enqueue {
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
        /// Where its job stands there; see [`PRIORITY`] for where the others do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<u8>,
    },
    /// Makes an NCMEC job of the user behind it, or adds to the open one.
    EnqueueNcmec {
        /// Where a new job waits; in the NCMEC queue of the settings if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
        /// Where it stands there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<u8>,
    },
    /// Tells a webhook.
    Webhook {
        /// Which.
        name: String,
    },
    /// Adds the item's signals to a bank.
    AddToBank {
        /// Which.
        bank: String,
    },
    /// Decides without a person, where a trusted bank matched and an admin has switched that on.
    Decide {
        /// What the report says.
        incident_type: IncidentType,
    },
}

impl Rule {
    /// Reads a rule. `known` checks what it names.
    pub fn read(name: &str, at: &At<'_>, known: Option<&dyn Known>) -> Result<Self, FieldError> {
        at.only(&[
            "name",
            "kind",
            "state",
            "enabled",
            "expires",
            "order",
            "item_types",
            "when",
            "queue",
            "verdict",
            "actions",
            "by",
            "banks",
            "signal_types",
            "distance_min",
            "distance_max",
            "matches_min",
            "version",
            "changed_ms",
            "changed_by",
            "from_file",
            "expires_ms",
            "state_now",
        ])?;
        let kind = at.field("kind")?.map_or(Ok(RuleKind::Routing), |kind| {
            kind.one_of(&[("routing", RuleKind::Routing), ("proactive", RuleKind::Proactive)])
        })?;
        let mut item_types = None;
        if let Some(list) = at.field("item_types")? {
            item_types = Some(read_item_types(&list, known)?);
        }
        let when = read_when(at, known)?;
        let mut actions = Vec::new();
        if let Some(queue) = at.field("queue")? {
            actions.push(Action::Enqueue { queue: Some(read_queue(&queue)?), priority: None });
        }
        if let Some(list) = at.field("actions")? {
            for action in list.list()? {
                actions.push(read_action(&action, known)?);
                if actions.len() > ACTIONS_MAX {
                    return Err(action.wrong(format!("a rule has {ACTIONS_MAX} actions at most")));
                }
            }
        }
        check_actions(kind, &actions, at)?;
        Ok(Self {
            name: name.to_string(),
            kind,
            state: read_state(at)?,
            expires_ms: read_expiry(at)?,
            order: at.field("order")?.map_or(Ok(1000), |order| order.whole(0, 1_000_000))?,
            item_types,
            when,
            actions,
            verdict: at.field("verdict")?.map_or(Ok(Verdict::Review), |verdict| {
                verdict.one_of(&Verdict::ALL.map(|verdict| (verdict.name(), verdict)))
            })?,
            version: 0,
            changed_ms: 0,
            changed_by: at.field("by")?.map_or(Ok(""), |by| by.words(NAME_CHARS_MAX))?.to_string(),
            from_file: false,
        })
    }

    /// What it does at this time.
    pub fn state_at(&self, now_ms: u64) -> RuleState {
        match self.state {
            RuleState::Live | RuleState::Background if self.expires_ms.is_some_and(|end| end <= now_ms) => {
                RuleState::Expired
            }
            state => state,
        }
    }

    /// The queues that it names.
    pub fn queues(&self) -> impl Iterator<Item = &QueueName> {
        self.actions.iter().filter_map(|action| match action {
            Action::Enqueue { queue, .. } | Action::EnqueueNcmec { queue, .. } => queue.as_ref(),
            _ => None,
        })
    }

    /// Its condition.
    pub fn condition(&self) -> Result<Condition, FieldError> {
        let any = super::condition::any_match();
        Condition::read(&At::new(self.when.as_ref().unwrap_or(&any), "/when"), None)
    }

    /// Whether it says the same, however often it was changed.
    pub fn says_what(&self, other: &Rule) -> bool {
        let plain =
            |rule: &Rule| Rule { version: 0, changed_ms: 0, changed_by: String::new(), ..rule.clone() };
        plain(self) == plain(other)
    }
}

/// A rule's name, read.
pub fn read_name(at: &At<'_>) -> Result<String, FieldError> {
    let name = at.text()?;
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.trim() != name || name.chars().any(char::is_control) {
        return Err(at.wrong(format!(
            "{:?} is not a name: use 1 to {NAME_CHARS_MAX} printable characters without blanks around them",
            crate::error::clip(name)
        )));
    }
    Ok(name.to_string())
}

fn read_state(at: &At<'_>) -> Result<RuleState, FieldError> {
    const STATES: [(&str, RuleState); 3] =
        [("draft", RuleState::Draft), ("background", RuleState::Background), ("live", RuleState::Live)];
    match (at.field("state")?, at.field("enabled")?) {
        (Some(state), None) => state.one_of(&STATES),
        (None, Some(enabled)) => Ok(if enabled.flag()? { RuleState::Live } else { RuleState::Draft }),
        (None, None) => Ok(RuleState::Live),
        (Some(state), Some(_)) => Err(state.wrong("say state or enabled, not both")),
    }
}

fn read_expiry(at: &At<'_>) -> Result<Option<u64>, FieldError> {
    let given = match at.field("expires")? {
        Some(time) => Some(time),
        None => at.field("expires_ms")?,
    };
    let Some(time) = given else { return Ok(None) };
    let ms = crate::desk::kind::time_ms(time.value());
    ms.map(Some).ok_or_else(|| time.wrong("is not a time: use 2026-01-31T12:00:00Z"))
}

fn read_item_types(list: &At<'_>, known: Option<&dyn Known>) -> Result<Vec<String>, FieldError> {
    let mut types = Vec::new();
    for at in list.list()? {
        let id = at.id()?;
        if known.is_some_and(|known| known.item_type(id).is_none()) {
            return Err(at.wrong(format!("there is no item type '{id}': describe it first")));
        }
        types.push(id.to_string());
    }
    if types.is_empty() {
        return Err(list.wrong("is empty, so it would never match: take it out to mean any"));
    }
    Ok(types)
}

/// The condition: written as one, or by the words of a hash match beside the others.
fn read_when(at: &At<'_>, known: Option<&dyn Known>) -> Result<Option<Value>, FieldError> {
    const SHORT: [&str; 5] = ["banks", "signal_types", "distance_min", "distance_max", "matches_min"];
    let mut hash = Map::new();
    for name in SHORT {
        if let Some(given) = at.field(name)? {
            hash.insert(name.to_string(), given.value().clone());
        }
    }
    match at.field("when")? {
        Some(when) if !hash.is_empty() => {
            Err(when.wrong("stands beside banks, distances and the like: put those into a hash_match of it"))
        }
        Some(when) => {
            Condition::read(&when, known)?;
            Ok(Some(when.value().clone()))
        }
        None if hash.is_empty() => Ok(None),
        None => {
            let when = json!({ "hash_match": hash });
            // Errors point at the words as they were written, beside the others.
            Condition::read(&At::new(&when, ""), known).map_err(|error| FieldError {
                pointer: error.pointer.trim_start_matches("/hash_match").to_string(),
                problem: error.problem,
            })?;
            Ok(Some(when))
        }
    }
}

fn read_queue(at: &At<'_>) -> Result<QueueName, FieldError> {
    QueueName::parse(at.text()?).map_err(|error| at.wrong(error.to_string()))
}

fn read_action(at: &At<'_>, known: Option<&dyn Known>) -> Result<Action, FieldError> {
    let names = ["enqueue", "enqueue_ncmec", "webhook", "add_to_bank", "decide"];
    at.only(&names)?;
    let Some((name, _)) = at.object()?.iter().next().filter(|_| at.object().is_ok_and(|map| map.len() == 1))
    else {
        return Err(at.wrong(format!("is one of {}", names.join(", "))));
    };
    let inner = at.need(name)?;
    let queue = || inner.field("queue")?.map(|queue| read_queue(&queue)).transpose();
    let priority = || {
        inner
            .field("priority")?
            .map(|priority| priority.whole(0, 9).map(|priority| priority as u8))
            .transpose()
    };
    Ok(match name.as_str() {
        "enqueue" => {
            inner.only(&["queue", "priority"])?;
            Action::Enqueue { queue: queue()?, priority: priority()? }
        }
        "enqueue_ncmec" => {
            inner.only(&["queue", "priority"])?;
            Action::EnqueueNcmec { queue: queue()?, priority: priority()? }
        }
        "webhook" => {
            inner.only(&["name"])?;
            let name = inner.need("name")?;
            if known.is_some_and(|known| !known.webhook(name.text().unwrap_or_default())) {
                return Err(name.wrong("there is no webhook of this name: set it up first"));
            }
            Action::Webhook { name: name.words(NAME_CHARS_MAX)?.to_string() }
        }
        "add_to_bank" => {
            inner.only(&["bank"])?;
            let bank = inner.need("bank")?;
            let name = bank.words(255)?;
            if known.is_some_and(|known| !known.bank(name)) {
                return Err(bank.wrong(format!("there is no bank '{name}': make it first")));
            }
            Action::AddToBank { bank: name.to_string() }
        }
        _ => {
            inner.only(&["incident_type"])?;
            Action::Decide { incident_type: incident_type(&inner.need("incident_type")?)? }
        }
    })
}

fn check_actions(kind: RuleKind, actions: &[Action], at: &At<'_>) -> Result<(), FieldError> {
    let places = |action: &&Action| {
        matches!(action, Action::Enqueue { .. } | Action::EnqueueNcmec { .. } | Action::Decide { .. })
    };
    let chosen = actions.iter().filter(places).count();
    match kind {
        RuleKind::Routing
            if actions.iter().any(|action| matches!(action, Action::Enqueue { queue: None, .. })) =>
        {
            Err(at.need("actions")?.wrong("a routing rule is what chooses the queue: name it"))
        }
        RuleKind::Routing if chosen == 0 => Err(at
            .under("queue", &Value::Null)
            .wrong("is missing: name the queue it sends to, or an action that places it")),
        RuleKind::Routing if chosen > 1 => {
            Err(at.wrong("sends to one place: a queue, enqueue_ncmec or decide"))
        }
        RuleKind::Proactive if actions.is_empty() => Err(at
            .under("actions", &Value::Null)
            .wrong("is missing: a proactive rule without actions does nothing")),
        _ => Ok(()),
    }
}

/// A rules file.
#[derive(Clone, Debug)]
pub struct RulesFile {
    /// Item types.
    pub item_types: Vec<ItemType>,
    /// Where goes what no rule takes; what the settings say if absent.
    pub default_queue: Option<QueueName>,
    /// In the order they are tried.
    pub rules: Vec<Rule>,
    /// Of the text they were read from.
    pub version: RulesVersion,
}

impl RulesFile {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, RouterError> {
        let file: Value =
            toml::from_str(text).map_err(|error| RouterError::RulesSyntax { reason: error.to_string() })?;
        let root = At::new(&file, "");
        let of_file = |error: FieldError| wrong("the rules file", error);
        root.only(&["default_queue", "item_type", "rule"]).map_err(of_file)?;
        let default_queue = root
            .field("default_queue")
            .map_err(of_file)?
            .map(|queue| read_queue(&queue))
            .transpose()
            .map_err(of_file)?;
        let list = root
            .field("rule")
            .map_err(of_file)?
            .map_or(Ok(Vec::new()), |list| list.list())
            .map_err(of_file)?;
        if list.len() > RULES_MAX {
            let problem = format!("{} rules are too many: {RULES_MAX} at most; join some", list.len());
            return Err(of_file(FieldError { pointer: "/rule".to_string(), problem }));
        }
        let mut names = HashSet::new();
        let mut rules = Vec::with_capacity(list.len());
        for (number, at) in list.iter().enumerate() {
            let at = At::new(at.value(), "");
            let nameless = |error: FieldError| wrong(&format!("rule {}", number + 1), error);
            let name = at.need("name").and_then(|name| read_name(&name)).map_err(nameless)?;
            if !names.insert(name.clone()) {
                let problem = format!("'{name}' is taken by a rule above: give each rule its own");
                return Err(nameless(FieldError { pointer: "/name".to_string(), problem }));
            }
            let read =
                Rule::read(&name, &at, None).map_err(|error| wrong(&format!("rule '{name}'"), error))?;
            rules.push(Rule {
                order: number as u64,
                from_file: true,
                changed_by: "rules file".to_string(),
                ..read
            });
        }
        let mut item_types = Vec::new();
        let types = root
            .field("item_type")
            .map_err(of_file)?
            .map_or(Ok(Vec::new()), |list| list.list())
            .map_err(of_file)?;
        for (number, at) in types.iter().enumerate() {
            let at = At::new(at.value(), "");
            let named = |error| wrong(&format!("item type {}", number + 1), error);
            let id = at.need("id").and_then(|id| id.id().map(str::to_string)).map_err(named)?;
            item_types
                .push(ItemType::read(&id, &at).map_err(|error| wrong(&format!("item type '{id}'"), error))?);
        }
        Ok(Self { item_types, default_queue, rules, version: RulesVersion::of(text) })
    }
}

fn wrong(rule: &str, error: FieldError) -> RouterError {
    RouterError::RulesField {
        rule: rule.to_string(),
        field: error.pointer.trim_start_matches('/').to_string(),
        problem: error.problem,
    }
}

/// The queue that is there from the first start.
pub fn default_queue() -> QueueName {
    QueueName::known(DEFAULT_QUEUE)
}
