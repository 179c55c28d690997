//! The reader: from a picture near a listed one to the listed hash, by asking. Without a warden it gets there in 257
//! questions where distances are told and in 290 where only hits are; with one it is stopped before the 64th.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const RUNS: u64 = 200;
const STOPPED_BEFORE: usize = 64;

/// What one reader does.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Distances are told; else only hits.
    distances: bool,
    /// A one and a zero are altered together, so that there are as many ones as zeroes still.
    pairs: bool,
    /// Order of the bits.
    order: Order,
    /// Questions in a frame.
    frame: usize,
    /// Other frames of the same key between two of its own.
    between: usize,
    /// Time between its frames.
    pause_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Up,
    Down,
    Shuffled,
}

const PLAIN: Way =
    Way { distances: true, pairs: false, order: Order::Up, frame: 1, between: 0, pause_ms: 50 };

struct Reader<'s> {
    way: Way,
    server: &'s mut Server,
    warden: Option<Arc<Warden>>,
    ordinary: Ordinary,
    answered: usize,
    now_ms: u64,
}

impl Reader<'_> {
    fn ask(&mut self, queries: &[Hash256]) -> Result<Vec<Option<u16>>, Refused> {
        let free = warden();
        let warden = self.warden.as_ref().unwrap_or(&free);
        for _ in 0..self.way.between {
            let frame = self.ordinary.frame(24);
            self.server.ask(warden, &frame, self.now_ms)?;
        }
        self.now_ms += self.way.pause_ms;
        let answer = self.server.ask(warden, queries, self.now_ms)?;
        self.answered += queries.len();
        Ok(answer)
    }

    fn hits(&mut self, query: Hash256) -> Result<bool, Refused> {
        Ok(self.ask(&[query])?[0].is_some())
    }

    /// The bits, or pairs of a one and a zero of `hash`, in order.
    fn steps(&self, hash: &Hash256, random: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
        let mut positions: Vec<usize> = (0..256).collect();
        match self.way.order {
            Order::Up => {}
            Order::Down => positions.reverse(),
            Order::Shuffled => positions.shuffle(random),
        }
        if !self.way.pairs {
            return positions.into_iter().map(|position| vec![position]).collect();
        }
        let (ones, zeroes): (Vec<usize>, Vec<usize>) =
            positions.into_iter().partition(|position| bit(hash, *position));
        ones.into_iter().zip(zeroes).map(|(one, zero)| vec![one, zero]).collect()
    }

    /// Reads; the hash it ends with is the listed one where bits are altered one by one.
    fn read(&mut self, start: Hash256, random: &mut ChaCha8Rng) -> Result<Hash256, Refused> {
        let mut edge = start;
        let mut told = self.ask(&[start])?[0].expect("it starts near a listed hash");
        if !self.way.distances {
            // To where one more wrong bit is too many.
            for step in self.steps(&start, random) {
                let further = flipped(&edge, &step);
                if !self.hits(further)? {
                    break;
                }
                edge = further;
            }
            told = 31;
        }
        let steps = self.steps(&edge, random);
        let mut read = edge;
        for frame in steps.chunks(self.way.frame) {
            let queries: Vec<Hash256> = frame.iter().map(|step| flipped(&edge, step)).collect();
            for (step, answer) in frame.iter().zip(self.ask(&queries)?) {
                let nearer =
                    if self.way.distances { answer.is_some_and(|now| now < told) } else { answer.is_some() };
                if nearer {
                    read = flipped(&read, step);
                }
            }
        }
        Ok(read)
    }
}

/// A bank, a listed hash of it and a hash `distance` bits away with as many ones as zeroes, if that can be.
fn place(banked: &[Hash256], distance: usize, random: &mut ChaCha8Rng) -> (Hash256, Hash256) {
    let target = banked[random.random_range(0..banked.len())];
    let mut positions: Vec<usize> = (0..256).collect();
    positions.shuffle(random);
    let (ones, zeroes): (Vec<usize>, Vec<usize>) = positions.into_iter().partition(|at| bit(&target, *at));
    let mut altered: Vec<usize> =
        ones[..distance / 2].iter().chain(&zeroes[..distance / 2]).copied().collect();
    altered.extend((distance % 2 == 1).then_some(ones[200 % ones.len()]));
    (target, flipped(&target, &altered))
}

fn banked(random: &mut ChaCha8Rng) -> Vec<Hash256> {
    (0..300).map(|_| some_hash(random)).collect()
}

/// The most questions answered in any of the runs.
fn most_answered(way: Way) -> usize {
    let random = &mut random(way.frame as u64 + 1000 * way.between as u64);
    let banked = banked(random);
    let mut server = Server::new(&banked);
    let mut most = 0;
    for run in 0..RUNS {
        let (_, start) = place(&banked, run as usize % 32, random);
        let warden = warden();
        let ordinary = Ordinary { random: super::random(run), listed: banked.clone() };
        let mut reader = Reader {
            way,
            server: &mut server,
            warden: Some(warden.clone()),
            ordinary,
            answered: 0,
            now_ms: START_MS,
        };
        let end = reader.read(start, random);
        assert!(matches!(end, Err(Refused::Frozen { .. })), "{way:?}, run {run}: {end:?}");
        assert!(warden.is_frozen());
        assert!(reader.answered < STOPPED_BEFORE, "{way:?}, run {run}: {} answered", reader.answered);
        most = most.max(reader.answered);
    }
    println!("most answered: {most} ({way:?})");
    most
}

#[test]
fn without_a_warden_the_reader_gets_the_hash() {
    let random = &mut random(1);
    let banked = banked(random);
    let mut server = Server::new(&banked);
    for run in 0..64usize {
        for (distances, most) in [(true, 257), (false, 330)] {
            let (target, start) = place(&banked, run % 32, random);
            let way = Way { distances, order: Order::Shuffled, ..PLAIN };
            let ordinary = Ordinary { random: super::random(1), listed: banked.clone() };
            let mut reader =
                Reader { way, server: &mut server, warden: None, ordinary, answered: 0, now_ms: START_MS };
            assert_eq!(reader.read(start, random), Ok(target), "run {run}");
            assert!(reader.answered <= most, "run {run}: {}", reader.answered);
        }
    }
}

#[test]
fn one_by_one_it_is_stopped() {
    for distances in [true, false] {
        for pairs in [false, true] {
            for order in [Order::Up, Order::Down, Order::Shuffled] {
                most_answered(Way { distances, pairs, order, ..PLAIN });
            }
        }
    }
}

#[test]
fn in_frames_it_is_stopped_and_a_frame_of_everything_yields_nothing() {
    for pairs in [false, true] {
        for distances in [true, false] {
            for frame in [5, 16, 256] {
                most_answered(Way { distances, pairs, frame, order: Order::Shuffled, ..PLAIN });
            }
        }
        let at_once = most_answered(Way { pairs, frame: 256, ..PLAIN });
        assert_eq!(at_once, 1, "only the first question, which is a picture's");
    }
}

#[test]
fn among_other_traffic_of_the_same_key_it_is_stopped() {
    for pairs in [false, true] {
        for distances in [true, false] {
            most_answered(Way { distances, pairs, between: 3, order: Order::Shuffled, ..PLAIN });
        }
    }
}

#[test]
fn over_hours_and_days_it_is_stopped() {
    for pairs in [false, true] {
        for pause_ms in [900_000, 3_600_000, 20 * 3_600_000] {
            most_answered(Way { pairs, pause_ms, between: 1, order: Order::Shuffled, ..PLAIN });
            most_answered(Way { pairs, pause_ms, distances: false, order: Order::Shuffled, ..PLAIN });
        }
    }
}

#[test]
fn on_several_shards_at_once_it_is_stopped() {
    let random = &mut random(5);
    let banked = banked(random);
    for run in 0..RUNS as usize {
        let (_, start) = place(&banked, run % 32, random);
        let (warden, answered) = (warden(), AtomicUsize::new(0));
        let admitted = |query: Hash256, now_ms| {
            let near = banked.iter().zip(1..).map(|(hash, at)| (hash.distance(&query), ContentId(at)));
            let hit = near.filter(|(distance, _)| distance.bits() <= 31).min();
            let matched = hit.map(|(distance, content)| Matched { query: 0, content, distance });
            warden.admit(&[query], matched.into_iter(), now_ms).is_ok()
        };
        assert!(admitted(start, START_MS));
        std::thread::scope(|shards| {
            for shard in 0..4 {
                let (answered, admitted) = (&answered, &admitted);
                shards.spawn(move || {
                    for position in (shard..256).step_by(4) {
                        if !admitted(flipped(&start, &[position]), START_MS) {
                            break;
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(warden.is_frozen(), "run {run}");
        assert!(answered.into_inner() < STOPPED_BEFORE, "run {run}");
    }
}

#[test]
fn measuring_with_many_bits_at_once_is_stopped_by_what_it_covers() {
    // Altering 16 bits at a time, far from each other: no question is near another.
    let random = &mut random(6);
    let banked = banked(random);
    let mut server = Server::new(&banked);
    for run in 0..RUNS as usize {
        let (_, start) = place(&banked, run % 12, random);
        let (warden, mut answered) = (warden(), 0);
        let mut positions: Vec<usize> = (0..256).collect();
        loop {
            positions.shuffle(random);
            if server.ask(&warden, &[flipped(&start, &positions[..16])], START_MS).is_err() {
                break;
            }
            answered += 1;
            assert!(answered < STOPPED_BEFORE, "run {run}");
        }
    }
}

#[test]
fn a_pair_of_questions_around_a_new_place_each_time_is_stopped() {
    // Each bit is asked around a place of its own, so that no place has many neighbours.
    let random = &mut random(7);
    let banked = banked(random);
    let mut server = Server::new(&banked);
    for run in 0..RUNS as usize {
        let (_, start) = place(&banked, run % 12, random);
        let (warden, mut answered) = (warden(), 0);
        let mut positions: Vec<usize> = (0..256).collect();
        for position in 0..256 {
            positions.shuffle(random);
            let place = flipped(&start, &positions[..14]);
            if server.ask(&warden, &[place], START_MS).is_err()
                || server.ask(&warden, &[flipped(&place, &[position])], START_MS).is_err()
            {
                break;
            }
            answered += 2;
        }
        assert!(warden.is_frozen() && answered < STOPPED_BEFORE, "run {run}: {answered}");
    }
}
