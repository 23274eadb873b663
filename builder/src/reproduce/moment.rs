//! Times and dates in a text that could be the time of a build. Pure.

use std::ops::RangeInclusive;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

/// Dates with a time, as programs write them without being asked for another form.
const TIMES: [&str; 9] = [
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%a, %d %b %Y %H:%M:%S",
    "%a %b %d %Y %H:%M:%S",
    "%a %b %e %H:%M:%S %Y",
    "%a %b %e %H:%M:%S UTC %Y",
    "%Y%m%dT%H%M%S",
    "%Y%m%d%H%M%S",
];
/// Dates alone.
const DATES: [&str; 9] = [
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d %b %Y",
    "%b %e, %Y",
    "%B %e, %Y",
    "%Y%m%d",
];
const DAY: i64 = 86_400;
/// Local time is at most so far from UTC, in seconds.
const FARTHEST_ZONE: i64 = 14 * 3_600;
/// The tools may have started their clocks a little before or after.
const SLACK: i64 = 5;

/// Whether the text has a time within the window (seconds since 1970, as the steps saw the clock),
/// in any time zone.
pub(super) fn has_time(text: &str, window: &RangeInclusive<i64>) -> bool {
    let near = |seconds: i64, slack: i64| {
        (window.start() - slack..=window.end() + slack).contains(&seconds)
    };
    starts(text).any(|start| {
        let rest = &text[start..];
        stamp(rest).is_some_and(|seconds| near(seconds, SLACK))
            || TIMES.iter().any(|format| {
                parse(format, rest).is_some_and(|seconds| near(seconds, FARTHEST_ZONE + SLACK))
            })
            || DATES.iter().any(|format| {
                parse(format, rest).is_some_and(|seconds| near(seconds, DAY + FARTHEST_ZONE))
            })
            || year(text, start).is_some_and(|year| years(window).contains(&year))
    })
}

/// Whether the text has a time of day, `07:05` or `07:05:09`.
pub(super) fn has_time_of_day(text: &str) -> bool {
    starts(text).any(|start| {
        let digits = |range: std::ops::Range<usize>| {
            let field = text[start..]
                .get(range)
                .filter(|field| field.bytes().all(|byte| byte.is_ascii_digit()));
            field.and_then(|field| field.parse::<u32>().ok())
        };
        let colon = text.as_bytes()[start..].get(2) == Some(&b':');
        colon
            && digits(0..2).is_some_and(|hour| hour < 24)
            && digits(3..5).is_some_and(|minute| minute < 60)
    })
}

/// Where numbers and words begin; the rest of the text there begins with a letter or a digit.
fn starts(text: &str) -> impl Iterator<Item = usize> + '_ {
    let mut inside = false;
    text.char_indices().filter_map(move |(index, char)| {
        let begins = !inside && char.is_ascii_alphanumeric();
        inside = char.is_ascii_alphanumeric();
        begins.then_some(index)
    })
}

/// Seconds, milliseconds or microseconds since 1970 in as many digits as such numbers have today.
fn stamp(text: &str) -> Option<i64> {
    let digits = leading_digits(text);
    let divisor = match digits.len() {
        10 => 1,
        13 => 1_000,
        16 => 1_000_000,
        _ => return None,
    };
    digits.parse::<i64>().ok().map(|number| number / divisor)
}

/// A year that is no part of a date.
fn year(text: &str, start: usize) -> Option<i16> {
    let digits = leading_digits(&text[start..]);
    let (before, after) = (
        &text.as_bytes()[..start],
        &text.as_bytes()[start + digits.len()..],
    );
    let joins =
        |mark: &u8, digit: &u8| matches!(mark, b'-' | b'/' | b'.') && digit.is_ascii_digit();
    let in_date = matches!(after, [mark, digit, ..] if joins(mark, digit))
        || matches!(before, [.., digit, mark] if joins(mark, digit));
    let in_word = after.first().is_some_and(u8::is_ascii_alphanumeric);
    let alone = digits.len() == 4 && !in_date && !in_word;
    alone.then(|| digits.parse().ok())?
}

fn years(window: &RangeInclusive<i64>) -> RangeInclusive<i16> {
    let year = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.to_zoned(TimeZone::UTC).year()
    };
    year(window.start() - FARTHEST_ZONE)..=year(window.end() + FARTHEST_ZONE)
}

fn leading_digits(text: &str) -> &str {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    &text[..end]
}

/// Seconds since 1970 of the time or the date at the beginning of the text, read as UTC.
fn parse(format: &str, text: &str) -> Option<i64> {
    let (time, _) = BrokenDownTime::parse_prefix(format, text).ok()?;
    let date = time.to_date().ok()?;
    let time = time.to_time().unwrap_or_default();
    let zoned = date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2023-11-14 22:13:20 UTC and ten seconds more.
    const WINDOW: RangeInclusive<i64> = 1_700_000_000..=1_700_000_010;

    #[test]
    fn times_of_the_build_are_found_in_any_form() {
        for text in [
            "1700000003",
            "v=1700000003123;",
            "1700000003.123",
            "2023-11-14T22:13:25Z",
            "2023-11-15T12:13:25+14:00",
            "built 2023-11-14 22:13:25",
            "2023-11-14 22:13",
            "Tue, 14 Nov 2023 22:13:25 GMT",
            "Tue Nov 14 22:13:25 UTC 2023",
            "Tue Nov 14 2023 22:13:25 GMT+0000",
            "20231114221325",
            "20231114T221325Z",
            "14.11.2023",
            "11/14/2023",
            "Nov 14, 2023",
            "November 14, 2023",
            "20231114",
            "(c) 2023 us",
        ] {
            assert!(has_time(text, &WINDOW), "{text}");
        }
    }

    #[test]
    fn other_times_and_numbers_are_none_of_the_build() {
        for text in [
            "",
            "1600000003",
            "17000000031",
            "2023-10-14T22:13:25Z",
            "Nov 14, 2021",
            "20240102",
            "2021",
            "2023x",
            "0x1700000003",
            "é99:99",
        ] {
            assert!(!has_time(text, &WINDOW), "{text}");
        }
    }

    #[test]
    fn time_of_day_is_two_numbers_and_a_colon() {
        assert!(has_time_of_day("at 23:41:45"));
        assert!(has_time_of_day("07:05"));
        for text in ["", "7", "99:10", "a:b", "12:61", "éé:éé"] {
            assert!(!has_time_of_day(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_searched(text in ".{0,40}") {
            has_time(&text, &WINDOW);
            has_time_of_day(&text);
        }
    }
}
