//! Types of texts: of XML Schema (part 2), lists of values, and those that NCMEC documents.

use std::ops::RangeInclusive;

use chrono::NaiveDate;

use super::table::Table;
use super::{Rule, shown};
use crate::cyber_tipline::limits::{self, NAMED};
use crate::cyber_tipline::tree::is_space;

/// Offsets from UTC go so far, in minutes.
const OFFSET_MAX: i64 = 14 * 60;

/// Whether texts of this type can be checked.
#[cfg(test)]
pub(super) fn is_known(table: &Table, kind: &str) -> bool {
    let own = [
        "text",
        "token",
        "boolean",
        "true",
        "int",
        "long",
        "double",
        "date",
        "dateTime",
        "callingCode",
        "age",
        "port",
    ];
    own.contains(&kind) || table.values.contains_key(kind) || limit(kind).is_some()
}

fn limit(kind: &str) -> Option<usize> {
    NAMED.iter().find(|(name, _)| *name == kind).map(|(_, max)| *max)
}

/// What is wrong with a text of this type, in Xerces' words where the schema says so. Where validators differ (1 for
/// a label that is true), what all of them take is right.
pub(super) fn check(table: &Table, kind: &str, text: &str) -> Result<(), (Rule, String)> {
    let trimmed = text.trim_matches(is_space);
    let whole = |range: RangeInclusive<i64>| integer(trimmed).is_some_and(|number| range.contains(&number));
    let int = i64::from(i32::MIN)..=i64::from(i32::MAX);
    let valid = match kind {
        "boolean" => matches!(trimmed, "true" | "false" | "1" | "0"),
        "true" => matches!(text, "" | "true"),
        "int" => whole(int),
        "age" | "port" => {
            let range = if kind == "age" { limits::AGE } else { limits::PORT };
            if whole(int.clone()) && !whole(range.clone()) {
                return Err((
                    Rule::Documented,
                    format!("{trimmed} is not from {} to {}", range.start(), range.end()),
                ));
            }
            whole(int)
        }
        "long" => integer(trimmed).is_some(),
        "double" => is_double(trimmed),
        "date" => date(trimmed).is_some(),
        "dateTime" => time_ms(trimmed).is_some(),
        "callingCode" => {
            text.strip_prefix('+').is_some_and(|code| (1..=3).contains(&code.len()) && digits(code).is_some())
        }
        "phoneExtension" if digits(text).is_none() => false,
        _ => match (table.values.get(kind), limit(kind)) {
            (Some(values), _) if !values.iter().any(|value| value == text) => {
                let words = format!(
                    "cvc-enumeration-valid: Value '{}' is not facet-valid with respect to enumeration '[{}]'. It must be a value from the enumeration.",
                    shown(text),
                    values.join(", ")
                );
                return Err((Rule::Schema, words));
            }
            (None, Some(max)) => {
                return match limits::over(text, max) {
                    Some(length) => {
                        Err((Rule::Documented, format!("has {length} characters, {max} at most")))
                    }
                    None => Ok(()),
                };
            }
            _ => true,
        },
    };
    let words = || format!("cvc-datatype-valid.1.2.1: '{}' is not a valid value for '{kind}'.", shown(text));
    if valid { Ok(()) } else { Err((Rule::Schema, words())) }
}

/// Digits, one at least.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn integer(text: &str) -> Option<i64> {
    digits(text.strip_prefix(['+', '-']).unwrap_or(text))?;
    text.parse().ok()
}

fn is_double(text: &str) -> bool {
    if matches!(text, "INF" | "-INF" | "NaN") {
        return true;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let unsigned = |text: &str| text.strip_prefix(['+', '-']).unwrap_or(text).to_string();
    let mantissa = unsigned(mantissa);
    let (before, behind) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(before)
        && all_digits(behind)
        && !(before.is_empty() && behind.is_empty())
        && exponent.is_none_or(|exponent| digits(&unsigned(exponent)).is_some())
}

/// A day and how far its zone is from UTC, in minutes; none where it names none.
fn date(text: &str) -> Option<(NaiveDate, Option<i64>)> {
    // The zone begins behind the day: the year may have a sign.
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let end = text.len() - unsigned.len() + unsigned.find('-')? + 6;
    Some((day(text.get(..end)?)?, offset(text.get(end..)?)?))
}

fn day(text: &str) -> Option<NaiveDate> {
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut parts = unsigned.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let good = parts.next().is_none() && year.len() >= 4 && (year.len() == 4 || !year.starts_with('0'));
    let year: i32 = digits(year).filter(|_| good)?.parse().ok().filter(|year| *year != 0)?;
    NaiveDate::from_ymd_opt(sign * year, two(month)?, two(day)?)
}

fn two(text: &str) -> Option<u32> {
    digits(text).filter(|text| text.len() == 2)?.parse().ok()
}

/// The offset of a zone; `None` within where there is none.
fn offset(text: &str) -> Option<Option<i64>> {
    let minutes = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (i64::from(two(hours)?), i64::from(two(minutes)?));
        (minutes < 60 && hours * 60 + minutes <= OFFSET_MAX).then_some(hours * 60 + minutes)
    };
    match text.chars().next() {
        None => Some(None),
        Some('Z') if text.len() == 1 => Some(Some(0)),
        Some('+') => minutes(text.get(1..)?).map(Some),
        Some('-') => minutes(text.get(1..)?).map(|minutes| Some(-minutes)),
        _ => None,
    }
}

/// An `xs:dateTime` in milliseconds since 1970 (UTC); one without a zone as if it were in UTC.
pub(super) fn time_ms(text: &str) -> Option<i64> {
    let (date, time) = text.trim_matches(is_space).split_once('T')?;
    let date = day(date)?;
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    let mut parts = clock.split(':');
    let (hours, minutes, seconds) = (two(parts.next()?)?, two(parts.next()?)?, parts.next()?);
    let (seconds, fraction) = match seconds.split_once('.') {
        Some((seconds, fraction)) => (two(seconds)?, digits(fraction)?),
        None => (two(seconds)?, "0"),
    };
    // Midnight may be the end of the day before.
    let end_of_day = hours == 24 && minutes == 0 && seconds == 0 && fraction.bytes().all(|byte| byte == b'0');
    if parts.next().is_some() || minutes > 59 || seconds > 59 || !(hours < 24 || end_of_day) {
        return None;
    }
    let milliseconds: i64 =
        fraction.bytes().chain(*b"00").take(3).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let day_ms = date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis();
    let of_day = i64::from(hours * 3600 + minutes * 60 + seconds) * 1000 + milliseconds;
    Some(day_ms + of_day - offset(zone)?.unwrap_or(0) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_fractions_and_zones() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00.5+01:00", 500),
            ("1969-12-31T24:00:00Z", 0),
            (" 2026-01-02T03:04:05.6789Z\n", 1_767_323_045_678),
            ("1970-01-01T00:00:00", 0),
            ("1969-12-31T10:00:00-14:00", 0),
        ] {
            assert_eq!(time_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00Z",
            "1970-01-01T24:00:01Z",
            "1970-01-01T00:60:00Z",
            "1970-1-01T00:00:00Z",
            "70-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "01970-01-01T00:00:00Z",
            "1970-02-30T00:00:00Z",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+14:01",
            "1970-01-01T00:00:00z",
            "1970-01-01 00:00:00Z",
            "é-01-01T00:00:00Z",
        ] {
            assert_eq!(time_ms(text), None, "{text}");
        }
        for (text, good) in [
            ("2000-02-29", true),
            ("1900-02-29", false),
            ("2000-01-01Z", true),
            ("2000-01-01-05:00", true),
            ("-0044-03-15", true),
            ("é", false),
            ("2000-01-1", false),
        ] {
            assert_eq!(date(text).is_some(), good, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_the_schema_has_them() {
        for (text, good) in [
            ("1", true),
            ("-1.5e3", true),
            (".5", true),
            ("5.", true),
            ("+1", true),
            ("1e", false),
            (".", false),
            ("INF", true),
            ("inf", false),
            ("1,5", false),
            ("", false),
        ] {
            assert_eq!(is_double(text), good, "{text}");
        }
        for (text, number) in [
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("+7", Some(7)),
            ("1.0", None),
            ("NaN", None),
            ("+-1", None),
            ("", None),
        ] {
            assert_eq!(integer(text), number, "{text}");
        }
    }
}
