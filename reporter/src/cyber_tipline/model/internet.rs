//! Where on the Internet, or off it, something happened.

use serde::{Deserialize, Serialize};

use super::event::IpCaptureEvent;
use super::person::{Address, Email, Phone};
use super::{filled, is_infinite, says_nothing};

/// One place where it happened. A report may name several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InternetDetails {
    /// What kind of place it is, and which.
    #[serde(rename = "$value")]
    pub incident: Incident,
}

/// The kinds of places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Incident {
    /// On a web page.
    #[serde(rename = "webPageIncident")]
    WebPage(WebPageIncident),
    /// By e-mail.
    #[serde(rename = "emailIncident")]
    Email(EmailIncident),
    /// In a newsgroup.
    #[serde(rename = "newsgroupIncident")]
    Newsgroup(NewsgroupIncident),
    /// In a chat.
    #[serde(rename = "chatImIncident")]
    ChatIm(ChatImIncident),
    /// In a game.
    #[serde(rename = "onlineGamingIncident")]
    OnlineGaming(OnlineGamingIncident),
    /// By telephone.
    #[serde(rename = "cellPhoneIncident")]
    CellPhone(CellPhoneIncident),
    /// Not on the Internet.
    #[serde(rename = "nonInternetIncident")]
    NonInternet(NonInternetIncident),
    /// From peer to peer.
    #[serde(rename = "peer2peerIncident")]
    Peer2Peer(Peer2PeerIncident),
}

/// On a web page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebPageIncident {
    /// Whether it lies with another company.
    #[serde(rename = "@thirdPartyHostedContent", default, skip_serializing_if = "Option::is_none")]
    pub third_party_hosted_content: Option<bool>,
    /// Where.
    #[serde(default, serialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub url: Vec<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// By e-mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmailIncident {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_address: Vec<Email>,
    /// What it said.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub content: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// In a newsgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewsgroupIncident {
    /// Its name.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub name: Option<String>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_address: Vec<Email>,
    /// What was posted.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub content: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// In a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatImIncident {
    /// The program.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub chat_client: Option<String>,
    /// The room.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub chat_room_name: Option<String>,
    /// What was said.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub content: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// In a game.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnlineGamingIncident {
    /// The game.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub game_name: Option<String>,
    /// The machine.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub console: Option<String>,
    /// What was said.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub content: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// By telephone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellPhoneIncident {
    /// The number.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub phone_number: Option<Phone>,
    /// Where it was: degrees north.
    #[serde(default, skip_serializing_if = "is_infinite")]
    pub latitude: Option<f64>,
    /// Where it was: degrees east.
    #[serde(default, skip_serializing_if = "is_infinite")]
    pub longitude: Option<f64>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// Not on the Internet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NonInternetIncident {
    /// Where.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub location_name: Option<String>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incident_address: Vec<Address>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}

/// From peer to peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer2PeerIncident {
    /// The program.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub client: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_capture_event: Vec<IpCaptureEvent>,
    /// Names of the files.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub file_names: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "says_nothing")]
    pub additional_info: Option<String>,
}
