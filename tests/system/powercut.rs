//! A power cut: what was acknowledged is on the disk, not only in the page cache.
//!
//! With root: the server runs on an ext4 image of its own, is stopped in mid-flight, and the image file is
//! copied as it lies: what was not synced is not in it, as after a cut. Without root the test is skipped.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use index::RequestId;
use ingest::wire::{Client, ClientOptions, Query};
use rustix::process::Signal;
use tests::{Setup, flipped, skipped};

use crate::banks::random_hashes;

fn shell(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).output().is_ok_and(|output| output.status.success())
}

/// A mounted image; unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(image: &Path, at: &'a Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        shell(&format!("mount -o loop {} {}", image.display(), at.display())).then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        shell(&format!("umount -l {}", self.0.display()));
    }
}

/// Acknowledged requests that are missing after a cut, and how many were acknowledged; `None` if it cannot
/// be tried here.
fn cut(durability: &str) -> Option<(usize, usize)> {
    let folder = tempfile::tempdir().unwrap();
    let (image, copy) = (folder.path().join("disk.img"), folder.path().join("copy.img"));
    let (disk, after) = (folder.path().join("disk"), folder.path().join("after"));
    let made = format!("truncate -s 192M {0} && mkfs.ext4 -q -F {0}", image.display());
    if !shell(&made) {
        return None;
    }
    let mounted = Mounted::new(&image, &disk)?;
    let server = Setup::default().data(&disk.join("data")).flag("--durability", durability).start();
    server.create_bank("B");
    let hashes = random_hashes(51, 16);
    for hash in &hashes {
        server.add_pdq("B", hash);
    }
    // What came before is on the disk either way: the cut is about the Submits.
    assert!(shell("sync"));
    let (address, stop, answered) = (server.listen, AtomicBool::new(false), AtomicUsize::new(0));
    let acknowledged: Vec<RequestId> = thread::scope(|scope| {
        let submitters: Vec<_> = (0..4u64)
            .map(|number| {
                let (hashes, stop, answered) = (&hashes, &stop, &answered);
                scope.spawn(move || {
                    let patience = Duration::from_millis(300);
                    let timeout = Duration::from_millis(500);
                    let mut client =
                        Client::new(address, ClientOptions { patience, timeout, ..Default::default() });
                    let mut acknowledged = Vec::new();
                    for at in 0.. {
                        let request = RequestId::fresh();
                        let hash = flipped(&hashes[at % 16], at % 32, number + 1);
                        if client.submit(request, Query::pdq(vec![hash]), vec![]).is_ok() {
                            acknowledged.push(request);
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(700));
        let deadline = Instant::now() + Duration::from_secs(60);
        while answered.load(Ordering::Relaxed) <= 50 {
            assert!(Instant::now() < deadline, "{}", server.log());
            thread::sleep(Duration::from_millis(10));
        }
        server.signal(Signal::STOP);
        // The copy is what the disk holds at this moment.
        assert!(shell(&format!("cp --sparse=always {} {}", image.display(), copy.display())));
        stop.store(true, Ordering::Relaxed);
        submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()).collect()
    });
    server.signal(Signal::CONT);
    drop(server.kill());
    drop(mounted);

    let mounted = Mounted::new(&copy, &after)?;
    let server = Setup::default().data(&after.join("data")).start();
    let hits = server.pages("/api/v1/hits");
    let there: BTreeSet<String> =
        hits.iter().map(|hit| hit["request"].as_str().unwrap().to_string()).collect();
    let missing = acknowledged.iter().filter(|request| !there.contains(&request.to_string())).count();
    let routed = server.routed().iter().map(|(_, entries)| entries.len()).sum::<usize>();
    assert_eq!(routed, hits.len(), "every hit that is there is routed once");
    drop(server.kill());
    drop(mounted);
    Some((missing, acknowledged.len()))
}

#[test]
fn an_acknowledged_hit_survives_a_power_cut_and_the_test_can_fail() {
    let test = "an_acknowledged_hit_survives_a_power_cut_and_the_test_can_fail";
    let Some((missing, acknowledged)) = cut("sync") else {
        return skipped(test, "no loop mount here (needs root, e2fsprogs)");
    };
    assert_eq!(missing, 0, "of {acknowledged}");
    println!("durability sync: {missing} of {acknowledged} acknowledged Submits missing after the cut");

    // The same with syncing off, which answers 'wal' and promises less: the test must see the loss.
    let (missing, acknowledged) = cut("wal").expect("it worked a moment ago");
    println!("durability wal: {missing} of {acknowledged} acknowledged Submits missing after the cut");
    assert!(missing > 0, "nothing was lost without syncing: this test proves nothing");
}
