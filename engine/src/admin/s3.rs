//! `/api/v1/s3/events`: objects that S3 says were made are fetched, hashed, matched and submitted.
//!
//! The answer is the receipt: 200 only when the hits of every object are durable, so that the sender sends again what
//! failed for now. An event that comes twice is one Submit: its id is made of what it tells of.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use index::{RequestId, Signal, UploadContext};
use ingest::s3::{Confirmation, Delivery, EventError, Object, Objects, S3Error, read};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hashing::{self, Hashed, Wanted};
use super::{Admin, Refusal};
use crate::clock::{is_future, newest_ms, now_ms};

/// Ids older than this are near the end of the replay window (24 h): a late event gets a fresh one.
const LATE_MS: u64 = 23 * 3_600_000;
/// Objects of one body; S3 sends one.
const OBJECTS_MAX: usize = 100;

/// `POST /api/v1/s3/events`: a body as SNS, EventBridge or an S3 store sends it.
pub async fn events(State(admin): State<Arc<Admin>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let Some(objects) = &admin.objects else {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "no buckets are read here: set --s3-buckets, and HASHWARD_S3_ACCESS_KEY_ID and \
             HASHWARD_S3_SECRET_ACCESS_KEY",
        ));
    };
    admin.loaded()?;
    let delivery = read(&body, &admin.config.sns_topics.0).map_err(|error| {
        let status = match error {
            EventError::Shape { .. } => StatusCode::BAD_REQUEST,
            EventError::Topic { .. } => StatusCode::FORBIDDEN,
        };
        Refusal::new(status, error.to_string())
    })?;
    match delivery {
        Delivery::Nothing => Ok(Json(json!({ "objects": [] }))),
        Delivery::Confirm(confirmation) => confirm(&admin, &confirmation).await,
        Delivery::Objects(made) if made.len() > OBJECTS_MAX => {
            Err(Refusal::bad(format!("{} objects in one body, {OBJECTS_MAX} at most", made.len())))
        }
        Delivery::Objects(made) => {
            let mut answers = Vec::with_capacity(made.len());
            for object in &made {
                answers.push(take(&admin, objects, object).await?);
            }
            Ok(Json(json!({ "objects": answers })))
        }
    }
}

/// Tells SNS that it may send.
async fn confirm(admin: &Admin, confirmation: &Confirmation) -> Result<Json<Value>, Refusal> {
    admin.fetcher.fetch(&confirmation.url).await?;
    tracing::info!(topic = confirmation.topic, "an SNS subscription is confirmed");
    Ok(Json(json!({ "confirmed": confirmation.topic })))
}

/// One object. What will not be better later is answered in words, and logged; what may be, as a refusal.
async fn take(admin: &Admin, objects: &Objects, object: &Object) -> Result<Value, Refusal> {
    let shown = |rest: Value| {
        let mut answer = json!({ "bucket": object.bucket, "key": object.key });
        if let (Some(answer), Value::Object(rest)) = (answer.as_object_mut(), rest) {
            answer.extend(rest);
        }
        answer
    };
    let unknown = |why: &str| {
        // Its key is as good as its URL, and stays out of the log; who has the key finds it by its digest.
        let digest = Sha256::digest(&object.key);
        let key_sha256: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        tracing::warn!(
            bucket = object.bucket,
            key_sha256,
            "an object of S3 was not matched; the answer says why"
        );
        shown(json!({ "error": why }))
    };
    let fetched = match objects.fetch(object).await {
        Ok(fetched) => fetched,
        Err(error @ S3Error::Broken { .. }) => {
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()));
        }
        Err(error @ S3Error::Bucket { .. }) => {
            return Err(Refusal::new(StatusCode::FORBIDDEN, error.to_string()));
        }
        Err(S3Error::Gone) => return Ok(shown(json!({ "gone": true }))),
        Err(error) => return Ok(unknown(&error.to_string())),
    };
    let kinds = hashing::kinds_of(&fetched.bytes, "");
    let wanted = Wanted { kinds, frames: true, partial: true, ..Wanted::default() };
    let hashed = hashing::hash(admin, fetched.bytes.clone(), wanted).await?;
    drop(fetched);
    for (kind, why) in &hashed.failed {
        unknown(&format!("{kind}: {why}"));
    }
    // Nor is one by a clock that is ahead of ours: its id would be refused.
    let late = now_ms().saturating_sub(object.made_ms) > LATE_MS || is_future(object.made_ms);
    let request = if late {
        RequestId::fresh_at(newest_ms())
    } else {
        RequestId::of(object.made_ms, &object.identity())
    };
    let context = UploadContext {
        item_id: Some(object.key.clone()),
        item_type: Some("s3_object".to_string()),
        url: Some(format!("s3://{}/{}", object.bucket, object.key)),
        created_at_ms: (object.made_ms > 0).then_some(object.made_ms),
        ..UploadContext::default()
    };
    let submitter = &admin.loaded()?.submitter;
    let receipt = submitter
        .submit(request, signals(&hashed), context)
        .await
        .map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let mut answer = json!({ "request": request, "hits": 0 });
    if let Some(receipt) = receipt {
        answer["hits"] = json!(receipt.outcomes.len());
        answer["first_position"] = json!(receipt.first_position);
        answer["durability"] = json!(receipt.durability);
        answer["replayed"] = json!(receipt.replayed);
    }
    if !hashed.failed.is_empty() {
        let failed = hashed.failed.iter().map(|(kind, why)| (kind.name().to_string(), json!(why)));
        answer["not_hashed"] = failed.collect();
    }
    if let Some(damage) = &hashed.damage {
        answer["damage"] = json!(damage);
    }
    Ok(shown(answer))
}

/// All signals of a file, in an order that is the same each time: of an animated picture every frame worth matching.
fn signals(hashed: &Hashed) -> Vec<Signal> {
    let own = hashed.signals.values().flatten().cloned();
    let frames =
        hashed.frames.iter().flatten().filter(|frame| frame.quality >= ingest::media::pdq::QUALITY_MIN);
    let mut signals: Vec<Signal> = own.chain(frames.map(|frame| Signal::Pdq(frame.hash))).collect();
    let mut seen = std::collections::HashSet::new();
    signals.retain(|signal| seen.insert(signal.clone()));
    signals
}
