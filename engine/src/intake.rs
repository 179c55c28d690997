//! The intake's workers: what waits is fetched, hashed and compared with the banks, and handed back to the desk with what
//! was found out. What matched is in the hit log before the desk hears of it.
//!
//! Nothing is remembered here: what waits is in the store, and whoever starts again finds it there.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use index::store::Store;
use index::{Hit, Position, RequestId, Signal, SignalType, Tenant, UploadContext};
use ingest::media::fetch::Fetched;
use reporter::Tx;
use reporter::desk::evidence::Kept;
use reporter::desk::intake::{self as waiting, Answered, Arrival, PATIENCE_MS};
use reporter::desk::item::{Found, ItemKey, Media, MediaKind, Screening};
use reporter::desk::screening::{Screened, World, find_out};
use reporter::router::CREATOR_TRIES;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::admin::hashing;
use crate::clock::{newest_ms, now_ms};
use crate::desk::{Desk, IntakeCounts};
use crate::evidence::Evidence;
use crate::failpoint::failpoint;
use crate::in_hand::InHand;
use crate::ledger::AppendError;
use crate::outbound::Caller;
use crate::safety::Classifier;
use crate::sources::{Sources, short};
use crate::submit::{SubmitError, Submitter};

/// Arrivals worked on at once, and looked up at once.
const AT_ONCE: usize = 16;
const LOOK_AT: usize = 256;
/// How often is looked for what is due, when nobody says that something came.
const PAUSE: Duration = Duration::from_millis(500);
/// Before an item is tried again that the desk did not take.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
const ITEM_ANSWER_MAX: usize = 4 << 20;
/// Bytes of an arrival's media that are held until it is known whether they must be preserved. Others are fetched again.
const ASIDE_MAX: usize = 8 << 20;

/// What the workers need.
pub struct Intake {
    /// Where media are fetched.
    pub sources: Arc<Sources>,
    /// Where they are preserved.
    pub evidence: Arc<Evidence>,
    /// The case database.
    pub store: Arc<dyn Store>,
    /// Where what was found out goes.
    pub desk: Desk,
    /// Matches, and logs hits.
    pub submitter: Arc<Submitter>,
    /// Calls the platform.
    pub caller: Arc<Caller>,
    /// The classifier, where one is set up.
    pub classifier: Option<Classifier>,
    /// What is worked on, noted before.
    pub in_hand: InHand,
    /// Rung when something came.
    pub bell: Arc<Notify>,
    /// What is counted.
    pub counts: Arc<IntakeCounts>,
}

impl Intake {
    /// Works on what waits, for ever.
    pub async fn run(self: Arc<Self>) {
        let (mut next, mut known) = (VecDeque::new(), HashSet::new());
        let mut working: JoinSet<u64> = JoinSet::new();
        loop {
            if next.is_empty() && working.len() < AT_ONCE {
                let due = self.due().await;
                next.extend(due.into_iter().filter(|arrival| known.insert(arrival.number)));
            }
            while working.len() < AT_ONCE
                && let Some(arrival) = next.pop_front()
            {
                let this = self.clone();
                working.spawn(async move {
                    let number = arrival.number;
                    this.work(arrival).await;
                    number
                });
            }
            tokio::select! {
                Some(done) = working.join_next() => {
                    known.remove(&done.unwrap_or_default()); // numbers begin at 1
                }
                () = self.bell.notified(), if working.len() < AT_ONCE => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn due(self: &Arc<Self>) -> Vec<Arrival> {
        let this = self.clone();
        let read =
            tokio::task::spawn_blocking(move || waiting::due(&Tx::new(&*this.store), now_ms(), LOOK_AT))
                .await;
        match read {
            Ok(Ok(due)) => due,
            Ok(Err(error)) => {
                tracing::error!(%error, "what waits in the intake does not read");
                Vec::new()
            }
            Err(_) => Vec::new(), // the program ends
        }
    }

    /// One try of one arrival, unless the program died of it before.
    async fn work(&self, arrival: Arrival) {
        match self.in_hand.begin(arrival.number).await {
            Ok(work) => {
                failpoint("intake-begun");
                self.work_on(arrival).await;
                self.in_hand.done(work).await;
            }
            Err(why) => self.write(arrival, Err(why)).await,
        }
    }

    async fn work_on(&self, mut arrival: Arrival) {
        let catalog = self.submitter.catalog.load_full();
        let look = Look::at(self, &arrival);
        let mut outcome = find_out(&mut arrival, &catalog.types, &look).await;
        look.preserve(&mut arrival).await;
        // What matched is for people now, whatever else is not known of it; and after three days so is the rest.
        let matched = arrival.upload || arrival.item.matches().next().is_some();
        if let Err(why) = &outcome {
            let late = now_ms().saturating_sub(arrival.item.received_ms) > PATIENCE_MS;
            if late || (matched && arrival.tries >= CREATOR_TRIES) {
                arrival.give_up(why);
                self.counts.given_up.fetch_add(1, Ordering::Relaxed);
            } else if matched {
                arrival.give_up_media(why);
            }
            if !arrival.waits() {
                outcome = Ok(());
            }
        }
        if outcome.is_ok() && !arrival.waits() && matched && !arrival.upload {
            outcome = self.log(&mut arrival).await;
        }
        let blobs: Vec<String> =
            arrival.item.media.iter().filter_map(|media| Some(media.kept.as_ref()?.blob.clone())).collect();
        self.write(arrival, outcome).await;
        self.evidence.let_go(blobs.iter().map(String::as_str));
    }

    /// Has the desk write what came of a try.
    async fn write(&self, arrival: Arrival, outcome: Result<(), String>) {
        let number = arrival.number;
        let told = match outcome {
            Ok(()) => {
                failpoint("intake-found-out");
                self.desk.ask(move |turn| turn.resume(arrival)).await.map(|()| &self.counts.settled)
            }
            Err(why) => {
                // Why is told by /api/v1/intake and not here: it may name a URL.
                tracing::debug!(arrival = number, "an item waits");
                self.desk.ask(move |turn| turn.postpone(arrival, &why)).await.map(|()| &self.counts.postponed)
            }
        };
        match told {
            Ok(count) => drop(count.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                tracing::warn!(arrival = number, %error, "an item waits on: the desk did not take it");
                tokio::time::sleep(REFUSED_PAUSE).await; // it is due still
            }
        }
    }

    /// Puts what matched into the hit log. The same arrival again gives the same hits again.
    async fn log(&self, arrival: &mut Arrival) -> Result<(), String> {
        let item = &arrival.item;
        let mut request = RequestId::of(item.received_ms, format!("arrival {}", arrival.number).as_bytes());
        let mut hits = Vec::new();
        let generation = self.submitter.banks.state_owned().generation;
        for media in &item.media {
            let Screening::Done { matches } = &media.screening else { continue };
            let mut by_signal: BTreeMap<(SignalType, &str), Vec<&Found>> = BTreeMap::new();
            for found in matches {
                let own = media.signals.get(&found.signal_type).map_or("", String::as_str);
                by_signal
                    .entry((found.signal_type, found.signal.as_deref().unwrap_or(own)))
                    .or_default()
                    .push(found);
            }
            for ((signal_type, signal), found) in by_signal {
                hits.push(Hit {
                    position: Position(0),
                    request,
                    index: hits.len() as u32,
                    received_ms: 0,
                    generation,
                    signal_type,
                    signal: signal.to_string(),
                    matches_total: found.len() as u32,
                    matches: found.into_iter().map(|found| found.hit.clone()).collect(),
                    upload_id: 0,
                    context: UploadContext {
                        item_id: Some(item.key.id.clone()),
                        item_type: Some(item.key.type_id.clone()),
                        creator: item.user().map(|user| user.id.clone()),
                        url: media.url.clone(),
                        created_at_ms: item.created_ms,
                        ip: None,
                        tenant: arrival.tenant.clone(),
                        arrival: Some(arrival.number),
                    },
                });
            }
        }
        failpoint("intake-before-log");
        let mut logged = self.submitter.append(request, generation, hits.clone()).await;
        if let Err(SubmitError::Refused(AppendError::TooOld(_) | AppendError::Future(..))) = &logged {
            // Whether it was logged before is unknown. If it was, those hits find this arrival by its number.
            request = RequestId::fresh_at(newest_ms());
            hits.iter_mut().for_each(|hit| hit.request = request);
            logged = self.submitter.append(request, generation, hits).await;
        }
        let receipt = logged.map_err(|error| error.to_string())?;
        failpoint("intake-logged");
        let first = receipt.first_position.0;
        arrival.hits = (0..receipt.outcomes.len() as u64).map(|at| Position(first + at)).collect();
        Ok(())
    }

    /// What a medium's signals are: those given, or those of its file, frames of a moving picture apart.
    async fn signals(&self, media: &Media) -> Result<Looked, String> {
        if !media.signals.is_empty() {
            let parse = |(kind, text): (&SignalType, &String)| {
                Signal::parse(*kind, text).map_err(|error| error.to_string())
            };
            let signals = media.signals.iter().map(parse).collect::<Result<_, _>>()?;
            return Ok(Looked { signals, trouble: None, file: None });
        }
        let url = media.url.as_deref().ok_or("it has neither a URL nor signals")?;
        let fetched = self.sources.fetch_medium(url).await?;
        // What the platform calls a video is one, whatever its file looks like.
        let is_video = media.kind == MediaKind::Video;
        let content_type = if is_video { "video/any" } else { &fetched.content_type };
        let kinds = hashing::kinds_of(&fetched.bytes, content_type);
        let wanted = hashing::Wanted { kinds, frames: true, partial: true, ..hashing::Wanted::default() };
        let hashed = hashing::hash(&self.sources.admin, fetched.bytes.clone(), wanted).await;
        let hashed = hashed.map_err(|error| error.to_string())?;
        let own = hashed.signals.values().flatten().cloned();
        let frames = hashed.frames.iter().flatten();
        let frames = frames.filter(|frame| frame.quality >= ingest::media::pdq::QUALITY_MIN);
        let signals = own.chain(frames.map(|frame| Signal::Pdq(frame.hash))).collect();
        // Without the program for videos their digests are compared, as by HMA.
        let failed = hashed.failed.iter().find(|(kind, _)| **kind != SignalType::Vpdq || !hashed.no_program);
        let unlike =
            hashed.signals.keys().all(|kind| !matches!(kind, SignalType::Pdq | SignalType::VideoMd5));
        let trouble = failed.map(|(kind, why)| format!("{kind}: {why}"));
        let trouble = trouble.or(hashed.damage).or_else(|| {
            unlike.then(|| format!("what {} gives is neither a picture nor a video", short(url)))
        });
        Ok(Looked { signals, trouble, file: Some(fetched) })
    }

    /// Stores a file, so that nothing is lost when its URL dies. What cannot be stored now is fetched again for its job.
    async fn keep(&self, bytes: Bytes, content_type: String) -> Option<Kept> {
        let kept = self.evidence.keep(bytes, content_type).await;
        failpoint("intake-preserved");
        kept.inspect_err(|error| tracing::warn!(%error, "a medium is not preserved while it is at hand")).ok()
    }
}

/// A medium's signals, what is wrong with it, and its file, where that was fetched.
struct Looked {
    signals: Vec<Signal>,
    trouble: Option<String>,
    file: Option<Fetched>,
}

/// A look at one arrival: knows whether its media must be preserved, and holds some of them until it is known.
struct Look<'a> {
    intake: &'a Intake,
    tenant: Option<Tenant>,
    must: AtomicBool,
    /// By field: bytes, and what their host says they are.
    aside: Mutex<BTreeMap<String, (Bytes, String)>>,
}

impl<'a> Look<'a> {
    fn at(intake: &'a Intake, arrival: &Arrival) -> Self {
        let must = arrival.report.is_some() || arrival.item.matches().next().is_some();
        let tenant = arrival.tenant.clone();
        Self { intake, tenant, must: AtomicBool::new(must), aside: Mutex::default() }
    }

    /// Holds what was not seen to be needed yet, while there is room.
    fn put_aside(&self, field: &str, file: &Fetched) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = aside.values().map(|(bytes, _)| bytes.len()).sum();
        if held + file.bytes.len() <= ASIDE_MAX {
            aside.insert(field.to_string(), (file.bytes.clone(), file.content_type.clone()));
        }
    }

    /// Preserves what was put aside, if the item turned out to be for people.
    async fn preserve(self, arrival: &mut Arrival) {
        if !self.must.into_inner() {
            return;
        }
        let mut aside = self.aside.into_inner().unwrap_or_else(PoisonError::into_inner);
        for media in arrival.item.media.iter_mut().filter(|media| media.kept.is_none()) {
            if let Some((bytes, content_type)) = aside.remove(&media.field) {
                media.kept = self.intake.keep(bytes, content_type).await;
            }
        }
    }
}

impl World for Look<'_> {
    async fn screen(&self, media: &Media) -> Result<Screened, String> {
        let Looked { signals, trouble, file } = self.intake.signals(media).await?;
        let (submitter, tenant) = (self.intake.submitter.clone(), self.tenant.clone());
        let matching = tokio::task::spawn_blocking(move || {
            let (_, matched) = submitter.matching(tenant.as_ref(), &signals);
            (signals, matched)
        });
        let (signals, matched) = matching.await.map_err(|_| "the server is shutting down".to_string())?;
        let mut screened = Screened::default();
        for signal in &signals {
            screened.signals.entry(signal.kind()).or_insert_with(|| signal.to_string());
        }
        for found in matched {
            let signal = &signals[found.place as usize];
            let text = signal.to_string();
            let own = screened.signals.get(&signal.kind()) == Some(&text);
            screened.matches.extend(found.matches.into_iter().map(|hit| Found {
                signal_type: signal.kind(),
                signal: (!own).then(|| text.clone()),
                hit,
            }));
        }
        screened.matches.sort_by_key(|found| found.hit.distance);
        if !screened.matches.is_empty() {
            self.must.store(true, Ordering::Relaxed);
        }
        match trouble {
            // What matched, matched, whatever else cannot be read of it.
            Some(why) if screened.matches.is_empty() => return Err(why),
            _ => {}
        }
        if let Some(file) = file {
            if self.must.load(Ordering::Relaxed) {
                screened.kept = self.intake.keep(file.bytes.clone(), file.content_type.clone()).await;
            } else {
                self.put_aside(&media.field, &file);
            }
        }
        Ok(screened)
    }

    async fn item(&self, key: &ItemKey) -> Result<Option<Value>, String> {
        let catalog = self.intake.submitter.catalog.load_full();
        let url = catalog.settings.partial_items_url.as_deref();
        let url = url.ok_or("no partial items endpoint is set")?;
        let body = json!({ "items": [{ "id": key.id, "typeId": key.type_id }] }).to_string().into_bytes();
        let id = RequestId::fresh_at(newest_ms()).to_string();
        let answer = self
            .intake
            .caller
            .post(url, &id, body, ITEM_ANSWER_MAX)
            .await
            .map_err(|error| error.to_string())?;
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|error| format!("its answer is not JSON: {error}"))?;
        let items = answer["items"].as_array().ok_or("its answer has no list of items")?;
        let ours = |item: &&Value| item["id"] == key.id.as_str() && item["typeId"] == key.type_id.as_str();
        Ok(items.iter().find(ours).cloned())
    }

    async fn priority(&self, urls: Vec<String>) -> Result<Answered, String> {
        let Some(classifier) = &self.intake.classifier else { return Ok(Answered::Inapplicable) };
        let mut highest = None;
        for url in urls {
            let fetched = self.intake.sources.fetch(&url).await?;
            if !ingest::media::is_picture(&fetched.bytes) {
                continue;
            }
            highest = highest.max(Some(classifier.priority(fetched.bytes.to_vec()).await?));
        }
        Ok(highest.map_or(Answered::Inapplicable, Answered::As))
    }
}
