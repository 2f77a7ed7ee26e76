//! What Standard Webhooks sign, and with what
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): the
//! one door to HMAC.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::zeroize::Zeroizing;

/// The headers: the name of the request, when it was sent in seconds since 1970, and its signatures
/// with blanks between them.
pub(crate) const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// A key to sign with.
pub(crate) type Key = Zeroizing<Vec<u8>>;

/// The keys in a text: each `whsec_` and base64, with white space between them. None if one of them is
/// not, or is shorter than 16 bytes or longer than 128.
pub(crate) fn keys(text: &str) -> Option<Vec<Key>> {
    let key = |word: &str| {
        let encoded = word.strip_prefix("whsec_")?;
        let key = Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
        (16..=128).contains(&key.len()).then_some(key)
    };
    text.split_whitespace().map(key).collect()
}

/// `v1,` and base64 of the HMAC-SHA256 of the name, the time and the body. None in a build that
/// cannot sign.
pub(crate) fn signature(key: &Key, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    Some(format!("v1,{}", BASE64_STANDARD.encode(mac(key, &parts)?)))
}

#[cfg(feature = "signatures")]
fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Vec<u8>> {
    use ring::hmac;

    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    Some(context.sign().as_ref().to_vec())
}

#[cfg(not(feature = "signatures"))]
fn mac(_: &[u8], _: &[&[u8]]) -> Option<Vec<u8>> {
    None
}
