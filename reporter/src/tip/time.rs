//! Times as NCMEC has them: `xs:dateTime`, in UTC.

use chrono::{DateTime, SecondsFormat};

/// The last millisecond of the year 9999: later years have more digits than a date has.
const MS_MAX: u64 = 253_402_300_799_999;

/// This moment, in milliseconds since 1970; none if no date says it.
pub fn date_time(ms: u64) -> Option<String> {
    let ms = i64::try_from(ms).ok().filter(|_| ms <= MS_MAX)?;
    Some(DateTime::from_timestamp_millis(ms)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
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
    }
}
