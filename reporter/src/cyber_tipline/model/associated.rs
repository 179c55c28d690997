//! Further accounts of a person, and what may be true of any account.

use serde::{Deserialize, Serialize};

use super::event::{DeviceId, IpCaptureEvent};
use super::person::{Address, Email, Phone};
use super::{filled, says_nothing};

/// Another account of the same person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssociatedAccount {
    /// What it has to do with the first.
    #[serde(rename = "@type")]
    pub kind: AssociatedAccountKind,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<AccountPlatform>,
    /// First name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub first_name: Option<String>,
    /// Middle name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub middle_name: Option<String>,
    /// Last name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub last_name: Option<String>,
    /// Age in years, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approximate_age: Option<i32>,
    /// Day of birth: `xs:date`.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub date_of_birth: Option<String>,
    /// Telephone numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phone: Vec<Phone>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Email>,
    /// Whether all e-mail addresses of it are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_emails_reported: Option<bool>,
    /// Postal addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<Address>,
    /// The platform's name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_service: Option<String>,
    /// The platform's id of the account.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub esp_identifier: Option<String>,
    /// Where its profile is.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub profile_url: Vec<String>,
    /// The name it is known by.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub screen_name: Option<String>,
    /// Names shown for it.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub display_name: Vec<String>,
    /// What its profile says.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub profile_bio: Option<String>,
    /// A group it belongs to.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub group_identifier: Option<String>,
    /// Whether somebody else may have used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_account: Option<bool>,
    /// Whether it is disabled for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_temporarily_disabled: Option<AccountTemporarilyDisabled>,
    /// Whether it is disabled for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_permanently_disabled: Option<AccountPermanentlyDisabled>,
    /// From where it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_capture_event: Vec<IpCaptureEvent>,
    /// With what it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_id: Vec<DeviceId>,
    /// NCMEC's numbers of earlier reports about it.
    #[serde(rename = "priorCTReport", default, skip_serializing_if = "Vec::is_empty")]
    pub prior_ct_report: Vec<i64>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// What an account has to do with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssociatedAccountKind {
    /// It pays for it.
    Billing,
    /// It is linked to it.
    Linked,
    /// It is a business's.
    Business,
    /// It made it.
    Creator,
    /// It is a parent's or guardian's.
    #[serde(rename = "Parent/Guardian")]
    ParentGuardian,
    /// Something else.
    Other,
}

/// Where an account is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountPlatform {
    /// Whether that is another platform than the reporting one.
    #[serde(rename = "@thirdPartyUser", default, skip_serializing_if = "Option::is_none")]
    pub third_party_user: Option<bool>,
    /// Its name.
    #[serde(rename = "$text")]
    pub text: String,
}

/// Whether an account is disabled for a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountTemporarilyDisabled {
    /// Since when: `xs:dateTime`.
    #[serde(rename = "@disabledDate", default, skip_serializing_if = "says_nothing")]
    pub disabled_date: Option<String>,
    /// Whether its user was told.
    #[serde(rename = "@userNotified", default, skip_serializing_if = "Option::is_none")]
    pub user_notified: Option<bool>,
    /// When they were told: `xs:dateTime`.
    #[serde(rename = "@userNotifiedDate", default, skip_serializing_if = "says_nothing")]
    pub user_notified_date: Option<String>,
    /// When it is enabled again: `xs:dateTime`.
    #[serde(rename = "@reenabledDate", default, skip_serializing_if = "says_nothing")]
    pub reenabled_date: Option<String>,
    /// Whether it is.
    #[serde(rename = "$text")]
    pub value: bool,
}

/// Whether an account is disabled for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountPermanentlyDisabled {
    /// Since when: `xs:dateTime`.
    #[serde(rename = "@disabledDate", default, skip_serializing_if = "says_nothing")]
    pub disabled_date: Option<String>,
    /// Whether its user was told.
    #[serde(rename = "@userNotified", default, skip_serializing_if = "Option::is_none")]
    pub user_notified: Option<bool>,
    /// When they were told: `xs:dateTime`.
    #[serde(rename = "@userNotifiedDate", default, skip_serializing_if = "says_nothing")]
    pub user_notified_date: Option<String>,
    /// Whether it is.
    #[serde(rename = "$text")]
    pub value: bool,
}

/// Where an account probably is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EstimatedLocation {
    /// Whether somebody made sure.
    #[serde(rename = "@verified", default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// As of when: `xs:dateTime`.
    #[serde(rename = "@timestamp", default, skip_serializing_if = "says_nothing")]
    pub timestamp: Option<String>,
    /// City.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub city: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub region: Option<String>,
    /// Country, by its two letters (NCMEC's list).
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub country_code: Option<String>,
}
