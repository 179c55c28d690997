//! Limits that NCMEC documents and its schema does not have (specs/cybertipline.md 1.6 and 1.7): what breaks them is told
//! at review time, or moved. Never is anything cut.

use super::xml::clean;
use crate::read::{At, FieldError};

macro_rules! limits {
    ($($(#[$doc:meta])* $constant:ident $name:literal $chars:literal;)*) => {
        $($(#[$doc])* pub const $constant: usize = $chars;)*
        /// Each by the name that the schema's table has for a text of that limit.
        pub(super) const NAMED: &[(&str, usize)] = &[$(($name, $constant)),*];
    };
}

limits! {
    /// The platform's name.
    PLATFORM "platform" 256;
    /// Why a report cannot wait.
    ESCALATE "escalateToHighPriority" 3000;
    /// What the time of the incident is.
    INCIDENT_TIME_DESCRIPTION "incidentDateTimeDescription" 3000;
    /// Where a company says how it works with the law.
    LEGAL_URL "legalURL" 2083;
    /// A vehicle.
    VEHICLE "vehicleDescription" 300;
    /// A platform's id of an account.
    ESP_IDENTIFIER "espIdentifier" 255;
    /// A platform's name, beside an account.
    ESP_SERVICE "espService" 100;
    /// The name an account is known by.
    SCREEN_NAME "screenName" 256;
    /// A group an account belongs to.
    GROUP_IDENTIFIER "groupIdentifier" 255;
    /// A school.
    SCHOOL_NAME "schoolName" 255;
    /// A person's first name.
    FIRST_NAME "firstName" 100;
    /// A person's last name.
    LAST_NAME "lastName" 100;
    /// An e-mail address.
    EMAIL "emailText" 255;
    /// A telephone number.
    PHONE "phoneText" 50;
    /// A telephone number's extension.
    PHONE_EXTENSION "phoneExtension" 10;
    /// Street and number.
    ADDRESS "addressLine" 255;
    /// A city.
    CITY "cityName" 100;
    /// A code of the post.
    ZIP_CODE "zipCode" 20;
    /// A state or province outside of the USA.
    NON_USA_STATE "nonUsaState" 100;
    /// What kind of id a device has.
    DEVICE_ID_TYPE "deviceIdType" 255;
    /// A device's id.
    DEVICE_ID_VALUE "deviceIdValue" 2083;
    /// The name a file was uploaded under.
    ORIGINAL_FILE_NAME "originalFileName" 2056;
    /// Where a file can be found.
    LOCATION_OF_FILE "locationOfFile" 2083;
    /// Which hash it is.
    HASH_TYPE "hashType" 64;
    /// The name of a piece of metadata.
    DETAIL_NAME "detailName" 64;
}

/// A person's age in years.
pub const AGE: std::ops::RangeInclusive<i64> = 0..=150;

/// A port.
pub const PORT: std::ops::RangeInclusive<i64> = 1..=65535;

/// How long a text is as it is written. Counted as NCMEC's Java does, where a character beyond U+FFFF is two: whatever it
/// counts, we are not longer.
pub fn length(text: &str) -> usize {
    clean(text).encode_utf16().count()
}

/// A text's length if it is beyond a limit.
pub fn over(text: &str, max: usize) -> Option<usize> {
    Some(length(text)).filter(|length| *length > max)
}

/// Words that are sent to NCMEC: not blank, and not longer than it takes.
pub fn within<'v>(at: &At<'v>, max: usize) -> Result<&'v str, FieldError> {
    let words = at.words(usize::MAX)?;
    match over(words, max) {
        Some(length) => Err(at.wrong(format!("has {length} characters, {max} at most"))),
        None => Ok(words),
    }
}
