//! Numbers and times, for people.

use std::borrow::Cow;
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

/// What comes from outside, on one line and without anything a terminal would obey: what divides
/// lines or words becomes a blank, and all else is written as in JSON, `\u202e`.
pub(crate) fn plain(text: &str) -> String {
    let divides = |c| matches!(c, '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    shown(text, |c| divides(c).then_some(' '))
}

/// As [`plain`] for text of many lines: their ends stay. JSON stays the same JSON, for what is
/// escaped can only stand inside its strings. Whatever is printed goes through here at the last.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| c != '\n' && is_obeyed(c)) {
        shown(text, |c| (c == '\n').then_some(c)).into()
    } else {
        text.into()
    }
}

fn shown(text: &str, instead: impl Fn(char) -> Option<char>) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match instead(c) {
            Some(other) => shown.push(other),
            None if is_obeyed(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
            None => shown.push(c),
        }
    }
    shown
}

/// Whether a terminal, or what lays text out, does something else with it than to show it: controls
/// (C0 and C1), separators of lines, and marks that are not seen, such as those that turn the
/// direction of writing round (Unicode's categories Cc, Zl, Zp and Cf).
fn is_obeyed(c: char) -> bool {
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
    let mut shown = plain(text);
    if let Some((end, _)) = shown.char_indices().nth(max) {
        shown.truncate(end);
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
        assert_eq!(cut("a\x1b[2Jb\nc", 10), "a\\u001b[2J...");
        assert_eq!(plain("a\r\n\tb\u{2028}c"), "a   b c");
        assert_eq!(cut("abc", 3), "abc");
    }

    /// Right-to-left marks and C1 controls reached the terminal as they came.
    #[test]
    fn marks_that_turn_text_round_and_c1_controls_are_seen() {
        assert_eq!(
            plain("a\u{202E}b\u{9b}2Jc\u{2066}\u{200F}d"),
            "a\\u202eb\\u009b2Jc\\u2066\\u200fd"
        );
        let foreign = "\u{E9} \u{4E2D}\u{6587} \u{1F600}";
        assert_eq!(plain(foreign), foreign);
    }

    /// `--json` gave C1 controls and right-to-left marks to a terminal as they came.
    #[test]
    fn json_without_what_a_terminal_obeys_is_the_same_json() {
        let json = "[\"a\u{202E}\u{9b}b\",\"\u{1D173}\u{E9}\"]\n";
        let shown = visible(json);
        assert_eq!(shown, "[\"a\\u202e\\u009bb\",\"\\ud834\\udd73\u{E9}\"]\n");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&shown), parse(json));
    }

    #[test]
    fn of_every_character_nothing_is_left_that_a_terminal_obeys() {
        for c in '\0'..=char::MAX {
            let text = format!("a{c}\nb");
            assert!(!plain(&text).contains(is_obeyed), "{c:?}");
            let shown = visible(&text);
            let lines: Vec<&str> = shown.split('\n').collect();
            assert!(!lines.concat().contains(is_obeyed), "{c:?}");
            assert_eq!(lines.len(), 2 + usize::from(c == '\n'), "{c:?}");
            assert_eq!(visible(&shown), shown, "{c:?}");
        }
    }
}
