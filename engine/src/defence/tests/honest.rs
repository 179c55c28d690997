//! Honest uploaders, simulated: pictures that spread, in as many variants as people make. Nobody is frozen.
//!
//! A picture is 256 values, and its hash says which are above their median; a variant has noise on each. So the bits
//! near the median are the undecided ones, as with pictures. How much noise: as much as makes the distances of real
//! re-encodes (median 14 bits, one in twenty 28; `pictures` has the real ones).

use super::*;

type Values = [f32; 256];

fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (radius, turn): (f32, f32) = (random.random_range(f32::EPSILON..1.0), random.random());
    (-2.0 * radius.ln()).sqrt() * (turn * std::f32::consts::TAU).cos()
}

fn picture(random: &mut ChaCha8Rng) -> Values {
    std::array::from_fn(|_| normal(random))
}

fn variant(picture: &Values, noise: f32, random: &mut ChaCha8Rng) -> Values {
    picture.map(|value| value + noise * normal(random))
}

fn hash(values: &Values) -> Hash256 {
    let mut sorted = *values;
    sorted.sort_unstable_by(f32::total_cmp);
    let above: Vec<usize> = (0..256).filter(|at| values[*at] > sorted[127]).collect();
    flipped(&Hash256([0; 32]), &above)
}

/// Noise of an upload: mostly re-encodes, some edits.
fn noise(random: &mut ChaCha8Rng) -> f32 {
    match random.random_range(0..10) {
        0..5 => random.random_range(0.002..0.05),
        5..8 => random.random_range(0.05..0.2),
        _ => random.random_range(0.2..0.4),
    }
}

#[test]
fn a_day_of_uploads_with_pictures_that_spread_freezes_nobody() {
    for seed in 0..12 {
        let random = &mut random(seed);
        let pictures: Vec<Values> = (0..200).map(|_| picture(random)).collect();
        let listed: Vec<Hash256> = pictures.iter().map(hash).collect();
        let mut server = Server::new(&listed);
        let warden = warden();
        let (mut hits, mut now_ms) = (0, START_MS);
        for _ in 0..700 {
            now_ms += 120_000;
            let query = |random: &mut ChaCha8Rng| match random.random_range(0..16) {
                // Three pictures are everywhere today.
                0..4 => hash(&variant(&pictures[random.random_range(0..3)], noise(random), random)),
                4..6 => hash(&variant(&pictures[random.random_range(3..200)], noise(random), random)),
                6 => listed[random.random_range(0..200)],
                _ => hash(&picture(random)),
            };
            let frame: Vec<Hash256> = (0..16).map(|_| query(random)).collect();
            let answer = server.ask(&warden, &frame, now_ms);
            let answer = answer.unwrap_or_else(|refused| panic!("seed {seed}: {refused}"));
            hits += answer.iter().flatten().count();
        }
        assert!(hits > 2500, "seed {seed}: {hits} hits");
        report(&format!("spread {seed}"), &warden);
    }
}

#[test]
fn thousands_of_slight_variants_of_one_picture_freeze_nobody() {
    // Each kind of slight noise by itself, from far fewer bits than usual to as many: no other uploads hide anything.
    for (seed, noise) in
        (0..24u64).flat_map(|seed| [0.005, 0.01, 0.02, 0.03, 0.05, 0.08].map(|noise| (seed, noise)))
    {
        let random = &mut random(seed);
        let base = picture(random);
        let mut server = Server::new(&[hash(&base)]);
        let warden = warden();
        for at in 0..2500 {
            let query = hash(&variant(&base, noise, random));
            let answer = server.ask(&warden, &[query], START_MS + at * 30_000);
            answer.unwrap_or_else(|refused| panic!("seed {seed}, noise {noise}: {refused}"));
        }
        report(&format!("slight {noise} {seed}"), &warden);
    }
}

#[test]
fn copies_of_copies_freeze_nobody() {
    for seed in 0..100 {
        let random = &mut random(seed);
        let mut values = picture(random);
        let mut server = Server::new(&[hash(&values)]);
        let warden = warden();
        for at in 0..80 {
            let answer = server.ask(&warden, &[hash(&values)], START_MS + at * 30_000);
            answer.unwrap_or_else(|refused| panic!("seed {seed}, copy {at}: {refused}"));
            values = variant(&values, 0.02, random);
        }
        report(&format!("copies {seed}"), &warden);
    }
}

#[test]
fn the_same_upload_any_number_of_times_freezes_nobody() {
    let random = &mut random(1);
    let listed: Vec<Hash256> = (0..50).map(|_| some_hash(random)).collect();
    let mut server = Server::new(&listed);
    let warden = warden();
    for at in 0..20_000u64 {
        let query = flipped(&listed[at as usize % 50], &[3, 77, at as usize % 5 * 2 + 100]);
        assert!(server.ask(&warden, &[query], START_MS + at).is_ok(), "upload {at}");
    }
}

/// How near the busiest content came to the limits; shown with `--nocapture`.
pub fn report(what: &str, warden: &Warden) {
    let figures = warden.figures();
    let most = |at: usize| figures.iter().map(|figures| figures[at]).max().unwrap_or(0);
    println!("{what}: members {}, flips {}, steps {}, cover {}", most(0), most(1), most(2), most(3));
}
