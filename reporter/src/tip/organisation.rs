//! For whom is reported: an organisation's settings, and its credentials with their environment.
//!
//! What NCMEC wants is checked here, when an operator saves it, so that no report fails for it later. Lengths are those of
//! specs/cybertipline.md 1.6. Credentials are rows of their own, which the store seals: no answer, record or log line has
//! them.
//!
//! Rows of keyspace `policy`, each a JSON row of version 1:
//!
//! | key | value |
//! |---|---|
//! | `o` ‖ name ‖ NUL | [`Organisation`] |
//! | `O` ‖ name ‖ NUL | [`Credentials`] |

use std::collections::BTreeSet;
use std::fmt;

use index::store::{Keyspace, StoreError};
use serde::{Deserialize, Serialize};

use crate::cyber_tipline::{Environment, limits};
use crate::desk::queue::QueueName;
use crate::desk::settings::{all, web_url};
pub use crate::ids::OrgName;
use crate::read::{At, FieldError};
use crate::tx::{Tx, key};

const NAME_CHARS_MAX: usize = limits::FIRST_NAME;
const EMAIL_CHARS_MAX: usize = limits::EMAIL;
const PHONE_CHARS_MAX: usize = limits::PHONE;
const URL_CHARS_MAX: usize = limits::LEGAL_URL;
const SERVICE_CHARS_MAX: usize = limits::ESP_SERVICE;
const TERMS_CHARS_MAX: usize = 3000;
/// NCMEC documents none: a few pages.
const TEMPLATE_CHARS_MAX: usize = 10_000;
const COMPANY_CHARS_MAX: usize = 255;
/// URLs of the platform's, which are called.
const CALLED_CHARS_MAX: usize = 2000;
const ACTIONS_MAX: usize = 20;
const AT_ONCE_MAX: u64 = 16;
const SECRET_CHARS_MAX: usize = 512;

/// An organisation for which is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organisation {
    /// Its name here.
    pub name: OrgName,
    /// What it is called in reports.
    pub company_name: String,
    /// The reporting person's e-mail, which NCMEC requires.
    pub contact_email: String,
    /// Its terms of service or legal policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_url: Option<String>,
    /// Its terms of service, or where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_of_service: Option<String>,
    /// Whom law enforcement reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact_person: Option<ContactPerson>,
    /// Where more is said about how it reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_info_url: Option<String>,
    /// Where incidents happen, as its reports say.
    #[serde(default)]
    pub internet_detail: InternetDetail,
    /// Where the platform is asked for what it knows of users and media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_info_url: Option<String>,
    /// Where the platform is told what to preserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preservation_url: Option<String>,
    /// Words that each of its reports has; not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_template: Option<String>,
    /// The service of which reported users are; see [`Organisation::service`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub esp_service: Option<String>,
    /// Whether files are classified: only who takes part in the hash sharing may.
    #[serde(default = "on")]
    pub industry_classification: bool,
    /// Where its new NCMEC jobs wait; that of the settings if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// Webhooks that are told of each production report once it is filed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions_on_report: Vec<String>,
    /// Reports that are on their way at once.
    #[serde(default = "one")]
    pub at_once: u32,
}

fn on() -> bool {
    true
}

fn one() -> u32 {
    1
}

/// Whom law enforcement reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactPerson {
    /// First name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Last name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// E-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Phone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// Where an incident happened (`internetDetails`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InternetDetail {
    /// On web pages.
    #[default]
    WebPage,
    /// In e-mails.
    Email,
    /// In newsgroups.
    Newsgroup,
    /// In a chat.
    ChatIm,
    /// In a game.
    OnlineGaming,
    /// On cell phones.
    CellPhone,
    /// Not on the internet.
    NonInternet,
    /// Between peers.
    PeerToPeer,
}

const INTERNET_DETAILS: [(&str, InternetDetail); 8] = [
    ("web_page", InternetDetail::WebPage),
    ("email", InternetDetail::Email),
    ("newsgroup", InternetDetail::Newsgroup),
    ("chat_im", InternetDetail::ChatIm),
    ("online_gaming", InternetDetail::OnlineGaming),
    ("cell_phone", InternetDetail::CellPhone),
    ("non_internet", InternetDetail::NonInternet),
    ("peer_to_peer", InternetDetail::PeerToPeer),
];

impl Organisation {
    /// Reads an organisation as an operator writes it.
    pub fn read(name: OrgName, at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&[
            "name",
            "company_name",
            "contact_email",
            "legal_url",
            "terms_of_service",
            "contact_person",
            "more_info_url",
            "internet_detail",
            "additional_info_url",
            "preservation_url",
            "company_template",
            "esp_service",
            "industry_classification",
            "queue",
            "actions_on_report",
            "at_once",
        ])?;
        let url = |name, max| at.field(name)?.map(|url| web_url(&url, max)).transpose();
        let queue =
            |queue: At<'_>| QueueName::parse(queue.text()?).map_err(|error| queue.wrong(error.to_string()));
        let at_once = at.field("at_once")?.map_or(Ok(1), |count| count.whole(1, AT_ONCE_MAX))?;
        Ok(Self {
            name,
            company_name: line(&at.need("company_name")?, COMPANY_CHARS_MAX)?,
            contact_email: email(&at.need("contact_email")?)?,
            legal_url: url("legal_url", URL_CHARS_MAX)?,
            terms_of_service: text(at, "terms_of_service", TERMS_CHARS_MAX)?,
            contact_person: at
                .field("contact_person")?
                .map(|person| ContactPerson::read(&person))
                .transpose()?,
            more_info_url: url("more_info_url", URL_CHARS_MAX)?,
            internet_detail: at
                .field("internet_detail")?
                .map_or(Ok(InternetDetail::default()), |detail| detail.one_of(&INTERNET_DETAILS))?,
            additional_info_url: url("additional_info_url", CALLED_CHARS_MAX)?,
            preservation_url: url("preservation_url", CALLED_CHARS_MAX)?,
            company_template: text(at, "company_template", TEMPLATE_CHARS_MAX)?,
            esp_service: optional_line(at, "esp_service", SERVICE_CHARS_MAX)?,
            industry_classification: at
                .field("industry_classification")?
                .map_or(Ok(true), |flag| flag.flag())?,
            queue: at.field("queue")?.map(queue).transpose()?,
            actions_on_report: at.field("actions_on_report")?.map_or(Ok(Vec::new()), |list| names(&list))?,
            at_once: u32::try_from(at_once).unwrap_or(1),
        })
    }

    /// The service of which its users are: what was set, or its name if NCMEC takes one that long.
    pub fn service(&self) -> Option<&str> {
        let fits = |name: &&str| limits::over(name, SERVICE_CHARS_MAX).is_none();
        self.esp_service.as_deref().or_else(|| Some(self.company_name.as_str()).filter(fits))
    }
}

impl ContactPerson {
    fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["first_name", "last_name", "email", "phone"])?;
        Ok(Self {
            first_name: optional_line(at, "first_name", NAME_CHARS_MAX)?,
            last_name: optional_line(at, "last_name", NAME_CHARS_MAX)?,
            email: at.field("email")?.map(|address| email(&address)).transpose()?,
            phone: optional_line(at, "phone", PHONE_CHARS_MAX)?,
        })
    }
}

/// A text that is not empty and has one line.
fn line(at: &At<'_>, max: usize) -> Result<String, FieldError> {
    let line = limits::within(at, max)?.trim();
    if line.chars().any(char::is_control) {
        return Err(at.wrong("has control characters, use one line of text"));
    }
    Ok(line.to_string())
}

fn optional_line(at: &At<'_>, name: &str, max: usize) -> Result<Option<String>, FieldError> {
    at.field(name)?.map(|at| line(&at, max)).transpose()
}

/// A text that has lines.
fn text(at: &At<'_>, name: &str, max: usize) -> Result<Option<String>, FieldError> {
    let Some(at) = at.field(name)? else { return Ok(None) };
    let text = at.words(max)?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(at.wrong("has control characters other than line ends"));
    }
    Ok(Some(text.to_string()))
}

/// An e-mail address: what NCMEC answers must reach somebody.
fn email(at: &At<'_>) -> Result<String, FieldError> {
    let address = line(at, EMAIL_CHARS_MAX)?;
    let good = address.split_once('@').is_some_and(|(local, host)| {
        let inner = !host.starts_with('.') && !host.ends_with('.') && !host.contains("..");
        !local.is_empty() && host.contains('.') && inner && !host.contains('@')
    });
    if !good || address.contains(|c: char| c.is_whitespace() || "<>,;\"".contains(c)) {
        return Err(at.wrong("is no e-mail address: use one like reports@example.org"));
    }
    Ok(address)
}

/// Names of webhooks, each once.
fn names(at: &At<'_>) -> Result<Vec<String>, FieldError> {
    let list = at.list()?;
    if list.len() > ACTIONS_MAX {
        return Err(at.wrong(format!("has {} entries, {ACTIONS_MAX} at most", list.len())));
    }
    let mut seen = BTreeSet::new();
    for name in &list {
        if !seen.insert(name.words(64)?) {
            return Err(name.wrong("is listed twice"));
        }
    }
    list.iter().map(|name| name.text().map(str::to_string)).collect()
}

/// What an organisation logs in to NCMEC with: it opens one of the two environments only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
    /// Where they are good.
    pub environment: Environment,
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({}, ***)", self.environment.name())
    }
}

impl Credentials {
    /// Reads credentials as an operator writes them.
    pub fn read(at: &At<'_>) -> Result<Self, FieldError> {
        at.only(&["username", "password", "environment"])?;
        let name = at.need("username")?;
        let username = line(&name, SECRET_CHARS_MAX)?;
        if username.contains(':') {
            return Err(name.wrong("has a ':', which no HTTP login can have"));
        }
        let given = at.need("password")?;
        let password = given.words(SECRET_CHARS_MAX)?.to_string();
        if password.chars().any(char::is_control) {
            return Err(given.wrong("has control characters"));
        }
        let environments = [("test", Environment::Test), ("production", Environment::Production)];
        Ok(Self { username, password, environment: at.need("environment")?.one_of(&environments)? })
    }
}

/// Every organisation.
pub fn organisations(tx: &Tx<'_>) -> Result<Vec<Organisation>, StoreError> {
    all(tx, b"o")
}

/// An organisation.
pub fn organisation(tx: &Tx<'_>, name: &OrgName) -> Result<Option<Organisation>, StoreError> {
    tx.read(Keyspace::Policy, &key(b'o', &[name.as_str()]))
}

/// Writes an organisation.
pub fn put_organisation(tx: &mut Tx<'_>, organisation: &Organisation) {
    tx.save(Keyspace::Policy, key(b'o', &[organisation.name.as_str()]), organisation);
}

/// An organisation's credentials.
pub fn credentials(tx: &Tx<'_>, name: &OrgName) -> Result<Option<Credentials>, StoreError> {
    tx.read(Keyspace::Policy, &key(b'O', &[name.as_str()]))
}

/// Writes an organisation's credentials.
pub fn put_credentials(tx: &mut Tx<'_>, name: &OrgName, credentials: &Credentials) {
    tx.save(Keyspace::Policy, key(b'O', &[name.as_str()]), credentials);
}

/// Forgets an organisation's credentials.
pub fn forget_credentials(tx: &mut Tx<'_>, name: &OrgName) {
    tx.delete(Keyspace::Policy, key(b'O', &[name.as_str()]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use index::store::MemoryStore;
    use serde_json::{Value, json};

    fn read(more: Value) -> Result<Organisation, FieldError> {
        let mut body = json!({ "company_name": "Example", "contact_email": "reports@example.org" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Organisation::read(OrgName::default(), &At::new(&body, ""))
    }

    #[test]
    fn check_39_an_organisation_without_an_e_mail_is_not_saved() {
        for wrong in
            ["", "   ", "reports", "@example.org", "a@b", "a@b@c.org", "a b@c.org", "a@.org", "A <a@b.org>"]
        {
            let refused = read(json!({ "contact_email": wrong })).unwrap_err();
            assert_eq!(refused.pointer, "/contact_email", "{wrong:?}");
        }
        assert_eq!(
            read(json!({ "contact_email": null })).unwrap_err().to_string(),
            "/contact_email: is missing"
        );
        assert_eq!(read(json!({})).unwrap().contact_email, "reports@example.org");
    }

    #[test]
    fn check_39_template_service_and_name_are_settings_of_their_own() {
        let set = read(json!({ "company_template": "Serve us by mail.", "esp_service": "Chat" })).unwrap();
        assert_eq!((set.company_name.as_str(), set.service()), ("Example", Some("Chat")));
        assert_eq!(read(json!({})).unwrap().service(), Some("Example"));
        let long = "e".repeat(101);
        assert_eq!(read(json!({ "company_name": long })).unwrap().service(), None, "it is not cut");
        assert_eq!(read(json!({ "esp_service": long })).unwrap_err().pointer, "/esp_service");
    }

    #[test]
    fn what_ncmec_would_refuse_is_refused_when_it_is_saved() {
        for (wrong, pointer) in [
            (json!({ "terms_of_service": "t".repeat(3001) }), "/terms_of_service"),
            (json!({ "legal_url": format!("https://a.org/{}", "x".repeat(2083)) }), "/legal_url"),
            (json!({ "legal_url": "our terms" }), "/legal_url"),
            (json!({ "additional_info_url": "https://name:word@a.org/" }), "/additional_info_url"),
            (json!({ "contact_person": { "phone": "1".repeat(51) } }), "/contact_person/phone"),
            (json!({ "contact_person": { "email": "nobody" } }), "/contact_person/email"),
            (json!({ "internet_detail": "carrier_pigeon" }), "/internet_detail"),
            (json!({ "company_name": "a\u{1}b" }), "/company_name"),
            (json!({ "queue": "No Queue" }), "/queue"),
            (json!({ "actions_on_report": ["w", "w"] }), "/actions_on_report/1"),
            (json!({ "at_once": 17 }), "/at_once"),
            (json!({ "username": "u" }), "/username"),
        ] {
            assert_eq!(read(wrong.clone()).unwrap_err().pointer, pointer, "{wrong}");
        }
    }

    #[test]
    fn credentials_show_no_password_and_name_their_environment() {
        let read = |body: Value| Credentials::read(&At::new(&body, ""));
        let given = json!({ "username": "esp", "password": "hunter2 hunter2", "environment": "production" });
        let kept = read(given.clone()).unwrap();
        assert!(!format!("{kept:?}").contains("hunter2"));
        for (field, wrong) in
            [("environment", json!("prod")), ("username", json!("a:b")), ("password", json!(""))]
        {
            let mut body = given.clone();
            body[field] = wrong;
            assert_eq!(read(body).unwrap_err().pointer, format!("/{field}"));
        }
        let store = MemoryStore::default();
        let (mut tx, name) = (Tx::new(&store), OrgName::default());
        put_credentials(&mut tx, &name, &kept);
        assert_eq!(credentials(&tx, &name).unwrap(), Some(kept));
        assert_eq!(organisations(&tx).unwrap(), [], "they are rows of their own");
        forget_credentials(&mut tx, &name);
        assert_eq!(credentials(&tx, &name).unwrap(), None);
        let organisation = super::tests::read(json!({ "queue": "q" })).unwrap();
        put_organisation(&mut tx, &organisation);
        assert_eq!(super::organisation(&tx, &name).unwrap(), Some(organisation.clone()));
        assert_eq!(organisations(&tx).unwrap(), [organisation]);
    }
}
