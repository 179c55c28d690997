//! `hashward embeddings`: sets of embeddings in a running server.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ingest::out;
use serde_json::{Value, json};

use super::http::{Api, segment};
use crate::cli::{EmbeddingsArgs, EmbeddingsVerb};

/// Runs the verb; one JSON line per set or answer.
pub fn run(args: EmbeddingsArgs) -> Result<ExitCode> {
    let api = Api::new(&args.server.admin);
    let path = |name: &str| format!("/api/v1/embeddings/{}", segment(name));
    match args.verb {
        EmbeddingsVerb::Import { name, metric, strategy, file } => {
            let input: Box<dyn Read> = if file.as_os_str() == "-" {
                Box::new(io::stdin())
            } else {
                Box::new(File::open(&file).with_context(|| format!("cannot read {}", file.display()))?)
            };
            let how = format!("?metric={}&strategy={}", segment(&metric), segment(&strategy));
            out!("{}", api.put_stream(&(path(&name) + &how), input)?);
        }
        EmbeddingsVerb::List => {
            let sets = api.get("/api/v1/embeddings")?;
            for set in sets.as_array().context("the server's answer is not a list")? {
                out!("{set}");
            }
        }
        EmbeddingsVerb::Show { name } => out!("{}", api.get(&path(&name))?),
        EmbeddingsVerb::Delete { name } => out!("{}", api.delete(&path(&name))?),
        EmbeddingsVerb::Nearest { name, count, exact } => {
            let to = format!("{}/nearest", path(&name));
            for line in io::stdin().lines() {
                let vector: Value = serde_json::from_str(&line?)
                    .context("standard input takes one JSON array of numbers a line")?;
                out!("{}", api.post(&to, &json!({ "vector": vector, "k": count, "exact": exact }))?);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
