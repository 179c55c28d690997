//! `hashward check`: whether what a stopped server has stored is what it wrote. Nothing is written, and no server is asked.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use index::store::{Database, HeldDir, Range, RocksStore, StoreOptions, salvage};
use ingest::{note, out};
use reporter::audit::{Heads, Hex, Proof, Proven, Unproven, Verdict, signing_reached, verify};

use crate::audit::{AuditKey, HEADS_FILE, KEY_FILE, is_genuine, public_file, read_public};
use crate::boot::KEY_FILE as SECRETS;
use crate::cli::Check;
use crate::config::DATA_DIR;
use crate::damage::Part;
use crate::sealed::Seal;
use crate::secrets::{DataKey, KeyFile};

/// Checks what the flags ask for, and without one the rows and the audit log; 0 if everything is sound, 1 if not. A part
/// that cannot be checked does not keep the others from it, and its error is the command's.
pub fn run(args: Check) -> Result<ExitCode> {
    let folder = args.data_dir.clone().unwrap_or_else(|| DATA_DIR.into());
    let all = !args.rows && !args.audit && args.audit_proof.is_none();
    let parts = [
        (args.rows || all).then(|| rows(&args, &folder)),
        (args.audit || all).then(|| log(&args, &folder)),
        args.audit_proof.as_deref().map(|file| proof(&args, &folder, file)),
    ];
    let (mut sound, mut failed) = (true, None);
    for part in parts.into_iter().flatten() {
        match part {
            Ok(is_sound) => sound &= is_sound,
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) => note!("hashward: {error:#}"),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(1) }),
    }
}

/// Reads every row of both databases, and opens those that are sealed.
fn rows(args: &Check, folder: &Path) -> Result<bool> {
    let held = HeldDir::open(folder)?;
    let key_file = args.key_file.clone().unwrap_or_else(|| folder.join(SECRETS));
    let wrap = Arc::new(KeyFile::open(&key_file, Some("the databases"))?);
    let key = DataKey::open(held.path(), wrap, Some("the databases"))?;
    let seal = Seal::new(Arc::new(key))?;
    let (mut read, mut parts) = (0u64, 0u64);
    for database in [Database::Bank, Database::Case] {
        let plain = Arc::new(RocksStore::read(held.path(), database, StoreOptions::default())?);
        let store = seal.over(plain);
        for space in database.keyspaces() {
            let visit = &mut |_: &[u8], _: &[u8]| {
                read += 1;
                ControlFlow::Continue(())
            };
            salvage(&*store, space, Range::ALL, visit, &mut |lost| {
                parts += 1;
                say(&Part::of(space, lost));
            })?;
        }
    }
    match parts {
        0 => out!("rows: {read} read, all as they were written: sound"),
        _ => out!("rows: {read} read, {parts} parts do not: NOT sound; restore a backup that has them"),
    }
    Ok(parts == 0)
}

fn say(part: &Part) {
    let Part { keyspace, one_row, from, to, reason } = part;
    let end = to.as_deref().unwrap_or("the end");
    match one_row {
        true => out!("rows: '{keyspace}' row {from}: {reason}"),
        false => out!("rows: '{keyspace}' from {from} to {end}: {reason}"),
    }
}

fn log(args: &Check, folder: &Path) -> Result<bool> {
    let held = HeldDir::open(folder)?;
    let own = folder.join(KEY_FILE);
    if own.exists()
        && let Err(error) = AuditKey::check(&own)
    {
        out!("audit: {error}: NOT sound; the server does not start with it");
        return Ok(false);
    }
    let store = RocksStore::read(held.path(), Database::Case, StoreOptions::default())?;
    let Some(file) = open_heads(args.heads.as_deref(), folder)? else {
        let verdict = verify(&store, &mut std::iter::empty(), &|_, _| false)?;
        return Ok(told(&verdict, heads_gone(&store, &verdict)?));
    };
    let key = public_key(args, folder)?;
    let mut heads = Heads::new(BufReader::new(file));
    let verdict = verify(&store, &mut heads, &|bytes, signature| is_genuine(&key, bytes, signature))?;
    if heads.torn() {
        out!("audit: the last line of the heads file was cut while it was written; it counts as not there");
    }
    // A crash may have cut the first head that there ever was.
    let heads_gone = if heads.torn() { None } else { heads_gone(&store, &verdict)? };
    Ok(told(&verdict, heads_gone))
}

/// The record up to which the log was made ready to be signed, if there is no head at all.
fn heads_gone(store: &RocksStore, verdict: &Verdict) -> Result<Option<u64>> {
    let signed = signing_reached(store)?;
    Ok((verdict.heads == 0 && verdict.bad_line.is_none() && signed > 0).then_some(signed))
}

fn proof(args: &Check, folder: &Path, file: &Path) -> Result<bool> {
    let text = fs::read(file).with_context(|| format!("proof {}", file.display()))?;
    let proof: Proof = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no answer of GET /api/v1/audit/proof", file.display()))?;
    let Some(heads) = open_heads(args.heads.as_deref(), folder)? else {
        bail!("a proof is held against signed heads: --heads says where your copy of them is");
    };
    let key = public_key(args, folder)?;
    let genuine = |bytes: &[u8], signature: &_| is_genuine(&key, bytes, signature);
    match proof.check(&mut Heads::new(BufReader::new(heads)), &genuine) {
        Ok(Proven::Included { number, head, body }) => {
            let body = body.unwrap_or_else(|| "what it says is not told".to_string());
            out!(
                "audit: record {number} is in the log of {} records that was signed at {} ms: {body}: proven",
                head.number,
                head.at_ms
            );
            Ok(true)
        }
        Ok(Proven::Consistent { earlier, later }) => {
            out!(
                "audit: the log of {} records that was signed at {} ms begins with that of {} records that was signed at {} \
                 ms: proven",
                later.number,
                later.at_ms,
                earlier.number,
                earlier.at_ms
            );
            Ok(true)
        }
        Err(nothing @ Unproven::NoHead { .. }) => Err(nothing.into()),
        Err(error) => {
            out!("audit: {error}: NOT proven");
            Ok(false)
        }
    }
}

/// The key that heads are signed with.
fn public_key(args: &Check, folder: &Path) -> Result<Hex<32>> {
    let key_file = args.public_key.clone().unwrap_or_else(|| public_file(&folder.join(KEY_FILE)));
    let key = read_public(&key_file).with_context(|| format!("public key {}", key_file.display()))?;
    if args.public_key.is_none() {
        note!(
            "hashward: the key is the one in the data directory: --public-key takes a copy that nobody there can change"
        );
    }
    Ok(key)
}

/// The heads file; none if nobody named one and there is none.
fn open_heads(named: Option<&Path>, folder: &Path) -> Result<Option<File>> {
    let usual = folder.join(HEADS_FILE);
    let path = named.unwrap_or(&usual);
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            note!("hashward: there is no {}: --heads says where it is", path.display());
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("heads file {}", path.display())),
    }
}

/// Prints what was found; whether it is sound.
fn told(verdict: &Verdict, heads_gone: Option<u64>) -> bool {
    let Verdict { records, signed, fault, bad_line, .. } = verdict;
    if let Some(bad_line) = bad_line {
        out!("audit: {bad_line}");
    }
    if let Some(fault) = fault {
        out!("audit: {fault}");
    }
    if let Some(record) = heads_gone {
        out!(
            "audit: the log was signed up to record {record}, but there is no signed head: the heads file was deleted, \
             emptied or moved away; --heads says where it or your copy of it is"
        );
    }
    let is_sound = verdict.is_sound() && heads_gone.is_none();
    let state = if is_sound { "sound" } else { "NOT sound" };
    let signed = match signed {
        Some(head) => format!(
            "last signed head {} at {} ms, {} after it",
            head.number,
            head.at_ms,
            records.saturating_sub(head.number)
        ),
        None => "no signed head: a log that was cut or written anew would not be seen".to_string(),
    };
    out!("audit: {records} records, {signed}: {state}");
    is_sound
}
