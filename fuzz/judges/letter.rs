//! The decoder of dead letters.

use everpost::DeadLetter;
use everpost::internals::{decode_letter as decode, encode_letter as encode, is_sent_again};

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
    let Some(same) = encode(&letter, copy) else {
        panic!("a letter that cannot be written");
    };
    assert_eq!(same.len(), body.len());
    // The same letter, but for times beyond those that are ever written: the last of them stands in
    // their place. From there on nothing changes any more.
    let Some(second) = decode(7, &same) else {
        panic!("a letter that cannot be read again");
    };
    let content = |letter: &DeadLetter| {
        let event = (letter.event.id(), letter.event.json_bytes().clone());
        (event, letter.cause, letter.answer.clone(), letter.attempts)
    };
    assert_eq!(content(&second), content(&letter));
    assert_eq!(encode(&second, copy).as_ref(), Some(&same));
    // That a person sent it again is no part of a letter.
    if second == letter && !is_sent_again(&letter.event) {
        assert_eq!(same, body);
    }
}
