//! What an item's own fields say: who and what they name, and their texts.

use std::net::IpAddr;

use index::store::StoreError;
use serde_json::Value;

use crate::desk::item::{Item, ItemKey};
use crate::desk::kind::{Container, Field, ItemKind, ItemType, Role, Scalar, related};
use crate::desk::settings::item_type;
use crate::read::At;
use crate::tx::Tx;

/// An item with its type, as far as it is known.
pub struct Told<'i> {
    item: &'i Item,
    of: Option<ItemType>,
}

impl<'i> Told<'i> {
    /// What this item says.
    pub fn by(tx: &Tx<'_>, item: &'i Item) -> Result<Self, StoreError> {
        Ok(Self { item, of: item_type(tx, &item.key.type_id, item.type_version)? })
    }

    /// The text in the field that plays a role; none if it is empty.
    pub fn role(&self, role: Role) -> Option<&'i str> {
        let text = self.of.as_ref()?.role(role, &self.item.data)?.as_str()?;
        Some(text).filter(|text| !text.trim().is_empty())
    }

    /// The address it came from. What was stored before its type was described was never checked: that is none.
    pub fn address(&self) -> Option<&'i str> {
        self.role(Role::IpAddress).filter(|address| address.parse::<IpAddr>().is_ok())
    }

    /// Its texts, in the order of its type's fields; every text it has if nobody described its type.
    pub fn texts(&self) -> Vec<&'i str> {
        let mut texts = match &self.of {
            Some(_) => self.values(Scalar::String).filter_map(Value::as_str).collect(),
            None => self.item.data.values().filter_map(Value::as_str).collect::<Vec<_>>(),
        };
        texts.retain(|text| !text.trim().is_empty());
        texts
    }

    /// The URLs in fields that are URLs and no media: where people see it.
    pub fn urls(&self) -> Vec<&'i str> {
        self.values(Scalar::Url).filter_map(Value::as_str).collect()
    }

    /// The users that its fields name, but for its maker, each once.
    pub fn users(&self, tx: &Tx<'_>) -> Result<Vec<ItemKey>, StoreError> {
        let mut users = Vec::new();
        for value in self.values(Scalar::RelatedItem) {
            let Ok((type_id, id)) = related(&At::new(value, "")) else { continue };
            let of = item_type(tx, &type_id, 0)?;
            let key = ItemKey { id, type_id };
            let is_user = of.is_some_and(|of| of.kind == ItemKind::User);
            if is_user && Some(&key) != self.item.creator.as_ref() && !users.contains(&key) {
                users.push(key);
            }
        }
        Ok(users)
    }

    fn values(&self, scalar: Scalar) -> impl Iterator<Item = &'i Value> + '_ {
        let fields: &[Field] = self.of.as_ref().map_or(&[], |of| &of.fields);
        let fields = fields.iter().filter(move |field| field.scalar == scalar);
        fields
            .flat_map(|field| self.item.data.get(&field.name).map_or(Vec::new(), |value| each(field, value)))
    }
}

/// A field's values, however many it holds.
fn each<'v>(field: &Field, value: &'v Value) -> Vec<&'v Value> {
    match (field.container, value) {
        (Some(Container::Array), Value::Array(values)) => values.iter().collect(),
        (Some(Container::Map), Value::Object(values)) => values.values().collect(),
        (_, one) => vec![one],
    }
}
