//! A report and a file's details as types, in the order of the schema (specs/cybertipline.md 1.6 and 1.7).

use serde::{Deserialize, Serialize};

/// Details of an uploaded file: `<fileDetails>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "fileDetails", rename_all = "camelCase")]
pub struct FileDetails {
    /// NCMEC's number of the report.
    pub report_id: i64,
    /// NCMEC's id of the file.
    pub file_id: String,
}
