//! Rules as they are kept: each in all its versions, and which rules in which versions every table had, so that what was
//! decided can be explained for ever. Rows are in keyspace `policy`; `desk::settings` lists them.

use std::collections::{BTreeMap, HashSet};

use index::store::keys::{decode_u64, encode_u64};
use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};

use super::condition::Known;
use super::rule::{Action, Rule, RuleState, RulesFile};
use super::table::RuleTable;
use crate::desk::kind::ItemType;
use crate::desk::settings::{Settings, item_types, put_item_type, put_settings, settings, webhooks};
use crate::error::{DeskError, RouterError};
use crate::tx::{Tx, key, read_row};

const RULES_MAX: usize = 2000;
const TABLE_KEY: &[u8] = b"M/table";
const FILE_KEY: &[u8] = b"M/file";

/// Everything rules and intake go by, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Rules, ready to run.
    pub table: RuleTable,
    /// Item types by id.
    pub types: BTreeMap<String, ItemType>,
    /// Names of webhooks.
    pub webhooks: HashSet<String>,
    /// Settings.
    pub settings: Settings,
}

impl Catalog {
    /// What the store has.
    pub fn load(tx: &Tx<'_>) -> Result<Self, RouterError> {
        let table = RuleTable::compile(table_version(tx)?, rules(tx)?).map_err(RouterError::StoredRule)?;
        Ok(Self {
            table,
            types: item_types(tx)?.into_iter().map(|of| (of.id.clone(), of)).collect(),
            webhooks: webhooks(tx)?.into_iter().map(|webhook| webhook.name).collect(),
            settings: settings(tx)?,
        })
    }
}

/// What a rule may name: of a catalog, and the banks there are.
pub struct Names<'a> {
    /// Types and webhooks.
    pub catalog: &'a Catalog,
    /// Whether there is a bank of this name.
    pub bank: &'a dyn Fn(&str) -> bool,
}

impl Known for Names<'_> {
    fn bank(&self, name: &str) -> bool {
        (self.bank)(name)
    }

    fn item_type(&self, id: &str) -> Option<&ItemType> {
        self.catalog.types.get(id)
    }

    fn item_types(&self) -> Box<dyn Iterator<Item = &ItemType> + '_> {
        Box::new(self.catalog.types.values())
    }

    fn webhook(&self, name: &str) -> bool {
        self.catalog.webhooks.contains(name)
    }
}

/// Which rules a table had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRules {
    /// Since when, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// Name and version of each, in the order of the evaluations' results.
    pub rules: Vec<(String, u64)>,
}

/// Every rule in its newest version, archived ones too.
pub fn rules(tx: &Tx<'_>) -> Result<Vec<Rule>, StoreError> {
    let rows = tx.rows(Keyspace::Policy, b"r", RULES_MAX + 1)?;
    rows.iter().map(|(_, row)| read_row(Keyspace::Policy, row)).collect()
}

/// A rule in its newest version.
pub fn rule(tx: &Tx<'_>, name: &str) -> Result<Option<Rule>, StoreError> {
    tx.read(Keyspace::Policy, &key(b'r', &[name]))
}

/// All versions of a rule, oldest first.
pub fn versions(tx: &Tx<'_>, name: &str) -> Result<Vec<Rule>, StoreError> {
    let rows = tx.rows(Keyspace::Policy, &key(b'R', &[name]), usize::MAX)?;
    rows.iter().map(|(_, row)| read_row(Keyspace::Policy, row)).collect()
}

/// Which rules a table had.
pub fn table_rules(tx: &Tx<'_>, version: u64) -> Result<Option<TableRules>, StoreError> {
    tx.read(Keyspace::Policy, &table_key(version))
}

/// Writes a rule as its next version, unless it says the same.
pub fn put_rule(tx: &mut Tx<'_>, new: Rule, now_ms: u64) -> Result<Rule, DeskError> {
    let before = rule(tx, &new.name)?;
    if let Some(before) = &before {
        if before.from_file && !new.from_file && before.state != RuleState::Archived {
            return Err(DeskError::Conflict {
                problem: format!(
                    "'{}' comes from the rules file: change it there, and start the server again",
                    new.name
                ),
            });
        }
        if before.says_what(&new) {
            return Ok(before.clone());
        }
    } else if rules(tx)?.len() >= RULES_MAX {
        return Err(DeskError::Conflict {
            problem: format!("there are {RULES_MAX} rules already: join some"),
        });
    }
    let new = Rule { version: before.map_or(0, |before| before.version) + 1, changed_ms: now_ms, ..new };
    tx.save(Keyspace::Policy, key(b'r', &[&new.name]), &new);
    tx.save(Keyspace::Policy, [&key(b'R', &[&new.name])[..], &new.version.to_be_bytes()].concat(), &new);
    renew_table(tx, now_ms)?;
    Ok(new)
}

/// Takes a rule out; its versions stay.
pub fn archive(tx: &mut Tx<'_>, name: &str, by: &str, now_ms: u64) -> Result<Rule, DeskError> {
    let found =
        rule(tx, name)?.ok_or_else(|| DeskError::NotFound { what: "rule", name: name.to_string() })?;
    let state = RuleState::Archived;
    put_rule(tx, Rule { state, changed_by: by.to_string(), ..found }, now_ms)
}

/// Names of the rules that name something, so that it is not taken away under them.
pub fn rules_that(tx: &Tx<'_>, name: impl Fn(&Rule) -> bool) -> Result<Vec<String>, StoreError> {
    let rules = rules(tx)?.into_iter().filter(|rule| rule.state != RuleState::Archived && name(rule));
    Ok(rules.map(|rule| rule.name).collect())
}

/// Whether a rule tells a webhook.
pub fn tells(rule: &Rule, webhook: &str) -> bool {
    rule.actions.iter().any(|action| matches!(action, Action::Webhook { name } if name == webhook))
}

/// Whether a rule speaks of an item type, by name or by a field that no other type has.
pub fn speaks_of(rule: &Rule, item_type: &str) -> bool {
    rule.item_types.as_ref().is_some_and(|types| types.iter().any(|id| id == item_type))
}

/// Makes the store's rules those of a file, where the file has changed: rules that are no longer in it are taken out.
/// True if something changed.
pub fn apply_file(tx: &mut Tx<'_>, file: &RulesFile, now_ms: u64) -> Result<bool, DeskError> {
    let version = file.version.to_string();
    if tx.get(Keyspace::Policy, FILE_KEY)?.is_some_and(|known| known == version.as_bytes()) {
        return Ok(false);
    }
    let gone = rules(tx)?.into_iter().filter(|rule| {
        rule.from_file
            && rule.state != RuleState::Archived
            && !file.rules.iter().any(|kept| kept.name == rule.name)
    });
    for rule in gone.collect::<Vec<_>>() {
        put_rule(tx, Rule { state: RuleState::Archived, changed_by: "rules file".into(), ..rule }, now_ms)?;
    }
    for of in &file.item_types {
        put_item_type(tx, of.clone())?;
    }
    for rule in &file.rules {
        put_rule(tx, rule.clone(), now_ms)?;
    }
    if let Some(queue) = &file.default_queue {
        let settings = Settings { default_queue: queue.clone(), ..settings(tx)? };
        put_settings(tx, &settings);
    }
    tx.put(Keyspace::Policy, FILE_KEY, version.as_bytes());
    Ok(true)
}

/// Without a rules file: rules that came from one stay, and can be changed like others.
pub fn leave_file(tx: &mut Tx<'_>, now_ms: u64) -> Result<bool, DeskError> {
    if tx.get(Keyspace::Policy, FILE_KEY)?.is_none() {
        return Ok(false);
    }
    for rule in rules(tx)?.into_iter().filter(|rule| rule.from_file && rule.state != RuleState::Archived) {
        let freed = Rule { from_file: false, version: rule.version + 1, changed_ms: now_ms, ..rule };
        tx.save(Keyspace::Policy, key(b'r', &[&freed.name]), &freed);
        tx.save(
            Keyspace::Policy,
            [&key(b'R', &[&freed.name])[..], &freed.version.to_be_bytes()].concat(),
            &freed,
        );
    }
    tx.delete(Keyspace::Policy, FILE_KEY);
    renew_table(tx, now_ms)?;
    Ok(true)
}

fn table_version(tx: &Tx<'_>) -> Result<u64, StoreError> {
    tx.get(Keyspace::Policy, TABLE_KEY)?.map_or(Ok(0), |row| decode_u64(Keyspace::Policy, &row))
}

fn renew_table(tx: &mut Tx<'_>, now_ms: u64) -> Result<(), DeskError> {
    let version = table_version(tx)? + 1;
    let table = RuleTable::compile(version, rules(tx)?)?;
    let rules =
        table.rules().iter().map(|compiled| (compiled.rule.name.clone(), compiled.rule.version)).collect();
    tx.put(Keyspace::Policy, TABLE_KEY, encode_u64(version));
    tx.save(Keyspace::Policy, table_key(version), &TableRules { since_ms: now_ms, rules });
    Ok(())
}

fn table_key(version: u64) -> Vec<u8> {
    [b"v", &version.to_be_bytes()[..]].concat()
}
