//! Which dead letters are meant, and which of them are alike.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::control::answer::Refusal;
use crate::dead::{Cause, DeadLetter};
use crate::outcome::Answer;

/// Bytes of a text to search for.
const QUERY_BYTES_MAX: usize = 256;

/// Characters shown of what letters of a group have in common.
const TEXT_MAX: usize = 200;

/// Where a text is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Where {
    /// In what is known of a letter beside its event.
    #[default]
    Answers,
    /// In the event.
    Content,
    Both,
}

/// What is asked for. Without anything it lets all through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) cause: Option<Cause>,
    /// The HTTP status of the answer; 0 for none.
    pub(super) status: Option<u16>,
    pub(super) group: Option<Uuid>,
    pub(super) q: Option<String>,
    pub(super) r#in: Where,
}

impl Filter {
    /// Ready to be used, if it is one that can be.
    pub(super) fn ready(self) -> Result<Sieve, Refusal> {
        let text = self.q.clone().filter(|text| !text.is_empty());
        if text
            .as_ref()
            .is_some_and(|text| text.len() > QUERY_BYTES_MAX)
        {
            return Err(Refusal::bad_request(format!(
                "`q` is too long. max_bytes=`{QUERY_BYTES_MAX}`"
            )));
        }
        let escaped = text.as_deref().map(escaped);
        Ok(Sieve {
            filter: self,
            text,
            escaped,
        })
    }
}

/// A [`Filter`] in use.
#[derive(Clone, Debug)]
pub(super) struct Sieve {
    filter: Filter,
    text: Option<String>,
    /// The text as JSON may have it, if that is another.
    escaped: Option<String>,
}

impl Sieve {
    /// Whether it looks into events.
    pub(super) fn reads_content(&self) -> bool {
        self.text.is_some() && self.filter.r#in != Where::Answers
    }

    /// Whether a letter is let through, its group aside.
    pub(super) fn lets_through(&self, letter: &DeadLetter) -> bool {
        let Filter { cause, status, .. } = self.filter;
        cause.is_none_or(|cause| cause == letter.cause)
            && status.is_none_or(|status| status == letter.answer.status.unwrap_or(0))
            && self
                .text
                .as_deref()
                .is_none_or(|text| self.finds(text, letter))
    }

    /// Whether a letter of this group is.
    pub(super) fn is_of_group(&self, group: Uuid) -> bool {
        self.filter.group.is_none_or(|wanted| wanted == group)
    }

    /// Whether a letter is let through.
    pub(super) fn takes(&self, letter: &DeadLetter) -> bool {
        self.lets_through(letter)
            && (self.filter.group.is_none() || self.is_of_group(Kinship::of(letter).group()))
    }

    fn finds(&self, text: &str, letter: &DeadLetter) -> bool {
        let answers = || {
            let Answer {
                status,
                request_id,
                errors,
                warnings,
                detail,
            } = &letter.answer;
            let (id, seq) = (letter.event.id().to_string(), letter.seq.to_string());
            let status = status.map(|status| format!("HTTP {status}"));
            [Some(id), Some(seq), status]
                .iter()
                .flatten()
                .chain(errors)
                .chain(warnings)
                .chain(detail)
                .chain(request_id)
                .any(|said| contains(said.as_bytes(), text))
        };
        let content = || {
            let json = letter.event.json_bytes();
            let escaped = self.escaped.as_deref();
            contains(json, text) || escaped.is_some_and(|escaped| contains(json, escaped))
        };
        match self.filter.r#in {
            Where::Answers => answers(),
            Where::Content => content(),
            Where::Both => answers() || content(),
        }
    }
}

/// Whether the text is in there; letters of ASCII are alike in upper and lower case.
fn contains(bytes: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    let Some(first) = text.first().map(u8::to_ascii_lowercase) else {
        return true;
    };
    bytes
        .windows(text.len())
        .any(|window| window[0].to_ascii_lowercase() == first && window.eq_ignore_ascii_case(text))
}

/// The text as a JSON string has it where every letter beyond ASCII is escaped, as Python does.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            ' '..='~' => escaped.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

/// What letters have in common that were answered alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kinship {
    pub(super) cause: Cause,
    pub(super) status: Option<u16>,
    /// What was said first, without its numbers.
    pub(super) text: String,
}

impl Kinship {
    pub(super) fn of(letter: &DeadLetter) -> Self {
        let answer = &letter.answer;
        let said = answer.errors.first().or(answer.detail.as_ref());
        Self {
            cause: letter.cause,
            status: answer.status,
            text: said.map_or_else(String::new, |said| without_numbers(said)),
        }
    }

    /// A name that is the same in every process.
    pub(super) fn group(&self) -> Uuid {
        /// Names the space that they are made in; any fixed UUID would do.
        const SPACE: Uuid = Uuid::from_u128(0x6576_6572_706f_7374_8000_6772_6f75_7073);
        let Self {
            cause,
            status,
            text,
        } = self;
        let cause = match cause {
            Cause::Refused => "refused",
            Cause::TooLarge => "too_large",
            Cause::Expired => "expired",
        };
        let status = status.unwrap_or(0);
        Uuid::new_v5(&SPACE, format!("{cause} {status} {text}").as_bytes())
    }
}

/// A text with `#` for each number and each id, so that what differs in nothing else is the same.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, plain: &mut String| {
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        let is_hex = word.len() >= 8
            && word
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if has_digit && is_hex {
            plain.push('#');
        } else {
            for c in word.chars() {
                match c {
                    '0'..='9' if plain.ends_with('#') => {}
                    '0'..='9' => plain.push('#'),
                    c => plain.push(c),
                }
            }
        }
        word.clear();
    };
    for c in text.chars().take(TEXT_MAX) {
        if c.is_ascii_alphanumeric() || c == '-' {
            word.push(c);
        } else {
            flush(&mut word, &mut plain);
            plain.push(c);
        }
    }
    flush(&mut word, &mut plain);
    plain
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::event::Event;

    fn letter(json: &'static str, answer: Answer) -> DeadLetter {
        DeadLetter {
            seq: 7,
            event: Event::json(json).unwrap(),
            cause: Cause::Refused,
            answer,
            attempts: 1,
            first_attempt: SystemTime::UNIX_EPOCH,
            last_attempt: SystemTime::UNIX_EPOCH,
        }
    }

    fn sieve(filter: Filter) -> Sieve {
        filter.ready().unwrap()
    }

    #[test]
    fn what_differs_in_numbers_alone_is_one_group() {
        for (one, other) in [
            (
                "messages[0].text is missing",
                "messages[17].text is missing",
            ),
            (
                "id 0199f3c2-7d5b-7000-8000-0000000000aa is taken",
                "id 0199f3c2-7d5b-7abc-8def-00000000ffee is taken",
            ),
            ("after 12 s", "after 3 s"),
        ] {
            assert_eq!(without_numbers(one), without_numbers(other));
        }
        assert_ne!(
            without_numbers("a is missing"),
            without_numbers("b is missing")
        );
        let [a, b] =
            [400, 413].map(|status| Kinship::of(&letter("1", Answer::from_status(status))).group());
        assert_ne!(a, b);
        let known = Kinship {
            cause: Cause::Refused,
            status: Some(400),
            text: "x".to_owned(),
        };
        assert_eq!(
            known.group().to_string(),
            "68cf1347-9594-53fa-8099-e35c6d97cdcc",
            "the same in every version: it is in bookmarks"
        );
    }

    #[test]
    fn a_text_is_found_in_answers_and_in_events_only_where_it_is_looked_for() {
        let mut answer = Answer::from_status(400);
        answer.errors = vec!["Bad Zone".to_owned()];
        let letter = letter(r#"{"a":"caf\u00e9 <b>","c":"X"}"#, answer);
        let takes = |q: &str, r#in: Where| {
            let q = Some(q.to_owned());
            sieve(Filter {
                q,
                r#in,
                ..Filter::default()
            })
            .takes(&letter)
        };
        for q in ["bad zone", "HTTP 400", "7", &letter.event.id().to_string()] {
            assert!(takes(q, Where::Answers) && takes(q, Where::Both), "{q}");
        }
        for q in ["caf\u{e9}", "<B>", "caf\\u00e9"] {
            assert!(takes(q, Where::Content) && takes(q, Where::Both), "{q}");
            assert!(!takes(q, Where::Answers), "{q}");
        }
        assert!(!takes("bad zone", Where::Content));
        let long = Some("x".repeat(QUERY_BYTES_MAX + 1));
        assert!(
            Filter {
                q: long,
                ..Filter::default()
            }
            .ready()
            .is_err()
        );
    }

    #[test]
    fn every_part_of_a_filter_counts() {
        let letter = letter("1", Answer::from_status(400));
        let group = Kinship::of(&letter).group();
        let all = Filter {
            cause: Some(Cause::Refused),
            status: Some(400),
            group: Some(group),
            q: Some("http".to_owned()),
            ..Filter::default()
        };
        assert!(sieve(all.clone()).takes(&letter));
        for other in [
            Filter {
                cause: Some(Cause::Expired),
                ..all.clone()
            },
            Filter {
                status: Some(0),
                ..all.clone()
            },
            Filter {
                group: Some(Uuid::nil()),
                ..all.clone()
            },
            Filter {
                q: Some("no".to_owned()),
                ..all.clone()
            },
        ] {
            assert!(!sieve(other.clone()).takes(&letter), "{other:?}");
        }
    }
}
