//! Sizes as people write them: `"64MiB"`, `"1 GB"`, `"512k"`, or a number of bytes.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// How a size is written, for messages.
const FORM: &str = "a size such as \"64MiB\", \"1 GB\" or \"512k\", or a number of bytes";

/// Units and their bytes. Without an `i` they are powers of 1000, as they are on a disk's label.
const UNITS: [(&str, u32, u64); 15] = [
    ("b", 0, 1000),
    ("k", 1, 1000),
    ("kb", 1, 1000),
    ("m", 2, 1000),
    ("mb", 2, 1000),
    ("g", 3, 1000),
    ("gb", 3, 1000),
    ("t", 4, 1000),
    ("tb", 4, 1000),
    ("ki", 1, 1024),
    ("kib", 1, 1024),
    ("mi", 2, 1024),
    ("mib", 2, 1024),
    ("gi", 3, 1024),
    ("gib", 3, 1024),
];

/// The bytes of a size: digits, which may have `_` between them and a fraction behind them, and a
/// unit in upper or lower case, or none for bytes. A fraction of a byte is left out.
fn parse(text: &str) -> Result<u64, String> {
    let wrong = |what: &str| Err(format!("{what}; write {FORM}"));
    let text = text.trim_matches(' ');
    let is_digit = |c: char| c.is_ascii_digit() || c == '_' || c == '.';
    let end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let known = UNITS.iter().find(|(name, ..)| *name == unit);
    let factor = match known {
        Some((_, power, base)) => base.pow(*power),
        None if unit.is_empty() => 1,
        None if number.is_empty() => return wrong("it begins with no number"),
        None => return wrong("it has no unit that is known"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let [whole, fraction] = [whole, fraction].map(|part| part.replace('_', ""));
    if whole.is_empty() || fraction.contains('.') {
        return wrong("it is no number");
    }
    let Some(bytes) = whole
        .parse::<u64>()
        .ok()
        .and_then(|whole| whole.checked_mul(factor))
    else {
        return wrong("it is more than any disk has");
    };
    // More digits than these are less than a byte.
    let digits: String = fraction.chars().take(18).collect();
    let part = u128::from(digits.parse::<u64>().unwrap_or(0)) * u128::from(factor);
    let part = part / 10_u128.pow(u32::try_from(digits.len()).unwrap_or(0));
    let part = u64::try_from(part).unwrap_or(0);
    Ok(bytes.saturating_add(part))
}

/// Reads a size from a number of bytes or a text with a unit.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Size)
}

/// Reads a size that may be left out.
pub(crate) fn deserialize_optional<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<u64>, D::Error> {
    /// A size, as [`deserialize`] reads it.
    #[derive(Deserialize)]
    struct Bytes(#[serde(deserialize_with = "deserialize")] u64);
    Ok(Option::<Bytes>::deserialize(from)?.map(|bytes| bytes.0))
}

struct Size;

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::custom(format!("it is below 0; write {FORM}")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse(text).map_err(E::custom)
    }
}

/// Exactly so many bytes, in the largest unit in which they are a whole number: `596 KiB`.
pub(crate) fn exact(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number == 0 || !number.is_multiple_of(1024) {
            break;
        }
        number /= 1024;
        unit = larger;
    }
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("0", 0),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1 GB", 1_000_000_000),
            ("512k", 512_000),
            (" 512 Ki ", 512 << 10),
            ("1_048_576", 1 << 20),
            ("1.5 GiB", 3 << 29),
            ("0.3KiB", 307),
            ("1.000000000000000000000000001k", 1000),
            ("2TB", 2_000_000_000_000),
            ("17b", 17),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_form() {
        for text in [
            "",
            " ",
            "MiB",
            "-1",
            "1GBB",
            "1 2",
            "..",
            ".5k",
            "1.2.3k",
            "1,5k",
            "1e3",
            "99999999999999999999",
            "99999999999TB",
            "1\u{2028}k",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.ends_with(FORM), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_would_be_written() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (610_304, "596 KiB"),
            (1 << 30, "1 GiB"),
            (5_832_704, "5696 KiB"),
            (1_000_000, "1000000 B"),
        ] {
            assert_eq!(exact(bytes), text);
        }
        let mut bytes = 1_u64;
        while let Some(next) = bytes.checked_mul(7) {
            assert_eq!(parse(&exact(bytes)), Ok(bytes));
            assert_eq!(parse(&exact(bytes << 10 >> 10)), Ok(bytes << 10 >> 10));
            bytes = next;
        }
    }
}
