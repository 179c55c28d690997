//! When and where somebody was seen: IP addresses and devices.

use serde::{Deserialize, Serialize};

/// An IP address, and what was done from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpCaptureEvent {
    /// The address, IPv4 or IPv6.
    pub ip_address: String,
    /// What was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_name: Option<EventName>,
    /// When: `xs:dateTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_time: Option<String>,
    /// Whether it may be a proxy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possible_proxy: Option<bool>,
    /// The port, from 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceId {
    /// What kind of id it is.
    pub id_type: String,
    /// The id.
    pub id_value: String,
    /// What was done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_name: Option<EventName>,
    /// When: `xs:dateTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_time: Option<String>,
}

/// What was done from an address or with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventName {
    /// A log-in.
    Login,
    /// A registration.
    Registration,
    /// A purchase.
    Purchase,
    /// An upload.
    Upload,
    /// Something else.
    Other,
    /// Nobody knows.
    Unknown,
}
