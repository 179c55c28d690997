//! A whole shard on its reactor, without the program around it.

mod turns;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use async_channel::{Sender, bounded, unbounded};
use index::Generation;
use index::bank::{BankOptions, Banks, LoadProgress};
use index::store::{Durability, MemoryStore, WindowLimits};

use super::reactor::Start;
use super::*;
use crate::access::Door;
use crate::config::{Config, Settings};
use crate::defence::Alarms;
use crate::desk;
use crate::disk::Disk;
use crate::ledger::{self, LedgerParts, Receipt};
use crate::recent::Recent;

/// What a shard under test is driven by.
struct Driven {
    start: Start,
    address: std::sync::mpsc::Receiver<io::Result<SocketAddr>>,
    stop: Sender<()>,
    inbox: Sender<Settled>,
}

fn driven() -> Driven {
    let ((bound, address), (stop, stopped), (inbox, settled)) = (sync_channel(1), bounded(1), unbounded());
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Driven { start: Start { listen, cpu: None, bound, stop: stopped, inbox: settled }, address, stop, inbox }
}

fn parts(inbox: Sender<Settled>) -> ShardParts {
    let (banks, _) =
        Banks::load(Arc::new(MemoryStore::default()), BankOptions::default(), &LoadProgress::default())
            .unwrap();
    let (ledger, _) = ledger::start(LedgerParts {
        store: Arc::new(MemoryStore::default()),
        disk: Arc::new(Disk::new(&std::env::temp_dir(), Some(0))),
        durability: Durability::Wal,
        window: WindowLimits::default(),
        desk: desk::channel().0,
        counts: Arc::default(),
    })
    .unwrap();
    ShardParts {
        number: 0,
        shards: 1,
        banks: Arc::new(banks),
        catalog: Arc::default(),
        ledger,
        recent: Recent::none(),
        inbox,
        limits: Config::resolve(Settings::default(), None).unwrap().limits,
        door: Door::new(None, Arc::default(), Alarms::new(1).0),
        counts: Arc::default(),
        kernel: "scalar",
        reactor: "",
    }
}

/// Wakes the shard's tasks often while an accept is pending, then lets a client in.
fn outlives(spawn: impl FnOnce(Start, Box<dyn FnOnce() -> (Shard, Receiver<()>) + Send>)) {
    const WAKES: u64 = 200_000;
    let Driven { start, address, stop, inbox } = driven();
    let parts = parts(inbox.clone());
    spawn(start, Box::new(move || Shard::new(parts, Instant::now())));
    let address = address.recv().unwrap().unwrap();
    for connection in 0..WAKES {
        // For a connection that is gone, so that nothing but the wake-up is left of it.
        let receipt = Receipt {
            generation: Generation(0),
            durability: None,
            first_position: index::Position(0),
            outcomes: Vec::new(),
            replayed: false,
        };
        inbox.try_send(Settled { connection, correlation: 0, outcome: Ok(receipt) }).unwrap();
        if connection % 4 == 0 {
            // One at a time, so that each is a wake-up of its own.
            while !inbox.is_empty() {
                std::thread::yield_now();
            }
        }
    }
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut hello = Vec::new();
    ingest::wire::hello(1, None, &mut hello);
    client.write_all(&hello).unwrap();
    assert!(client.read(&mut [0; 256]).unwrap() > 0, "the shard welcomes a client after {WAKES} wake-ups");
    stop.close();
    // The connection is idle, so the shard drains at once.
    assert_eq!(client.read(&mut [0; 256]).unwrap(), 0);
}

#[test]
fn two_hundred_thousand_wakes_end_no_shard_on_glommio() {
    outlives(|start, make| {
        glommio::spawn("shard-test", start, make).unwrap();
    });
}

#[test]
fn two_hundred_thousand_wakes_end_no_shard_on_epoll() {
    outlives(|start, make| {
        epoll::spawn("shard-test", start, make).unwrap();
    });
}
