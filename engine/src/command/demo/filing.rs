//! The demo's CyberTip: filed to a stand-in for NCMEC, and shown as that received it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::child::{Child, ready};
use super::{say, sibling};
use crate::command::http::Api;

const USER: &str = "demo-esp";
const PASSWORD: &str = "demo-esp-password";
const SHOWN_CHARS_MAX: usize = 120;
const PATIENCE: Duration = Duration::from_secs(60);

/// A running stand-in for NCMEC. Killed when dropped.
pub struct StandIn {
    _child: Child,
    /// Base URL of its interface.
    pub url: String,
    control: Api,
}

impl StandIn {
    /// Starts the one that was built beside this program.
    pub fn start() -> Result<Self> {
        let mut command = Command::new(sibling("ncmec-stand-in")?);
        command.args(["--listen", "127.0.0.1:0", "--user", USER, "--password", PASSWORD, "--quiet"]);
        let (child, ready) = ready(command.stderr(Stdio::inherit()), "the stand-in for NCMEC")?;
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_string();
        Ok(Self { _child: child, url: text("url"), control: Api::new(&format!("http://{}", text("listen"))) })
    }

    /// Its finished reports about a user.
    fn finished(&self, user: &str) -> Result<Vec<i64>> {
        let finished = self.control.get("/control/finished")?;
        Ok(finished[user].as_array().into_iter().flatten().filter_map(Value::as_i64).collect())
    }

    /// That there is exactly one finished report about a user; gives its number.
    pub fn has_one(&self, user: &str) -> Result<i64> {
        let finished = self.finished(user)?;
        ensure!(
            finished.len() == 1,
            "NCMEC has {} reports about {user}, not one: {finished:?}",
            finished.len()
        );
        Ok(finished[0])
    }
}

/// Says for whom is reported, and with which credentials.
pub fn organisation(api: &Api) -> Result<()> {
    let organisation = json!({ "company_name": "Demo Platform", "contact_email": "safety@demo.example",
        "legal_url": "https://demo.example/terms", "more_info_url": "https://demo.example/posts" });
    api.put("/api/v1/organisations/default", &organisation)?;
    let credentials = json!({ "username": USER, "password": PASSWORD, "environment": "test" });
    api.put("/api/v1/organisations/default/credentials", &credentials)?;
    Ok(())
}

/// Waits until the report about a user is filed, and shows it.
pub fn file(ncmec: &StandIn, user: &str) -> Result<()> {
    let begun = Instant::now();
    while ncmec.finished(user)?.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "no report was filed within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = ncmec.has_one(user)?;
    let report = ncmec.control.get(&format!("/control/reports/test/{id}"))?;
    let files = report["files"].as_array().cloned().unwrap_or_default();
    say(&format!(
        "filed {:.1} s later: report {id} at {} (test), {} files",
        begun.elapsed().as_secs_f64(),
        ncmec.url,
        files.len()
    ))?;
    say("its XML, as it came:")?;
    outline(report["xml"].as_str().context("the report has no XML")?)
        .iter()
        .try_for_each(|line| say(&format!("  {line}")))?;
    for file in &files {
        let details =
            file["details"].as_str().with_context(|| format!("no details came for {}", file["name"]))?;
        let class = outline(details).iter().find_map(|line| {
            line.split_once("industryClassification").map(|(_, class)| class.trim().to_string())
        });
        say(&format!(
            "file {:<20} {:>7} bytes, MD5 {}{}",
            file["name"].as_str().unwrap_or(""),
            file["bytes"],
            file["md5"].as_str().unwrap_or(""),
            class.map_or_else(String::new, |class| format!(", class {class}")),
        ))?;
    }
    Ok(())
}

/// An element with a text a line, with the names of those around it.
fn outline(xml: &str) -> Vec<String> {
    let (mut around, mut lines) = (Vec::new(), Vec::new());
    for piece in xml.split('<').skip(1).filter(|piece| !piece.starts_with(['?', '!'])) {
        let (tag, text) = piece.split_once('>').unwrap_or((piece, ""));
        if tag.starts_with('/') {
            around.pop();
            continue;
        }
        around.push(tag.split([' ', '/']).next().unwrap_or(tag));
        if !text.trim().is_empty() {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let (shown, more) = match words.char_indices().nth(SHOWN_CHARS_MAX) {
                Some((at, _)) => (&words[..at], " …"),
                None => (words.as_str(), ""),
            };
            lines.push(format!("{:<52} {shown}{more}", around[1.min(around.len())..].join("/")));
        }
        if tag.ends_with('/') {
            around.pop();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_has_every_text_with_its_place() {
        let xml =
            "<?xml version=\"1.0\"?><report><a x=\"1\"><b>one</b><c/><d>two</d></a><e>three</e></report>";
        let lines: Vec<String> =
            outline(xml).iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["a/b one", "a/d two", "e three"]);
    }
}
