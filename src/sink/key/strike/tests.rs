use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use proptest::prelude::*;

use super::super::Key;
use super::*;

fn key() -> Key {
    Key::parse("eyJhbGciOiJIUzI1NiJ9.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.dQw4w9WgXcQ_oHg5SJYRHA0")
        .unwrap()
}

fn struck(key: &Key, text: &str) -> String {
    let mut text = text.to_owned();
    Strike::default()
        .secret("[key]", key.expose())
        .text(&mut text);
    text
}

/// Each was kept in the log, the status and the dead letter: only the whole key was struck out.
#[test]
fn a_piece_of_the_key_is_struck_out_in_every_form() {
    let key = key();
    let whole = key.expose();
    let signature = whole.rsplit('.').next().unwrap();
    let lines = |text: &str| -> String {
        text.chars()
            .map(|c| format!("\\u{:04X}", c as u32))
            .collect()
    };
    let percent = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02x}")).collect() };
    for piece in [
        whole.to_owned(),
        signature.to_owned(),
        signature[..8].to_owned(),
        signature.to_uppercase(),
        whole.replace('.', "%2E"),
        whole.replace('.', "%252e"),
        whole.replace('.', "&#46;"),
        whole.replace('_', "&#x5F;"),
        percent(signature),
        lines(signature),
        // Of as many bytes as base64 takes together, so that no letter is shared.
        BASE64_STANDARD.encode(&whole[..whole.len() / 3 * 3]),
        BASE64_URL_SAFE.encode(&signature[..21]),
        signature.bytes().map(|b| format!("{b:02X}")).collect(),
    ] {
        let text = struck(&key, &format!("token <{piece}> is bad"));
        assert_eq!(text, "token <[key]> is bad", "{piece}");
    }
    for before in ["", "B", "Be", "Bearer "] {
        let dump = BASE64_STANDARD.encode(format!("{before}{whole}!"));
        let text = struck(&key, &dump);
        assert!(
            text.len() <= "[key]".len() + before.len() * 4 / 3 + 8,
            "{text}"
        );
    }
}

#[test]
fn what_is_no_piece_of_the_key_stays_to_the_byte() {
    let key = key();
    for text in [
        "",
        "no such field: message.timestamp",
        "01a20a8b-9c6e-7df8-b5a8-69999b87f1c8",
        "the key is of the channel universal, not rasa",
        "dQw4w9W is too short a piece to tell anything",
        "100% of it, C:\\users\\x, \\u00e9, \u{e9}\u{4e2d}\u{1f600}, a&#38;b, %zz, %, \\u12",
    ] {
        assert_eq!(struck(&key, text), text);
    }
    let text = struck(&key, "\u{4e2d}dQw4w9WgXcQ\u{e9}dQw4w9WgXcQ");
    assert_eq!(text, "\u{4e2d}[key]\u{e9}[key]");
}

#[test]
fn the_password_for_a_proxy_is_struck_out_and_the_name_alone_is_not() {
    let login = |user: &str, password: &str| Login {
        user: user.to_owned(),
        password: password.to_owned().into(),
    };
    let strike = |login: &Login, text: &str| {
        let mut text = text.to_owned();
        Strike::default()
            .secret("[key]", key().expose())
            .login("[password]", login)
            .text(&mut text);
        text
    };
    let known = login("everpost", "hun%ter2");
    let header = BASE64_STANDARD.encode("everpost:hun%ter2");
    for (text, kept) in [
        ("everpost:hun%ter2@proxy", "everpost:[password]@proxy"),
        ("everpost:hun%25ter2@proxy", "everpost:[password]@proxy"),
        (header.as_str(), "[password]"),
        (
            "the user everpost is unknown",
            "the user everpost is unknown",
        ),
    ] {
        let text = strike(&known, text);
        assert!(text.starts_with(kept), "{text}");
    }
    // Too short to be told from words, but not in the header.
    assert_eq!(
        strike(&login("me", "no"), "no, there is no way"),
        "no, there is no way"
    );
    let header = BASE64_STANDARD.encode("someone:abcd");
    assert!(!strike(&login("someone", "abcd"), &header).contains(&header[..12]));
    assert_eq!(strike(&login("me", "abcd"), "abc abcd"), "abc [password]");
    assert_eq!(strike(&login("", ""), "abc"), "abc");
}

#[test]
fn every_text_of_an_answer_is_struck() {
    let key = key();
    let text = || key.expose().to_owned();
    let mut answer = Answer {
        status: Some(400),
        request_id: Some(text()),
        errors: vec![text(), text()],
        warnings: vec![text()],
        detail: Some(text()),
    };
    Strike::default()
        .secret("[key]", key.expose())
        .answer(&mut answer);
    let kept = serde_json::to_string(&answer).unwrap();
    assert_eq!(
        kept,
        r#"{"status":400,"request_id":"[key]","errors":["[key]","[key]"],"warnings":["[key]"],"detail":"[key]"}"#
    );
}

/// How a text may be written.
#[derive(Clone, Copy, Debug)]
enum Writing {
    Plain,
    Upper,
    Percent,
    Json,
    Html,
    Hex,
}

impl Writing {
    fn of(self, text: &str) -> String {
        let each = |write: &dyn Fn(u8) -> String| text.bytes().map(write).collect();
        match self {
            Self::Plain => text.to_owned(),
            Self::Upper => text.to_uppercase(),
            Self::Percent => each(&|b| format!("%{b:02X}")),
            Self::Json => each(&|b| format!("\\u{b:04x}")),
            Self::Html => each(&|b| format!("&#{b};")),
            Self::Hex => each(&|b| format!("{b:02x}")),
        }
    }
}

fn writing() -> impl Strategy<Value = Writing> {
    use Writing::{Hex, Html, Json, Percent, Plain, Upper};
    proptest::sample::select(vec![Plain, Upper, Percent, Json, Html, Hex])
}

/// A key whose three parts are random, with the claims that make it one.
fn any_key() -> impl Strategy<Value = Key> {
    (any::<[u8; 24]>(), any::<[u8; 32]>(), "[a-z]{1,12}").prop_map(|(id, signature, channel)| {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let claims = format!(r#"{{"channel":"{channel}","jti":"{}"}}"#, part(&id));
        let header = part(br#"{"alg":"HS256","typ":"JWT"}"#);
        let text = format!("{header}.{}.{}", part(claims.as_bytes()), part(&signature));
        Key::parse(text).unwrap()
    })
}

proptest! {
    /// Any piece of any key, written in any way, between any texts: no eight letters of it stay.
    #[test]
    fn no_piece_of_any_key_stays(
        key in any_key(),
        at in any::<proptest::sample::Index>(),
        length in 8usize..200,
        writing in writing(),
        before in "[ -~\u{e9}]{0,40}",
        after in "[ -~\u{e9}]{0,40}",
    ) {
        let whole = key.expose();
        let from = at.index(whole.len() - 7);
        let piece = &whole[from..whole.len().min(from + length)];
        let written = writing.of(piece);
        // So that no noise makes another escape of what it stands beside.
        let kept = struck(&key, &format!("{before} {written} {after}"));
        let letter = written.len() / piece.len();
        for run in written.as_bytes().windows(8 * letter).step_by(letter) {
            let run = std::str::from_utf8(run).unwrap();
            prop_assert!(!kept.contains(run), "{run} in {kept}");
        }
    }

    /// The same in base64, wherever the key begins in what was encoded.
    #[test]
    fn no_base64_of_any_key_stays(
        key in any_key(),
        before in proptest::collection::vec(any::<u8>(), 0..20),
        after in proptest::collection::vec(any::<u8>(), 0..20),
        url_safe in any::<bool>(),
    ) {
        let whole = key.expose().as_bytes();
        let bytes = [&before, whole, &after].concat();
        let text = match url_safe {
            true => BASE64_URL_SAFE.encode(&bytes),
            false => BASE64_STANDARD.encode(&bytes),
        };
        let kept = struck(&key, &text);
        // The letters that hold nothing but bits of the key.
        let own = (before.len() * 8).div_ceil(6)..(before.len() + whole.len()) * 8 / 6;
        for run in text.as_bytes()[own].windows(8) {
            let run = std::str::from_utf8(run).unwrap();
            prop_assert!(!kept.contains(run), "{run} in {kept}");
        }
    }

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let kept = struck(&key(), &text);
        prop_assert_eq!(kept, text);
    }

    #[test]
    fn percent_encoding_is_undone(bytes in any::<String>()) {
        let encoded: String = bytes.bytes().map(|b| format!("%{b:02x}")).collect();
        prop_assert_eq!(percent_decoded(&encoded), bytes);
    }
}
