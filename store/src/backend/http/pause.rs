//! How long to wait before another try.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest pause of our own choice.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// The pause before try number `next`, from 2: doubled each time, or what the server asks for when
/// that is longer. `chance`, from 0 to 1, spreads the tries of many readers over half of it.
pub(super) fn before(next: u32, first: Duration, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = first.saturating_mul(1 << next.saturating_sub(2).min(16));
    let own = doubled
        .min(LONGEST)
        .mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
    own.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

/// What `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a time, which is compared with the
/// server's own `Date`.
pub(super) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let value = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (seconds(value)?, seconds(text(DATE)?)?);
    Some(Duration::from_secs(until.saturating_sub(now)))
}

/// A time of a header in seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let time = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    let time = std::time::SystemTime::from(time.timestamp());
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn pauses_double_and_end_growing() {
        let first = Duration::from_millis(200);
        let pause = |next, chance| before(next, first, None, chance).as_millis();
        assert_eq!(
            [pause(2, 1.0), pause(3, 1.0), pause(4, 1.0)],
            [200, 400, 800]
        );
        assert_eq!([pause(2, 0.0), pause(3, 0.0)], [100, 200]);
        assert_eq!(pause(60, 1.0), 10_000);
        assert_eq!(pause(u32::MAX, 1.0), 10_000);
    }

    #[test]
    fn server_is_not_asked_earlier_than_it_wants_within_a_minute() {
        let pause = |asked| before(2, Duration::from_millis(200), Some(asked), 1.0);
        assert_eq!(pause(Duration::from_secs(3)).as_secs(), 3);
        assert_eq!(pause(Duration::ZERO).as_millis(), 200);
        assert_eq!(pause(Duration::from_secs(u64::MAX)).as_secs(), 60);
    }

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let header = |(name, value): &(&'static str, &'static str)| {
                ((*name).parse().unwrap(), HeaderValue::from_static(value))
            };
            asked(&pairs.iter().map(header).collect::<HeaderMap>())
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let soon = ("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT");
        assert_eq!(read(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(read(&[date, soon]), Some(Duration::from_secs(5)));
        assert_eq!(
            read(&[("date", soon.1), ("retry-after", date.1)]),
            Some(Duration::ZERO)
        );
        assert_eq!(read(&[soon]), None);
        assert_eq!(read(&[date, ("retry-after", "soon")]), None);
        assert_eq!(read(&[]), None);
    }
}
