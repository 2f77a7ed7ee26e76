//! What a workload says it was told, one line each, in the same log as the writes to the disk.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use everpost::Seq;

use super::event::Name;

/// One line of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The queue is open.
    Open,
    /// So many events of a producer, from this one on, were acknowledged as durable, the first
    /// at this number.
    Ack(Seq, Name, u64),
    /// The same at level `Written`: durable at the next [`Safe`](Mark::Safe).
    Wrote(Seq, Name, u64),
    /// Everything written before is durable.
    Safe,
    /// The receiver took these; written before the queue learns of it.
    Done(Vec<(Seq, Name)>),
    /// The cursor is durable up to here.
    Cursor(Seq),
    /// A dead letter is about to be appended again.
    Retry(Seq, Name),
    /// It was, at the second number.
    Retried(Seq, Seq, Name),
    /// A dead letter is about to be thrown away.
    Discard(Seq, Name),
    /// It was.
    Discarded(Seq),
}

impl Mark {
    /// As a line.
    pub(crate) fn line(&self) -> String {
        let name = |name: &Name| format!("{} {}", name.producer, name.number);
        let line = match self {
            Self::Open => "OPEN".to_owned(),
            Self::Ack(seq, first, count) => format!("ACK {seq} {} {count}", name(first)),
            Self::Wrote(seq, first, count) => format!("WROTE {seq} {} {count}", name(first)),
            Self::Safe => "SAFE".to_owned(),
            Self::Done(events) => {
                let parts = events.iter().map(|(seq, n)| format!(" {seq} {}", name(n)));
                "DONE".to_owned() + &parts.collect::<String>()
            }
            Self::Cursor(seq) => format!("CURSOR {seq}"),
            Self::Retry(seq, n) => format!("RETRY {seq} {}", name(n)),
            Self::Retried(old, new, n) => format!("RETRIED {old} {new} {}", name(n)),
            Self::Discard(seq, n) => format!("DISCARD {seq} {}", name(n)),
            Self::Discarded(seq) => format!("DISCARDED {seq}"),
        };
        line + "\n"
    }

    /// From a line; `None` if it is none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let word = words.next()?;
        let numbers: Vec<u64> = words.map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let name = |producer, number| Name { producer, number };
        Some(match (word, numbers.as_slice()) {
            ("OPEN", []) => Self::Open,
            ("ACK", &[seq, p, k, n]) => Self::Ack(seq, name(p, k), n),
            ("WROTE", &[seq, p, k, n]) => Self::Wrote(seq, name(p, k), n),
            ("SAFE", []) => Self::Safe,
            ("DONE", numbers) if numbers.len() % 3 == 0 => {
                let (threes, _) = numbers.as_chunks::<3>();
                Self::Done(threes.iter().map(|&[s, p, k]| (s, name(p, k))).collect())
            }
            ("CURSOR", &[seq]) => Self::Cursor(seq),
            ("RETRY", &[seq, p, k]) => Self::Retry(seq, name(p, k)),
            ("RETRIED", &[old, new, p, k]) => Self::Retried(old, new, name(p, k)),
            ("DISCARD", &[seq, p, k]) => Self::Discard(seq, name(p, k)),
            ("DISCARDED", &[seq]) => Self::Discarded(seq),
            _ => return None,
        })
    }
}

/// Writes marks. Each is one write, so lines of several threads do not mix, and it has reached
/// the log when the call returns.
#[derive(Clone, Debug)]
pub(crate) struct Marks(Arc<File>);

impl Marks {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    pub(crate) fn write(&self, mark: &Mark) -> io::Result<()> {
        let line = mark.line();
        let written = (&*self.0).write(line.as_bytes())?;
        if written == line.len() {
            Ok(())
        } else {
            Err(io::Error::other("a mark was written in part"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_the_way_through_a_line() {
        let name = Name {
            producer: 2,
            number: 9,
        };
        for mark in [
            Mark::Open,
            Mark::Ack(5, name, 3),
            Mark::Wrote(5, name, 1),
            Mark::Safe,
            Mark::Done(vec![(1, name), (2, name)]),
            Mark::Cursor(4),
            Mark::Retry(1, name),
            Mark::Retried(1, 8, name),
            Mark::Discard(2, name),
            Mark::Discarded(2),
        ] {
            assert_eq!(Mark::parse(mark.line().trim_end()), Some(mark));
        }
        assert_eq!(Mark::parse("ACK 1 2"), None);
    }
}
