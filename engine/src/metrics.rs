//! Everything counted, in Prometheus' words.
//!
//! Shards count in atomics of their own; what lies elsewhere (banks, log, queues) is read when scraped.

mod damage;
mod decoders;
mod machine;
mod shards;
mod turns;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use index::bank::BankState;
use index::{Faults, SegmentPlan, SignalType};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

pub use self::machine::resident_bytes;
pub use self::shards::ShardCounts;
pub use self::turns::TurnCounts;
use crate::alarm::AlarmCounts;
use crate::audit::AuditCounts;
use crate::cgroup::Allowance;
use crate::circuits::FilerCounts;
use crate::config::Config;
use crate::damage::Damage;
use crate::decoders::DecoderCounts;
use crate::desk::{DeskCounts, IntakeCounts, OutboxCounts};
use crate::evidence::PreserveCounts;
use crate::last_words::End;
use crate::ledger::LedgerCounts;
use crate::recent::RecentCounts;
use crate::retention::RetentionCounts;

/// Counts on behalf of everyone; shown by `/metrics`.
#[derive(Debug)]
pub struct Metrics {
    /// One per shard.
    pub shards: Vec<Arc<ShardCounts>>,
    /// The hit log's.
    pub ledger: Arc<LedgerCounts>,
    /// The desk's.
    pub desk: Arc<DeskCounts>,
    /// The intake's workers'.
    pub intake: Arc<IntakeCounts>,
    /// The outbox's workers'.
    pub outbox: Arc<OutboxCounts>,
    /// The preserver's.
    pub preserve: Arc<PreserveCounts>,
    /// Those of deletions because of age.
    pub retention: Arc<RetentionCounts>,
    /// Those of the submissions that are kept for a while.
    pub recent: Arc<RecentCounts>,
    /// What alarms were raised.
    pub alarms: Arc<AlarmCounts>,
    /// How far the audit log is signed.
    pub audit: Arc<AuditCounts>,
    /// What filing reports did.
    pub filer: Arc<FilerCounts>,
    /// Who waits for a turn.
    pub turns: Arc<TurnCounts>,
    /// What decoders do.
    pub decoders: Arc<DecoderCounts>,
    /// What of the databases does not read.
    pub damage: Arc<Damage>,
    kernel: &'static str,
    last_end: End,
    tables_bytes_max: Option<u64>,
    allowance: Allowance,
    reactor: OnceLock<&'static str>,
}

impl Metrics {
    /// Starts all counts at zero.
    pub fn new(config: &Config, kernel: &'static str, last_end: End, damage: Arc<Damage>) -> Self {
        Self {
            shards: (0..config.cores).map(|_| Arc::default()).collect(),
            ledger: Arc::default(),
            desk: Arc::default(),
            intake: Arc::default(),
            outbox: Arc::default(),
            preserve: Arc::default(),
            retention: Arc::default(),
            recent: Arc::default(),
            alarms: Arc::default(),
            audit: Arc::default(),
            filer: Arc::default(),
            turns: Arc::default(),
            decoders: Arc::default(),
            damage,
            kernel,
            last_end,
            tables_bytes_max: config.memory_max_bytes,
            allowance: config.allowance.clone(),
            reactor: OnceLock::new(),
        }
    }

    /// The distance kernel in use.
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Says which reactor drives the shards.
    pub fn set_reactor(&self, name: &'static str) {
        self.reactor.get_or_init(|| name);
    }

    /// The reactor in use; empty before the shards start.
    pub fn reactor(&self) -> &'static str {
        self.reactor.get().copied().unwrap_or("")
    }

    /// All metrics as text; `banks` and `cases` once they are loaded.
    pub fn render(&self, disk_full: bool, banks: Option<&BankState>, cases: Option<&CaseGauges>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape::take(self, disk_full, banks, cases)));
        let mut text = String::new();
        // Writing to a String does not fail; an encoder error would be a fault of ours and shows as a gap.
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        text
    }
}

/// How many cases wait for people, and for how long; read from the store for each scrape.
#[derive(Clone, Debug, Default)]
pub struct CaseGauges {
    /// Of each queue: its name, its open jobs, those that reviewers have, seconds that the first has waited.
    pub queues: Vec<(String, u64, u64, f64)>,
    /// Items that wait in the intake, counted to a limit; seconds since the oldest of them came.
    pub waiting: (u64, f64),
    /// Decisions that are still to be reported; none for who does not see them.
    pub filings: Option<u64>,
    /// Of the first of them, how many are how far; empty for who does not see them.
    pub filings_by_stage: Vec<(String, u64)>,
    /// Filings that are held for a person, counted to a limit; none for who does not see them.
    pub filings_held: Option<u64>,
    /// Alarms that nobody acknowledged, counted to a limit.
    pub alarms_open: u64,
    /// Alarms that nobody followed, because too many came at once.
    pub alarms_lost: u64,
    /// Hits that are set aside, counted to a limit.
    pub set_aside: u64,
    /// Sets of embeddings whose files are lost or damaged.
    pub embeddings_unusable: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
}

/// One sample: name, help, kind, labels, value.
#[derive(Debug)]
struct Sample {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    rows: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// All samples of one scrape.
#[derive(Debug)]
struct Scrape(Vec<Sample>);

impl Scrape {
    fn take(
        metrics: &Metrics,
        disk_full: bool,
        banks: Option<&BankState>,
        cases: Option<&CaseGauges>,
    ) -> Self {
        let mut samples = Vec::new();
        let mut add = |name, help, kind, rows| samples.push(Sample { name, help, kind, rows });
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        let ended = vec![(vec![("reason", metrics.last_end.name().to_string())], 1.0)];
        add("hashward_last_end", "How the run before this one ended", Kind::Gauge, ended);
        let one = |value: f64| vec![(Vec::new(), value)];
        let ledger = &metrics.ledger;
        add("hashward_hits_logged", "Hits made durable since start", Kind::Counter, one(read(&ledger.hits)));
        add(
            "hashward_log_commits",
            "Synced commits of the hit log since start",
            Kind::Counter,
            one(read(&ledger.commits)),
        );
        add(
            "hashward_replays",
            "Submits answered from the replay window",
            Kind::Counter,
            one(read(&ledger.replays)),
        );
        add(
            "hashward_log_position",
            "Newest position in the hit log",
            Kind::Gauge,
            one(read(&ledger.last_position)),
        );
        let router = &metrics.desk;
        add("hashward_routed", "Hits routed since start", Kind::Counter, one(read(&router.routed)));
        let ways = router.ways.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Whoever does not see a queue does not see what came into it.
        let sees =
            |queue: &str| cases.is_none_or(|cases| cases.queues.iter().any(|(name, ..)| name == queue));
        let ways = ways
            .into_iter()
            .filter(|((_, queue), _)| sees(queue))
            .map(|((rule, queue), hits)| (vec![("rule", rule), ("queue", queue)], hits as f64));
        add(
            "hashward_rule_hits",
            "Hits routed since start, by rule and queue",
            Kind::Counter,
            ways.collect(),
        );
        add(
            "hashward_router_position",
            "Position the router has reached",
            Kind::Gauge,
            one(read(&router.cursor)),
        );
        add(
            "hashward_router_failed",
            "1 while the router cannot go on",
            Kind::Gauge,
            one(read(&router.failed)),
        );
        let (intake, outbox, preserve) = (&metrics.intake, &metrics.outbox, &metrics.preserve);
        let retention = &metrics.retention;
        for (name, help, count) in [
            ("hashward_desk_commands", "Commands carried out on cases since start", &router.commands),
            (
                "hashward_desk_commits",
                "Commits of cases since start, without those of routed hits",
                &router.commits,
            ),
            ("hashward_items_taken", "Items taken in since start", &intake.taken),
            ("hashward_items_refused", "Items refused since start", &intake.refused),
            ("hashward_intake_settled", "Items settled since start that had waited", &intake.settled),
            (
                "hashward_intake_postponed",
                "Tries of waiting items since start that failed",
                &intake.postponed,
            ),
            (
                "hashward_intake_given_up",
                "Items that went to people as unknown since start",
                &intake.given_up,
            ),
            ("hashward_deliveries", "Webhook deliveries understood since start", &outbox.delivered),
            (
                "hashward_deliveries_failed",
                "Tries of deliveries and additions since start that failed",
                &outbox.failed,
            ),
            ("hashward_deliveries_given_up", "Webhook deliveries given up since start", &outbox.given_up),
            ("hashward_rule_additions", "Media added to banks by rules since start", &outbox.added),
            ("hashward_media_kept", "Media of jobs preserved since start", &preserve.kept),
            ("hashward_media_failed", "Tries to preserve a medium since start that failed", &preserve.failed),
            ("hashward_media_given_up", "Media given up since start", &preserve.given_up),
            ("hashward_jobs_deleted", "Jobs deleted since start", &retention.jobs),
            (
                "hashward_items_deleted",
                "Items that made no job, deleted since start because of their age",
                &retention.items,
            ),
            (
                "hashward_media_swept",
                "Stored media destroyed since start that nothing named",
                &preserve.swept,
            ),
        ] {
            add(name, help, Kind::Counter, one(read(count)));
        }
        let audit = &metrics.audit;
        add(
            "hashward_audit_signed",
            "Last record of the audit log that is signed",
            Kind::Gauge,
            one(audit.last().map_or(0, |head| head.number) as f64),
        );
        add(
            "hashward_audit_failures",
            "Times since start that the audit log could not be signed",
            Kind::Counter,
            one(read(&audit.failures)),
        );
        let alarms = &metrics.alarms;
        for (name, help, count) in [
            ("hashward_keys_frozen", "Keys frozen since start", &alarms.frozen),
            ("hashward_honeytokens_found", "Honeytokens found or exported since start", &alarms.honeytokens),
            ("hashward_budgets_spent", "Keys that had spent their budget, once an hour", &alarms.budgets),
            ("hashward_crowds", "Contents that very many queries were around", &alarms.crowds),
        ] {
            add(name, help, Kind::Counter, one(read(count)));
        }
        let filer = &metrics.filer;
        for (name, help, count) in [
            ("hashward_reports_filed", "Reports filed with NCMEC since start", &filer.filed),
            ("hashward_ncmec_calls", "Calls to NCMEC since start", &filer.calls),
            ("hashward_filing_failures", "Steps of filings that failed since start", &filer.failed),
            ("hashward_filings_stopped", "Filings that were held for a person since start", &filer.held),
        ] {
            add(name, help, Kind::Counter, one(read(count)));
        }
        let recent = &metrics.recent;
        add(
            "hashward_recent_kept",
            "Submits kept for reverse lookup since start",
            Kind::Counter,
            one(read(&recent.kept)),
        );
        add(
            "hashward_recent_left_out",
            "Submits not kept for reverse lookup, because the disk was slow or full",
            Kind::Counter,
            one(read(&recent.left_out)),
        );
        add(
            "hashward_recent_lost",
            "Times since start that all kept Submits were thrown away, because they were damaged",
            Kind::Counter,
            one(read(&recent.lost)),
        );
        add(
            "hashward_disk_full",
            "1 while nothing is written",
            Kind::Gauge,
            one(f64::from(u8::from(disk_full))),
        );
        samples.extend(damage::samples(&metrics.damage));
        let mut add = |name, help, kind, rows| samples.push(Sample { name, help, kind, rows });
        if let Some(cases) = cases {
            type Queue = (String, u64, u64, f64);
            type Pick = fn(&Queue) -> f64;
            let of_queues: [(&'static str, &'static str, Pick); 3] = [
                ("hashward_queue_jobs", "Open jobs of a queue", |queue| queue.1 as f64),
                ("hashward_queue_leased", "Jobs of a queue that reviewers have", |queue| queue.2 as f64),
                ("hashward_queue_oldest_seconds", "How long the next job of a queue has waited", |queue| {
                    queue.3
                }),
            ];
            for (name, help, pick) in of_queues {
                let row = |queue: &Queue| (vec![("queue", queue.0.clone())], pick(queue));
                add(name, help, Kind::Gauge, cases.queues.iter().map(row).collect());
            }
            for (name, help, value) in [
                (
                    "hashward_intake_waiting",
                    "Items that wait to be settled, to 10000",
                    cases.waiting.0 as f64,
                ),
                ("hashward_intake_oldest_seconds", "How long ago the oldest of them came", cases.waiting.1),
                (
                    "hashward_alarms_open",
                    "Alarms that nobody acknowledged, to 10000",
                    cases.alarms_open as f64,
                ),
                (
                    "hashward_hits_set_aside",
                    "Hits that are not routed, because something that this needs does not read, to 10000",
                    cases.set_aside as f64,
                ),
                (
                    "hashward_embeddings_unusable",
                    "Sets of embeddings whose files are lost or damaged",
                    cases.embeddings_unusable as f64,
                ),
                (
                    "hashward_alarms_lost",
                    "Alarms since start that are in the program's log alone, because too many came at once",
                    cases.alarms_lost as f64,
                ),
            ] {
                add(name, help, Kind::Gauge, one(value));
            }
            for (name, help, value) in [
                ("hashward_filings_waiting", "Decisions to be reported to NCMEC", cases.filings),
                ("hashward_filings_held", "Filings that are held for a person, to 10000", cases.filings_held),
            ] {
                let row = value.map(|value| (Vec::new(), value as f64));
                add(name, help, Kind::Gauge, row.into_iter().collect());
            }
            let row = |(stage, count): &(String, u64)| (vec![("stage", stage.clone())], *count as f64);
            add(
                "hashward_filings_stage",
                "How far filings are, of the first 1000 that are not over",
                Kind::Gauge,
                cases.filings_by_stage.iter().map(row).collect(),
            );
        }
        if let Some(state) = banks {
            let hashes = SignalType::ALL.into_iter();
            let hashes =
                hashes.map(|kind| (vec![("signal_type", kind.to_string())], state.tables.len(kind) as f64));
            add(
                "hashward_index_hashes",
                "Signals that lookups are matched against",
                Kind::Gauge,
                hashes.collect(),
            );
            let plans = state.tables.pdq.explain(SignalType::Pdq.threshold(), false);
            let of = |plan: &SegmentPlan, at: usize| {
                vec![("segment", at.to_string()), ("shape", plan.shape.to_string())]
            };
            let rows = |value: fn(&SegmentPlan) -> f64| {
                plans.iter().enumerate().map(|(at, plan)| (of(plan, at), value(plan))).collect()
            };
            add(
                "hashward_segment_hashes",
                "PDQ signals in a segment, by how it is searched",
                Kind::Gauge,
                rows(|plan| plan.signals as f64),
            );
            add(
                "hashward_segment_predicted_seconds",
                "What a search of the segment is expected to take",
                Kind::Gauge,
                rows(|plan| f64::from(plan.predicted_ns) / 1e9),
            );
            add(
                "hashward_segments_without_tables",
                "PDQ segments whose tables could not be built, so that every lookup reads all of their hashes",
                Kind::Gauge,
                one(plans.iter().filter(|plan| plan.lacks_tables).count() as f64),
            );
            add("hashward_index_bytes", "Memory of the tables", Kind::Gauge, one(state.bytes() as f64));
            add("hashward_banks", "Banks", Kind::Gauge, one(state.directory.list().len() as f64));
            add(
                "hashward_generation",
                "Generation of the banks",
                Kind::Gauge,
                one(state.generation.0 as f64),
            );
        }
        let faults = Faults::counted();
        for (name, help, count) in [
            ("hashward_tables_failed", "Segments since start whose tables could not be built", faults.tables),
            (
                "hashward_small_pages",
                "Arrays of tables since start for which the kernel refused huge pages",
                faults.small_pages,
            ),
        ] {
            add(name, help, Kind::Counter, one(count as f64));
        }
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_string()),
            ("kernel", metrics.kernel.to_string()),
            ("reactor", metrics.reactor().to_string()),
        ];
        add("hashward_build", "Version, distance kernel and reactor", Kind::Gauge, vec![(build, 1.0)]);
        samples.extend(machine::samples(metrics));
        samples.extend(shards::samples(&metrics.shards));
        samples.extend(turns::samples(&metrics.turns));
        samples.extend(decoders::samples(&metrics.decoders));
        Self(samples)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for sample in &self.0 {
            let counter = ConstCounter::new(0.0);
            let gauge = ConstGauge::new(0.0);
            let kind = match sample.kind {
                Kind::Counter => counter.metric_type(),
                Kind::Gauge => gauge.metric_type(),
            };
            let mut metric = encoder.encode_descriptor(sample.name, sample.help, None::<&Unit>, kind)?;
            for (labels, value) in &sample.rows {
                let row = metric.encode_family(labels)?;
                match sample.kind {
                    Kind::Counter => ConstCounter::new(*value).encode(row)?,
                    Kind::Gauge => ConstGauge::new(*value).encode(row)?,
                }
            }
        }
        Ok(())
    }
}
