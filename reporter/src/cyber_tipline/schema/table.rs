//! The table (`table.txt`, which says how it is written), read once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// NCMEC's schema.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("table.txt")));

/// What the table says.
#[derive(Default)]
pub(super) struct Table {
    /// Types of elements with attributes or elements in them.
    pub types: BTreeMap<String, Type>,
    /// Types that list their values.
    pub values: BTreeMap<String, Vec<String>>,
}

/// What an element may be.
pub(super) struct Type {
    /// What is in it.
    pub content: Content,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

/// What is in an element.
pub(super) enum Content {
    /// Elements, in this order.
    Sequence(Vec<Part>),
    /// Any of these, in any order, each at most once.
    All(Vec<Child>),
    /// A text of this type.
    Text(String),
}

/// A place in a sequence.
pub(super) struct Part {
    /// What may stand there: one of these.
    pub choices: Vec<Child>,
    /// Whether it may be empty.
    pub optional: bool,
    /// Whether more than one may stand there.
    pub many: bool,
}

/// An element, or an attribute, as its parent has it.
pub(super) struct Child {
    /// What it is called.
    pub name: String,
    /// Its type's name.
    pub kind: String,
}

/// An attribute.
pub(super) struct Attribute {
    /// Its name and type.
    pub of: Child,
    /// Whether it must be there.
    pub needed: bool,
}

impl Table {
    fn read(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.replace("\n  ", " ").lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some(name), Some("~"), Some(rest)) => {
                    let values = rest.split(" | ").map(|value| value.trim_matches('\'').to_string());
                    table.values.insert(name.to_string(), values.collect());
                }
                (Some(name), Some(form), Some(rest)) => {
                    table.types.insert(name.to_string(), Type::read(form, rest));
                }
                _ => {}
            }
        }
        table
    }
}

impl Type {
    fn read(form: &str, rest: &str) -> Self {
        let (attributes, elements): (Vec<&str>, Vec<&str>) =
            rest.split(' ').filter(|word| !word.is_empty()).partition(|word| word.starts_with('@'));
        let content = match form {
            ">" => Content::Sequence(elements.into_iter().map(Part::read).collect()),
            "&" => Content::All(elements.into_iter().map(Child::read).collect()),
            _ => Content::Text(elements.concat()),
        };
        let attributes = attributes.into_iter().map(|word| Attribute {
            of: Child::read(word.trim_start_matches('@').trim_end_matches('!')),
            needed: word.ends_with('!'),
        });
        Self { content, attributes: attributes.collect() }
    }
}

impl Part {
    fn read(word: &str) -> Self {
        Self {
            choices: word.trim_end_matches(['?', '*', '+']).split('|').map(Child::read).collect(),
            optional: word.ends_with(['?', '*']),
            many: word.ends_with(['*', '+']),
        }
    }
}

impl Child {
    fn read(word: &str) -> Self {
        let (name, kind) = word.split_once(':').unwrap_or((word, word));
        Self { name: name.to_string(), kind: kind.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cyber_tipline::schema::simple;

    #[test]
    fn every_type_that_the_table_names_is_known() {
        let mut named = Vec::new();
        for kind in TABLE.types.values() {
            named.extend(kind.attributes.iter().map(|attribute| &attribute.of.kind));
            match &kind.content {
                Content::Sequence(parts) => {
                    named.extend(parts.iter().flat_map(|part| &part.choices).map(|child| &child.kind))
                }
                Content::All(children) => named.extend(children.iter().map(|child| &child.kind)),
                Content::Text(kind) => named.push(kind),
            }
        }
        assert!(named.len() > 240, "{}", named.len());
        for name in named {
            assert!(TABLE.types.contains_key(name) || simple::is_known(&TABLE, name), "{name}");
        }
        assert_eq!(TABLE.values["state"].len(), 55);
        assert!(TABLE.values["country"].iter().all(|code| code.is_empty() || code.len() == 2));
    }
}
