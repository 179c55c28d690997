//! `hashward rekey`: the keys of a stopped server's data under another key file.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use index::store::DataDir;
use ingest::{note, out};
use reporter::Tx;
use reporter::audit::{self, Entry};
use serde_json::json;

use crate::boot;
use crate::cli::RekeyArgs;
use crate::clock::now_ms;
use crate::config::{Config, Settings};
use crate::rekey;
use crate::secrets::{KeyFile, Wrap};

/// Wraps everything under the new key file; the audit log says when that began and when it was done.
pub fn run(args: RekeyArgs) -> Result<ExitCode> {
    let settings = Settings { data_dir: Some(args.data_dir), key_file: args.key_file, ..Settings::default() };
    let mut config = Config::resolve(settings, None)?;
    let under_way = rekey::is_under_way(&config.data_dir);
    let old_path = config.key_file.clone().unwrap_or_else(|| config.data_dir.join(boot::KEY_FILE));
    let old: Arc<dyn Wrap> = Arc::new(KeyFile::open(&old_path, Some("this data directory"))?);
    // A new key is made once: half of the keys may be under it already.
    let needs = under_way.then_some("a part of this data directory's keys");
    let new: Arc<dyn Wrap> = Arc::new(KeyFile::open(&args.new_key_file, needs)?);
    let shown = args.new_key_file.display();
    rekey::differ(&*old, &*new)?;
    if rekey::is_done(&config.data_dir, &new) {
        out!("everything is under {shown} already");
        return Ok(ExitCode::SUCCESS);
    }
    let owned = match under_way {
        true => DataDir::open(&config.data_dir)?,
        false => record(&config, "key_file.change_begun")?,
    };
    let done = rekey::rekey(&config.data_dir, &old, &new)?;
    drop(owned);
    config.key_file = Some(args.new_key_file.clone());
    record(&config, "key_file.changed")?;
    out!(
        "{} pieces of evidence, {} credentials and the data key are under {shown} now: start the server with --key-file \
         {shown}, and keep the old file as long as backups of before",
        done.evidence,
        done.credentials
    );
    for id in &done.broken {
        note!(
            "the key of evidence {id} opens with neither file: restore {id}.key from a backup, and run this again"
        );
    }
    Ok(if done.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts it on record; the data directory stays ours while what is given lives.
fn record(config: &Config, action: &str) -> Result<DataDir> {
    let (store, owned) = boot::open_cases_alone(config)?;
    let mut tx = Tx::new(&*store);
    let entry = Entry {
        who: "command".to_string(),
        action: action.to_string(),
        about: "the key file".to_string(),
        details: json!({}),
        child_safety: false,
    };
    audit::append(&mut tx, entry, now_ms())?;
    let batch = tx.into_batch();
    store.commit(batch, config.durability)?;
    Ok(owned)
}
