//! `hashward check`: whether what a stopped server has stored is what it wrote. Nothing is written, and no server is asked.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use index::store::{Database, HeldDir, RocksStore, StoreOptions};
use reporter::audit::{Heads, Verdict, verify};

use crate::audit::{HEADS_FILE, KEY_FILE, is_genuine, public_file, read_public};
use crate::cli::Check;
use crate::config::DATA_DIR;

/// Checks the audit log; 0 if it is sound, 1 if not.
pub fn run(args: Check) -> Result<ExitCode> {
    if !args.audit {
        bail!("say what is to be checked: --audit, the audit log");
    }
    let folder = args.data_dir.unwrap_or_else(|| DATA_DIR.into());
    let held = HeldDir::open(&folder)?;
    let store = RocksStore::read(held.path(), Database::Case, StoreOptions::default())?;
    let Some(file) = open_heads(args.heads.as_deref(), &folder)? else {
        let nothing = &mut std::iter::empty();
        return Ok(told(&verify(&store, nothing, &|_, _| false)?));
    };
    let key_file = args.public_key.clone().unwrap_or_else(|| public_file(&folder.join(KEY_FILE)));
    let key = read_public(&key_file).with_context(|| format!("public key {}", key_file.display()))?;
    if args.public_key.is_none() {
        eprintln!(
            "hashward: the key is the one in the data directory: --public-key takes a copy that nobody there can change"
        );
    }
    let mut heads = Heads::new(BufReader::new(file));
    let verdict = verify(&store, &mut heads, &|bytes, signature| is_genuine(&key, bytes, signature))?;
    if heads.torn() {
        println!(
            "audit: the last line of the heads file was cut while it was written; it counts as not there"
        );
    }
    Ok(told(&verdict))
}

/// The heads file; none if nobody named one and there is none.
fn open_heads(named: Option<&Path>, folder: &Path) -> Result<Option<File>> {
    let usual = folder.join(HEADS_FILE);
    let path = named.unwrap_or(&usual);
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            eprintln!("hashward: there is no {}: --heads says where it is", path.display());
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("heads file {}", path.display())),
    }
}

fn told(verdict: &Verdict) -> ExitCode {
    let Verdict { records, signed, fault, bad_line, .. } = verdict;
    if let Some(bad_line) = bad_line {
        println!("audit: {bad_line}");
    }
    if let Some(fault) = fault {
        println!("audit: {fault}");
    }
    let (state, code) = match verdict.is_sound() {
        true => ("sound", ExitCode::SUCCESS),
        false => ("NOT sound", ExitCode::from(1)),
    };
    let signed = match signed {
        Some(head) => format!(
            "last signed head {} at {} ms, {} after it",
            head.number,
            head.at_ms,
            records.saturating_sub(head.number)
        ),
        None => "no signed head: a log that was cut or written anew would not be seen".to_string(),
    };
    println!("audit: {records} records, {signed}: {state}");
    code
}
