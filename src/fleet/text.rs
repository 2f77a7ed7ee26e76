//! Texts from outside, made fit to be kept and shown.

use crate::error::Error;

/// Characters that are kept.
const CHARS_MAX: usize = 300;

/// The text on one line, without control characters, and not for ever.
pub(super) fn clean(text: &str) -> String {
    let mut kept: String = text
        .chars()
        .map(|sign| if sign.is_control() { ' ' } else { sign })
        .take(CHARS_MAX)
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        kept.push_str("...");
    }
    kept
}

/// What an error says, to be shown where it is known to be of a fleet.
pub(super) fn reason(error: Error) -> String {
    match error {
        Error::Fleet { reason } => reason,
        error => error.to_string(),
    }
}

/// Milliseconds since 1970 of a time as servers write it, `2026-11-27T17:08:46.999416639Z`; `None` if it
/// is no such text, or of before.
pub(super) fn time_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    let is_time = hour < 24 && minute < 60 && second <= 60;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !is_time {
        return None;
    }
    // Days before the year, and before the month in a year whose leap day comes last.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + millis.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(clean("a\r\nb\u{1b}[1m"), "a  b [1m");
        assert_eq!(clean(&"x".repeat(9000)).len(), CHARS_MAX + 3);
    }

    #[test]
    fn a_time_is_read_to_the_millisecond() {
        assert_eq!(time_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time_ms("2000-02-29T12:00:00.5Z"), Some(951_825_600_500));
        assert_eq!(
            time_ms("2026-11-27T17:08:46.999416639Z"),
            Some(1_795_799_326_999)
        );
        for bad in [
            "",
            "x",
            "2026-11-27",
            "2026-13-01T00:00:00Z",
            "2026-11-27T25:00:00Z",
            "1969-01-01T00:00:00Z",
        ] {
            assert_eq!(time_ms(bad), None, "{bad}");
        }
    }
}
