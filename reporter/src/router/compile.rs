//! Rules made ready to run, and the one function that decides. Pure: a table and a hit's facts in, a
//! decision out, no allocation, so that a shard can ask for the verdict of each hit inline.
//!
//! A rule's bank and distance conditions hold for one and the same match: of the matches in its banks the
//! nearest is looked at, and no other. So a rule for far matches never takes a hit that is also near.
//! A hit is never dropped: what no rule takes goes to the default queue, for people.

use std::collections::HashSet;

use index::{Distance, Hit, HitMatch, SignalType};

use super::rule::{Rule, Rules};
use crate::queue::{QueueName, RulesVersion, Verdict};

/// What rules may ask about a hit. `matches` is walked once for each rule, hence `Clone`.
#[derive(Clone, Copy, Debug)]
pub struct HitFacts<'a, M> {
    /// Type of the submitted signal.
    pub signal_type: SignalType,
    /// What the uploader said the item is.
    pub item_type: Option<&'a str>,
    /// What it matched, in any order.
    pub matches: M,
}

/// One match of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchFact<'a> {
    /// The bank's name.
    pub bank_name: &'a str,
    /// How far it lies.
    pub distance: Distance,
}

impl<'a> From<&'a HitMatch> for MatchFact<'a> {
    fn from(found: &'a HitMatch) -> Self {
        Self { bank_name: &found.bank_name, distance: found.distance }
    }
}

/// What happens to a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'t> {
    /// The rule that took it; none for the default.
    pub rule: Option<&'t str>,
    /// Where it goes.
    pub queue: &'t QueueName,
    /// What the uploader is told.
    pub verdict: Verdict,
    /// Which of the facts' matches satisfied the rule, counted from 0; none for the default.
    pub matched: Option<usize>,
}

/// Rules, ready to decide.
#[derive(Clone, Debug)]
pub struct RuleTable {
    rules: Rules,
    /// Only of enabled rules, in order.
    tests: Vec<Test>,
}

impl Default for RuleTable {
    fn default() -> Self {
        Self::compile(Rules::default())
    }
}

impl RuleTable {
    /// Makes rules ready.
    pub fn compile(rules: Rules) -> Self {
        let enabled = rules.rules.iter().enumerate().filter(|(_, rule)| rule.enabled);
        let tests = enabled.map(|(at, rule)| Test::compile(at, rule)).collect();
        Self { rules, tests }
    }

    /// The rules as written, disabled ones too.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Which text of rules this is.
    pub fn version(&self) -> RulesVersion {
        self.rules.version
    }

    /// What happens to a hit as it is, or will be, logged.
    pub fn decide_hit(&self, hit: &Hit) -> Decision<'_> {
        self.decide(&HitFacts {
            signal_type: hit.signal_type,
            item_type: hit.context.item_type.as_deref(),
            matches: hit.matches.iter().map(MatchFact::from),
        })
    }

    /// What happens to a hit with these facts: the first rule that takes it decides.
    pub fn decide<'a, M>(&self, facts: &HitFacts<'a, M>) -> Decision<'_>
    where
        M: IntoIterator<Item = MatchFact<'a>> + Clone,
    {
        let taken = self.tests.iter().find_map(|test| Some((test, test.satisfied_by(facts)?)));
        match taken {
            Some((test, matched)) => {
                let rule = &self.rules.rules[test.rule];
                let matched = Some(matched);
                Decision { rule: Some(&rule.name), queue: &rule.queue, verdict: rule.verdict, matched }
            }
            None => Decision {
                rule: None,
                queue: &self.rules.default_queue,
                verdict: Verdict::Review,
                matched: None,
            },
        }
    }
}

/// One rule's condition in the form that is quick to test. Absent sets ask for nothing.
#[derive(Clone, Debug)]
struct Test {
    /// Place in `Rules::rules`.
    rule: usize,
    signal_types: Option<Vec<SignalType>>,
    item_types: Option<HashSet<Box<str>>>,
    banks: Option<HashSet<Box<str>>>,
    distance_min: Option<Distance>,
    distance_max: Option<Distance>,
}

impl Test {
    fn compile(at: usize, rule: &Rule) -> Self {
        let set = |names: &Option<Vec<String>>| {
            names.as_ref().map(|names| names.iter().map(|name| Box::from(name.as_str())).collect())
        };
        let wanted = &rule.condition;
        Self {
            rule: at,
            signal_types: wanted.signal_types.clone(),
            item_types: set(&wanted.item_types),
            banks: set(&wanted.banks),
            distance_min: wanted.distance_min,
            distance_max: wanted.distance_max,
        }
    }

    /// The match that satisfies it, if one does. The dearest question comes last.
    fn satisfied_by<'a, M>(&self, facts: &HitFacts<'a, M>) -> Option<usize>
    where
        M: IntoIterator<Item = MatchFact<'a>> + Clone,
    {
        if self.signal_types.as_ref().is_some_and(|wanted| !wanted.contains(&facts.signal_type)) {
            return None;
        }
        if let Some(wanted) = &self.item_types
            && !facts.item_type.is_some_and(|found| wanted.contains(found))
        {
            return None;
        }
        let considered =
            facts.matches.clone().into_iter().enumerate().filter(|(_, found)| {
                self.banks.as_ref().is_none_or(|wanted| wanted.contains(found.bank_name))
            });
        let (at, nearest) = considered.min_by_key(|(_, found)| found.distance)?;
        let far_enough = self.distance_min.is_none_or(|min| nearest.distance >= min);
        let near_enough = self.distance_max.is_none_or(|max| nearest.distance <= max);
        (far_enough && near_enough).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::rule::Condition;
    use proptest::prelude::*;

    const BANKS: [&str; 4] = ["A", "B", "C", "D"];
    const ITEM_TYPES: [&str; 3] = ["photo", "avatar", "video"];

    fn table(text: &str) -> RuleTable {
        RuleTable::compile(Rules::parse(text).unwrap())
    }

    fn facts<'a>(
        item_type: Option<&'a str>,
        matches: &'a [(&'a str, u16)],
    ) -> HitFacts<'a, impl Iterator<Item = MatchFact<'a>> + Clone> {
        let matches = matches
            .iter()
            .map(|(bank_name, bits)| MatchFact { bank_name, distance: Distance::new(*bits).unwrap() });
        HitFacts { signal_type: SignalType::Pdq, item_type, matches }
    }

    #[test]
    fn the_first_rule_that_takes_a_hit_decides() {
        let table = table(
            "default_queue = 'rest'
             [[rule]]\nname = 'off'\nqueue = 'off'\nenabled = false
             [[rule]]\nname = 'near'\ndistance_max = 5\nqueue = 'near'\nverdict = 'block'
             [[rule]]\nname = 'mid'\ndistance_max = 20\nqueue = 'mid'\nverdict = 'log'",
        );
        for (bits, rule, queue, verdict) in [
            (5, Some("near"), "near", Verdict::Block),
            (6, Some("mid"), "mid", Verdict::Log),
            (21, None, "rest", Verdict::Review),
        ] {
            let decision = table.decide(&facts(None, &[("A", bits)]));
            assert_eq!((decision.rule, decision.queue.as_str(), decision.verdict), (rule, queue, verdict));
        }
    }

    #[test]
    fn bank_and_distance_hold_for_one_and_the_same_match() {
        let table = table("[[rule]]\nname = 'r'\nbanks = ['A']\ndistance_max = 10\nqueue = 'q'");
        assert_eq!(table.decide(&facts(None, &[("B", 3), ("A", 30)])).rule, None);
        let taken = table.decide(&facts(None, &[("B", 3), ("A", 30), ("A", 10)]));
        assert_eq!((taken.rule, taken.matched), (Some("r"), Some(2)));
    }

    #[test]
    fn a_rule_for_far_matches_never_takes_a_hit_that_is_also_near() {
        let table =
            table("[[rule]]\nname = 'far'\nbanks = ['A']\ndistance_min = 10\nqueue = 'q'\nverdict = 'log'");
        assert_eq!(table.decide(&facts(None, &[("A", 3), ("A", 20)])).rule, None);
        assert_eq!(table.decide(&facts(None, &[("B", 3), ("A", 20)])).rule, Some("far"));
    }

    #[test]
    fn a_hit_without_an_item_type_satisfies_no_rule_that_asks_for_one() {
        let table = table("[[rule]]\nname = 'r'\nitem_types = ['photo']\nqueue = 'q'");
        assert_eq!(table.decide(&facts(None, &[("A", 0)])).rule, None);
        assert_eq!(table.decide(&facts(Some("avatar"), &[("A", 0)])).rule, None);
        assert_eq!(table.decide(&facts(Some("photo"), &[("A", 0)])).rule, Some("r"));
    }

    /// The obvious evaluator: rule by rule, field by field, over sorted copies.
    fn naive(
        rules: &Rules,
        signal: SignalType,
        item: Option<&str>,
        matches: &[(&str, u16)],
    ) -> (String, Option<usize>) {
        for rule in rules.rules.iter().filter(|rule| rule.enabled) {
            let Condition { banks, signal_types, distance_min, distance_max, item_types } = &rule.condition;
            let mut considered: Vec<(u16, usize)> = (0..matches.len())
                .filter(|at| match banks {
                    Some(banks) => banks.iter().any(|bank| bank == matches[*at].0),
                    None => true,
                })
                .map(|at| (matches[at].1, at))
                .collect();
            considered.sort();
            let Some(&(bits, at)) = considered.first() else { continue };
            let holds = [
                signal_types.as_ref().map(|types| types.contains(&signal)),
                item_types
                    .as_ref()
                    .map(|types| item.is_some_and(|item| types.iter().any(|wanted| wanted == item))),
                distance_min.map(|min| bits >= min.bits()),
                distance_max.map(|max| bits <= max.bits()),
            ];
            if !holds.contains(&Some(false)) {
                return (rule.queue.to_string(), Some(at));
            }
        }
        (rules.default_queue.to_string(), None)
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let some = |values: &'static [&'static str]| {
            proptest::option::of(proptest::sample::subsequence(values, 1..=values.len())).prop_map(|chosen| {
                chosen.map(|names| names.into_iter().map(str::to_string).collect::<Vec<_>>())
            })
        };
        let types = proptest::option::of(proptest::sample::subsequence(SignalType::ALL.as_slice(), 1..=2));
        let bits = || proptest::option::of((0..40u16).prop_map(|bits| Distance::new(bits).unwrap()));
        (some(&BANKS), types, bits(), bits(), some(&ITEM_TYPES), proptest::bool::weighted(0.8)).prop_map(
            |(banks, signal_types, distance_min, distance_max, item_types, enabled)| Rule {
                name: String::new(),
                condition: Condition { banks, signal_types, distance_min, distance_max, item_types },
                queue: QueueName::parse("q").unwrap(),
                verdict: Verdict::Review,
                enabled,
            },
        )
    }

    proptest! {
        #[test]
        fn decisions_agree_with_the_obvious_evaluator(
            mut listed in proptest::collection::vec(any_rule(), 0..8),
            signal_type in proptest::sample::select(SignalType::ALL.as_slice()),
            item_type in proptest::option::of(proptest::sample::select(ITEM_TYPES.as_slice())),
            matches in proptest::collection::vec((proptest::sample::select(BANKS.as_slice()), 0..40u16), 0..6),
        ) {
            for (at, rule) in listed.iter_mut().enumerate() {
                rule.name = format!("r{at}");
                rule.queue = QueueName::parse(&format!("q{at}")).unwrap();
            }
            let rules = Rules { rules: listed, ..Rules::default() };
            let table = RuleTable::compile(rules.clone());
            let decision = table.decide(&HitFacts { signal_type, ..facts(item_type, &matches) });
            let (queue, matched) = naive(&rules, signal_type, item_type, &matches);
            prop_assert_eq!((decision.queue.to_string(), decision.matched), (queue, matched));
            prop_assert_eq!(decision.rule.is_some(), decision.matched.is_some());
        }
    }
}
