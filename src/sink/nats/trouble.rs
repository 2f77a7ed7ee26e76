//! What can go wrong on the way into a stream, and what it means for the batch: one table, which knows
//! of no connection.
//!
//! The errors of JetStream are numbered in
//! <https://github.com/nats-io/nats-server/blob/main/server/errors.json>; the words behind `-ERR` are in
//! `server/errors.go` and `server/client.go` there.
//!
//! | what comes | what it means |
//! | --- | --- |
//! | 10071, 10164: another last sequence than the guard says | look up, go on behind what is found |
//! | 10176, 10210: a batch in parts, or too many at once | retry |
//! | 10199: more messages than the server takes in a batch | divide; alone: pause for the address |
//! | 10054: larger than the stream takes | divide |
//! | 10077, 10047, 10028, 10023: the stream or the disk is full | retry, no sooner than in ten seconds |
//! | 10174, 10175, 10177, 10179, 10185, 10200, 10201, 10060: the stream or the program is not as it has to be | pause for the address |
//! | 10059, 10039, 10076: no such stream, no JetStream | pause for the address |
//! | any other error: 408, 429, 5xx | retry |
//! | any other error | pause for the address, since it says nothing about an event |
//! | 503 without words: nothing answers for the subject | retry, after twenty time limits pause for the address |
//! | `-ERR` permissions violation, of a publish or of the inbox | pause for the credentials |
//! | `-ERR` authorization violation, authentication expired, revoked, required, failed | pause for the credentials |
//! | `-ERR` maximum payload violation | divide |
//! | `-ERR` TLS required, what is wrong with the protocol or with a subject | pause for the address |
//! | `-ERR` stale connection, slow consumer, shutdown, too many connections, a timeout, any other | retry |
//! | no answer in time, a small request that was out | retry |
//! | no answer in time, a large request or one that was not out | stalled: retry, with less at once |
//! | a connection that ends, or cannot be made | retry |
//! | a certificate, no TLS, or clear text where that is not allowed | pause for the address |
//! | what is no NATS, or a server that is too old | pause for the address |
//! | an answer to something else than what was asked | retry |
//!
//! Retry, and whatever else leaves open what became of a batch, means that the next delivery looks up.

use std::time::Duration;

use crate::outcome::{Outcome, PauseReason};
use crate::sink::classify::clean;
use crate::sink::key::Strike;

/// How long a stream that is full is left alone.
const FULL_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a request that a slow link may not have taken to the other side although the system did.
const LARGE_BYTES: usize = 64 * 1024;

/// What went wrong. Texts are those of a server, cleaned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// JetStream refuses.
    Refused {
        code: u16,
        err_code: u32,
        text: String,
    },
    /// Nothing answers for a subject.
    NoResponders,
    /// `-ERR`.
    Said(String),
    /// No answer in time to a request of so many bytes.
    Late { bytes: usize, is_out: bool },
    /// A connection that ended, or could not be made.
    Gone(String),
    /// TLS, or its absence.
    Insecure(String),
    /// What is no NATS, or not the NATS that is needed.
    NotNats(&'static str),
    /// An answer that fits nothing that was asked.
    Odd(&'static str),
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The subject's last message is another one than was thought.
    LookUp,
    /// The same again later.
    Retry,
    /// The same again much later.
    RetrySlowly,
    /// The same again later, with less at once.
    Stalled,
    /// Less at once.
    Divide,
    /// A person has to mend something.
    Pause(PauseReason),
}

/// What surrounds a trouble.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    /// Events that were sent.
    pub(super) events: usize,
    /// How long nothing has answered for the subject.
    pub(super) unanswered: Duration,
    /// After how long that is worth a person.
    pub(super) unanswered_max: Duration,
    pub(super) subject: &'a str,
    pub(super) stream: &'a str,
}

impl Trouble {
    /// What JetStream says.
    pub(super) fn refused(code: u16, err_code: u32, text: &str) -> Self {
        Self::Refused {
            code,
            err_code,
            text: clean(text, ""),
        }
    }

    /// What stands behind `-ERR`.
    pub(super) fn said(text: &str) -> Self {
        Self::Said(clean(text, ""))
    }

    /// Strikes secrets out of what a server said.
    pub(super) fn strike(mut self, strike: &Strike) -> Self {
        if let Self::Refused { text, .. } | Self::Said(text) = &mut self {
            strike.text(text);
        }
        self
    }

    /// Whether the connection is of further use.
    pub(super) fn leaves_connection(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NoResponders)
    }

    /// What it means.
    pub(super) fn meaning(&self, at: Circumstances<'_>) -> Meaning {
        const ADDRESS: Meaning = Meaning::Pause(PauseReason::Address);
        match self {
            Self::Refused { code, err_code, .. } => of_refusal(*code, *err_code, at.events),
            Self::NoResponders if at.unanswered >= at.unanswered_max => ADDRESS,
            Self::NoResponders | Self::Gone(_) | Self::Odd(_) => Meaning::Retry,
            Self::Said(text) => of_word(text),
            Self::Late { bytes, is_out } if !is_out || *bytes > LARGE_BYTES => Meaning::Stalled,
            Self::Late { .. } => Meaning::Retry,
            Self::Insecure(_) | Self::NotNats(_) => ADDRESS,
        }
    }

    /// What it means for the batch; a look-up is the business of the sink, and where it has looked
    /// often enough, it is to try again later.
    pub(super) fn outcome(&self, at: Circumstances<'_>) -> Outcome {
        let outcome = match self.meaning(at) {
            Meaning::LookUp | Meaning::Retry => Outcome::retry(),
            Meaning::RetrySlowly => Outcome::retry().after(FULL_WAIT),
            Meaning::Stalled => Outcome::stalled(),
            Meaning::Divide => Outcome::divide(),
            Meaning::Pause(reason) => Outcome::pause(reason),
        };
        outcome.because(self.words(at))
    }

    fn words(&self, at: Circumstances<'_>) -> String {
        let Circumstances {
            subject, stream, ..
        } = at;
        match self {
            Self::Refused {
                code,
                err_code,
                text,
            } => {
                let advice = advice(*err_code);
                format!("{text}{advice}. stream=`{stream}` code=`{code}` error=`{err_code}`")
            }
            Self::NoResponders => format!(
                "nothing answers for the subject: the stream has no leader at present, or there is no \
                 such stream or partition; `everpost fleet check` tells. stream=`{stream}` \
                 subject=`{subject}`"
            ),
            Self::Said(text) if of_word(text) == Meaning::Pause(PauseReason::Credentials) => {
                format!(
                    "the server refuses: {text}; a device may publish to its subject and to \
                 `$JS.API.DIRECT.GET.{stream}.{subject}`, and subscribe to its inbox. \
                 subject=`{subject}`"
                )
            }
            Self::Said(text) => format!("the server says: {text}"),
            Self::Late { is_out: true, .. } => "no answer in time".to_owned(),
            Self::Late { is_out: false, .. } => "the connection takes nothing any more".to_owned(),
            Self::Gone(text) => format!("no connection: {text}"),
            Self::Insecure(text) => text.clone(),
            Self::NotNats(text) => format!("this is no server that can be used: {text}"),
            Self::Odd(text) => format!("an answer that does not fit: {text}"),
        }
    }
}

fn of_refusal(code: u16, err_code: u32, events: usize) -> Meaning {
    match (err_code, code) {
        (10071 | 10164, _) => Meaning::LookUp,
        (10176 | 10210, _) => Meaning::Retry,
        (10199, _) if events > 1 => Meaning::Divide,
        (10054, _) => Meaning::Divide,
        (10077 | 10047 | 10028 | 10023, _) => Meaning::RetrySlowly,
        (10039 | 10076, _) => Meaning::Pause(PauseReason::Address),
        (_, 408 | 429 | 500..) => Meaning::Retry,
        _ => Meaning::Pause(PauseReason::Address),
    }
}

/// What a person can do about it.
fn advice(err_code: u32) -> &'static str {
    match err_code {
        10174 => "; the stream has to allow atomic batches: `everpost fleet setup` sets that",
        10059 => "; `everpost fleet setup` makes the stream",
        10077 => "; the stream is full, and everything is kept here until it has room",
        10185 => "; the server is too old, 2.12 is needed",
        _ => "",
    }
}

fn of_word(text: &str) -> Meaning {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["authentication timeout"]) {
        return Meaning::Retry;
    }
    if has(&[
        "permissions violation",
        "authorization violation",
        "authentication ",
    ]) {
        return Meaning::Pause(PauseReason::Credentials);
    }
    if has(&["maximum payload"]) {
        return Meaning::Divide;
    }
    let is_wrong = has(&[
        "tls required",
        "header violation",
        "header not supported",
        "headers not supported",
        "invalid publish subject",
        "invalid subject",
        "invalid client protocol",
        "unknown protocol",
        "parser error",
        "maximum control line",
    ]);
    if is_wrong {
        Meaning::Pause(PauseReason::Address)
    } else {
        Meaning::Retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Meaning = Meaning::Pause(PauseReason::Address);
    const CREDENTIALS: Meaning = Meaning::Pause(PauseReason::Credentials);

    fn at(events: usize) -> Circumstances<'static> {
        Circumstances {
            events,
            unanswered: Duration::ZERO,
            unanswered_max: Duration::from_secs(60),
            subject: "events.1.s",
            stream: "EVENTS",
        }
    }

    #[test]
    fn every_number_of_jetstream_means_what_the_table_says() {
        for (code, err_code, meaning) in [
            (400, 10071, Meaning::LookUp),
            (400, 10164, Meaning::LookUp),
            (400, 10176, Meaning::Retry),
            (429, 10210, Meaning::Retry),
            (400, 10199, Meaning::Divide),
            (400, 10054, Meaning::Divide),
            (503, 10077, Meaning::RetrySlowly),
            (500, 10047, Meaning::RetrySlowly),
            (400, 10028, Meaning::RetrySlowly),
            (503, 10023, Meaning::RetrySlowly),
            (400, 10174, ADDRESS),
            (400, 10175, ADDRESS),
            (400, 10177, ADDRESS),
            (400, 10179, ADDRESS),
            (400, 10200, ADDRESS),
            (400, 10201, ADDRESS),
            (400, 10060, ADDRESS),
            (412, 10185, ADDRESS),
            (404, 10059, ADDRESS),
            (503, 10039, ADDRESS),
            (503, 10076, ADDRESS),
            (503, 10008, Meaning::Retry),
            (500, 10001, Meaning::Retry),
            (408, 10001, Meaning::Retry),
            (429, 10001, Meaning::Retry),
            (400, 10001, ADDRESS),
        ] {
            let trouble = Trouble::refused(code, err_code, "words");
            assert_eq!(trouble.meaning(at(2)), meaning, "{err_code}");
        }
        let alone = Trouble::refused(400, 10199, "atomic publish batch is too large: 0");
        assert_eq!(alone.meaning(at(1)), ADDRESS, "it is no fault of the event");
    }

    #[test]
    fn every_word_behind_err_means_what_the_table_says() {
        for (text, meaning) in [
            (
                "Permissions Violation for Publish to \"events.1.s\"",
                CREDENTIALS,
            ),
            (
                "Permissions Violation for Subscription to \"_INBOX_s.x.*\"",
                CREDENTIALS,
            ),
            ("Authorization Violation", CREDENTIALS),
            ("User Authentication Expired", CREDENTIALS),
            ("Account Authentication Expired", CREDENTIALS),
            ("User Authentication Revoked", CREDENTIALS),
            ("Authentication Required", CREDENTIALS),
            ("Authentication Failure", CREDENTIALS),
            ("Authentication Timeout", Meaning::Retry),
            ("Maximum Payload Violation", Meaning::Divide),
            ("Secure Connection - TLS Required", ADDRESS),
            ("Unknown Protocol Operation", ADDRESS),
            ("Invalid Publish Subject", ADDRESS),
            ("Message Header Violation", ADDRESS),
            ("Stale Connection", Meaning::Retry),
            ("Slow Consumer", Meaning::Retry),
            ("Server Shutdown", Meaning::Retry),
            ("maximum connections exceeded", Meaning::Retry),
            (
                "maximum account active connections exceeded",
                Meaning::Retry,
            ),
            ("something new", Meaning::Retry),
        ] {
            assert_eq!(Trouble::said(text).meaning(at(1)), meaning, "{text}");
        }
    }

    #[test]
    fn what_no_server_says_means_what_the_table_says() {
        let late = |bytes, is_out| Trouble::Late { bytes, is_out };
        for (trouble, meaning) in [
            (Trouble::NoResponders, Meaning::Retry),
            (late(100, true), Meaning::Retry),
            (late(100, false), Meaning::Stalled),
            (late(1 << 20, true), Meaning::Stalled),
            (Trouble::Gone(String::new()), Meaning::Retry),
            (Trouble::Insecure(String::new()), ADDRESS),
            (Trouble::NotNats(""), ADDRESS),
            (Trouble::Odd(""), Meaning::Retry),
        ] {
            assert_eq!(trouble.meaning(at(1)), meaning, "{trouble:?}");
        }
        let long = Circumstances {
            unanswered: Duration::from_secs(60),
            ..at(1)
        };
        assert_eq!(Trouble::NoResponders.meaning(long), ADDRESS);
        assert_eq!(Trouble::Gone(String::new()).meaning(long), Meaning::Retry);
    }

    #[test]
    fn outcomes_say_what_to_do_and_nothing_that_is_secret() {
        let full = Trouble::refused(503, 10077, "maximum messages exceeded").outcome(at(1));
        assert_eq!(full.verdict, Outcome::retry().after(FULL_WAIT).verdict);
        let strike = Strike::default().secret("[token]", "hunter2hunter2");
        let said = Trouble::said("no\u{1b}[1m hunter2hunter2")
            .strike(&strike)
            .outcome(at(1));
        let detail = said.answer.detail.unwrap_or_default();
        assert_eq!(detail, "the server says: no [1m [token]");
    }
}
