//! Times for people, in the time zone of this machine.

use std::time::SystemTime;

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

/// Milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    Timestamp::try_from(time).map_or(0, Timestamp::as_millisecond)
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
    }
}
