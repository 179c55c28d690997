//! Times as NCMEC has them: `xs:dateTime`, in UTC.

use chrono::{DateTime, Datelike, SecondsFormat};

/// The last millisecond of the year 9999: later years have more digits than a date has.
const MS_MAX: u64 = 253_402_300_799_999;

/// This moment, in milliseconds since 1970; none if no date says it.
pub fn date_time(ms: u64) -> Option<String> {
    let ms = i64::try_from(ms).ok().filter(|_| ms <= MS_MAX)?;
    Some(DateTime::from_timestamp_millis(ms)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// A time that somebody wrote with its offset; none if it is no such time.
pub fn in_utc(text: &str) -> Option<String> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (1..=9999).contains(&time.year()).then(|| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc_as_far_as_there_are_dates() {
        assert_eq!(date_time(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(date_time(1_735_689_600_250).as_deref(), Some("2025-01-01T00:00:00.250Z"));
        assert_eq!(date_time(MS_MAX).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        assert_eq!((date_time(MS_MAX + 1), date_time(u64::MAX)), (None, None));
        assert_eq!(in_utc("2025-01-01T05:30:00.5+05:30").as_deref(), Some("2025-01-01T00:00:00.500Z"));
        assert_eq!(in_utc("0001-01-01T00:00:00Z").as_deref(), Some("0001-01-01T00:00:00Z"));
        for text in ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2025-01-01", "yesterday", ""]
        {
            assert_eq!(in_utc(text), None, "{text}");
        }
    }
}
