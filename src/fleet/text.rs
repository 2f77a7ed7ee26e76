//! Texts from outside, made fit to be kept and shown.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(clean("a\r\nb\u{1b}[1m"), "a  b [1m");
        assert_eq!(clean(&"x".repeat(9000)).len(), CHARS_MAX + 3);
    }
}
