//! What stands otherwise than a fleet needs it, what that costs, and what to type.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::fleet::connect::fleet;

/// A kind of thing that is not as a fleet needs it. Its [`name`](Self::name) is what
/// `--accept-NAME` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Risk {
    /// The server has no atomic batches.
    OldServer,
    /// A server acknowledges before its disk has the bytes.
    SyncLater,
    /// It was not seen whether each server syncs before it acknowledges.
    SyncUnknown,
    /// There are fewer servers than copies are wanted.
    FewServers,
    /// A stream is not there.
    Missing,
    /// A stream has fewer than three copies.
    FewReplicas,
    /// A stream is in memory.
    Memory,
    /// A stream keeps a message only until a consumer has acknowledged it.
    Retention,
    /// A full stream drops its oldest messages.
    DiscardOld,
    /// A stream drops messages by their age.
    MaxAge,
    /// A stream keeps another number of messages of a subject than it should.
    PerSubject,
    /// The stream takes no atomic batches.
    NoAtomic,
    /// The stream lets no message be read by its subject alone.
    NoDirect,
    /// Delivered events cannot be removed.
    PurgeDenied,
    /// The stream has other subjects.
    Subjects,
    /// The stream was made for another number of partitions.
    Partitions,
    /// There is hardly any room left.
    NoRoom,
    /// No worker has a partition.
    NoOwner,
    /// The books do not agree with what the stream counts.
    Unbalanced,
}

/// What is said of a kind, in one place.
struct Words {
    accept: &'static str,
    cost: &'static str,
    remedy: &'static str,
}

impl Risk {
    /// All of them, the worst of the servers first.
    pub const ALL: [Self; 19] = [
        Self::OldServer,
        Self::SyncLater,
        Self::SyncUnknown,
        Self::FewServers,
        Self::Missing,
        Self::FewReplicas,
        Self::Memory,
        Self::Retention,
        Self::DiscardOld,
        Self::MaxAge,
        Self::PerSubject,
        Self::NoAtomic,
        Self::NoDirect,
        Self::PurgeDenied,
        Self::Subjects,
        Self::Partitions,
        Self::NoRoom,
        Self::NoOwner,
        Self::Unbalanced,
    ];

    /// Its name: letters and hyphens.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().accept.trim_start_matches("accept-")
    }

    /// The option of `everpost fleet setup` that lives with it, without its hyphens; none if that
    /// [cannot be](Self::may_be_accepted).
    #[must_use]
    pub fn accept_word(self) -> Option<&'static str> {
        self.may_be_accepted().then(|| self.words().accept)
    }

    /// What it costs, in one sentence.
    #[must_use]
    pub fn cost(self) -> &'static str {
        self.words().cost
    }

    /// What to do about it, with what to type.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.words().remedy
    }

    /// Whether a fleet may live with it once a person has said so. With another number of partitions
    /// the order of each spool would be lost, and what no server makes cannot be accepted.
    #[must_use]
    pub fn may_be_accepted(self) -> bool {
        !matches!(
            self,
            Self::FewServers | Self::Missing | Self::Partitions | Self::Unbalanced
        )
    }

    fn words(self) -> Words {
        match self.of_servers().or_else(|| self.of_keeping()) {
            Some((accept, cost, remedy)) => Words {
                accept,
                cost,
                remedy,
            },
            None => {
                let (accept, cost, remedy) = self.of_use();
                Words {
                    accept,
                    cost,
                    remedy,
                }
            }
        }
    }

    fn of_servers(self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Self::OldServer => (
                "accept-old-server",
                "it knows no atomic batches, so that devices deliver nothing into it",
                "run nats-server 2.12 or later on each node",
            ),
            Self::SyncLater => (
                "accept-sync-later",
                "it acknowledges before its disk has the bytes: when the power of most servers fails \
                 at once, up to two minutes of acknowledged events are lost",
                "write `sync_interval: always` into the block `jetstream` of each server and restart \
                 one after the other",
            ),
            Self::SyncUnknown => (
                "accept-sync-unknown",
                "a server that does not sync loses up to two minutes of acknowledged events when the \
                 power of most servers fails at once, and only its monitoring port tells",
                "name the monitoring port of each server: --monitor http://HOST:8222",
            ),
            Self::FewServers => (
                "accept-few-servers",
                "a stream cannot have more copies than there are servers",
                "start more servers of the cluster, or make fewer copies: --replicas 1 \
                 --accept-few-replicas",
            ),
            Self::NoRoom => (
                "accept-no-room",
                "a full stream takes nothing more: devices keep their events until there is room",
                "raise `max_bytes` of the stream or the limits of the account, or see that the workers \
                 deliver: `everpost fleet status`",
            ),
            _ => return None,
        })
    }

    fn of_keeping(self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Self::Missing => (
                "accept-missing",
                "without it nothing is delivered",
                "make it: `everpost fleet setup`",
            ),
            Self::FewReplicas => (
                "accept-few-replicas",
                "when a server is lost, so is all that waits on it; while it is down, nothing is \
                 delivered",
                "use three servers and three copies: `everpost fleet setup --replicas 3 --update`",
            ),
            Self::Memory => (
                "accept-memory",
                "what waits there is gone once the servers restart",
                "make the stream anew in files: a server does not move it",
            ),
            Self::Retention => (
                "accept-retention",
                "messages are removed once they are read, and with the last one of a spool the place \
                 that its device goes on from: a batch whose answer was lost is stored twice",
                "`everpost fleet setup --update`; if the server refuses that, make the stream anew",
            ),
            Self::DiscardOld => (
                "accept-discard-old",
                "when it is full, the oldest events are dropped, delivered or not",
                "`everpost fleet setup --update`",
            ),
            Self::MaxAge => (
                "accept-max-age",
                "an outage of the receiver that is longer costs the events that are older",
                "`everpost fleet setup --update`; workers remove what is delivered, by `--keep`",
            ),
            Self::PerSubject => (
                "accept-per-subject",
                "the older events of a spool are dropped, delivered or not; of the cursors, one for \
                 each partition is enough",
                "`everpost fleet setup --update`",
            ),
            _ => return None,
        })
    }

    /// The rest.
    fn of_use(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NoAtomic => (
                "accept-no-atomic",
                "it refuses atomic batches, so that devices deliver nothing into it",
                "`everpost fleet setup --update`",
            ),
            Self::NoDirect => (
                "accept-no-direct",
                "devices cannot find the place they go on from, and workers cannot read, so that \
                 nothing is delivered",
                "`everpost fleet setup --update`",
            ),
            Self::PurgeDenied => (
                "accept-purge-denied",
                "what is delivered stays for ever, or cannot be discarded",
                "make the stream anew: a server does not take that back",
            ),
            Self::NoOwner => (
                "accept-no-owner",
                "what waits there is delivered by no worker",
                "start a worker: `everpost fleet run`",
            ),
            Self::Unbalanced => (
                "accept-unbalanced",
                "events lie outside of partitions, or were removed by a person before they were \
                 delivered",
                "see `everpost fleet status` for what does not agree, and docs/fleet.md for streams that \
                 were put back or made anew",
            ),
            Self::Subjects => (
                "accept-subjects",
                "what is refused stays in its spool, and what lies outside of partitions is \
                 delivered by no worker",
                "`everpost fleet setup --update`",
            ),
            _ => (
                "accept-partitions",
                "spools would change their partition and lose their order",
                "name the number that it was made for with --partitions, or make another stream: \
                 --stream NAME",
            ),
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Risk {
    type Err = Error;

    /// # Errors
    /// [`Error::Fleet`] if no kind has this name.
    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|risk| risk.name() == name);
        found
            .ok_or_else(|| fleet("there is no finding of this name; `fleet check` shows the names"))
    }
}

impl Serialize for Risk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One thing that is not as a fleet needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which kind of thing.
    pub risk: Risk,
    /// The stream that it is about; none if it is about a server.
    pub stream: Option<String>,
    /// What is there, and what should be.
    pub found: String,
    /// Whether a person has accepted it.
    pub is_accepted: bool,
}

impl Finding {
    pub(super) fn new(risk: Risk, stream: Option<&str>, found: impl Into<String>) -> Self {
        Self {
            risk,
            stream: stream.map(str::to_owned),
            found: found.into(),
            is_accepted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own_and_says_what_it_costs() {
        for risk in Risk::ALL {
            assert_eq!(risk.name().parse::<Risk>().unwrap(), risk);
            assert!(risk.cost().len() > 20 && risk.remedy().len() > 20, "{risk}");
            let same = Risk::ALL.iter().filter(|other| other.name() == risk.name());
            assert_eq!(same.count(), 1, "{risk}");
        }
        assert!("nothing".parse::<Risk>().is_err());
    }
}
