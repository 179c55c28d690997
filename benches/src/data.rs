//! Banks and questions for `make bench-peers`, made from seeds and written as raw files that any program
//! can read: ours and the peers', so that all answer the same.
//!
//! `hashes.bin` and `queries.bin`, `misses.bin`: 32 bytes a hash. `truth.bin`: (query, hash, distance) as
//! little-endian u32, ascending. `meta.json` is written last: a folder without it is made again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use index::Hash256;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{pictures, truth};

/// A new number makes all files again.
const VERSION: u32 = 1;
/// Distinct questions: their tables' lines do not stay in a cache between two rounds.
const QUERIES: usize = 16_384;
/// Questions that brute force answers at sizes where all would take minutes.
const CHECKED_BIG: usize = 2_048;
/// From this size on.
const BIG: usize = 5_000_000;
/// Bits within which a hash must be found.
pub const THRESHOLD: u32 = 31;

/// What a bank is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dataset {
    /// Every bit of every hash by chance.
    Uniform,
    /// A tenth of the hashes in 100 clusters, up to 6 bits from their centre.
    Clustered,
    /// A twentieth of the hashes share all but 24 bits.
    LowEntropy,
    /// PDQ hashes of drawn pictures in eight turns each, and near copies of real ones.
    Images,
}

/// What the files hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of the recipe.
    pub version: u32,
    /// Hashes.
    pub n: usize,
    /// Questions that `truth.bin` answers: the first so many.
    pub checked: usize,
    /// Planted hits among those.
    pub planted: usize,
    /// Real pictures' hashes that went in.
    pub real: usize,
}

/// The files of one bank.
pub struct Files(PathBuf);

impl Files {
    /// In this folder.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_path_buf())
    }

    /// Their description.
    pub fn meta(&self) -> Result<Meta> {
        let text = fs::read_to_string(self.path("meta.json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// One of the files of hashes.
    pub fn hashes(&self, name: &str) -> Result<Vec<Hash256>> {
        let bytes = fs::read(self.path(name)).with_context(|| self.missing(name))?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        ensure!(rest.is_empty(), "{} is cut off; remove the folder and run again", self.path(name).display());
        Ok(hashes.iter().copied().map(Hash256).collect())
    }

    /// (query, hash, distance), ascending.
    pub fn truth(&self) -> Result<Vec<[u32; 3]>> {
        let bytes = fs::read(self.path("truth.bin")).with_context(|| self.missing("truth.bin"))?;
        let (words, _) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().copied().map(u32::from_le_bytes).collect();
        Ok(words.as_chunks::<3>().0.to_vec())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn missing(&self, name: &str) -> String {
        format!("no {}: run `hashward-peers make` for this folder", self.path(name).display())
    }

    fn write(&self, name: &str, hashes: &[Hash256]) -> Result<()> {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        fs::write(self.path(name), bytes).with_context(|| format!("writing {}", self.path(name).display()))
    }
}

/// Makes the files unless they are there.
pub fn make(dataset: Dataset, n: usize, folder: &Path, shared: &Path) -> Result<Meta> {
    ensure!(n > 0 && u32::try_from(n).is_ok(), "{n} hashes: 1 to 4 294 967 295 can be asked for");
    let files = Files::at(folder);
    if let Ok(meta) = files.meta()
        && meta.version == VERSION
        && meta.n == n
    {
        return Ok(meta);
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut random = ChaCha8Rng::seed_from_u64(n as u64 ^ ((dataset as u64) << 56));
    let (bank, real) = bank(dataset, n, shared, &mut random)?;
    let (queries, planted) = questions(dataset, &bank, &mut random);
    let misses: Vec<Hash256> = (0..QUERIES).map(|_| uniform(&mut random)).collect();
    let checked = if n >= BIG { CHECKED_BIG } else { QUERIES };
    let truth = truth::brute_force(&bank, &queries[..checked], THRESHOLD);
    let planted: Vec<_> = planted.into_iter().filter(|hit| (hit[0] as usize) < checked).collect();
    for hit in &planted {
        ensure!(truth.binary_search(hit).is_ok(), "brute force misses the planted hit {hit:?}");
    }
    files.write("hashes.bin", &bank)?;
    files.write("queries.bin", &queries)?;
    files.write("misses.bin", &misses)?;
    let bytes: Vec<u8> = truth.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(files.path("truth.bin"), bytes)?;
    let meta = Meta { version: VERSION, n, checked, planted: planted.len(), real };
    fs::write(files.path("meta.json"), serde_json::to_string(&meta)?)?;
    Ok(meta)
}

/// The hashes, in random order, and how many real ones they are drawn from.
fn bank(dataset: Dataset, n: usize, shared: &Path, random: &mut ChaCha8Rng) -> Result<(Vec<Hash256>, usize)> {
    let mut bank = Vec::with_capacity(n);
    let mut real = Vec::new();
    match dataset {
        Dataset::Uniform => {}
        Dataset::Clustered => {
            let centres: Vec<Hash256> = (0..100).map(|_| uniform(random)).collect();
            for at in 0..n / 10 {
                let bits = random.random_range(0..=6);
                bank.push(flip(&centres[at % centres.len()], bits, random));
            }
        }
        Dataset::LowEntropy => {
            let (base, mask) = (uniform(random), flip(&Hash256([0; 32]), 24, random));
            for _ in 0..n / 20 {
                let free = uniform(random);
                bank.push(Hash256(std::array::from_fn(|at| base.0[at] ^ (free.0[at] & mask.0[at]))));
            }
        }
        Dataset::Images => {
            real = pictures::real_hashes(shared)?;
            for _ in 0..if real.is_empty() { 0 } else { n / 10 } {
                let bits = random.random_range(0..=12);
                bank.push(flip(&real[random.random_range(0..real.len())], bits, random));
            }
            pictures::drawn(n - bank.len(), random.random(), &mut bank);
        }
    }
    while bank.len() < n {
        bank.push(uniform(random));
    }
    for at in (1..n).rev() {
        bank.swap(at, random.random_range(0..=at));
    }
    Ok((bank, real.len()))
}

/// Nine misses in ten, a quarter of them planted just beyond the threshold; hits at every distance, a
/// quarter of them right at it. Returns the planted hits beside: (query, hash, distance).
fn questions(dataset: Dataset, bank: &[Hash256], random: &mut ChaCha8Rng) -> (Vec<Hash256>, Vec<[u32; 3]>) {
    let mut strangers = Vec::new();
    if dataset == Dataset::Images {
        pictures::drawn(QUERIES, random.random(), &mut strangers);
    }
    let mut planted = Vec::new();
    let queries = (0..QUERIES)
        .map(|query| {
            let place = random.random_range(0..bank.len());
            if random.random_bool(0.1) {
                let bits =
                    if random.random_bool(0.25) { THRESHOLD } else { random.random_range(0..=THRESHOLD) };
                planted.push([query as u32, place as u32, bits]);
                flip(&bank[place], bits as usize, random)
            } else if random.random_bool(0.25) {
                flip(&bank[place], random.random_range(32..=35), random)
            } else {
                strangers.get(query).copied().unwrap_or_else(|| uniform(random))
            }
        })
        .collect();
    (queries, planted)
}

fn uniform(random: &mut ChaCha8Rng) -> Hash256 {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Hash256(bytes)
}

/// A hash with exactly so many bits flipped.
fn flip(hash: &Hash256, bits: usize, random: &mut ChaCha8Rng) -> Hash256 {
    let mut order: [u8; 256] = std::array::from_fn(|bit| bit as u8);
    let mut flipped = *hash;
    for at in 0..bits {
        order.swap(at, random.random_range(at..256));
        flipped.0[usize::from(order[at]) / 8] ^= 1 << (order[at] % 8);
    }
    flipped
}
