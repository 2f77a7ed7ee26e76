//! The decoder of dead letters.

use crate::log::letter::{VERSION, decode, encode};

/// A dead letter behind its version.
pub fn letter(body: &[u8]) {
    let Some(letter) = decode(7, body) else {
        return;
    };
    assert!(!letter.event.json_bytes().is_empty());
    // The first number of the head is not kept: how often such a letter was removed.
    let Some((_, [a, b, c, d, ..])) = body.split_at_checked(4) else {
        panic!("a letter without a head");
    };
    let copy = u32::from_le_bytes([*a, *b, *c, *d]);
    let again = encode(&letter, copy).unwrap_or_default();
    assert_eq!(again.split_first(), Some((&VERSION, body)));
}
