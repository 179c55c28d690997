//! How long texts may be (specs/cybertipline.md 1.6 and 1.7).

use crate::cyber_tipline::xml::clean;

pub const ESP_IDENTIFIER: usize = 255;
pub const ESP_SERVICE: usize = 100;
pub const SCREEN_NAME: usize = 256;
pub const EMAIL: usize = 255;
pub const ORIGINAL_FILE_NAME: usize = 2056;
pub const LOCATION_OF_FILE: usize = 2083;

/// A text's length as it is written if it is beyond a limit.
pub fn over(text: &str, max: usize) -> Option<usize> {
    Some(clean(text).encode_utf16().count()).filter(|length| *length > max)
}
