//! Times for people, in the time zone of this machine.

use jiff::{Timestamp, tz::TimeZone};

/// `2026-11-20 14:02` of an RFC 3339 text; the text itself when it is none.
pub(crate) fn local_minute(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => minute(time, TimeZone::system()),
        Err(_) => crate::output::printable(text),
    }
}

/// `2026-11-20 14:02` of milliseconds since 1970.
pub(crate) fn local_minute_of(milliseconds: i64) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(time) => minute(time, TimeZone::system()),
        Err(_) => "?".to_owned(),
    }
}

fn minute(time: Timestamp, zone: TimeZone) -> String {
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
}

/// How long ago, in one unit: `12 s`, `5 min`, `3 h`, `2 days`.
pub(crate) fn ago(then_ms: i64, now: Timestamp) -> String {
    let seconds = now.as_millisecond().saturating_sub(then_ms).max(0) / 1000;
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds / 60),
        6_000..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(
            minute("2026-11-20T14:02:59Z".parse().unwrap(), TimeZone::UTC),
            "2026-11-20 14:02"
        );
        assert_eq!(local_minute("yester\u{1b}day"), "yester\\u{1b}day");
        let now = Timestamp::from_millisecond(1_000_000_000).unwrap();
        for (seconds, text) in [
            (5, "5 s"),
            (600, "10 min"),
            (7200, "2 h"),
            (200_000, "2 days"),
            (-5, "0 s"),
        ] {
            assert_eq!(ago(1_000_000_000 - seconds * 1000, now), text);
        }
    }
}
