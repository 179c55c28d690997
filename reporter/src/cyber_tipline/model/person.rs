//! People, and how they are reached.

use serde::{Deserialize, Serialize};

use super::says_nothing;

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// First name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub first_name: Option<String>,
    /// Last name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub last_name: Option<String>,
    /// Telephone numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phone: Vec<Phone>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Email>,
    /// Where they live or work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<Address>,
    /// Age in years, from 0 to 150.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<i32>,
    /// Day of birth: `xs:date`.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub date_of_birth: Option<String>,
}

/// A person who may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactPerson {
    /// First name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub first_name: Option<String>,
    /// Last name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub last_name: Option<String>,
    /// Telephone numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phone: Vec<Phone>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Email>,
    /// Where they work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<Address>,
}

/// An e-mail address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Email {
    /// Of which kind.
    #[serde(rename = "@type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EmailKind>,
    /// Whether its owner proved that it is theirs.
    #[serde(rename = "@verified", default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// When: `xs:dateTime`.
    #[serde(rename = "@verificationDate", default, skip_serializing_if = "says_nothing")]
    pub verification_date: Option<String>,
    /// The address.
    #[serde(rename = "$text")]
    pub text: String,
}

/// Kinds of e-mail addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmailKind {
    /// At home.
    Home,
    /// At work.
    Work,
    /// Of a business.
    Business,
    /// For when a password is lost.
    Recovery,
}

/// A telephone number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Phone {
    /// Of which kind.
    #[serde(rename = "@type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PhoneKind>,
    /// Whether its owner proved that it is theirs.
    #[serde(rename = "@verified", default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// When: `xs:dateTime`.
    #[serde(rename = "@verificationDate", default, skip_serializing_if = "says_nothing")]
    pub verification_date: Option<String>,
    /// The country's code: `+` and one to three digits.
    #[serde(rename = "@countryCallingCode", default, skip_serializing_if = "says_nothing")]
    pub country_calling_code: Option<String>,
    /// The extension: digits.
    #[serde(rename = "@extension", default, skip_serializing_if = "says_nothing")]
    pub extension: Option<String>,
    /// The number.
    #[serde(rename = "$text")]
    pub text: String,
}

/// Kinds of telephone numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhoneKind {
    /// Carried along.
    Mobile,
    /// At home.
    Home,
    /// Of a business.
    Business,
    /// At work.
    Work,
    /// A fax.
    Fax,
    /// Of an Internet service.
    Internet,
    /// For when a password is lost.
    Recovery,
}

/// A postal address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Of which kind.
    #[serde(rename = "@type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AddressKind>,
    /// Street and number.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub address: Option<String>,
    /// City.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub city: Option<String>,
    /// Code of the post.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub zip_code: Option<String>,
    /// State or territory of the USA, by its two letters.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub state: Option<String>,
    /// State or province elsewhere.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub non_usa_state: Option<String>,
    /// Country, by its two letters (NCMEC's list: ISO 3166 and a few more).
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub country: Option<String>,
}

/// Kinds of postal addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressKind {
    /// At home.
    Home,
    /// Of a business.
    Business,
    /// Where bills go.
    Billing,
    /// Where goods go.
    Shipping,
    /// Of who looks after a domain.
    Technical,
}
