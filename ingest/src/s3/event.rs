//! S3 event notifications as they come by HTTP: from SNS, from EventBridge, or as S3-compatible stores send them.

use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde_json::Value;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Objects that were made.
    Objects(Vec<Object>),
    /// SNS asks whether it may send.
    Confirm(Confirmation),
    /// Nothing to be done: a test, a deletion.
    Nothing,
}

/// An object that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its bucket.
    pub bucket: String,
    /// Its key, as it is.
    pub key: String,
    /// Which version, where the bucket keeps versions.
    pub version: Option<String>,
    /// Tells one making of a key from another.
    pub sequencer: String,
    /// When it was made, in milliseconds since 1970 (UTC); 0 if the event does not say.
    pub made_ms: u64,
}

impl Object {
    /// The same for each delivery of one event, different for different ones.
    pub fn identity(&self) -> Vec<u8> {
        let version = self.version.as_deref().unwrap_or_default();
        let mut identity = Vec::new();
        for part in [&self.bucket, &self.key, version, &self.sequencer] {
            identity.extend_from_slice(&(part.len() as u64).to_be_bytes());
            identity.extend_from_slice(part.as_bytes());
        }
        identity
    }
}

/// A subscription that waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The topic that would send.
    pub topic: String,
    /// Where it is confirmed: on the topic's own SNS, checked.
    pub url: String,
}

/// Why a body is no event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It is not JSON of any of these kinds.
    #[error("this is no S3 event as SNS, EventBridge or an S3 store sends it: {reason}")]
    Shape {
        /// What is wrong.
        reason: String,
    },
    /// A topic that nobody named.
    #[error("topic '{topic}' is not taken from here: --sns-topics names those that are")]
    Topic {
        /// Its name.
        topic: String,
    },
}

/// Characters of what was sent that an error quotes at most.
const QUOTED_CHARS_MAX: usize = 200;

fn shape(reason: impl ToString) -> EventError {
    EventError::Shape { reason: begin(&reason.to_string()) }
}

/// The beginning of a text that may quote what was sent, which is as long as its sender made it.
fn begin(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

/// Reads a body. SNS messages are taken from these topics only.
pub fn read(body: &[u8], topics: &[String]) -> Result<Delivery, EventError> {
    let value: Value = serde_json::from_slice(body).map_err(shape)?;
    if let Some(kind) = value["Type"].as_str() {
        return of_sns(kind, &value, topics);
    }
    if value["source"] == "aws.s3" || value.get("detail-type").is_some() {
        return of_eventbridge(&value);
    }
    of_s3(&value)
}

fn of_sns(kind: &str, value: &Value, topics: &[String]) -> Result<Delivery, EventError> {
    let topic = value["TopicArn"].as_str().ok_or_else(|| shape("there is no TopicArn"))?;
    if !topics.iter().any(|known| known == topic) {
        return Err(EventError::Topic { topic: topic.chars().take(256).collect() });
    }
    match kind {
        "Notification" => {
            let message = value["Message"].as_str().ok_or_else(|| shape("there is no Message"))?;
            let message: Value = serde_json::from_str(message).map_err(shape)?;
            if message["source"] == "aws.s3" { of_eventbridge(&message) } else { of_s3(&message) }
        }
        "SubscriptionConfirmation" => {
            let url = value["SubscribeURL"].as_str().unwrap_or_default();
            if !is_of_topic(url, topic) {
                return Err(shape("its SubscribeURL does not lead to the topic's own SNS"));
            }
            Ok(Delivery::Confirm(Confirmation { topic: topic.to_string(), url: url.to_string() }))
        }
        "UnsubscribeConfirmation" => Ok(Delivery::Nothing),
        other => Err(shape(format!("SNS does not send '{other}'"))),
    }
}

/// Whether a URL is of the SNS that a topic (`arn:aws:sns:REGION:…`) lives on: who sends the message does not choose
/// where we go.
fn is_of_topic(url: &str, topic: &str) -> bool {
    let mut parts = topic.split(':');
    let (Some("arn"), Some(partition), Some("sns"), Some(region)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let plain = !region.is_empty() && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    plain && url.starts_with(&format!("https://sns.{region}.{domain}/?"))
}

#[derive(Deserialize)]
struct Bridged {
    time: Option<String>,
    #[serde(rename = "detail-type")]
    kind: String,
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Named,
    object: Made,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    key: String,
    #[serde(alias = "version-id")]
    version_id: Option<String>,
    sequencer: Option<String>,
    #[serde(alias = "etag")]
    e_tag: Option<String>,
}

impl Made {
    fn object(self, bucket: String, key: String, made_ms: u64) -> Object {
        let sequencer = self.sequencer.or(self.e_tag).unwrap_or_default();
        Object { bucket, key, version: self.version_id.filter(|id| !id.is_empty()), sequencer, made_ms }
    }
}

/// `{"source": "aws.s3", "detail-type": "Object Created", "detail": {…}}`; keys are as they are.
fn of_eventbridge(value: &Value) -> Result<Delivery, EventError> {
    let event = Bridged::deserialize(value).map_err(shape)?;
    if event.kind != "Object Created" {
        return Ok(Delivery::Nothing);
    }
    let made_ms = event.time.as_deref().map_or(0, milliseconds);
    let key = event.detail.object.key.clone();
    Ok(Delivery::Objects(vec![event.detail.object.object(event.detail.bucket.name, key, made_ms)]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    event_time: Option<String>,
    s3: Of,
}

#[derive(Deserialize)]
struct Of {
    bucket: Named,
    object: Made,
}

/// `{"Records": [{"eventName": "ObjectCreated:Put", "s3": {…}}]}`; keys are encoded as forms are.
fn of_s3(value: &Value) -> Result<Delivery, EventError> {
    if value["Event"] == "s3:TestEvent" {
        return Ok(Delivery::Nothing);
    }
    let records = value["Records"].as_array().ok_or_else(|| shape("there are no Records"))?;
    let mut objects = Vec::new();
    for record in records {
        let record = Record::deserialize(record).map_err(shape)?;
        // Amazon leaves the `s3:` out that other stores write.
        if !record.event_name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
            continue;
        }
        let key = decoded(&record.s3.object.key)?;
        let made_ms = record.event_time.as_deref().map_or(0, milliseconds);
        objects.push(record.s3.object.object(record.s3.bucket.name, key, made_ms));
    }
    Ok(if objects.is_empty() { Delivery::Nothing } else { Delivery::Objects(objects) })
}

/// A key as a form encodes it: `+` for a space, `%41` for a letter.
fn decoded(key: &str) -> Result<String, EventError> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(shape("a key is not encoded as in a form"));
                };
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| shape("a key is not UTF-8"))
}

/// A time as `2026-11-21T12:00:00.000Z` in milliseconds since 1970; 0 for what is no such time.
fn milliseconds(time: &str) -> u64 {
    let since = humantime::parse_rfc3339(time).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:uploads";

    fn record() -> Value {
        json!({ "Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
            "eventTime": "2026-11-21T12:34:56.789Z", "eventName": "ObjectCreated:Put",
            "s3": { "s3SchemaVersion": "1.0", "bucket": { "name": "uploads", "arn": "arn:aws:s3:::uploads" },
                    "object": { "key": "a+b/%C3%A4.jpg", "size": 5, "eTag": "e", "sequencer": "0055" } },
        }] })
    }

    fn object() -> Object {
        Object {
            bucket: "uploads".into(),
            key: "a b/ä.jpg".into(),
            version: None,
            sequencer: "0055".into(),
            made_ms: 1_795_264_496_789,
        }
    }

    fn taken(value: &Value) -> Result<Delivery, EventError> {
        read(value.to_string().as_bytes(), &[TOPIC.to_string()])
    }

    #[test]
    fn every_way_of_delivery_tells_of_the_same_object() {
        let sns = json!({ "Type": "Notification", "TopicArn": TOPIC, "Message": record().to_string() });
        let bridge = json!({
            "version": "0", "source": "aws.s3", "detail-type": "Object Created", "time": "2026-11-21T12:34:56.789Z",
            "detail": { "bucket": { "name": "uploads" }, "object": { "key": "a b/ä.jpg", "size": 5, "etag": "e", "sequencer": "0055" } },
        });
        for value in [record(), sns, bridge] {
            assert_eq!(taken(&value).unwrap(), Delivery::Objects(vec![object()]), "{value}");
        }
    }

    #[test]
    fn what_is_no_new_object_is_nothing() {
        let mut deleted = record();
        deleted["Records"][0]["eventName"] = json!("ObjectRemoved:Delete");
        let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads" });
        let bridge = json!({ "source": "aws.s3", "detail-type": "Object Deleted", "detail": { "bucket": { "name": "b" }, "object": { "key": "k" } } });
        for value in [deleted, test, bridge] {
            assert_eq!(taken(&value).unwrap(), Delivery::Nothing, "{value}");
        }
    }

    #[test]
    fn a_subscription_is_confirmed_on_the_topics_own_sns_alone() {
        let confirm = |topic: &str, url: &str| {
            taken(&json!({ "Type": "SubscriptionConfirmation", "TopicArn": topic, "SubscribeURL": url }))
        };
        let own = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1";
        let expected = Confirmation { topic: TOPIC.into(), url: own.into() };
        assert_eq!(confirm(TOPIC, own).unwrap(), Delivery::Confirm(expected));
        for url in [
            "https://sns.us-east-1.amazonaws.com/?Action=1",
            "http://sns.eu-west-1.amazonaws.com/?Action=1",
            "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=1",
            "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=1",
            "https://169.254.169.254/",
        ] {
            assert!(confirm(TOPIC, url).is_err(), "{url}");
        }
        assert!(
            confirm("arn:aws:sns:eu-west-1:1:other", own).unwrap_err().to_string().contains("--sns-topics")
        );
    }

    #[test]
    fn what_is_no_event_is_said() {
        for body in
            ["", "[]", "{}", r#"{"Records":[{}]}"#, r#"{"Type":"Notification"}"#, r#"{"source":"aws.s3"}"#]
        {
            assert!(read(body.as_bytes(), &[]).is_err(), "{body}");
        }
        let mut garbled = record();
        garbled["Records"][0]["s3"]["object"]["key"] = json!("%zz");
        assert!(taken(&garbled).is_err());
    }

    #[test]
    fn times_are_read_as_calendars_have_them() {
        for (time, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500),
            ("2024-03-01T00:00:00.000Z", 1_709_251_200_000),
            ("2026-12-31T23:59:59.999Z", 1_798_761_599_999),
            ("yesterday", 0),
            ("2026-13-01T00:00:00Z", 0),
            ("2026-01-01T00:00:00é.Z", 0),
        ] {
            assert_eq!(milliseconds(time), expected, "{time}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spoilt_event_is_an_error_or_an_event_never_a_panic(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let sns = json!({ "Type": "Notification", "TopicArn": TOPIC, "Message": record().to_string() });
            for value in [record(), sns] {
                let mut body = value.to_string().into_bytes();
                let length = body.len();
                body[at % length] = byte;
                body.truncate(length - cut % length);
                let _ = read(&body, &[TOPIC.to_string()]);
            }
        }

        #[test]
        fn a_key_is_decoded_as_it_was_encoded(key in ".{1,40}") {
            let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            proptest::prop_assert_eq!(decoded(&encoded).unwrap(), key);
        }
    }
}
