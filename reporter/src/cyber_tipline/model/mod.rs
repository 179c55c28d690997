//! A report and a file's details as types, in the order of the schema (specs/cybertipline.md 1.6 and 1.7): the order of
//! fields is the order of elements. Texts are as they came: what XML does not allow is replaced when it is written.
//!
//! What is absent or blank is not written. The words for why a report is escalated are written even if they are blank, so
//! that checking finds it.

pub mod account;
pub mod associated;
pub mod event;
pub mod file;
pub mod internet;
pub mod person;
pub mod report;

use serde::Serializer;

pub use account::{IntendedRecipient, PersonOrUserReported, Victim};
pub use associated::{
    AccountPermanentlyDisabled, AccountPlatform, AccountTemporarilyDisabled, AssociatedAccount,
    AssociatedAccountKind, EstimatedLocation,
};
pub use event::{DeviceId, EventName, IpCaptureEvent};
pub use file::{
    Details, DetailsKind, FileAnnotations, FileDetails, FileRelevance, IndustryClassification, Labels,
    NameValuePair, OriginalFileHash,
};
pub use internet::{
    CellPhoneIncident, ChatImIncident, EmailIncident, Incident, InternetDetails, NewsgroupIncident,
    NonInternetIncident, OnlineGamingIncident, Peer2PeerIncident, WebPageIncident,
};
pub use person::{Address, AddressKind, ContactPerson, Email, EmailKind, Person, Phone, PhoneKind};
pub use report::{
    BatchedReason, BatchedReport, IncidentSummary, IncidentType, LawEnforcement, Report, ReportAnnotations,
    Reporter, ServedLegalProcessInternational,
};

/// Whether a field is absent, or there and empty.
fn says_nothing<T: Default + PartialEq>(field: &Option<T>) -> bool {
    field.as_ref().is_none_or(|value| *value == T::default())
}

/// A label that does not hold is not written: the schema knows only those that do.
fn is_false(label: &bool) -> bool {
    !label
}

/// A place that is no number is not written.
fn is_infinite(degrees: &Option<f64>) -> bool {
    degrees.is_none_or(|degrees| !degrees.is_finite())
}

/// A list of texts without the empty ones.
fn filled<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
