//! `hashward admin create`: the first admin, and one more where nobody can log in any more. Works on the data directory
//! itself, while no server has it open: whoever may write there may do everything anyway.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ingest::{note, out};
use reporter::access::{self, Person, PersonWanted, Role};
use reporter::audit::{self, Entry};
use reporter::{At, Tx};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use crate::access::password;
use crate::boot;
use crate::cli::{AdminArgs, AdminVerb};
use crate::clock::now_ms;
use crate::config::{Config, Settings};

/// Makes an admin; one who is there already becomes an admin with this password.
pub fn run(args: AdminArgs) -> Result<ExitCode> {
    let AdminVerb::Create { name, password_file, data_dir, key_file } = args.verb;
    let settings = Settings { data_dir: Some(data_dir), key_file, ..Settings::default() };
    let config = Config::resolve(settings, None)?;
    let given = json!(name);
    let name = At::new(&given, "NAME").login()?;
    let given = read_password(password_file.as_deref())?;
    password::check(&given, &name)?;
    let (store, _owned) = boot::open_cases_alone(&config)?;
    let mut tx = Tx::new(&*store);
    let wanted = PersonWanted {
        role: Some(Role::Admin),
        password: Some(password::hash(&given)?),
        disabled: Some(false),
        ..PersonWanted::default()
    };
    let known = access::person(&tx, &name).is_ok();
    if known {
        access::change_person(&mut tx, &name, wanted)?;
    } else {
        access::add_person(&mut tx, &wanted.applied(Person::new(name.clone(), now_ms())))?;
    }
    let entry = Entry {
        who: "command".to_string(),
        action: "people.add_admin".to_string(),
        about: format!("person {name}"),
        details: json!({ "known": known }),
        child_safety: false,
    };
    audit::append(&mut tx, entry, now_ms())?;
    let batch = tx.into_batch();
    store.commit(batch, config.durability)?;
    out!("{name} is an admin{}: log in on the admin port", if known { " with a new password" } else { "" });
    Ok(ExitCode::SUCCESS)
}

/// The password: a file's first line, or what is typed, or piped in. Never an argument: those are visible to every process.
fn read_password(file: Option<&Path>) -> Result<String> {
    let mut line = String::new();
    if let Some(file) = file {
        line = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    } else {
        let stdin = std::io::stdin();
        let hidden = stdin.is_terminal().then(|| tcgetattr(&stdin)).transpose()?;
        if let Some(shown) = &hidden {
            std::io::stderr().write_all(b"Password: ")?;
            let mut silent = shown.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        }
        let read = stdin.lock().read_line(&mut line);
        if let Some(shown) = &hidden {
            tcsetattr(&stdin, OptionalActions::Flush, shown)?;
            note!("");
        }
        read?;
    }
    let password = line.lines().next().unwrap_or_default();
    if password.is_empty() {
        bail!("no password was given: type one, pipe one in, or name a --password-file");
    }
    Ok(password.to_string())
}
