//! The words of a report, as NCMEC and the industry have them (specs/cybertipline.md 1.6 and 1.7).

use serde::{Deserialize, Serialize};

pub use crate::cyber_tipline::model::IncidentType;
use crate::read::{At, FieldError};

const INCIDENTS: [(&str, IncidentType); 8] = [
    ("Child Pornography (possession, manufacture, and distribution)", IncidentType::ChildPornography),
    ("Child Sex Trafficking", IncidentType::ChildSexTrafficking),
    ("Child Sex Tourism", IncidentType::ChildSexTourism),
    ("Child Sexual Molestation", IncidentType::ChildSexualMolestation),
    ("Misleading Domain Name", IncidentType::MisleadingDomainName),
    ("Misleading Words or Digital Images on the Internet", IncidentType::MisleadingWordsOrDigitalImages),
    ("Online Enticement of Children for Sexual Acts", IncidentType::OnlineEnticement),
    ("Unsolicited Obscene Material Sent to a Child", IncidentType::UnsolicitedObsceneMaterial),
];

/// Reads an incident type.
pub fn incident_type(at: &At<'_>) -> Result<IncidentType, FieldError> {
    at.one_of(&INCIDENTS)
}

/// What a medium shows, as the industry classifies: A before puberty, B in it; 1 a sex act, 2 lascivious exhibition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Classification {
    /// Prepubescent, sex act.
    A1,
    /// Prepubescent, lascivious exhibition.
    A2,
    /// Pubescent, sex act.
    B1,
    /// Pubescent, lascivious exhibition.
    B2,
    /// Reported, and not classified.
    Unclassified,
    /// None of it: not reported.
    #[serde(rename = "none")]
    None,
}

/// The classes by their names.
pub const CLASSES: [(&str, Classification); 6] = [
    ("A1", Classification::A1),
    ("A2", Classification::A2),
    ("B1", Classification::B1),
    ("B2", Classification::B2),
    ("Unclassified", Classification::Unclassified),
    ("none", Classification::None),
];

/// A label of a file, in NCMEC's words (specs/cybertipline.md 1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Annotation {
    /// Drawn.
    AnimeDrawingVirtualHentai,
    /// Shared without malice.
    PotentialMeme,
    /// Going round fast.
    Viral,
    /// Made by who is in it.
    PossibleSelfProduction,
    /// Somebody is hurt.
    PhysicalHarm,
    /// Violence.
    ViolenceGore,
    /// With an animal.
    Bestiality,
    /// Was live.
    LiveStreaming,
    /// An infant.
    Infant,
    /// Made by a machine.
    GenerativeAi,
}

/// The labels by their names.
pub const ANNOTATIONS: [(&str, Annotation); 10] = [
    ("animeDrawingVirtualHentai", Annotation::AnimeDrawingVirtualHentai),
    ("potentialMeme", Annotation::PotentialMeme),
    ("viral", Annotation::Viral),
    ("possibleSelfProduction", Annotation::PossibleSelfProduction),
    ("physicalHarm", Annotation::PhysicalHarm),
    ("violenceGore", Annotation::ViolenceGore),
    ("bestiality", Annotation::Bestiality),
    ("liveStreaming", Annotation::LiveStreaming),
    ("infant", Annotation::Infant),
    ("generativeAi", Annotation::GenerativeAi),
];
