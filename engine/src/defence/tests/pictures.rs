//! Honest uploaders of real pictures, where there are any: re-encodes, resizes, crops, brightness, marks. What they do
//! to a hash is what the limits are set by; `--nocapture` shows the figures.

use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use ingest::media::{Limits as DecodeLimits, decode, pdq};

use super::honest::report;
use super::*;

const NAMES: [&str; 8] = [
    "bridge-mods/aaa-orig.jpg",
    "misc-images/c.png",
    "misc-images/wee.jpg",
    "reg-test-input/pen-and-coaster.png",
    "reg-test-input/labelme-subset/q0746.jpg",
    "reg-test-input/labelme-subset/q1050.jpg",
    "reg-test-input/labelme-subset/q2821.jpg",
    "reg-test-input/dih/bridge-2-rotate-90.jpg",
];
/// Longer side of the pictures that are altered: PDQ looks at 64 × 64 samples.
const SIDE: f32 = 300.0;
const FILTERS: [FilterType; 3] = [FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3];

/// The folder of pictures, or a note that there is none.
fn folder(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("HASHWARD_SHARED").map_or(beside, PathBuf::from).join("data/pdq");
    if folder.join(NAMES[0]).is_file() {
        return Some(folder);
    }
    eprintln!("SKIPPED {test}: {} is not there", folder.display());
    if let Some(log) = std::env::var_os("HASHWARD_SKIP_LOG") {
        use std::io::Write;
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "SKIPPED {test}: no shared data").unwrap();
    }
    None
}

fn open(path: &Path) -> RgbImage {
    let picture = decode(&std::fs::read(path).unwrap(), &DecodeLimits::default()).unwrap();
    let picture = RgbImage::from_raw(picture.width(), picture.height(), picture.into_raw()).unwrap();
    let longer = picture.width().max(picture.height()) as f32;
    resized(&picture, (SIDE / longer).min(1.0), FilterType::Lanczos3)
}

fn hash(picture: &RgbImage) -> Hash256 {
    pdq::hash(picture.as_raw(), picture.width() as usize, picture.height() as usize).hash
}

fn jpeg(picture: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(picture).unwrap();
    image::load_from_memory(&bytes).unwrap().to_rgb8()
}

fn resized(picture: &RgbImage, scale: f32, filter: FilterType) -> RgbImage {
    let side = |length: u32| ((length as f32 * scale) as u32).max(32);
    imageops::resize(picture, side(picture.width()), side(picture.height()), filter)
}

fn cropped(picture: &RgbImage, random: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = picture.dimensions();
    let mut part = |length: u32| (length as f32 * random.random_range(0.0..0.03f32)) as u32;
    let (left, top, right, bottom) = (part(width), part(height), part(width), part(height));
    imageops::crop_imm(picture, left, top, width - left - right, height - top - bottom).to_image()
}

/// A line of something like text.
fn marked(mut picture: RgbImage, random: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (line, length) = ((height / 24).max(3), (width as f32 * random.random_range(0.1..0.35f32)) as u32);
    let (left, top) = (random.random_range(0..width - length), random.random_range(0..height - line));
    let shade = if random.random() { 255 } else { 0 };
    for y in top..top + line {
        for x in left..left + length {
            if random.random_bool(0.45) {
                picture.put_pixel(x, y, Rgb([shade; 3]));
            }
        }
    }
    picture
}

fn edited(picture: &RgbImage, random: &mut ChaCha8Rng) -> RgbImage {
    let mut edited = picture.clone();
    if random.random() {
        edited = cropped(&edited, random);
    }
    if random.random() {
        edited = resized(&edited, random.random_range(0.25..1.3), FILTERS[random.random_range(0..3)]);
    }
    if random.random_bool(0.4) {
        edited = imageops::brighten(&edited, random.random_range(-30..31));
    }
    if random.random_bool(0.4) {
        edited = marked(edited, random);
    }
    jpeg(&edited, random.random_range(30..96))
}

/// Uploads, one after another, of pictures that are listed.
fn upload(what: &str, listed: Hash256, uploads: &[Hash256]) {
    let (mut server, warden) = (Server::new(&[listed]), warden());
    let mut distances = Vec::new();
    for (query, at) in uploads.iter().zip(0..) {
        let answer = server.ask(&warden, &[*query], START_MS + at * 1000);
        let answer = answer.unwrap_or_else(|refused| panic!("{what}, upload {at}: {refused}"));
        distances.extend(answer[0]);
    }
    distances.sort_unstable();
    let share = |of: usize| distances.get(distances.len() * of / 100).copied().unwrap_or(0);
    println!(
        "{} of {} hit, half within {}, 95 % within {}",
        distances.len(),
        uploads.len(),
        share(50),
        share(95)
    );
    report(what, &warden);
}

#[test]
fn re_encodes_and_edits_of_real_pictures_freeze_nobody() {
    let Some(folder) = folder("re_encodes_and_edits_of_real_pictures_freeze_nobody") else { return };
    for (name, seed) in NAMES.into_iter().zip(0..) {
        let (picture, random) = (open(&folder.join(name)), &mut random(seed));
        let listed = hash(&picture);
        let qualities: Vec<Hash256> = (30..=95).map(|quality| hash(&jpeg(&picture, quality))).collect();
        upload(&format!("{name}, qualities in order"), listed, &qualities);

        let mut sizes: Vec<Hash256> = (0..70)
            .map(|_| {
                let filter = FILTERS[random.random_range(0..3)];
                let smaller = resized(&picture, random.random_range(0.25..1.3), filter);
                hash(&jpeg(&smaller, random.random_range(30..96)))
            })
            .collect();
        sizes.extend(&qualities);
        sizes.shuffle(random);
        upload(&format!("{name}, re-encodes"), listed, &sizes);

        let mut all: Vec<Hash256> = (0..100).map(|_| hash(&edited(&picture, random))).collect();
        all.extend(sizes);
        all.shuffle(random);
        upload(&format!("{name}, all"), listed, &all);

        let mut copy = picture.clone();
        let copies: Vec<Hash256> = (0..40)
            .map(|_| {
                copy = jpeg(&copy, random.random_range(40..90));
                hash(&copy)
            })
            .collect();
        upload(&format!("{name}, copies of copies"), listed, &copies);
    }
}

#[test]
fn hashes_of_real_pictures_differ_in_an_even_number_of_bits() {
    let Some(folder) = folder("hashes_of_real_pictures_differ_in_an_even_number_of_bits") else { return };
    for name in NAMES {
        let picture = open(&folder.join(name));
        for quality in [40, 60, 80] {
            assert_eq!(super::super::region::bits(&hash(&jpeg(&picture, quality)), &Hash256([0; 32])), 128);
        }
    }
}
