//! The events of the workloads: each can be made again from its name alone, so a program that reads one
//! back can tell whether it was altered.

use std::time::{Duration, UNIX_EPOCH};

use everpost::{Error, Event, EventId};
use serde::{Deserialize, Serialize};

/// The name of an event: which producer made it, and as which of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Name {
    pub(crate) producer: u64,
    pub(crate) number: u64,
}

/// Producers from here on make large events.
pub(crate) const LARGE_FROM: u64 = 0x800;

/// Producers from here on make large events that repeat themselves.
pub(crate) const WORDY_FROM: u64 = 0xc00;

const WORDS: [&str; 4] = [
    "where is my order, ",
    "once again ",
    "please ",
    "thank you! ",
];

/// An event's place in an append of several: its index and how many there are.
pub(crate) type Group = (u64, u64);

#[derive(Deserialize)]
struct Body {
    p: u64,
    k: u64,
    g: Group,
}

/// The event of that name.
pub(crate) fn event(seed: u64, name: Name, group: Group) -> Result<Event, Error> {
    let Name { producer, number } = name;
    let mut rng = fastrand::Rng::with_seed(seed ^ (producer << 40) ^ number);
    // Half of the text is random, so that chunks are compressed to about the half.
    let len = match producer {
        LARGE_FROM.. => rng.usize(1_000..3_500),
        _ => rng.usize(20..900),
    };
    let pad: String = match producer {
        // The quick level that the journal packs with needs whole words that come again.
        WORDY_FROM.. => (0..len / 12).map(|_| WORDS[rng.usize(0..4)]).collect(),
        _ => (0..len).map(|_| rng.char('a'..='p')).collect(),
    };
    let (index, count) = group;
    let json = format!(r#"{{"p":{producer},"k":{number},"g":[{index},{count}],"x":"{pad}"}}"#);
    let id: EventId = format!("00000000-0000-7000-8{producer:03x}-{number:012x}").parse()?;
    let time = UNIX_EPOCH + Duration::from_millis(1_000_000 + number);
    Ok(Event::json(json)?.with_id(id).with_time(time))
}

/// The name of an event; `None` if any bit of it is not as it was made.
pub(crate) fn recognise(seed: u64, found: &Event) -> Option<(Name, Group)> {
    let body: Body = serde_json::from_slice(found.json_bytes()).ok()?;
    let name = Name {
        producer: body.p,
        number: body.k,
    };
    let made = event(seed, name, body.g).ok()?;
    (made == *found).then_some((name, body.g))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_event_is_not_recognised() {
        let name = Name {
            producer: 3,
            number: 7,
        };
        let good = event(1, name, (0, 1)).unwrap();
        assert_eq!(recognise(1, &good), Some((name, (0, 1))));
        let text = String::from_utf8(good.json_bytes().to_vec()).unwrap();
        let changed = text.replacen("\"x\":\"", "\"x\":\"q", 1);
        let changed = Event::json(changed).unwrap().with_id(good.id());
        assert_eq!(recognise(1, &changed), None);
        let other = event(1, Name { number: 8, ..name }, (0, 1)).unwrap();
        assert_eq!(recognise(1, &good.with_id(other.id())), None);
    }
}
