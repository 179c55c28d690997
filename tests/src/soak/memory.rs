//! Whether memory grows: a line through what the server holds at the end of each quiet phase.

/// A slope and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Growth of y for each x.
    pub slope: f64,
    /// Half the width of its 95 % confidence interval.
    pub margin: f64,
    /// Points it was drawn through.
    pub points: usize,
}

impl Slope {
    /// Fits a line by least squares; `None` below four points, where nothing can be said.
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        if points.len() < 4 {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let left: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        let error = (left / (count - 2.0) / spread).sqrt();
        Some(Self { slope, margin: student(points.len() - 2) * error, points: points.len() })
    }

    /// Whether it is above `least` for sure.
    pub fn is_above(&self, least: f64) -> bool {
        self.slope - self.margin > least
    }
}

/// Quantile 0.975 of Student's t distribution: the table up to 10 degrees of freedom, beyond it the next lower entry.
fn student(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    match freedom {
        0 => f64::INFINITY,
        1..=10 => TABLE[freedom - 1],
        11..=19 => 2.201,
        20..=39 => 2.086,
        _ => 2.021,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_noise_is_not_taken_for_one() {
        let line: Vec<(f64, f64)> = (0..20).map(|x| (f64::from(x), 5.0 + 3.0 * f64::from(x))).collect();
        let slope = Slope::of(&line).unwrap();
        assert!((slope.slope - 3.0).abs() < 1e-9 && slope.margin < 1e-9 && slope.is_above(2.9));
        let noise = [4.0, 6.0, 5.0, 4.5, 6.5, 5.5, 4.2, 5.8];
        let noise: Vec<(f64, f64)> = (0..8).map(|x| (f64::from(x), noise[x as usize])).collect();
        assert!(!Slope::of(&noise).unwrap().is_above(0.0));
        assert_eq!(Slope::of(&line[..3]), None);
        assert_eq!(Slope::of(&[(1.0, 1.0); 6]), None);
    }
}
