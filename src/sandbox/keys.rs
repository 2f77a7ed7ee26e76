//! The keys the sandbox accepts.

use std::collections::HashMap;
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

/// The keys that open the door, each with the time it ends, if it has one.
#[derive(Default)]
pub(super) struct Keys(HashMap<String, Option<SystemTime>>);

impl Keys {
    pub(super) fn accept(&mut self, key: String) {
        let expires = expiry(&key);
        self.0.insert(key, expires);
    }

    pub(super) fn revoke(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// Whether an `Authorization` header opens the door at this time.
    pub(super) fn admit(&self, header: Option<&str>, now: SystemTime) -> bool {
        let Some((scheme, key)) = header.and_then(|header| header.split_once(' ')) else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer")
            && self
                .0
                .get(key)
                .is_some_and(|expires| expires.is_none_or(|time| now < time))
    }
}

/// Keys are never shown, not even these.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// The `exp` claim, if the key has readable claims with one.
fn expiry(key: &str) -> Option<SystemTime> {
    let claims = key.split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?.as_u64()?;
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

        assert!(keys.admit(Some(&bearer(&good)), now));
        assert!(keys.admit(Some("bearer plain"), now));
        assert!(!keys.admit(Some(&bearer(&brief)), now));
        let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
        assert!(keys.admit(Some(&bearer(&brief)), earlier));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer other",
            "Token plain",
            "plain",
        ] {
            assert!(!keys.admit(Some(bad), now), "{bad}");
        }
        assert!(!keys.admit(None, now));

        assert!(keys.revoke(&good));
        assert!(!keys.revoke(&good));
        assert!(!keys.admit(Some(&bearer(&good)), now));
        assert_eq!(format!("{keys:?}"), "Keys(2)");
    }
}
