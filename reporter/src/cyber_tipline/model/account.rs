//! Accounts: the one that is reported, those of recipients and victims, and others of the same person.

use serde::{Deserialize, Serialize};

use super::associated::{
    AccountPermanentlyDisabled, AccountTemporarilyDisabled, AssociatedAccount, EstimatedLocation,
};
use super::event::{DeviceId, IpCaptureEvent};
use super::person::Person;
use super::{filled, says_nothing};

/// Who is reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonOrUserReported {
    /// The person.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub person_or_user_reported_person: Option<Person>,
    /// A vehicle.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub vehicle_description: Option<String>,
    /// The platform's id of the account.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_identifier: Option<String>,
    /// The platform's name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_service: Option<String>,
    /// Whether somebody else may have used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_account: Option<bool>,
    /// The name it is known by.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub screen_name: Option<String>,
    /// Names shown for it.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub display_name: Vec<String>,
    /// Where its profile is.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub profile_url: Vec<String>,
    /// What its profile says.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub profile_bio: Option<String>,
    /// From where it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_capture_event: Vec<IpCaptureEvent>,
    /// With what it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_id: Vec<DeviceId>,
    /// Whether the account is one of another platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub third_party_user_reported: Option<bool>,
    /// NCMEC's numbers of earlier reports about it.
    #[serde(rename = "priorCTReports", default, skip_serializing_if = "Vec::is_empty")]
    pub prior_ct_reports: Vec<i64>,
    /// A group it belongs to.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub group_identifier: Option<String>,
    /// Whether it is disabled for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_temporarily_disabled: Option<AccountTemporarilyDisabled>,
    /// Whether it is disabled for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_permanently_disabled: Option<AccountPermanentlyDisabled>,
    /// Where it probably is.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub estimated_location: Option<EstimatedLocation>,
    /// Whether all e-mail addresses of it are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_emails_reported: Option<bool>,
    /// Other accounts of the same person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub associated_account: Vec<AssociatedAccount>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// For whom it was meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntendedRecipient {
    /// The person.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub intended_recipient_person: Option<Person>,
    /// The platform's id of the account.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_identifier: Option<String>,
    /// The platform's name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_service: Option<String>,
    /// Whether somebody else may have used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_account: Option<bool>,
    /// The name it is known by.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub screen_name: Option<String>,
    /// Names shown for it.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub display_name: Vec<String>,
    /// Where its profile is.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub profile_url: Vec<String>,
    /// What its profile says.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub profile_bio: Option<String>,
    /// From where it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_capture_event: Vec<IpCaptureEvent>,
    /// With what it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_id: Vec<DeviceId>,
    /// NCMEC's numbers of earlier reports about it.
    #[serde(rename = "priorCTReports", default, skip_serializing_if = "Vec::is_empty")]
    pub prior_ct_reports: Vec<i64>,
    /// A group it belongs to.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub group_identifier: Option<String>,
    /// Whether it is disabled for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_temporarily_disabled: Option<AccountTemporarilyDisabled>,
    /// Whether it is disabled for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_permanently_disabled: Option<AccountPermanentlyDisabled>,
    /// Where it probably is.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub estimated_location: Option<EstimatedLocation>,
    /// Whether all e-mail addresses of it are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_emails_reported: Option<bool>,
    /// What else there is to say.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub additional_info: Vec<String>,
}

/// A victim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Victim {
    /// The person.
    pub victim_person: Person,
    /// The platform's id of the account.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_identifier: Option<String>,
    /// The platform's name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_service: Option<String>,
    /// Whether somebody else may have used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_account: Option<bool>,
    /// The name it is known by.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub screen_name: Option<String>,
    /// Names shown for it.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub display_name: Vec<String>,
    /// Where its profile is.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub profile_url: Vec<String>,
    /// What its profile says.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub profile_bio: Option<String>,
    /// From where it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_capture_event: Vec<IpCaptureEvent>,
    /// With what it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_id: Vec<DeviceId>,
    /// The school.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub school_name: Option<String>,
    /// NCMEC's numbers of earlier reports about it.
    #[serde(rename = "priorCTReports", default, skip_serializing_if = "Vec::is_empty")]
    pub prior_ct_reports: Vec<i64>,
    /// Whether it is disabled for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_temporarily_disabled: Option<AccountTemporarilyDisabled>,
    /// Whether it is disabled for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_permanently_disabled: Option<AccountPermanentlyDisabled>,
    /// Where it probably is.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub estimated_location: Option<EstimatedLocation>,
    /// Whether all e-mail addresses of it are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_emails_reported: Option<bool>,
    /// Other accounts of the same person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub associated_account: Vec<AssociatedAccount>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}
