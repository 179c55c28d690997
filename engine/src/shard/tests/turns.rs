//! Whose turn it is among the clients of a shard that is driven by hand.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;

use futures_lite::future;
use futures_lite::io::Cursor;
use index::bank::{BankChange, NewContent};
use index::{Hash256, Signal};
use ingest::wire::frame::{PREFIX, Split, split};
use ingest::wire::{Query, Reply, hello, lookup};

use super::super::reactor::{Reactor, accept};
use super::*;
use crate::pace::TOGETHER;

/// Contents with one and the same hash: a query for it takes a good part of a slice.
const DUPLICATES: usize = 20_000;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn same() -> Hash256 {
    Hash256([0x5a; 32])
}

fn shard_with(limits: impl FnOnce(&mut Limits)) -> Shard {
    let mut parts = parts(unbounded().0);
    limits(&mut parts.limits);
    let bank = "DUPLICATES".to_string();
    let content = NewContent { signals: vec![Signal::Pdq(same())], ..NewContent::default() };
    for change in [
        BankChange::Create { name: bank.clone(), enabled_ratio: 1.0 },
        BankChange::Add { bank, contents: vec![content; DUPLICATES] },
    ] {
        parts.banks.apply(vec![change.into()], 0).remove(0).unwrap();
    }
    Shard::new(parts, Instant::now()).0
}

fn send(shard: &mut Shard, id: ConnectionId, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let received = shard.poll_receive(id, |buffer| {
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        });
        let Poll::Ready(Ok(count)) = received else { panic!("{received:?}") };
        bytes = &bytes[count..];
    }
}

fn ask(shard: &mut Shard, id: ConnectionId, hashes: Vec<Hash256>) {
    let mut bytes = Vec::new();
    lookup(1, &Query::pdq(hashes), &mut bytes);
    send(shard, id, &bytes);
}

fn replies(shard: &mut Shard, id: ConnectionId) -> Vec<Reply> {
    let (mut out, mut replies, mut at) = (Vec::new(), Vec::new(), 0);
    shard.take_output(id, &mut out, Instant::now());
    shard.wrote(id, Instant::now());
    while let Split::Frame { end } = split(&out[at..], usize::MAX) {
        replies.push(Reply::decode(&out[at + PREFIX..at + end]).unwrap().1);
        at += end;
    }
    assert_eq!(at, out.len());
    replies
}

fn newcomer(shard: &mut Shard) -> ConnectionId {
    let id = shard.open(Bells::new().0, PEER, Instant::now()).unwrap();
    let mut bytes = Vec::new();
    hello(0, None, &mut bytes);
    send(shard, id, &bytes);
    id
}

/// A connection that was welcomed, and has paid for that by being away.
fn guest(shard: &mut Shard) -> ConnectionId {
    let id = newcomer(shard);
    while shard.serve() == Turn::More {}
    assert!(matches!(replies(shard, id)[..], [Reply::Welcome(_)]));
    std::thread::sleep(Duration::from_millis(5));
    id
}

/// How many hashes of its frame were searched for.
fn searched(shard: &Shard, id: ConnectionId) -> usize {
    shard.connections[&id].work.as_ref().map_or(0, |work| work.done)
}

fn other(at: usize) -> Hash256 {
    Hash256(std::array::from_fn(|byte| (at >> (byte % 2 * 8)) as u8 ^ (byte * 37) as u8))
}

#[test]
fn a_small_lookup_among_duplicates_is_searched_in_slices() {
    let mut shard = shard_with(|_| {});
    let (crowded, neighbour) = (guest(&mut shard), guest(&mut shard));
    ask(&mut shard, crowded, vec![same(); 32]);
    assert_eq!(shard.serve(), Turn::More, "not all of it in one turn");
    assert!(replies(&mut shard, crowded).is_empty());
    ask(&mut shard, neighbour, vec![other(1)]);
    shard.serve();
    assert!(matches!(replies(&mut shard, neighbour)[..], [Reply::Lookup(_)]));
    assert!(replies(&mut shard, crowded).is_empty());
    // Both ways of asking at once: one goes on behind the other.
    ask(&mut shard, crowded, vec![same(); 48]);
    while shard.serve() == Turn::More {}
    let mut answers = replies(&mut shard, crowded);
    answers.sort_by_key(|answer| matches!(answer, Reply::Lookup(answer) if answer.hits.len() == 48));
    for (reply, hashes) in answers.iter().zip([32, 48]) {
        let Reply::Lookup(answer) = reply else { panic!("{reply:?}") };
        assert!(answer.hits.iter().map(|hit| hit.hash).eq(0..hashes), "each hash, in order");
        assert!(answer.hits.iter().all(|hit| hit.total == DUPLICATES as u32));
    }
    assert_eq!(answers.len(), 2);
    let connection = &shard.connections[&crowded];
    assert!(connection.share.is_away() && connection.gathered == 0 && connection.apart.is_empty());
}

#[test]
fn the_first_slice_of_a_frame_is_short_as_well() {
    let mut shard = shard_with(|_| {});
    let crowded = guest(&mut shard);
    ask(&mut shard, crowded, vec![same(); 64]);
    assert_eq!(shard.serve(), Turn::More);
    let work = shard.connections[&crowded].work.as_ref().expect("the frame waits for its next slice");
    assert!(work.done <= 8 && (work.done > 0 || work.interrupted.is_some()), "{} hashes", work.done);
}

#[test]
fn who_asks_little_is_answered_before_a_slice_of_a_backlog() {
    let mut shard = shard_with(|_| {});
    let (busy, neighbour) = (guest(&mut shard), guest(&mut shard));
    ask(&mut shard, busy, (0..4096).map(other).collect());
    assert_eq!((shard.serve(), shard.serve()), (Turn::More, Turn::More));
    let before = searched(&shard, busy);
    assert!(before > 0);
    let newcomer = newcomer(&mut shard);
    shard.serve();
    assert!(matches!(replies(&mut shard, newcomer)[..], [Reply::Welcome(_)]));
    ask(&mut shard, neighbour, vec![other(1)]);
    shard.serve();
    assert!(matches!(replies(&mut shard, neighbour)[..], [Reply::Lookup(_)]));
    assert_eq!(searched(&shard, busy), before, "nobody waited for a slice");
    shard.serve();
    assert!(searched(&shard, busy) > before, "nor does the backlog wait for ever");
}

#[test]
fn a_silent_guest_gives_up_its_place_at_once_and_a_new_one_does_not() {
    let mut shard =
        shard_with(|limits| (limits.connections_max, limits.connections_per_address_max) = (4, 4));
    let guests: Vec<_> = (0..4).map(|_| guest(&mut shard)).collect();
    let now = Instant::now();
    let first = shard.connections[&guests[0]].silent_for(now);
    if first < Duration::from_millis(20) {
        assert!(shard.open(Bells::new().0, PEER, now).is_err(), "all have just come");
    }
    shard.open(Bells::new().0, PEER, now + Duration::from_millis(50)).unwrap();
    let parting: Vec<_> = guests.iter().filter(|id| shard.connections[id].parting).collect();
    assert_eq!(parting, [&guests[0]], "the one that is silent for longest");
}

thread_local! {
    static ACCEPTED: Cell<usize> = const { Cell::new(0) };
}

/// A reactor with a thousand connections that wait to be accepted.
struct Flooded;

impl Reactor for Flooded {
    type Listener = ();
    type Stream = Cursor<Vec<u8>>;
    type Task = ();

    fn bind(_: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    fn address((): &()) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(PEER, 1))
    }

    async fn accept((): &()) -> io::Result<(Self::Stream, IpAddr)> {
        if ACCEPTED.get() >= 1000 {
            future::pending::<()>().await;
        }
        ACCEPTED.set(ACCEPTED.get() + 1);
        Ok((Cursor::new(Vec::new()), PEER))
    }

    async fn sleep(_: Duration) {}

    async fn yield_now() {
        future::yield_now().await;
    }

    fn spawn(_: impl Future<Output = ()> + 'static) {}
}

#[test]
fn a_flood_of_connections_is_accepted_a_few_at_a_time() {
    let shard = Rc::new(RefCell::new(shard_with(|_| {})));
    let mut accepting = pin!(accept::<Flooded>(shard.clone(), Rc::default(), (), bounded(1).1));
    for turn in 1..=10 {
        future::block_on(future::poll_once(&mut accepting));
        assert_eq!(ACCEPTED.get(), turn * TOGETHER);
    }
    assert_eq!(shard.borrow().connections(), 10 * TOGETHER);
}
