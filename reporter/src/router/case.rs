//! A case: an item with what is known of it, as rules see it. Uploads become items too, so that everything known of a
//! user is found in one place.

use std::borrow::Cow;

use index::hit::UPLOAD;
use index::store::StoreError;
use index::{Hit, Position, SignalType, Tenant};

use super::policy::Catalog;
use super::table::{Classified, Facts, MatchFact, Screened, Source, Subject};
use crate::desk::intake::{Answered, Arrival};
use crate::desk::item::{
    Found, Item, ItemKey, Media, MediaKind, Report, Screening, UPLOAD_FIELD, item_alone, uploads,
};
use crate::desk::settings::Settings;
use crate::tx::Tx;

/// Something that rules see.
#[derive(Clone, Debug)]
pub struct Case {
    /// The item, with its media; of an upload without those that were uploaded before it.
    pub item: Item,
    /// Where it comes from.
    pub source: Source,
    /// The report it came by.
    pub report: Option<Report>,
    /// Hits that belong to it.
    pub hits: Vec<Position>,
    /// What it matched.
    pub matches: Vec<Found>,
    /// What the classifier said.
    pub classified: Classified,
    /// Whether all is known that there is to know.
    pub screened: Screened,
    /// Whether people have it already.
    pub placed: bool,
    /// Whether the platform has told of the item itself.
    pub told: bool,
    /// Of an upload: its signal.
    uploaded: Option<(SignalType, String)>,
    /// Whether somebody said of what type it is.
    typed: bool,
    /// The tenant whose key sent it.
    tenant: Option<Tenant>,
    /// The bytes of an upload's signal that named no item.
    anonymous: Option<Vec<u8>>,
}

impl Case {
    /// An item that is screened.
    pub fn of_arrival(arrival: &Arrival) -> Self {
        let item = arrival.item.clone();
        let unknown = item.media.iter().any(|media| !matches!(media.screening, Screening::Done { .. }));
        let screened = match unknown {
            true => Screened::Unknown,
            false if item.media.is_empty() => Screened::NoMedia,
            false => Screened::Whole,
        };
        let mut matches: Vec<Found> = item.matches().cloned().collect();
        for found in &arrival.logged {
            if !matches.contains(found) {
                matches.push(found.clone());
            }
        }
        Self {
            matches,
            source: match (arrival.upload, &arrival.report) {
                (true, _) => Source::Upload,
                (_, Some(_)) => Source::Report,
                (_, None) => Source::Items,
            },
            report: arrival.report.clone(),
            hits: arrival.hits.clone(),
            classified: match arrival.classified {
                Some(Answered::As(priority)) => Classified::As(priority),
                Some(Answered::Inapplicable) => Classified::Inapplicable,
                None if arrival.given_up => Classified::Failed,
                None => Classified::NotAsked,
            },
            screened,
            placed: arrival.placed,
            told: item.kind.is_some(),
            uploaded: None,
            tenant: arrival.tenant.clone(),
            typed: true,
            anonymous: None,
            item,
        }
    }

    /// An upload that matched: its item as it is known, with this medium.
    pub fn of_hit(tx: &Tx<'_>, settings: &Settings, hit: &Hit) -> Result<Self, StoreError> {
        let context = &hit.context;
        let item_type = context.item_type.as_deref().filter(|of| is_id(of));
        let (id, anonymous) = match &context.item_id {
            Some(id) if is_id(id) => (id.clone(), None),
            _ => (format!("hit-{}", hit.position), Some(bytes_of(hit))),
        };
        let key = ItemKey::new(item_type.map_or_else(|| context.own(UPLOAD), Cow::Borrowed), id);
        let known = if anonymous.is_some() { None } else { item_alone(tx, &key)? };
        let creator = context.creator.as_deref().filter(|id| is_id(id));
        let mut item = known.unwrap_or_else(|| Item {
            created_ms: context.created_at_ms,
            ..Item::bare(key, hit.received_ms)
        });
        if item.creator.is_none() {
            item.creator = creator.map(|id| ItemKey::new(context.own(&settings.user_type), id));
        }
        let matches: Vec<Found> = hit
            .matches
            .iter()
            .map(|found| Found { signal_type: hit.signal_type, signal: None, hit: found.clone() })
            .collect();
        add_upload(&mut item, hit, &matches);
        Ok(Self {
            source: Source::Upload,
            report: None,
            hits: vec![hit.position],
            matches,
            classified: Classified::Inapplicable,
            screened: Screened::Whole,
            placed: false,
            told: item.kind.is_some(),
            uploaded: Some((hit.signal_type, hit.signal.clone())),
            typed: item_type.is_some(),
            tenant: context.tenant.clone(),
            anonymous,
            item,
        })
    }

    /// Whether the platform can be asked about its item: it named one, of a type that it has described.
    pub fn is_known_to(&self, catalog: &Catalog) -> bool {
        self.anonymous.is_none() && catalog.types.contains_key(&self.item.key.type_id)
    }

    /// The same as something that waits.
    pub fn into_arrival(self) -> Arrival {
        let mut arrival = Arrival::of(self.item, self.report);
        arrival.upload = self.source == Source::Upload;
        arrival.tenant = self.tenant;
        arrival.hits = self.hits;
        arrival.classified =
            matches!(self.classified, Classified::Inapplicable).then_some(Answered::Inapplicable);
        arrival
    }

    /// The media that a bank gets of it: of an upload what was uploaded; of an item what matched, or all of it where
    /// nothing did, since then something else about the item made the rule hold.
    pub fn meant(&self) -> impl Iterator<Item = &Media> {
        let uploaded = self.uploaded.as_ref();
        let any = self.item.matches().next().is_some();
        self.item.media.iter().filter(move |media| {
            let meant = match uploaded {
                Some((kind, signal)) => media.signals.get(kind) == Some(signal),
                None => !any || media.matches().next().is_some(),
            };
            meant && !media.signals.is_empty()
        })
    }

    /// The media that a job of it shows: of an upload what was uploaded, of an item all of them.
    pub fn shown(&self) -> impl Iterator<Item = &Media> {
        let uploaded = self.uploaded.as_ref();
        let is_it =
            |media: &Media, (kind, signal): &(SignalType, String)| media.signals.get(kind) == Some(signal);
        self.item.media.iter().filter(move |media| uploaded.is_none_or(|uploaded| is_it(media, uploaded)))
    }

    /// What rules may ask about.
    pub fn facts(&self) -> Facts<'_, impl IntoIterator<Item = MatchFact<'_>> + Clone> {
        let subject = match &self.anonymous {
            Some(bytes) => Subject::Signal(bytes),
            None => Subject::Item(&self.item.key.type_id, &self.item.key.id),
        };
        Facts {
            subject,
            item_type: self.typed.then_some(self.item.key.type_id.as_str()),
            author: self.item.user().map(|user| user.id.as_str()),
            item: self.told.then_some(&self.item),
            report: self.report.as_ref(),
            matches: self.matches.iter().map(|found| MatchFact::new(found.signal_type, &found.hit)),
            screened: self.screened,
            classified: self.classified,
            source: self.source,
        }
    }

    /// What it matched, in few words.
    pub fn in_words(&self) -> String {
        let nearest = self.matches.iter().min_by_key(|found| found.hit.distance);
        match (nearest, &self.report) {
            (Some(found), _) => format!(
                "{} match in {} at {} ({} in all)",
                found.signal_type,
                found.hit.bank_name,
                found.hit.distance,
                self.matches.len()
            ),
            (None, Some(report)) => {
                let csam = if report.csam { "reported as child abuse" } else { "reported" };
                match &report.reason {
                    Some(reason) => format!("{csam}: {}", reason.chars().take(500).collect::<String>()),
                    None => csam.to_string(),
                }
            }
            (None, None) => "a rule".to_string(),
        }
    }
}

/// Whether an uploader's words can be an id: they stand in keys.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && !text.chars().any(char::is_control)
}

/// The bytes of a hit's signal.
pub fn bytes_of(hit: &Hit) -> Vec<u8> {
    let mut bytes = Vec::new();
    match index::Signal::parse(hit.signal_type, &hit.signal) {
        Ok(signal) => signal.write(&mut bytes),
        Err(_) => bytes.extend_from_slice(hit.signal.as_bytes()), // as good for a lot
    }
    bytes
}

/// Adds what was uploaded to the item's media, or to the medium with this signal: what a case is about is looked at, even
/// where the item keeps no more.
fn add_upload(item: &mut Item, hit: &Hit, matches: &[Found]) {
    let upload = Media {
        field: UPLOAD_FIELD.to_string(),
        kind: MediaKind::Media,
        url: hit.context.url.clone(),
        signals: [(hit.signal_type, hit.signal.clone())].into(),
        screening: Screening::Done { matches: matches.to_vec() },
        kept: None,
    };
    let same = |media: &&mut Media| media.signals.get(&hit.signal_type) == Some(&hit.signal);
    match item.media.iter_mut().find(same) {
        Some(known) => uploads::add_matches(known, &upload),
        None => item.media.push(upload),
    }
}
