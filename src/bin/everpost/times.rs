//! Spans of time, as they are typed: one way for every argument that takes a TIME.

use std::time::Duration;

/// `90s`, `5m`, `1h 30m`, `250ms`; a number alone is seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = match is_number {
        true => text.parse().map(Duration::from_secs).map_err(|_| None),
        false => humantime::parse_duration(text).map_err(Some),
    };
    parsed.map_err(|error| {
        let fault = error.map_or("the number is too large".to_owned(), |e| e.to_string());
        format!("{fault}; write 90s, 5m or 1h30m, or a number of seconds")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--deadline 10` was refused for want of a unit.
    #[test]
    fn a_number_alone_is_seconds_and_what_is_no_time_says_what_to_write() {
        for (text, seconds) in [
            ("0", 0.0),
            ("10", 10.0),
            (" 5 ", 5.0),
            ("0s", 0.0),
            ("1h 30m", 5400.0),
            ("15m", 900.0),
            ("250ms", 0.25),
        ] {
            assert_eq!(span(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "x", "10x", "1.5", "99999999999999999999", "9e9h"] {
            let fault = span(text).unwrap_err();
            assert!(fault.contains("; write 90s"), "{text}: {fault}");
        }
    }
}
