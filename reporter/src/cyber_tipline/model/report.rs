//! A report (specs/cybertipline.md 1.6).

use serde::{Deserialize, Serialize};

use super::account::{IntendedRecipient, PersonOrUserReported, Victim};
use super::internet::InternetDetails;
use super::person::{ContactPerson, Person};
use super::{is_false, says_nothing};

/// A report: `<report>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "report", rename_all = "camelCase")]
pub struct Report {
    /// That it stands for many that are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batched_report: Option<BatchedReport>,
    /// What happened, and when.
    pub incident_summary: IncidentSummary,
    /// Where it happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internet_details: Vec<InternetDetails>,
    /// Who of the police knows of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub law_enforcement: Option<LawEnforcement>,
    /// Who reports.
    pub reporter: Reporter,
    /// Who is reported: none or one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub person_or_user_reported: Vec<PersonOrUserReported>,
    /// For whom it was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intended_recipient: Vec<IntendedRecipient>,
    /// Victims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub victim: Vec<Victim>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// That a report stands for many that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchedReport {
    /// Why they are one.
    #[serde(rename = "@reason")]
    pub reason: BatchedReason,
}

/// Why many reports are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchedReason {
    /// It goes round, perhaps as a joke.
    #[serde(rename = "VIRAL_POTENTIAL_MEME")]
    ViralPotentialMeme,
}

/// What happened, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentSummary {
    /// What happened.
    pub incident_type: IncidentType,
    /// The platform's name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub platform: Option<String>,
    /// Why it cannot wait. That it is there is what escalates: it is never blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to_high_priority: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub report_annotations: Option<ReportAnnotations>,
    /// When: `xs:dateTime`, in the past.
    pub incident_date_time: String,
    /// What that time is.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub incident_date_time_description: Option<String>,
}

/// What happened, in NCMEC's words (specs/cybertipline.md 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IncidentType {
    /// Pictures and videos of abuse.
    #[serde(rename = "Child Pornography (possession, manufacture, and distribution)")]
    ChildPornography,
    /// Trafficking.
    #[serde(rename = "Child Sex Trafficking")]
    ChildSexTrafficking,
    /// Tourism.
    #[serde(rename = "Child Sex Tourism")]
    ChildSexTourism,
    /// Molestation.
    #[serde(rename = "Child Sexual Molestation")]
    ChildSexualMolestation,
    /// A domain name.
    #[serde(rename = "Misleading Domain Name")]
    MisleadingDomainName,
    /// Words or pictures on the Internet.
    #[serde(rename = "Misleading Words or Digital Images on the Internet")]
    MisleadingWordsOrDigitalImages,
    /// Enticement.
    #[serde(rename = "Online Enticement of Children for Sexual Acts")]
    OnlineEnticement,
    /// Obscene material sent to a child.
    #[serde(rename = "Unsolicited Obscene Material Sent to a Child")]
    UnsolicitedObsceneMaterial,
}

/// Labels of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportAnnotations {
    /// Sextortion.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sextortion: bool,
    /// Somebody asked for material of abuse.
    #[serde(default, skip_serializing_if = "is_false")]
    pub csam_solicitation: bool,
    /// Between minors.
    #[serde(default, skip_serializing_if = "is_false")]
    pub minor_to_minor_interaction: bool,
    /// Spam.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spam: bool,
    /// Sadistic exploitation.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sadistic_online_exploitation: bool,
}

/// Who of the police knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LawEnforcement {
    /// The agency.
    pub agency_name: String,
    /// Its number of the case.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub case_number: Option<String>,
    /// The officer.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub officer_contact: Option<ContactPerson>,
    /// Whether it was reported to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_to_le: Option<bool>,
    /// Whether an order of this country was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_legal_process_domestic: Option<bool>,
    /// Whether an order of another country was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_legal_process_international: Option<ServedLegalProcessInternational>,
}

/// Whether an order of another country was served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedLegalProcessInternational {
    /// Which country, by its two letters (NCMEC's list).
    #[serde(rename = "@fleaCountry", default, skip_serializing_if = "says_nothing")]
    pub flea_country: Option<String>,
    /// Whether it was.
    #[serde(rename = "$text")]
    pub value: bool,
}

/// Who reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reporter {
    /// Who answers for the report; NCMEC needs an e-mail address.
    pub reporting_person: Person,
    /// Who may be asked.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub contact_person: Option<ContactPerson>,
    /// What every report of the company says: how to serve process, how long is retained.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub company_template: Option<String>,
    /// The terms that were broken.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub terms_of_service: Option<String>,
    /// Where the company says how it works with the law.
    #[serde(rename = "legalURL", default, skip_serializing_if = "says_nothing")]
    pub legal_url: Option<String>,
}
