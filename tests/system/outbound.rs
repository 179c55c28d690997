//! Whom the program calls: those an operator has named, and nobody else. Every connection that it opens is written down
//! by a shim under its C library.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use reporter::cyber_tipline::Environment;
use serde_json::{Value, json};
use tests::{Ncmec, Platform, Setup, skipped};

use crate::banks::random_hashes;
use crate::filing;
use crate::items::{describe, hashed, png, post, rule, send, settled};

/// Writes `address port` of every connection to a file.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int connect(int fd, const struct sockaddr *to, socklen_t length) {
  static int (*real)(int, const struct sockaddr *, socklen_t);
  char line[128] = "", name[INET6_ADDRSTRLEN] = "";
  if (!real) real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
  if (to->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    inet_ntop(AF_INET, &in->sin_addr, name, sizeof name);
    snprintf(line, sizeof line, "%s %d\n", name, ntohs(in->sin_port));
  } else if (to->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)to;
    inet_ntop(AF_INET6, &in->sin6_addr, name, sizeof name);
    snprintf(line, sizeof line, "%s %d\n", name, ntohs(in->sin6_port));
  } else {
    snprintf(line, sizeof line, "family %d\n", to->sa_family);
  }
  const char *file = getenv("CONNECTIONS");
  int log = file ? open(file, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
  if (log >= 0) { (void)!write(log, line, strlen(line)); close(log); }
  return real(fd, to, length);
}
"#;

/// The shim, and where it writes; none without a C compiler.
fn watch(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let (source, shim, log) = (folder.join("s.c"), folder.join("s.so"), folder.join("connections"));
    fs::write(&source, SHIM).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
    built.is_ok_and(|status| status.success()).then_some((shim, log))
}

/// Whom it called.
fn called(log: &Path) -> BTreeSet<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_string).collect()
}

/// As the shim writes it.
fn line(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}

#[test]
fn check_26_a_report_goes_to_the_one_cybertipline_and_to_nobody_else() {
    let test = "check_26_a_report_goes_to_the_one_cybertipline_and_to_nobody_else";
    for production in [false, true] {
        let (ncmec, platform, folder) = (Ncmec::start(), Platform::start(), tempfile::tempdir().unwrap());
        let Some((shim, log)) = watch(folder.path()) else { return skipped(test, "no C compiler") };
        let setup = filing::setup(&ncmec).env("LD_PRELOAD", shim.display()).env("CONNECTIONS", log.display());
        let (setup, environment) = match production {
            true => (setup.env("NCMEC_ENV", "production"), Environment::Production),
            false => (setup, Environment::Test),
        };
        let server = setup.start();
        filing::set_up(&server, &platform, environment);
        let (info, preservation) = (platform.url("info"), platform.url("preserve"));
        filing::organisation(
            &server,
            json!({ "additional_info_url": info, "preservation_url": preservation }),
        );
        filing::decide(&server, &platform, "u1");
        filing::filed(&server, 1);
        if production {
            platform.wait("/preserve", 1);
        }
        drop(server.stop());
        let url = if production { ncmec.production_url() } else { ncmec.url() };
        let host = url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
        assert_eq!(called(&log), BTreeSet::from([line(platform.address), line(host)]));
    }
}

#[test]
fn nobody_is_called_whom_an_operator_has_not_named() {
    let test = "nobody_is_called_whom_an_operator_has_not_named";
    let folder = tempfile::tempdir().unwrap();
    let Some((shim, log)) = watch(folder.path()) else { return skipped(test, "no C compiler") };
    let platform = Platform::start();
    let server = Setup::default()
        .flag("--fetch-allow", "127.0.0.1/32")
        .flag("--signing-key-file", Platform::key_file().display())
        .flag("--content-safety-url", platform.url(""))
        .env("HASHWARD_CONTENT_SAFETY_KEY", "key")
        .env("LD_PRELOAD", shim.display())
        .env("CONNECTIONS", log.display())
        .start();
    describe(&server);
    server.create_bank("KNOWN");
    let hash = random_hashes(51, 1)[0];
    server.add_pdq("KNOWN", &hash);
    // Everything that calls somebody: media, the classifier, a webhook, the platform; and an enqueue to NCMEC, with which
    // Coop tells a third party the suspect's name (specs/coop.md 2.2).
    server.http.put("/api/v1/webhooks/platform", &json!({ "url": platform.url("hook") }));
    server.http.put("/api/v1/settings", &json!({ "partial_items_url": platform.url("partial") }));
    let actions = json!([{ "enqueue_ncmec": {} }, { "webhook": { "name": "platform" } }]);
    rule(&server, "csam", json!({ "kind": "proactive", "banks": ["KNOWN"], "actions": actions }));
    let novel = json!({ "content_safety": { "at_least": "HIGH" } });
    rule(&server, "novel", json!({ "kind": "proactive", "when": novel, "actions": actions }));
    platform.classify_as("VERY_HIGH");
    let picture = platform.put("picture", "image/png", &png(5));
    send(
        &server,
        &[
            post("1", "u", json!({ "gallery": [hashed(&hash)] })),
            post("2", "", json!({ "gallery": [hashed(&hash)] })),
            post("3", "w", json!({ "cover": picture })),
        ],
    );
    settled(&server);
    platform.wait("/hook", 3);
    let job = server.http.post("/api/v1/queues/ncmec/next", &json!({ "reviewer": "anna" })).1;
    let media: Vec<Value> = (1..=job["media"].as_u64().unwrap())
        .map(|number| json!({ "media": number, "classification": "Unclassified" }))
        .collect();
    let decision = json!({ "decision": "report", "lease": job["lease"]["token"], "revision": job["revision"],
        "incident_type": "Child Sex Tourism", "media": media });
    assert_eq!(server.http.post(&format!("/api/v1/jobs/{}/decision", job["id"]), &decision).0, 200);
    drop(server.stop());
    assert_eq!(called(&log), BTreeSet::from([line(platform.address)]));
}
