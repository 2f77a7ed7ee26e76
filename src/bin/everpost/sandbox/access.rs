//! One line for each request that has ended.

use std::time::SystemTime;

use everpost::sandbox::{Ended, Exchange, Fault};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::text::{count, cut, plain, time};

/// A request, as `--json` shows it.
#[derive(Serialize)]
pub(crate) struct Access<'a> {
    /// When it had ended, in milliseconds since 1970.
    time_ms: u64,
    /// Its number, from 1.
    request: u64,
    method: &'a str,
    /// With the query.
    path: &'a str,
    /// What the client calls itself, with its version.
    client: Option<String>,
    /// Messages in its body; 0 if that was no batch.
    messages: usize,
    bytes: u64,
    /// None if it was not answered.
    status: Option<u16>,
    /// How many of its messages were accepted: all, or none.
    accepted: usize,
    /// How many of those had been accepted before.
    repeated: usize,
    /// Why it was refused.
    reason: Option<&'a str>,
    /// The fault of the script that it met.
    fault: Option<String>,
    /// The events that were accepted, with `--show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<&'a RawValue>>,
    #[serde(skip)]
    at: SystemTime,
}

impl<'a> Access<'a> {
    pub(crate) fn new(ended: &'a Ended, at: SystemTime, show: bool) -> Self {
        let exchange = &ended.exchange;
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        let events = ended.accepted.iter().filter_map(|event| event.json());
        let raw = |event| serde_json::from_slice::<&RawValue>(event).ok();
        Self {
            time_ms: since.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }),
            request: exchange.number,
            method: &exchange.method,
            path: &exchange.path,
            client: client(exchange),
            messages: exchange.events,
            bytes: exchange.body_bytes,
            status: exchange.status,
            accepted: exchange.accepted,
            repeated: ended
                .accepted
                .iter()
                .filter(|event| event.is_repeat())
                .count(),
            reason: exchange.reason.as_deref(),
            fault: (exchange.fault != Fault::None).then(|| exchange.fault.to_string()),
            events: show.then(|| events.filter_map(raw).collect()),
            at,
        }
    }

    /// For people: one line, and one more for each event that is shown.
    pub(crate) fn text(&self) -> String {
        let or_dash = |text: &str, max| match text.is_empty() {
            true => "-".to_owned(),
            false => cut(text, max),
        };
        let status = self.status.map(|status| status.to_string());
        let mut text = format!(
            "{} {} {} {} {} {}",
            time(self.at),
            or_dash(self.method, 20),
            or_dash(self.path, 200),
            or_dash(&status.unwrap_or_default(), 3),
            or_dash(self.client.as_deref().unwrap_or_default(), 60),
            count(u64::try_from(self.messages).unwrap_or(u64::MAX), "message"),
        );
        if self.repeated > 0 {
            text.push_str(&format!(", {} again", self.repeated));
        }
        let notes = self.notes();
        if !notes.is_empty() {
            text.push_str(&format!(": {}", cut(&notes.join("; "), 1000)));
        }
        text.push('\n');
        for event in self.events.iter().flatten() {
            text.push_str(&format!("  {}\n", plain(event.get())));
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .reason
            .iter()
            .map(|reason| (*reason).to_owned())
            .collect();
        let is_good = self
            .status
            .is_some_and(|status| (200..300).contains(&status));
        match (self.accepted > 0, self.status) {
            (true, None) => notes.push("accepted, not answered".to_owned()),
            (true, Some(_)) if !is_good => notes.push("accepted all the same".to_owned()),
            (false, None) => notes.push("not answered".to_owned()),
            (false, Some(_)) if is_good => notes.push("not accepted".to_owned()),
            _ => {}
        }
        notes.extend(self.fault.iter().map(|fault| format!("fault `{fault}`")));
        notes
    }
}

/// The official clients name themselves in headers of their own, others in `User-Agent`.
fn client(exchange: &Exchange) -> Option<String> {
    let Some(id) = exchange.header("x-botanalytics-client-id") else {
        let agent = exchange.header("user-agent")?;
        return Some(
            agent
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
        );
    };
    Some(match exchange.header("x-botanalytics-client-version") {
        Some(version) => format!("{id}/{version}"),
        None => id.to_owned(),
    })
}
