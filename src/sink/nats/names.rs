//! What streams and subjects are called, and which partition a spool is in.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// More partitions than any fleet needs; each is a subject of the stream.
const PARTITIONS_MAX: u16 = 512;
/// Of a name, in characters.
const NAME_MAX: usize = 64;

/// The name of a spool in its stream: letters, digits, `-` and `_`, not `_` first, 64 at the most. No
/// two spools of a stream have the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Spool(String);

impl Spool {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Spool {
    type Err = Error;

    /// # Errors
    /// [`Error::Sink`] if it is no such name.
    fn from_str(text: &str) -> Result<Self, Error> {
        if is_name(text) && !text.starts_with('_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong(
                "a spool is named in a stream by letters, digits, `-` and `_`, not `_` first, 64 at the most",
            ))
        }
    }
}

impl TryFrom<String> for Spool {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Spool> for String {
    fn from(spool: Spool) -> Self {
        spool.0
    }
}

/// What the streams of a fleet and the subjects in them are called. Of the stream `EVENTS`:
///
/// | stream | subject | one message is |
/// | --- | --- | --- |
/// | `EVENTS` | `events.<partition>.<spool>` | an event |
/// | `EVENTS` | `events.<partition>._again.<seq>` | a dead letter that a person sent again |
/// | `EVENTS_CURSORS` | `events_cursors.<partition>` | how far a partition is delivered, and by which worker |
/// | `EVENTS_DEAD` | `events_dead.<partition>.<seq>` | a dead letter |
///
/// `<seq>` is the place in `EVENTS` of the event that is dead. How many partitions there are is
/// decided when the stream is made and stays for ever: a spool that changed its partition would lose
/// its order.
///
/// ```
/// use everpost::nats::Names;
///
/// let names = Names::new("EVENTS", 64)?;
/// let subject = names.event_subject(&"sensor-7".parse()?);
/// assert_eq!(subject, "events.15.sensor-7");
/// # Ok::<(), everpost::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Names {
    stream: String,
    prefix: String,
    partitions: NonZeroU16,
}

/// As it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    stream: String,
    partitions: u16,
}

impl TryFrom<Raw> for Names {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self, Error> {
        Self::new(&raw.stream, raw.partitions)
    }
}

impl From<Names> for Raw {
    fn from(names: Names) -> Self {
        Self {
            stream: names.stream,
            partitions: names.partitions.get(),
        }
    }
}

/// The stream that `fleet setup` makes unless it is told otherwise.
impl Default for Names {
    fn default() -> Self {
        Self {
            stream: Self::STREAM.to_owned(),
            prefix: Self::STREAM.to_ascii_lowercase(),
            partitions: NonZeroU16::new(Self::PARTITIONS).unwrap_or(NonZeroU16::MIN),
        }
    }
}

impl Names {
    /// The stream that `fleet setup` makes unless another is named.
    pub const STREAM: &str = "EVENTS";
    /// How many partitions it has unless another number is given.
    pub const PARTITIONS: u16 = 64;

    /// The names of a fleet whose events are in `stream`, in so many partitions.
    ///
    /// # Errors
    /// [`Error::Sink`] if the name is not of letters, digits, `-` and `_`, 64 at the most, or the number
    /// is not from 1 to 512.
    pub fn new(stream: &str, partitions: u16) -> Result<Self, Error> {
        if !is_name(stream) {
            return Err(wrong(
                "a stream is named by letters, digits, `-` and `_`, 64 at the most",
            ));
        }
        let partitions = NonZeroU16::new(partitions)
            .filter(|number| number.get() <= PARTITIONS_MAX)
            .ok_or_else(|| wrong("a stream has from 1 to 512 partitions"))?;
        Ok(Self {
            stream: stream.to_owned(),
            prefix: stream.to_ascii_lowercase(),
            partitions,
        })
    }

    /// The stream of events.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream of cursors.
    #[must_use]
    pub fn cursor_stream(&self) -> String {
        format!("{}_CURSORS", self.stream)
    }

    /// The stream of dead letters.
    #[must_use]
    pub fn dead_stream(&self) -> String {
        format!("{}_DEAD", self.stream)
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions.get()
    }

    /// The partition of a spool: FNV-1a in 32 bits over its name, modulo the number of partitions,
    /// which is what a server's `partition()` computes.
    #[must_use]
    pub fn partition(&self, spool: &Spool) -> u16 {
        let hash = spool.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let partition = hash % u32::from(self.partitions.get());
        // Less than a number of 16 bits.
        u16::try_from(partition).unwrap_or(0)
    }

    /// The subject of a spool's events.
    #[must_use]
    pub fn event_subject(&self, spool: &Spool) -> String {
        format!("{}.{}.{spool}", self.prefix, self.partition(spool))
    }

    /// The subjects of all events of a partition, which is one of the subjects of the stream.
    #[must_use]
    pub fn partition_subject(&self, partition: u16) -> String {
        format!("{}.{partition}.>", self.prefix)
    }

    /// The subject of a dead letter that is sent again; `seq` is where its event stood first.
    #[must_use]
    pub fn again_subject(&self, partition: u16, seq: u64) -> String {
        format!("{}.{partition}._again.{seq}", self.prefix)
    }

    /// The subject of the record of a partition.
    #[must_use]
    pub fn cursor_subject(&self, partition: u16) -> String {
        format!("{}_cursors.{partition}", self.prefix)
    }

    /// The subject of a dead letter, whose event stands at `seq` in the stream of events.
    #[must_use]
    pub fn dead_subject(&self, partition: u16, seq: u64) -> String {
        format!("{}_dead.{partition}.{seq}", self.prefix)
    }

    /// The subjects of all dead letters.
    #[must_use]
    pub fn dead_subjects(&self) -> String {
        format!("{}_dead.>", self.prefix)
    }

    /// The subjects of all cursors.
    #[must_use]
    pub fn cursor_subjects(&self) -> String {
        format!("{}_cursors.>", self.prefix)
    }
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn wrong(reason: &str) -> Error {
    Error::Sink {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_other_subjects_are_refused() {
        for bad in [
            "",
            "a.b",
            "a b",
            "*",
            ">",
            "_again",
            "\u{e4}",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<Spool>().is_err(), "{bad:?}");
        }
        for bad in ["", "a.b", "EV>"] {
            assert!(Names::new(bad, 1).is_err(), "{bad:?}");
        }
        assert!(Names::new("EVENTS", 0).is_err());
        assert!(Names::new("EVENTS", 513).is_err());
    }

    #[test]
    fn the_partition_is_fnv_1a_modulo_their_number() {
        let names = Names::new("EVENTS", 512).unwrap();
        // From the vectors of the reference: "a" is e40c292c, "foobar" is bf9cf968.
        for (name, hash) in [("a", 0xe40c_292c_u32), ("foobar", 0xbf9c_f968)] {
            let partition = names.partition(&name.parse().unwrap());
            assert_eq!(u32::from(partition), hash % 512);
        }
    }

    #[test]
    fn the_default_is_what_is_written() {
        assert_eq!(
            Names::default(),
            Names::new(Names::STREAM, Names::PARTITIONS).unwrap()
        );
    }

    #[test]
    fn names_are_stored_as_they_are_given() {
        let names = Names::new("Fleet", 3).unwrap();
        let json = serde_json::to_string(&names).unwrap();
        assert_eq!(json, r#"{"stream":"Fleet","partitions":3}"#);
        assert_eq!(serde_json::from_str::<Names>(&json).unwrap(), names);
        assert_eq!(names.cursor_subject(2), "fleet_cursors.2");
        assert!(serde_json::from_str::<Names>(r#"{"stream":"x","partitions":0}"#).is_err());
    }
}
