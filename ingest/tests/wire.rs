//! The protocol: what goes in comes out, and nothing that comes in can do harm.
#![allow(clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use index::store::Durability;
use index::{BankId, Digest, Generation, Hash256, Position, RequestId, SignalType, UploadContext};
use ingest::wire::frame::{PREFIX, Split, split};
use ingest::wire::{
    Client, ClientError, ClientOptions, ErrorCode, Hashes, HitRef, Match, Query, Receipt, Replies, Reply,
    Request, RequestView, Rows, Welcome, hello, parse, probe,
};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-zA-Z0-9:/. é]{0,40}")
}

fn context() -> impl Strategy<Value = UploadContext> {
    (text(), text(), text(), text(), prop::option::of(1u64..), text()).prop_map(
        |(item_id, item_type, creator, url, created_at_ms, ip)| UploadContext {
            item_id,
            item_type,
            creator,
            url,
            created_at_ms,
            ip,
            tenant: None,
            arrival: None,
        },
    )
}

fn query() -> impl Strategy<Value = Query> {
    let of_fixed_length = SignalType::EXACT.into_iter().filter_map(|kind| Some((kind, kind.bytes()?)));
    let hashes = prop_oneof![
        prop::collection::vec(any::<[u8; 32]>().prop_map(Hash256), 1..40).prop_map(Hashes::Pdq),
        (
            prop::sample::select(of_fixed_length.collect::<Vec<_>>()),
            prop::collection::vec(any::<[u8; 32]>(), 1..40)
        )
            .prop_map(|((kind, length), digests)| {
                let digest = |bytes: &[u8; 32]| Digest::new(&bytes[..length]).unwrap();
                Hashes::Exact(kind, digests.iter().map(digest).collect())
            },),
    ];
    (hashes, any::<bool>(), any::<u64>()).prop_map(|(hashes, numbered, first)| {
        let upload_ids = if numbered {
            (0..hashes.len() as u64).map(|at| first.wrapping_add(at)).collect()
        } else {
            vec![]
        };
        Query { hashes, threshold: None, upload_ids }
    })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        query().prop_map(Request::Lookup),
        (query(), any::<bool>(), prop::collection::vec(prop::option::of(context()), 40)).prop_map(
            |(query, retry, told)| {
                let contexts = told.into_iter().take(query.hashes.len()).enumerate();
                let contexts = contexts.filter_map(|(at, told)| Some((at as u32, told?))).collect();
                Request::Submit { request: RequestId::fresh(), retry, query, contexts }
            }
        ),
    ]
}

fn message(frame: &[u8]) -> &[u8] {
    assert_eq!(split(frame, 1 << 20), Split::Frame { end: frame.len() });
    &frame[PREFIX..]
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_sent(request in request(), correlation: u64) {
        let mut frame = Vec::new();
        request.encode(correlation, &mut frame);
        let (arrived, view) = parse(message(&frame), 64).unwrap();
        prop_assert_eq!(arrived, correlation);
        let (query, view) = match (&request, view) {
            (Request::Lookup(query), RequestView::Lookup(view)) => (query, view),
            (Request::Submit { request, retry, query, contexts }, RequestView::Submit(view)) => {
                prop_assert_eq!((view.request, view.retry), (*request, *retry));
                for hash in 0..query.hashes.len() as u32 {
                    let told = contexts.iter().find(|(at, _)| *at == hash).map(|(_, told)| told.clone());
                    prop_assert_eq!(view.item_type(hash), told.as_ref().and_then(|told| told.item_type.as_deref()));
                    prop_assert_eq!(view.context(hash), told.unwrap_or_default());
                }
                (query, view.query)
            }
            other => panic!("{other:?}"),
        };
        match &query.hashes {
            Hashes::Pdq(hashes) => {
                let mut copy = Vec::new();
                view.append_pdq(&mut copy);
                prop_assert_eq!((view.signal_type, &copy), (SignalType::Pdq, hashes));
            }
            Hashes::Exact(kind, hashes) => {
                let mut copy = Vec::new();
                view.copy_digests(&mut copy);
                prop_assert_eq!((view.signal_type, &copy), (*kind, hashes));
            }
        }
        for at in 0..view.len() {
            prop_assert_eq!(view.upload_id(at), query.upload_ids.get(at).copied().unwrap_or(0));
        }
    }

    #[test]
    fn a_spoilt_request_is_an_error_never_a_panic(request in request(), at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let mut frame = Vec::new();
        request.encode(7, &mut frame);
        probe::requests(&frame[..cut.index(frame.len())]);
        let place = at.index(frame.len());
        frame[place] = value;
        probe::requests(&frame);
        probe::requests(&frame[PREFIX..]);
    }

    #[test]
    fn an_answer_arrives_as_it_was_sent(
        hits in prop::collection::vec((0u16..129, 0u8..4, 1usize..5), 0..20),
        generation: u64, position: u64, replayed: bool, correlation: u64,
        at: prop::sample::Index, value: u8,
    ) {
        let (mut refs, mut rows) = (Vec::new(), Vec::new());
        for (hash, (distance, verdict, count)) in hits.iter().enumerate() {
            refs.push(HitRef::new(hash as u32, rows.len() as u32, *count as u32, *count as u32 + 1, *verdict));
            rows.extend((0..*count).map(|at| Match::new(at as u64, 1 + at as u32 % 2, *distance)));
        }
        let banks = [(BankId(1), "ONE"), (BankId(2), "TWO")];
        let sent = Rows { generation: Generation(generation), hits: &refs, matches: &rows, banks: &banks };
        let receipt = Receipt { durability: Some(Durability::Sync), first_position: Position(position), replayed };
        let mut frame = Vec::new();
        Replies::default().submit(correlation, sent, receipt, &mut frame);
        let (arrived, reply) = Reply::decode(message(&frame)).unwrap();
        let Reply::Submit(answer, said) = reply else { panic!("{reply:?}") };
        prop_assert_eq!((arrived, said, answer.generation.0, answer.hits.len()), (correlation, receipt, generation, hits.len()));
        for (hit, (distance, verdict, count)) in answer.hits.iter().zip(&hits) {
            prop_assert_eq!((hit.verdict, hit.matches.len(), hit.total as usize), (*verdict, *count, count + 1));
            prop_assert!(hit.matches.iter().all(|found| found.distance.bits() == *distance));
            prop_assert_eq!(hit.matches[0].bank_name.as_str(), "ONE");
        }
        let place = at.index(frame.len());
        frame[place] = value;
        probe::replies(&frame);
    }
}

#[test]
fn the_fuzzers_corpus_does_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let mut replayed = 0;
    for (folder, probe) in [("request", probe::requests as fn(&[u8])), ("reply", probe::replies)] {
        for entry in std::fs::read_dir(corpus.join(folder)).unwrap() {
            probe(&std::fs::read(entry.unwrap().path()).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed >= 8, "only {replayed} files");
}

/// What a bad server does with its n-th connection.
#[derive(Clone, Copy)]
enum Mood {
    Hangup,
    Garbage,
    HalfAnswer,
    Busy,
    Answer,
}

fn next_frame(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut prefix = [0; 4];
    socket.read_exact(&mut prefix).ok()?;
    let mut message = vec![0; u32::from_le_bytes(prefix) as usize];
    socket.read_exact(&mut message).ok()?;
    Some(message)
}

#[test]
fn a_client_asks_again_under_the_same_id_until_it_knows() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let moods = [Mood::Hangup, Mood::Garbage, Mood::HalfAnswer, Mood::Busy, Mood::Answer];
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        for mood in moods {
            let (mut socket, _) = listener.accept().unwrap();
            let mut replies = Replies::default();
            let mut out = Vec::new();
            next_frame(&mut socket).unwrap();
            replies.welcome(0, &Welcome::default(), &mut out);
            socket.write_all(&out).unwrap();
            while let Some(message) = next_frame(&mut socket) {
                let Ok((correlation, RequestView::Submit(submit))) = parse(&message, 10) else {
                    panic!("a Submit")
                };
                seen.push((submit.request, submit.retry));
                out.clear();
                let rows = Rows { generation: Generation(1), hits: &[], matches: &[], banks: &[] };
                let receipt = Receipt { durability: None, first_position: Position(0), replayed: false };
                match mood {
                    Mood::Hangup => break,
                    Mood::Garbage => out.extend_from_slice(&[9, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
                    Mood::HalfAnswer => {
                        replies.submit(correlation, rows, receipt, &mut out);
                        out.truncate(out.len() / 2);
                    }
                    Mood::Busy => {
                        replies.busy(correlation, Duration::from_millis(1), &mut out);
                        socket.write_all(&out).unwrap();
                        // The same connection is used again.
                        next_frame(&mut socket).unwrap();
                        break;
                    }
                    Mood::Answer => replies.submit(correlation, rows, receipt, &mut out),
                }
                socket.write_all(&out).unwrap();
                if !matches!(mood, Mood::Answer) {
                    break;
                }
            }
        }
        seen
    });
    let mut client = Client::new(address, ClientOptions::default());
    let request = RequestId::fresh();
    let (answer, _) = client.submit(request, Query::pdq(vec![Hash256([1; 32])]), vec![]).unwrap();
    assert_eq!(answer.generation, Generation(1));
    drop(client);
    let seen = server.join().unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|(id, _)| *id == request));
    assert!(!seen[0].1 && seen[1..].iter().all(|(_, retry)| *retry), "every repeat is marked");
}

#[test]
fn a_client_without_a_server_gives_up_in_time_and_says_unknown() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = ClientOptions { patience: Duration::from_millis(150), ..ClientOptions::default() };
    let error = Client::new(port, options).lookup(Query::pdq(vec![Hash256([1; 32])])).unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains("unknown"), "{error}");
}

#[test]
fn an_error_says_what_is_wrong_and_survives_the_wire() {
    let mut frame = Vec::new();
    hello(4, Some("t"), &mut frame);
    assert!(matches!(parse(message(&frame), 1), Ok((4, RequestView::Hello { version: 1, token: "t" }))));
    let error = parse(&[0; 20], 1).unwrap_err();
    assert_eq!(error.code, ErrorCode::bad_frame);
    let mut out = Vec::new();
    Replies::default().error(&error, false, &mut out);
    let (_, Reply::Error(refusal)) = Reply::decode(message(&out)).unwrap() else { panic!("an error") };
    assert_eq!((refusal.code, refusal.message), (error.code, error.message));
}

/// Writes the corpus anew from valid frames: `cargo test -p ingest --test wire seeds -- --ignored`.
#[test]
#[ignore = "writes files"]
fn seeds_of_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let write = |folder: &str, name: &str, bytes: &[u8]| {
        std::fs::write(corpus.join(folder).join(name), bytes).unwrap()
    };
    let mut hi = Vec::new();
    hello(1, Some("token"), &mut hi);
    write("request", "hello", &hi);
    let query =
        Query { upload_ids: vec![5, 6], threshold: Some(31), ..Query::pdq(vec![Hash256([7; 32]); 2]) };
    let told =
        UploadContext { item_id: Some("i".into()), ip: Some("::1".into()), ..UploadContext::default() };
    for (name, request) in [
        ("lookup", Request::Lookup(query.clone())),
        ("md5", Request::Lookup(Query::exact(SignalType::VideoMd5, vec![Digest::new(&[3; 16]).unwrap()]))),
        (
            "submit",
            Request::Submit { request: RequestId::fresh(), retry: true, query, contexts: vec![(1, told)] },
        ),
    ] {
        let mut frame = Vec::new();
        request.encode(2, &mut frame);
        write("request", name, &frame);
        write("request", &format!("{name}-cut"), &frame[..frame.len() - 9]);
    }
    let mut replies = Replies::default();
    let rows = Rows {
        generation: Generation(9),
        hits: &[HitRef::new(0, 0, 1, 1, 2)],
        matches: &[Match::new(4, 1, 30)],
        banks: &[(BankId(1), "B")],
    };
    let receipt =
        Receipt { durability: Some(Durability::Sync), first_position: Position(1), replayed: false };
    let mut frames = [const { Vec::new() }; 4];
    replies.welcome(1, &Welcome::default(), &mut frames[0]);
    replies.lookup(2, rows, &mut frames[1]);
    replies.submit(3, rows, receipt, &mut frames[2]);
    replies.busy(4, Duration::from_millis(5), &mut frames[3]);
    for (name, frame) in ["welcome", "lookup", "submit", "busy"].iter().zip(&frames) {
        write("reply", name, frame);
    }
}
