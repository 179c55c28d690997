//! Routes for development, served with `--dev` only: they destroy and invent data.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use index::bank::{BankChange, BankRequest, NewContent};
use index::{Hash256, Signal};
use serde_json::Map;

use super::super::cases::blocking;
use super::Admin;
use super::answer::{Answer, Fault, redirect};
use super::banks::change;
use crate::access::Caller;
use crate::exchanges::{Exchange, Exchanges};

/// Where HMA sends a browser afterwards.
const NEXT: &str = "/ui/exchanges";
/// Banks and hashes of `seed_banks`, as in HMA.
const SEEDS: [&str; 2] = ["SEED_BANK_0", "SEED_BANK_1"];
const SEED_HASHES: usize = 10_000;

/// `POST /dev/run_fetch`: fetches every exchange; answers when that is done.
pub async fn run_fetch(State(admin): State<Arc<Admin>>) -> Answer {
    let exchanges = admin.loaded()?.exchanges.clone();
    blocking(move || {
        exchanges.fetch_now();
        Ok::<_, Fault>(())
    })
    .await?;
    Ok(redirect(NEXT))
}

/// `POST /dev/factory_reset`: no bank and no exchange is left.
pub async fn factory_reset(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer {
    let loaded = admin.loaded()?;
    for bank in loaded.banks.state_owned().directory.list() {
        change(&admin, &caller, &headers, BankChange::Delete { name: bank.name.to_string() }).await?;
    }
    let exchanges = loaded.exchanges.clone();
    blocking(move || {
        for name in exchanges.names()? {
            exchanges.forget(&name)?;
        }
        Ok::<_, Fault>(())
    })
    .await?;
    Ok(redirect(NEXT))
}

/// `POST /dev/setup_sample_example`: an exchange that needs no network.
pub async fn setup_sample(State(admin): State<Arc<Admin>>) -> Answer {
    let name = "SAMPLE".to_string();
    let exchange =
        Exchange { api: "sample".into(), enabled: true, config: Map::new(), status: Default::default() };
    let beside = Exchanges::row(&name, &exchange);
    let request = BankRequest { beside, ..BankChange::Create { name, enabled_ratio: 1.0 }.into() };
    admin.loaded()?.curator.change(request).await?;
    Ok(redirect(NEXT))
}

/// `POST /dev/seed_banks`: two banks of ten thousand hashes in all, the same ones every time.
pub async fn seed_banks(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Answer {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut word = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    for name in SEEDS {
        change(&admin, &caller, &headers, BankChange::Create { name: name.to_string(), enabled_ratio: 1.0 })
            .await?;
        let content = |_| {
            let mut bytes = [0; 32];
            bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word().to_be_bytes()));
            NewContent { signals: vec![Signal::Pdq(Hash256(bytes))], ..NewContent::default() }
        };
        let contents = (0..SEED_HASHES / SEEDS.len()).map(content).collect();
        change(&admin, &caller, &headers, BankChange::Add { bank: name.to_string(), contents }).await?;
    }
    Ok(redirect(NEXT))
}
