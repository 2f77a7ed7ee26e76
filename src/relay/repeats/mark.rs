//! What something is known by when it comes again.
//!
//! Only digests are kept: neither a key nor an id nor any part of a message can be read from one.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use ring::digest::{Context, SHA256, digest};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Event;
use crate::id::EventId;
use crate::relay::Origin;

/// The header that names a request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Characters that a key may have.
const KEY_LENGTH_MAX: usize = 255;

/// Bytes of a name.
pub(super) const NAME_BYTES: usize = 16;

/// Bytes of a fingerprint.
pub(super) const FINGERPRINT_BYTES: usize = 8;

/// The digest of a key or of an id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) [u8; NAME_BYTES]);

/// The digest of a content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) [u8; FINGERPRINT_BYTES]);

/// What something is known by, and what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) struct Mark {
    pub(super) name: Name,
    pub(super) fingerprint: Fingerprint,
}

/// The key that a client gave to a request.
#[derive(Clone, Copy)]
pub(in crate::relay) struct Key(Name);

/// A request under a key.
#[derive(Clone, Copy)]
pub(in crate::relay) struct Request {
    mark: Mark,
    /// What the ids of its events are made from.
    seed: [u8; 32],
}

impl Key {
    /// The key of a request, if it has one. Those of web pages, each origin for itself, are others than
    /// those of programs: a page shows its token, and what any visitor can send must not take a key
    /// away that a bot is about to use.
    ///
    /// # Errors
    /// What is wrong with the header, without any of it.
    pub(in crate::relay) fn of(
        headers: &HeaderMap,
        page: Option<&Origin>,
    ) -> Result<Option<Self>, String> {
        let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
        let wrong = || {
            format!(
                "Idempotency-Key must be one header of 1 to {KEY_LENGTH_MAX} visible ASCII characters."
            )
        };
        match (given.next(), given.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                let text = value.to_str().ok();
                let key = text.and_then(|text| Self::parse(text, page));
                key.map(Some).ok_or_else(wrong)
            }
            (Some(_), Some(_)) => Err(wrong()),
        }
    }

    pub(super) fn parse(text: &str, page: Option<&Origin>) -> Option<Self> {
        let is_fit = (1..=KEY_LENGTH_MAX).contains(&text.len());
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_fit && is_visible).then(|| {
            Self(Name(match page {
                None => digest_of("key", text.as_bytes(), &[]),
                Some(origin) => {
                    let origin = digest(&SHA256, origin.as_str().as_bytes());
                    digest_of("page", text.as_bytes(), origin.as_ref())
                }
            }))
        })
    }

    /// The request with this body that came under the key.
    pub(in crate::relay) fn of_request(self, channel: &str, body: &[u8]) -> Request {
        let body = digest(&SHA256, body);
        Request {
            mark: Mark {
                name: self.0,
                fingerprint: Fingerprint(first(body.as_ref())),
            },
            seed: {
                let mut seed = Context::new(&SHA256);
                for part in [
                    b"events\0",
                    channel.as_bytes(),
                    b"\0",
                    &self.0.0,
                    body.as_ref(),
                ] {
                    seed.update(part);
                }
                first(seed.finish().as_ref())
            },
        }
    }
}

impl Request {
    pub(in crate::relay) fn mark(&self) -> Mark {
        self.mark
    }

    /// The id of the event in this place of the request, which is the same whenever it comes: of
    /// version 8, and of the key and the whole body, so that a key that is used for something else
    /// one day makes other ids.
    pub(in crate::relay) fn event_id(&self, place: usize) -> EventId {
        let mut id = Context::new(&SHA256);
        id.update(&self.seed);
        id.update(&(place as u64).to_le_bytes());
        let bytes = first(id.finish().as_ref());
        EventId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl Mark {
    /// That of a message by its own `id`, if that is a text. The content is part of the name: other
    /// bytes under the same id are another message, and neither makes the relay forget the other.
    pub(in crate::relay) fn of_message(event: &Event) -> Option<Self> {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
        }
        let bytes = event.json_bytes();
        let object: Object<'_> = serde_json::from_slice(bytes).ok()?;
        let id: String = serde_json::from_str(object.id?.get()).ok()?;
        let content = digest(&SHA256, bytes);
        (!id.is_empty()).then(|| Self {
            name: Name(digest_of("message", id.as_bytes(), content.as_ref())),
            fingerprint: Fingerprint(first(content.as_ref())),
        })
    }
}

/// The digest of a text of some kind, and of what belongs to it, which is of fixed length.
fn digest_of(kind: &str, text: &[u8], more: &[u8]) -> [u8; NAME_BYTES] {
    let mut context = Context::new(&SHA256);
    for part in [kind.as_bytes(), b"\0", more, text] {
        context.update(part);
    }
    first(context.finish().as_ref())
}

/// The first bytes of a digest, of which there are enough.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = *from;
    }
    bytes
}

/// Digests are of no use to a person.
macro_rules! hidden {
    ($($kind:ident),*) => {
        $(impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($kind), "(..)"))
            }
        })*
    };
}

hidden!(Name, Fingerprint, Key, Request);

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_one_header_of_visible_characters() {
        assert!(Key::of(&headers(&[]), None).unwrap().is_none());
        let longest = [b'x'; KEY_LENGTH_MAX];
        for good in [&b"a"[..], b"\"8e03978e-40d5\"", b"!~", &longest] {
            assert!(Key::of(&headers(&[good]), None).unwrap().is_some());
        }
        let long = [b'x'; KEY_LENGTH_MAX + 1];
        for bad in [
            &[&b""[..]][..],
            &[b"a b"],
            &[b"\xc3\xa9"],
            &[&long],
            &[b"a", b"a"],
        ] {
            let error = Key::of(&headers(bad), None).unwrap_err();
            assert!(error.contains("1 to 255 visible"), "{error}");
        }
    }

    #[test]
    fn a_page_has_keys_of_its_own() {
        let [one, other] = ["https://a.example", "https://b.example"].map(|text| text.parse().ok());
        let key = |page: Option<&Origin>| Key::parse("k", page).unwrap().0;
        assert!(one.is_some() && key(one.as_ref()) == key(one.as_ref()));
        assert!(key(one.as_ref()) != key(other.as_ref()) && key(one.as_ref()) != key(None));
    }

    #[test]
    fn ids_follow_from_channel_key_body_and_place_and_from_nothing_else() {
        let key = |text| Key::parse(text, None).unwrap();
        let request = key("k").of_request("universal", b"{}");
        let again = key("k").of_request("universal", b"{}");
        assert_eq!(request.event_id(3), again.event_id(3));
        assert_eq!(request.event_id(3).as_uuid().get_version_num(), 8);
        assert_ne!(request.event_id(3), request.event_id(4));
        for other in [
            key("l").of_request("universal", b"{}"),
            key("k").of_request("rasa", b"{}"),
            key("k").of_request("universal", b"{} "),
        ] {
            assert_ne!(request.event_id(3), other.event_id(3));
        }
        assert_eq!(
            format!("{:?} {:?}", key("k"), request),
            "Key(..) Request(..)"
        );
    }

    #[test]
    fn a_message_is_known_by_its_id_and_its_bytes_together() {
        let mark = |text: &str| Mark::of_message(&Event::json(text.to_owned()).unwrap());
        let one = mark(r#"{"id":"a","x":1}"#);
        assert!(one.is_some() && one == mark(r#"{"id":"a","x":1}"#));
        for other in [
            r#"{"id":"b","x":1}"#,
            r#"{"id":"a","x":2}"#,
            r#"{"id":"a", "x":1}"#,
        ] {
            assert!(mark(other).is_some() && mark(other) != one, "{other}");
        }
        for none in [
            r#"{"x":1}"#,
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            r#"{"id":null}"#,
        ] {
            assert_eq!(mark(none), None, "{none}");
        }
        // A request under a key of the same text is something else.
        let request = Key::parse("a", None)
            .unwrap()
            .of_request("c", br#"{"id":"a","x":1}"#);
        assert_ne!(Some(request.mark().name), one.map(|mark| mark.name));
    }
}
