//! Numbers and times, for people.

use std::time::{Duration, SystemTime};

/// `1 event`, `2 events`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// `17 B`, `1.5 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "one digit behind the point is shown"
    )]
    let mut value = number as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{number} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Exactly so many bytes, as a settings file would say it: `64 MiB`, `1000000 B`.
pub(crate) fn size(number: u64) -> String {
    let (mut number, mut unit) = (number, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number == 0 || !number.is_multiple_of(1024) {
            break;
        }
        number /= 1024;
        unit = larger;
    }
    format!("{number} {unit}")
}

/// `3m 20s`; less than ten seconds with milliseconds.
pub(crate) fn duration(time: Duration) -> String {
    let shown = if time < Duration::from_secs(10) {
        Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(time.as_secs())
    };
    humantime::format_duration(shown).to_string()
}

/// `2026-01-02T03:04:05.678Z`.
pub(crate) fn time(time: SystemTime) -> String {
    // The year 10000 and later cannot be written this way.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.min(last)).to_string()
}

/// What comes from outside, on one line and without anything a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if is_obeyed(c) { ' ' } else { c })
        .collect()
}

/// Whether a terminal, or what lays text out, does something else with it than to show it: controls
/// (C0 and C1), separators of lines, and marks that are not seen, such as those that turn the
/// direction of writing round (Unicode's categories Cc, Zl, Zp and Cf).
pub(crate) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{70F}'
            | '\u{890}' | '\u{891}' | '\u{8E2}' | '\u{180E}' | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}'
            | '\u{13430}'..='\u{1343F}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E007F}')
}

/// As [`plain`], at most so many characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let mut shown: String = plain(text).chars().take(max).collect();
    if text.chars().nth(max).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(count(1, "event"), "1 event");
        assert_eq!(count(0, "event"), "0 events");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(duration(Duration::from_micros(1_234_567)), "1s 234ms");
        assert_eq!(duration(Duration::from_millis(61_900)), "1m 1s");
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert_eq!(time(far), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_as_a_command() {
        assert_eq!(cut("a\x1b[2Jb\nc", 5), "a [2J...");
        assert_eq!(cut("abc", 3), "abc");
    }

    /// Right-to-left marks and C1 controls reached the terminal as they came.
    #[test]
    fn marks_that_turn_text_round_and_c1_controls_are_blanked() {
        assert_eq!(plain("a\u{202E}b\u{9b}2Jc\u{2066}\u{200F}d"), "a b 2Jc  d");
        assert_eq!(
            plain("\u{E9} \u{4E2D}\u{6587} \u{1F600}"),
            "\u{E9} \u{4E2D}\u{6587} \u{1F600}"
        );
    }
}
