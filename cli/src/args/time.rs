//! Times, as people type them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// A time (UTC where it names no offset; a date is its midnight), or how long ago it was.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(TimeZone::UTC).map(|time| time.timestamp()).map_err(|error| error.to_string());
    }
    let neither = |_| "neither a time (2026-11-22, 2026-11-22T10:00:00Z) nor an age (24h, 7d)".to_owned();
    let age: Span = text.parse().map_err(neither)?;
    let then = Zoned::now().checked_sub(age).map_err(|error| error.to_string())?;
    Ok(then.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages() {
        assert_eq!(parse_time("2026-11-22T10:00:00Z").unwrap().to_string(), "2026-11-22T10:00:00Z");
        let day = Timestamp::now().as_second() - parse_time("24h").unwrap().as_second();
        assert!((86_400..86_410).contains(&day), "{day}");
        assert!(parse_time("7d").is_ok());
        assert_eq!(parse_time("2026-11-22").unwrap().to_string(), "2026-11-22T00:00:00Z");
        assert_eq!(parse_time("2026-11-22T10:30").unwrap().to_string(), "2026-11-22T10:30:00Z");
        assert!(parse_time("yesterday").unwrap_err().contains("24h"));
    }
}
