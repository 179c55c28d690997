//! The details of an uploaded file (specs/cybertipline.md 1.7).

use serde::{Deserialize, Serialize};

use super::event::{DeviceId, IpCaptureEvent};
use super::{filled, is_false, says_nothing};

/// Details of an uploaded file: `<fileDetails>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "fileDetails", rename_all = "camelCase")]
pub struct FileDetails {
    /// NCMEC's number of the report.
    pub report_id: i64,
    /// NCMEC's id of the file.
    pub file_id: String,
    /// Its name. NCMEC's newest documents do not have it any more.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub file_name: Option<String>,
    /// The name it was uploaded under, by whoever uploaded it.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub original_file_name: Option<String>,
    /// When it was uploaded: `xs:dateTime`.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub uploaded_to_esp_timestamp: Option<String>,
    /// Where it can be found.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub location_of_file: Option<String>,
    /// Whether a person viewed the entire contents of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_viewed_by_esp: Option<bool>,
    /// Whether a person viewed its EXIF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exif_viewed_by_esp: Option<bool>,
    /// Whether everybody could see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publicly_available: Option<bool>,
    /// Whether it is what is reported, or belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_relevance: Option<FileRelevance>,
    /// Labels of what it shows.
    #[serde(rename = "$value", default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Its class; only for members of the industry's hash sharing, and only of what is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub industry_classification: Option<IndustryClassification>,
    /// Hashes of it, of the bytes that were uploaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub original_file_hash: Vec<OriginalFileHash>,
    /// From where it was uploaded: one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_capture_event: Option<IpCaptureEvent>,
    /// With what it was uploaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_id: Vec<DeviceId>,
    /// Metadata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Details>,
    /// What else there is to say.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub additional_info: Vec<String>,
}

/// What a file has to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRelevance {
    /// It is what is reported.
    Reported,
    /// It belongs to it.
    #[serde(rename = "Supplemental Reported")]
    Supplemental,
}

/// Labels of a file, in one of two forms: NCMEC takes the one or the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Labels {
    /// Whether it may be a meme, and nothing else.
    PotentialMeme(bool),
    /// Any of the labels.
    FileAnnotations(FileAnnotations),
}

/// Labels of what a file shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileAnnotations {
    /// Drawn, or made to look so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub anime_drawing_virtual_hentai: bool,
    /// Shared without malice.
    #[serde(default, skip_serializing_if = "is_false")]
    pub potential_meme: bool,
    /// Going round fast.
    #[serde(default, skip_serializing_if = "is_false")]
    pub viral: bool,
    /// Made by who is in it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub possible_self_production: bool,
    /// Somebody is hurt.
    #[serde(default, skip_serializing_if = "is_false")]
    pub physical_harm: bool,
    /// Violence.
    #[serde(default, skip_serializing_if = "is_false")]
    pub violence_gore: bool,
    /// With an animal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bestiality: bool,
    /// Was live.
    #[serde(default, skip_serializing_if = "is_false")]
    pub live_streaming: bool,
    /// An infant.
    #[serde(default, skip_serializing_if = "is_false")]
    pub infant: bool,
    /// Made by a machine.
    #[serde(default, skip_serializing_if = "is_false")]
    pub generative_ai: bool,
}

/// The industry's classes: A before puberty, B in it; 1 a sex act, 2 lascivious exhibition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndustryClassification {
    /// Prepubescent, sex act.
    A1,
    /// Prepubescent, lascivious exhibition.
    A2,
    /// Pubescent, sex act.
    B1,
    /// Pubescent, lascivious exhibition.
    B2,
}

/// A hash of a file's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginalFileHash {
    /// Which: `MD5`, `SHA1`, `SHA256`, `PDQ`.
    #[serde(rename = "@hashType")]
    pub hash_type: String,
    /// Its digits.
    #[serde(rename = "$text")]
    pub text: String,
}

/// Metadata of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Of which kind.
    #[serde(rename = "@type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DetailsKind>,
    /// Each by its name; one at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_value_pair: Vec<NameValuePair>,
}

/// Kinds of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetailsKind {
    /// What a camera wrote into it.
    #[serde(rename = "EXIF")]
    Exif,
    /// Hashes.
    #[serde(rename = "HASH")]
    Hash,
}

/// A name and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameValuePair {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}
