//! Secrets struck out of foreign texts.
//!
//! A server that is sent the key can send it back: whole, in part, or as base64 in a dump of the
//! request. What an answer says is kept in the log, in the status and in dead letters, so each piece
//! of a secret in it is replaced before that. Pieces are found by their windows: every run of
//! [`PIECE`] characters of each form of the secret is known, and every such run of the text is
//! looked up. So it does not matter where the text was cut, or what stands around a piece.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::outcome::Answer;

/// Characters of a secret in a row that may not be shown: of a key in base64url, 48 bits of its
/// hundreds.
const PIECE: usize = 8;

/// Characters of a password that is struck out at all: a shorter one would strike out words.
const PASSWORD: usize = 4;

/// How often escapes are undone in escapes: `%252E` is `%2E` is a dot.
const DEPTH: usize = 3;

/// The secrets that a request carries, ready to be struck out of its answer.
#[derive(Default)]
pub(crate) struct Strike(Vec<Struck>);

/// One secret: what takes its place, and its windows.
struct Struck {
    label: &'static str,
    windows: Vec<Windows>,
}

/// A name and a password, as they are meant: without percent-encoding.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: SecretString,
}

impl Strike {
    /// With one more secret, for which this label stands.
    pub(crate) fn secret(mut self, label: &'static str, secret: &str) -> Self {
        let windows = windows(secret.as_bytes());
        self.0.push(Struck { label, windows });
        self
    }

    /// With the password of a login, also as it stands in `Authorization` or
    /// `Proxy-Authorization`. The name alone is no secret.
    pub(crate) fn login(mut self, label: &'static str, login: &Login) -> Self {
        let password = login.password.expose_secret();
        let mut windows = windows(password.as_bytes());
        let both = Zeroizing::new(format!("{}:{password}", login.user));
        windows.push(Windows::of(PIECE, &[base64(both.as_bytes(), 0)]));
        self.0.push(Struck { label, windows });
        self
    }

    /// Strikes the secrets out of all that an answer says.
    pub(crate) fn answer(&self, answer: &mut Answer) {
        let Answer {
            status: _,
            request_id,
            errors,
            warnings,
            detail,
        } = answer;
        let texts = errors.iter_mut().chain(warnings).chain(request_id);
        for text in texts.chain(detail) {
            self.text(text);
        }
    }

    /// Strikes the secrets out of a text.
    pub(crate) fn text(&self, text: &mut String) {
        for struck in &self.0 {
            let places = struck.places(text);
            // From the end, so that the places before stay where they are.
            for place in places.into_iter().rev() {
                text.replace_range(place, struck.label);
            }
        }
    }
}

impl Struck {
    /// Where it shows, in order and apart.
    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut letters = letters(text);
        let mut shown = vec![false; text.len()];
        for _ in 0..=DEPTH {
            for windows in &self.windows {
                for run in letters.windows(windows.length) {
                    if windows.hold(run.iter().map(|letter| letter.value)) {
                        for letter in run {
                            if let Some(marks) = shown.get_mut(letter.place.clone()) {
                                marks.fill(true);
                            }
                        }
                    }
                }
            }
            match unescaped(&letters) {
                Some(less) => letters = less,
                None => break,
            }
        }
        let mut places: Vec<Range<usize>> = Vec::new();
        for at in (0..text.len()).filter(|at| shown.get(*at) == Some(&true)) {
            match places.last_mut() {
                Some(place) if place.end == at => place.end = at + 1,
                _ => places.push(at..at + 1),
            }
        }
        places
    }
}

/// Every run of so many letters in the forms of a secret.
struct Windows {
    length: usize,
    sorted: Zeroizing<Vec<u128>>,
}

impl Windows {
    /// At most 16 letters long.
    fn of(length: usize, forms: &[Zeroizing<Vec<u8>>]) -> Self {
        let runs = forms.iter().flat_map(|form| form.windows(length));
        let mut sorted: Vec<u128> = runs.map(|run| packed(run.iter().copied())).collect();
        sorted.sort_unstable();
        Self {
            length,
            sorted: Zeroizing::new(sorted),
        }
    }

    fn hold(&self, run: impl Iterator<Item = u8>) -> bool {
        self.sorted.binary_search(&packed(run)).is_ok()
    }
}

/// At most 16 letters in one number, without regard to upper and lower case, nor to which of its
/// two alphabets base64 was written in.
fn packed(run: impl Iterator<Item = u8>) -> u128 {
    run.fold(0, |packed, letter| {
        let letter = match letter {
            b'+' => b'-',
            b'/' => b'_',
            other => other.to_ascii_lowercase(),
        };
        packed << 8 | u128::from(letter)
    })
}

/// The secret itself, its base64 wherever it begins in what was encoded, and its hexadecimal form.
fn windows(secret: &[u8]) -> Vec<Windows> {
    let itself = Zeroizing::new(secret.to_vec());
    if secret.len() < PIECE {
        let few = secret.len() < PASSWORD;
        let whole = (!few).then(|| Windows::of(secret.len(), &[itself]));
        return whole.into_iter().collect();
    }
    let [first, second, third] = [0, 1, 2].map(|before| base64(secret, before));
    let hex = secret.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = hex.filter_map(|half| char::from_digit(u32::from(half), 16));
    let hex = Zeroizing::new(hex.map(|digit| u8::try_from(digit).unwrap_or(0)).collect());
    vec![
        Windows::of(PIECE, &[itself, first, second, third]),
        Windows::of(2 * PIECE, &[hex]),
    ]
}

/// The letters of its base64 that follow from it alone, with so many bytes before it.
fn base64(secret: &[u8], before: usize) -> Zeroizing<Vec<u8>> {
    let bytes = Zeroizing::new([&vec![0; before], secret].concat());
    let mut letters = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(&*bytes).into_bytes());
    if bytes.len() % 3 != 0 {
        // Its last letter also says how the byte behind it begins.
        letters.pop();
    }
    let foreign = (before * 8).div_ceil(6).min(letters.len());
    letters.drain(..foreign);
    letters
}

/// One letter of a text, and the bytes of it that stand for the letter.
#[derive(Clone)]
struct Letter {
    /// 0 if it is not ASCII.
    value: u8,
    place: Range<usize>,
}

fn letters(text: &str) -> Vec<Letter> {
    text.char_indices()
        .map(|(at, c)| Letter {
            value: u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(0),
            place: at..at + c.len_utf8(),
        })
        .collect()
}

/// The same with each escape as the letter it stands for: `%2E` of URLs, `\u002e`, `\x2e` and `\/` of
/// JSON and its kin, `&#46;` and `&#x2e;` of HTML. None if there are no escapes.
fn unescaped(letters: &[Letter]) -> Option<Vec<Letter>> {
    let mut less = Vec::with_capacity(letters.len());
    let mut rest = letters;
    while let Some(first) = rest.first() {
        let (value, taken) = escape(rest).unwrap_or((first.value, 1));
        let (letter, after) = rest.split_at(taken);
        let end = letter.last().unwrap_or(first).place.end;
        less.push(Letter {
            value,
            place: first.place.start..end,
        });
        rest = after;
    }
    (less.len() < letters.len()).then_some(less)
}

/// The letter that an escape at the beginning stands for, and how many letters the escape has.
fn escape(letters: &[Letter]) -> Option<(u8, usize)> {
    /// The longest one is `&#x00002e;`.
    const LETTERS_MAX: usize = 10;
    let head: Vec<u8> = letters.iter().take(LETTERS_MAX).map(|l| l.value).collect();
    let number = |digits: Option<&[u8]>, radix| {
        let digits = std::str::from_utf8(digits?).ok()?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let value = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
        // What is not ASCII is in no secret.
        Some(u8::try_from(value).ok().filter(u8::is_ascii).unwrap_or(0))
    };
    match head.as_slice() {
        [b'%', rest @ ..] => Some((number(rest.get(..2), 16)?, 3)),
        [b'\\', b'u', rest @ ..] => Some((number(rest.get(..4), 16)?, 6)),
        [b'\\', b'x', rest @ ..] => Some((number(rest.get(..2), 16)?, 4)),
        [b'\\', b'/', ..] => Some((b'/', 2)),
        [b'&', b'#', b'x' | b'X', rest @ ..] => {
            let end = rest.iter().position(|letter| *letter == b';')?;
            Some((number(rest.get(..end), 16)?, end + 4))
        }
        [b'&', b'#', rest @ ..] => {
            let end = rest.iter().position(|letter| *letter == b';')?;
            Some((number(rest.get(..end), 10)?, end + 3))
        }
        _ => None,
    }
}

/// A text without percent-encoding.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
