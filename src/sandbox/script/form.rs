//! A fault as it is written in a script.

use std::fmt;
use std::time::Duration;

use humantime_serde::re::humantime;

use super::super::fault::Fault;
use super::super::reply::{Reply, ReplyContent};

/// The text form, as [`parse_script`](super::parse_script) reads it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |time: &Duration| {
            humantime::format_duration(*time)
                .to_string()
                .replace(' ', "")
        };
        match self {
            Self::None => f.write_str("ok"),
            Self::Answer(reply) if *reply == Reply::captive_portal() => {
                f.write_str("captive-portal")
            }
            Self::Answer(reply) => write_reply(reply, f),
            Self::AcceptThenAnswer(reply) => {
                f.write_str("accept ")?;
                write_reply(reply, f)
            }
            Self::Hang => f.write_str("hang"),
            Self::ResetBefore => f.write_str("reset-before"),
            Self::ResetAt(bytes) => write!(f, "reset-at {bytes}"),
            Self::ResetAfter => f.write_str("reset-after"),
            Self::AcceptThenReset => f.write_str("accept-reset"),
            Self::Close => f.write_str("close"),
            Self::Delay(time) => write!(f, "delay {}", span(time)),
            Self::Drip(pause) => write!(f, "drip {}", span(pause)),
            Self::Truncate => f.write_str("truncate"),
            Self::Flood(bytes) => write!(f, "flood {bytes}"),
            Self::Garbage => f.write_str("garbage"),
            Self::Refuse(time) => write!(f, "refuse {}", span(time)),
        }
    }
}

fn write_reply(reply: &Reply, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", reply.code())?;
    for (name, value) in reply.headers() {
        write_option(name, value, f)?;
    }
    match reply.content() {
        ReplyContent::Documented => Ok(()),
        ReplyContent::Text(text) => write_option("body", text, f),
        ReplyContent::Errors(texts) => texts
            .iter()
            .try_for_each(|text| write_option("error", text, f)),
    }
}

/// Quotes a value only where it would be read differently without.
fn write_option(name: &str, value: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value.starts_with('"') || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        write!(f, " {name}={}", serde_json::Value::from(value))
    } else {
        write!(f, " {name}={value}")
    }
}
