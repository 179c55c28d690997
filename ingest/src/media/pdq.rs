//! PDQ: a 256-bit perceptual hash of a picture with a quality from 0 to 100.
//!
//! Luma → two passes of a box filter in each direction → 64 × 64 samples → the 16 × 16 lowest frequencies of
//! their cosine transform → one bit each: above the median or not. The published algorithm; sums are taken
//! in single precision and in the reference's order, so that the same pixels give the same bits.
//!
//! Pixels are RGB, 8 bits a channel. Alpha is dropped, not blended, as HMA's hasher does; a palette is
//! resolved and CMYK converted first, so that the picture is hashed as people see it (HMA hashes palette
//! indices and raw CMYK channels, which match nothing but themselves).

use std::f64::consts::PI;
use std::sync::OnceLock;

use index::Hash256;

/// Samples in each direction.
const SIDE: usize = 64;
/// Frequencies in each direction.
const BANDS: usize = 16;
/// Passes of the box filter.
const PASSES: usize = 2;
/// A picture narrower or lower than this has nothing to hash: all bits 0, quality 0.
const SIDE_MIN: usize = 5;
/// Below this quality a hash says too little to be matched on (HMA's and NCMEC's line).
pub const QUALITY_MIN: u8 = 50;

/// A picture's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pdq {
    /// The hash.
    pub hash: Hash256,
    /// How much there was to hash: 0 for a plain area, 100 for a picture rich in edges.
    pub quality: u8,
}

/// Ways to turn or mirror a picture, in the order of [`dihedral`].
pub const TURNS: [&str; 8] =
    ["original", "rotate90", "rotate180", "rotate270", "flip_x", "flip_y", "flip_plus1", "flip_minus1"];

/// Hashes `width × height` RGB pixels, rows from top to bottom.
pub fn hash(rgb: &[u8], width: usize, height: usize) -> Pdq {
    let (bands, quality) = transform(rgb, width, height);
    Pdq { hash: bits(&bands), quality }
}

/// The hashes a picture has when it is turned or mirrored in each of eight ways ([`TURNS`]).
pub fn dihedral(rgb: &[u8], width: usize, height: usize) -> ([Hash256; 8], u8) {
    let (bands, quality) = transform(rgb, width, height);
    let turned = |transpose: bool, negative: fn(usize, usize) -> bool| {
        let mut turned = [[0.0; BANDS]; BANDS];
        for (i, row) in bands.iter().enumerate() {
            for (j, band) in row.iter().enumerate() {
                let value = if negative(i, j) { -band } else { *band };
                if transpose { turned[j][i] = value } else { turned[i][j] = value }
            }
        }
        bits(&turned)
    };
    let hashes = [
        turned(false, |_, _| false),
        turned(true, |_, j| j % 2 == 0),
        turned(false, |i, j| (i + j) % 2 == 1),
        turned(true, |i, _| i % 2 == 0),
        turned(false, |i, _| i % 2 == 0),
        turned(false, |_, j| j % 2 == 0),
        turned(true, |_, _| false),
        turned(true, |i, j| (i + j) % 2 == 1),
    ];
    (hashes, quality)
}

type Bands = [[f32; BANDS]; BANDS];
type Samples = [[f32; SIDE]; SIDE];

fn transform(rgb: &[u8], width: usize, height: usize) -> (Bands, u8) {
    if width < SIDE_MIN || height < SIDE_MIN {
        return ([[0.0; BANDS]; BANDS], 0);
    }
    let mut luma = luma(rgb, width, height);
    if (width, height) != (SIDE, SIDE) {
        for _ in 0..PASSES {
            blur_rows(&mut luma, width, window(width));
            blur_columns(&mut luma, width, window(height));
        }
    }
    let samples = sample(&luma, width, height);
    (cosines(&samples), quality(&samples))
}

fn luma(rgb: &[u8], width: usize, height: usize) -> Vec<f32> {
    let (pixels, _) = rgb.as_chunks::<3>();
    let luma =
        |[r, g, b]: &[u8; 3]| (f64::from(*r) * 0.299 + f64::from(*g) * 0.587 + f64::from(*b) * 0.114) as f32;
    pixels[..width * height].iter().map(luma).collect()
}

/// Width of the box: about half the distance of two samples.
fn window(length: usize) -> usize {
    length.div_ceil(2 * SIDE)
}

/// How a box of `window` values moves over `length` of them: how many it takes in before it gives out the
/// first mean, and while it grows, slides and shrinks.
struct Slide {
    silent: usize,
    growing: usize,
    sliding: usize,
    shrinking: usize,
}

impl Slide {
    fn new(length: usize, window: usize) -> Self {
        let half = window.midpoint(2);
        Slide { silent: half - 1, growing: window - half + 1, sliding: length - window, shrinking: half - 1 }
    }
}

fn blur_rows(values: &mut [f32], width: usize, window: usize) {
    let slide = Slide::new(width, window);
    let mut means = vec![0.0; width];
    for row in values.chunks_exact_mut(width) {
        let (mut sum, mut held) = (0.0f32, 0.0f32);
        let (mut enter, mut leave, mut out) = (0, 0, 0);
        for _ in 0..slide.silent {
            sum += row[enter];
            held += 1.0;
            enter += 1;
        }
        for _ in 0..slide.growing {
            sum += row[enter];
            held += 1.0;
            means[out] = sum / held;
            enter += 1;
            out += 1;
        }
        for _ in 0..slide.sliding {
            sum += row[enter];
            sum -= row[leave];
            means[out] = sum / held;
            enter += 1;
            leave += 1;
            out += 1;
        }
        for _ in 0..slide.shrinking {
            sum -= row[leave];
            held -= 1.0;
            means[out] = sum / held;
            leave += 1;
            out += 1;
        }
        row.copy_from_slice(&means);
    }
}

/// The same down the columns, all columns at a time: memory is read in order, and each column's sums are
/// taken in the same order as a row's. Rows still needed as they were are kept in a ring.
fn blur_columns(values: &mut [f32], width: usize, window: usize) {
    let height = values.len() / width;
    let slide = Slide::new(height, window);
    let mut sums = vec![0.0f32; width];
    let ring_rows = window + 1;
    let mut ring = vec![0.0f32; ring_rows * width];
    let mut held = 0.0f32;
    let (mut enter, mut leave, mut out) = (0, 0, 0);
    let steps = slide.silent + slide.growing + slide.sliding + slide.shrinking;
    for step in 0..steps {
        let entering = step < slide.silent + slide.growing + slide.sliding;
        let leaving = step >= slide.silent + slide.growing;
        if entering {
            let row = &values[enter * width..(enter + 1) * width];
            let kept = enter % ring_rows * width;
            ring[kept..kept + width].copy_from_slice(row);
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            enter += 1;
        }
        if leaving {
            let kept = leave % ring_rows * width;
            sums.iter_mut().zip(&ring[kept..kept + width]).for_each(|(sum, value)| *sum -= value);
            leave += 1;
        }
        match (entering, leaving) {
            (true, false) => held += 1.0,
            (false, true) => held -= 1.0,
            _ => {}
        }
        if step >= slide.silent {
            let row = &mut values[out * width..(out + 1) * width];
            row.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean = sum / held);
            out += 1;
        }
    }
}

fn sample(luma: &[f32], width: usize, height: usize) -> Samples {
    let place = |at: usize, length: usize| ((at as f64 + 0.5) * length as f64 / SIDE as f64) as usize;
    let mut samples = [[0.0; SIDE]; SIDE];
    for (i, row) in samples.iter_mut().enumerate() {
        let from = place(i, height) * width;
        for (j, sample) in row.iter_mut().enumerate() {
            *sample = luma[from + place(j, width)];
        }
    }
    samples
}

/// The reference's measure: whole hundredths of the differences between neighbours, summed.
fn quality(samples: &Samples) -> u8 {
    let step = |a: f32, b: f32| (((a - b) * 100.0) / 255.0) as i32;
    let mut sum = 0;
    for i in 0..SIDE {
        for j in 0..SIDE {
            if i + 1 < SIDE {
                sum += step(samples[i][j], samples[i + 1][j]).abs();
            }
            if j + 1 < SIDE {
                sum += step(samples[i][j], samples[i][j + 1]).abs();
            }
        }
    }
    (sum / 90).min(100) as u8
}

fn cosines(samples: &Samples) -> Bands {
    static WAVES: OnceLock<[[f32; SIDE]; BANDS]> = OnceLock::new();
    let waves = WAVES.get_or_init(|| {
        let scale = (2.0 / SIDE as f64).sqrt() as f32;
        std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                (f64::from(scale) * (PI / 2.0 / SIDE as f64 * (i + 1) as f64 * (2 * j + 1) as f64).cos())
                    as f32
            })
        })
    });
    let mut half = [[0.0f32; SIDE]; BANDS];
    for (row, wave) in half.iter_mut().zip(waves) {
        for (factor, line) in wave.iter().zip(samples) {
            row.iter_mut().zip(line).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    let mut bands = [[0.0f32; BANDS]; BANDS];
    for (row, line) in bands.iter_mut().zip(&half) {
        for (band, wave) in row.iter_mut().zip(waves) {
            *band = line.iter().zip(wave).fold(0.0, |sum, (value, factor)| sum + value * factor);
        }
    }
    bands
}

/// One bit a band: whether it lies above the lower median. The last band's bit is printed first.
fn bits(bands: &Bands) -> Hash256 {
    let mut sorted: Vec<f32> = bands.iter().flatten().copied().collect();
    let (_, median, _) = sorted.select_nth_unstable_by(BANDS * BANDS / 2 - 1, f32::total_cmp);
    let median = *median;
    let mut bytes = [0u8; 32];
    for (at, band) in bands.iter().flatten().enumerate() {
        if *band > median {
            bytes[31 - at / 8] |= 1 << (at % 8);
        }
    }
    Hash256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_picture_has_no_quality_and_a_tiny_one_no_bits() {
        let plain = hash(&[128; 300 * 200 * 3], 300, 200);
        assert_eq!(plain.quality, 0);
        let tiny = hash(&[128; 4 * 100 * 3], 4, 100);
        assert_eq!((tiny.hash, tiny.quality), (Hash256([0; 32]), 0));
    }

    #[test]
    fn every_size_from_five_up_is_hashed() {
        for (width, height) in [(5, 5), (5, 700), (63, 64), (64, 64), (65, 129), (128, 127), (129, 300)] {
            let rgb: Vec<u8> = (0..width * height * 3).map(|at| (at * 7919 % 251) as u8).collect();
            let (hashes, _) = dihedral(&rgb, width, height);
            assert_eq!(hashes[0], hash(&rgb, width, height).hash, "{width} x {height}");
        }
    }
}
