//! The intake of events as JSON: alone, and as a line of `import`.

use bytes::Bytes;

use everpost::control::wire::Entry;
use everpost::internals::{decode_run, encode_run};
use everpost::{Error, Event};

/// A text that may be an event, as `append` takes it, and that may be an entry, as `import` does.
pub fn event_json(bytes: &[u8]) {
    match Event::json(Bytes::copy_from_slice(bytes)) {
        Ok(event) => check(bytes, &event),
        Err(error) => check_refusal(bytes, &error),
    }
    entry(bytes);
}

fn check(bytes: &[u8], event: &Event) {
    assert_eq!(event.json_bytes(), bytes, "a byte was changed");
    assert!(std::str::from_utf8(bytes).is_ok());
    let raw = serde_json::from_slice::<&serde_json::value::RawValue>(bytes);
    assert!(raw.is_ok_and(|raw| !raw.get().is_empty()));
    let run = encode_run(7, std::slice::from_ref(event));
    let read = decode_run(run).unwrap_or_default();
    assert!(
        read.len() == 1
            && read
                .iter()
                .all(|stored| stored.seq == 7 && stored.event == *event)
    );
    check_line(event);
}

/// A text that a JSON reader of the stricter kind takes is not refused, and a refusal repeats
/// nothing of the text.
fn check_refusal(bytes: &[u8], error: &Error) {
    assert!(matches!(error, Error::InvalidEvent { .. }), "{error:?}");
    let value = serde_json::from_slice::<serde_json::Value>(bytes);
    assert!(value.is_err(), "JSON was refused: {error}");
    let said = error.to_string();
    assert!(said.is_ascii() && said.len() < 120, "{said}");
}

/// What `export` writes of an event is one line, which `import` takes for the same event.
fn check_line(event: &Event) {
    let line = Entry::new(event).map(|entry| serde_json::to_vec(&entry));
    let Ok(Ok(line)) = line else {
        panic!("an event cannot be exported: {line:?}");
    };
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let Ok(back) = Entry::parse(&line).and_then(Entry::into_event) else {
        panic!("what was exported is not imported");
    };
    assert_eq!((back.id(), back.time_ms()), (event.id(), event.time_ms()));
    let blank = |byte: &u8| {
        if matches!(byte, b'\n' | b'\r') {
            b' '
        } else {
            *byte
        }
    };
    let text: Vec<u8> = event.json_bytes().iter().map(blank).collect();
    assert_eq!(back.json_bytes(), text.trim_ascii());
}

fn entry(bytes: &[u8]) {
    match Entry::parse(bytes).and_then(Entry::into_event) {
        Ok(event) => {
            check(&event.json_bytes().clone(), &event);
            let text = event.json_bytes();
            let there = bytes.windows(text.len()).any(|window| window == text);
            assert!(there, "the event of an entry is not in its line");
        }
        Err(error) => {
            assert!(matches!(error, Error::InvalidEvent { .. }), "{error:?}");
            let said = error.to_string();
            assert!(said.is_ascii() && said.len() < 200, "{said}");
        }
    }
}
