//! The keys the sandbox accepts.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A key in the form of the API's: three base64url parts, the middle one with the claims. The
/// last one is a text where a signature would be; a different mark makes a different key.
pub(super) fn forge(channel: &str, expires: Option<SystemTime>, mark: &str) -> String {
    let claims = match expires {
        Some(time) => json!({ "channel": channel, "exp": unix_secs(time) }),
        None => json!({ "channel": channel }),
    };
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(&claims.to_string()),
        part(mark)
    )
}

/// The keys that open the door.
#[derive(Default)]
pub(super) struct Keys {
    /// Each with the time it ends, if it has one.
    accepted: HashMap<String, Option<SystemTime>>,
    revoked: HashSet<String>,
    /// Beside these, every key of this channel opens the door that was not revoked.
    channel: Option<String>,
}

impl Keys {
    pub(super) fn accept(&mut self, key: String) {
        let expires = expiry(claims(&key).as_ref());
        self.revoked.remove(&key);
        self.accepted.insert(key, expires);
    }

    pub(super) fn accept_all_of(&mut self, channel: String) {
        self.channel = Some(channel);
    }

    pub(super) fn revoke(&mut self, key: &str) -> bool {
        let is_new = self.revoked.insert(key.to_owned());
        self.accepted.remove(key).is_some() || (is_new && self.channel.is_some())
    }

    /// Whether an `Authorization` header opens the door at this time, or why it does not. No
    /// reason holds any part of a key but the name of a channel.
    pub(super) fn admit(&self, header: Option<&str>, now: SystemTime) -> Result<(), String> {
        let header = header.ok_or("there is no readable Authorization header")?;
        let key = match header.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key,
            _ => return Err("the Authorization header is not `Bearer` and a key".to_owned()),
        };
        let expires = match (self.accepted.get(key), &self.channel) {
            (Some(expires), _) => *expires,
            (None, _) if self.revoked.contains(key) => {
                return Err("the key was revoked".to_owned());
            }
            (None, None) => return Err("the key is none that is accepted here".to_owned()),
            (None, Some(channel)) => expiry(Some(&of_channel(key, channel)?)),
        };
        match expires {
            Some(time) if time <= now => Err("the key has expired".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The claims of a key of this channel, or why it is none. Nothing is said about its signature.
fn of_channel(key: &str, channel: &str) -> Result<Value, String> {
    let parts = key.split('.').count();
    if parts != 3 {
        return Err(format!(
            "the key has not three parts with dots between them, but {parts}"
        ));
    }
    let claims = claims(key).ok_or("the second part of the key is not base64url of JSON")?;
    match claims.get("channel").and_then(Value::as_str) {
        Some(found) if found == channel => Ok(claims),
        Some(found) if is_name(found) => {
            Err(format!("the key is of the channel {found}, not {channel}"))
        }
        Some(_) => Err(format!("the key is of another channel than {channel}")),
        None => Err("the key names no channel".to_owned()),
    }
}

/// A claim is a part of the key, so only what looks like a channel is shown.
fn is_name(channel: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    channel.len() <= 40 && channel.bytes().all(allowed)
}

/// Keys are never shown, not even these.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.accepted.len())
    }
}

/// The claims of a key, if they can be read.
fn claims(key: &str) -> Option<Value> {
    let claims = key.split('.').nth(1)?.trim_end_matches('=');
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// The `exp` claim, if there is one.
fn expiry(claims: Option<&Value>) -> Option<SystemTime> {
    let seconds = claims?.get("exp")?.as_u64()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(key: &str) -> String {
        format!("Bearer {key}")
    }

    #[test]
    fn a_forged_key_has_three_parts_and_the_claims_of_its_channel() {
        let key = forge("universal", None, "1");
        let parts: Vec<&str> = key.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        assert_eq!(claims, br#"{"channel":"universal"}"#);
        assert_ne!(key, forge("universal", None, "2"));
    }

    #[test]
    fn only_accepted_keys_open_the_door_until_they_expire_or_are_revoked() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let good = forge("universal", None, "good");
        let brief = forge("universal", Some(now), "brief");
        let mut keys = Keys::default();
        keys.accept(good.clone());
        keys.accept(brief.clone());
        keys.accept("plain".to_owned());

        assert_eq!(keys.admit(Some(&bearer(&good)), now), Ok(()));
        assert_eq!(keys.admit(Some("bearer plain"), now), Ok(()));
        let expired = keys.admit(Some(&bearer(&brief)), now);
        assert_eq!(expired, Err("the key has expired".to_owned()));
        let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(keys.admit(Some(&bearer(&brief)), earlier), Ok(()));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer other",
            "Token plain",
            "plain",
        ] {
            assert!(keys.admit(Some(bad), now).is_err(), "{bad}");
        }
        assert!(keys.admit(None, now).is_err());

        assert!(keys.revoke(&good));
        assert!(!keys.revoke(&good));
        assert!(keys.admit(Some(&bearer(&good)), now).is_err());
        assert_eq!(format!("{keys:?}"), "Keys(2)");
    }

    /// A bot under test carries a key of its own; the sandbox knew only the one it had made up.
    #[test]
    fn every_key_of_the_channel_opens_the_door_where_that_is_wanted() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let mut keys = Keys::default();
        keys.accept_all_of("universal".to_owned());
        let of = |channel: &str| forge(channel, None, "a bot's own");
        assert_eq!(keys.admit(Some(&bearer(&of("universal"))), now), Ok(()));
        let padded = format!(
            "e30.{}=.x",
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"channel":"universal"}"#)
        );
        assert_eq!(keys.admit(Some(&bearer(&padded)), now), Ok(()));
        for (key, why) in [
            (of("rasa"), "the key is of the channel rasa, not universal"),
            (
                of("a\u{1b}[2J"),
                "the key is of another channel than universal",
            ),
            (
                "a.b".to_owned(),
                "the key has not three parts with dots between them, but 2",
            ),
            (
                "a.b.c".to_owned(),
                "the second part of the key is not base64url of JSON",
            ),
            ("a.e30.c".to_owned(), "the key names no channel"),
            (forge("universal", Some(now), "old"), "the key has expired"),
        ] {
            assert_eq!(keys.admit(Some(&bearer(&key)), now), Err(why.to_owned()));
        }
        assert!(keys.revoke(&of("universal")));
        assert!(!keys.revoke(&of("universal")));
        let revoked = keys.admit(Some(&bearer(&of("universal"))), now);
        assert_eq!(revoked, Err("the key was revoked".to_owned()));
    }
}
