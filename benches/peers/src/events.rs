//! The bytes that are appended: the same for every system.

use bytes::Bytes;

/// How large an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// A message of a chat as JSON, 300 bytes on the average.
    Chat,
    /// 64 bytes of JSON.
    Small,
    /// 4 KiB of JSON.
    Large,
}

impl Size {
    /// What is put behind the name of a case.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Chat => "",
            Self::Small => "/64B",
            Self::Large => "/4KiB",
        }
    }
}

const WORDS: &[&str] = &[
    "where",
    "is",
    "my",
    "order",
    "please",
    "the",
    "parcel",
    "has",
    "not",
    "arrived",
    "yet",
    "can",
    "you",
    "change",
    "address",
    "to",
    "a",
    "new",
    "one",
    "I",
    "would",
    "like",
    "cancel",
    "thanks",
    "for",
    "your",
    "help",
    "when",
    "will",
    "it",
    "be",
    "delivered",
    "invoice",
    "refund",
    "payment",
    "failed",
    "again",
    "today",
    "tomorrow",
    "morning",
    "agent",
    "speak",
    "with",
    "someone",
    "size",
    "colour",
    "blue",
    "return",
    "shop",
    "open",
    "hours",
    "Sunday",
    "discount",
    "code",
    "does",
    "work",
];

/// Different events of one size, in the same order on every run. Producers go round in them.
pub(crate) fn pool(size: Size, count: usize) -> Vec<Bytes> {
    let mut random = fastrand::Rng::with_seed(7);
    let texts = match size {
        Size::Chat => chats(&mut random, count),
        Size::Small => (0..count).map(|_| small(&mut random)).collect(),
        Size::Large => (0..count).map(|_| large(&mut random)).collect(),
    };
    texts.into_iter().map(Bytes::from).collect()
}

fn id(random: &mut fastrand::Rng) -> String {
    format!("{:016x}", random.u64(..))
}

fn words(random: &mut fastrand::Rng, bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(random.choice(WORDS).copied().unwrap_or("yes"));
    }
    text
}

/// A conversation that goes on while others do: its ids come again in each of its messages.
struct Conversation {
    thread: String,
    sender: String,
}

/// Messages of 200 conversations, mixed, in the order of time.
fn chats(random: &mut fastrand::Rng, count: usize) -> Vec<String> {
    let conversations: Vec<Conversation> = (0..200)
        .map(|_| Conversation {
            thread: id(random),
            sender: id(random),
        })
        .collect();
    let mut time_ms = 1_700_000_000_000_u64;
    (0..count)
        .filter_map(|_| {
            time_ms += random.u64(1..200);
            let conversation = random.choice(&conversations)?;
            Some(chat(random, conversation, time_ms))
        })
        .collect()
}

fn chat(random: &mut fastrand::Rng, conversation: &Conversation, time_ms: u64) -> String {
    let length = random.usize(20..110);
    let Conversation { thread, sender } = conversation;
    format!(
        r#"{{"id":"{}","thread":"{thread}","message":{{"timestamp":{time_ms},"sender":{{"id":"{sender}","type":"user"}},"locale":"en","content":{{"text":"{}"}},"nlu":{{"intent":"{}"}}}},"channel":"web","version":{}}}"#,
        id(random),
        words(random, length),
        words(random, 8),
        random.u32(1..9),
    )
}

fn small(random: &mut fastrand::Rng) -> String {
    let mut text = format!(r#"{{"id":"{}","text":"{}"#, id(random), words(random, 20));
    text.truncate(62);
    format!(r#"{text:x<62}"}}"#)
}

fn large(random: &mut fastrand::Rng) -> String {
    let mut text = format!(r#"{{"id":"{}","text":"{}"#, id(random), words(random, 4096));
    text.truncate(4094);
    format!(r#"{text}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_of_the_size_they_say() {
        for (size, least, most) in [
            (Size::Chat, 270, 330),
            (Size::Small, 64, 64),
            (Size::Large, 4096, 4096),
        ] {
            let pool = pool(size, 1000);
            let bytes: usize = pool.iter().map(Bytes::len).sum();
            let average = bytes / pool.len();
            assert!((least..=most).contains(&average), "{size:?}: {average}");
            for event in pool {
                everpost::Event::json(event).unwrap();
            }
        }
    }
}
