//! Makes the streams of a fleet, or says what is wrong with those that are there.
//!
//! - `wanted.rs` is how the three streams should be, and how others differ.
//! - `finding.rs` says of each difference what it costs and what to type.
//! - `monitor.rs` asks a server what only its monitoring port tells.

mod finding;
mod monitor;
mod wanted;

use std::collections::BTreeSet;

use async_nats::Client;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, Context};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use self::finding::{Finding, Risk};
use self::monitor::Seen;
use self::wanted::Wanted;
use super::books::Books;
use super::connect::fleet;
use super::text::clean;
use crate::error::Error;
use crate::sink::nats::Names;

/// The level of the API of JetStream that has atomic batches: that of nats-server 2.12.
const ATOMIC_LEVEL: u64 = 2;
/// Copies of each stream that survive the loss of a server.
const REPLICAS: u8 = 3;
/// There is no such stream.
const STREAM_NOT_FOUND: u64 = 10_059;

/// What the streams of a fleet are to be.
///
/// ```no_run
/// # async fn example(client: async_nats::Client) -> Result<(), everpost::Error> {
/// use everpost::fleet::setup::Setup;
/// use everpost::nats::Names;
///
/// let names = Names::new(Names::STREAM, Names::PARTITIONS)?;
/// let report = Setup::new(names).make(&client).await?;
/// for finding in report.refusing() {
///     eprintln!("{}: {}; {}", finding.found, finding.risk.cost(), finding.risk.remedy());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Setup {
    names: Names,
    replicas: u8,
    accepted: BTreeSet<Risk>,
    monitors: Vec<String>,
    is_update: bool,
}

/// What was found, and what was done.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The stream of events.
    pub stream: String,
    /// Its partitions.
    pub partitions: u16,
    /// The version of the server that answered.
    pub server: String,
    /// Streams that were made.
    pub made: Vec<String>,
    /// Streams whose configuration was changed.
    pub changed: Vec<String>,
    /// What is not as a fleet needs it.
    pub findings: Vec<Finding>,
}

impl Report {
    /// What is found and was not accepted: if there is any, nothing was made and nothing changed.
    pub fn refusing(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.is_accepted)
    }
}

/// A stream as the server has it.
struct There {
    config: Map<String, Value>,
    state: Map<String, Value>,
}

impl Setup {
    /// Three copies of each stream, nothing accepted.
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self {
            names,
            replicas: REPLICAS,
            accepted: BTreeSet::new(),
            monitors: Vec::new(),
            is_update: false,
        }
    }

    /// How many servers keep a copy of each stream that is made.
    #[must_use]
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// Lives with this, and with what it costs. What [may not be](Risk::may_be_accepted) accepted
    /// is refused all the same.
    #[must_use]
    pub fn accept(mut self, risk: Risk) -> Self {
        self.accepted.insert(risk);
        self
    }

    /// Asks the monitoring port of a server too, such as `http://10.0.0.1:8222`.
    #[must_use]
    pub fn monitor(mut self, address: impl Into<String>) -> Self {
        self.monitors.push(address.into());
        self
    }

    /// Changes the streams that are there to what is wanted, where the server lets it. The number of
    /// partitions is never changed.
    #[must_use]
    pub fn update(mut self, is_update: bool) -> Self {
        self.is_update = is_update;
        self
    }

    /// Says what is not as a fleet needs it; changes nothing.
    ///
    /// # Errors
    /// [`Error::Fleet`] if the server, or a monitoring port, does not answer as it should.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn check(&self, client: &Client) -> Result<Report, Error> {
        let context = jetstream::new(client.clone());
        let mut report = self.report(client);
        report.findings = self.servers(client, &context).await?;
        for wanted in Wanted::all(&self.names, self.replicas) {
            let found = match look(&context, wanted.name()).await? {
                Some(there) => self.differs(&wanted, &there),
                None => vec![Finding::new(
                    Risk::Missing,
                    Some(wanted.name()),
                    format!("there is no stream `{}`", wanted.name()),
                )],
            };
            report.findings.extend(found);
        }
        self.note_accepted(&mut report.findings);
        Ok(report)
    }

    /// Makes the streams that are not there, and changes those that are if it is an
    /// [update](Self::update); nothing of it if anything is found that was not accepted.
    ///
    /// # Errors
    /// [`Error::Fleet`] if the server does not answer as it should, or refuses. What was made by
    /// then stays; the same call goes on from there.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn make(&self, client: &Client) -> Result<Report, Error> {
        let context = jetstream::new(client.clone());
        let mut report = self.report(client);
        report.findings = self.servers(client, &context).await?;
        let mut plan = Vec::new();
        for wanted in Wanted::all(&self.names, self.replicas) {
            let there = look(&context, wanted.name()).await?;
            report
                .findings
                .extend(self.hinders(&wanted, there.as_ref()));
            plan.push((wanted, there));
        }
        self.note_accepted(&mut report.findings);
        if report.refusing().next().is_some() {
            return Ok(report);
        }
        for (wanted, there) in plan {
            let name = wanted.name().to_owned();
            match there {
                None => {
                    order(&context, "CREATE", &name, &wanted.config()).await?;
                    report.made.push(name);
                }
                Some(there) if self.is_update => {
                    let mended = wanted.mended(&there.config);
                    if mended != Value::Object(there.config) {
                        order(&context, "UPDATE", &name, &mended).await?;
                        report.changed.push(name);
                    }
                }
                Some(_) => {}
            }
        }
        self.read_back(&context, &mut report).await?;
        Ok(report)
    }

    /// Adds what the books say: partitions that no worker has, and what does not agree with the counts of
    /// the stream.
    pub fn note_books(&self, report: &mut Report, books: &Books, unowned: &[u16]) {
        let stream = Some(self.names.stream());
        if let (Some(first), number) = (unowned.first(), unowned.len()) {
            let text = match number {
                1 => format!("partition {first} has no worker"),
                number => format!("{number} partitions have no worker, {first} among them"),
            };
            report
                .findings
                .push(Finding::new(Risk::NoOwner, stream, text));
        }
        for fault in &books.faults {
            report
                .findings
                .push(Finding::new(Risk::Unbalanced, stream, clean(fault)));
        }
        self.note_accepted(&mut report.findings);
    }

    /// What keeps a stream from being made, or from being taken as it is.
    fn hinders(&self, wanted: &Wanted, there: Option<&There>) -> Vec<Finding> {
        let Some(there) = there else {
            let made = wanted.config();
            let made = made.as_object().cloned().unwrap_or_default();
            return wanted.differs(&made, &Map::new());
        };
        let found = self.differs(wanted, there).into_iter();
        // What the update mends is no reason against it.
        let mended = wanted.mended(&there.config);
        let mended = mended.as_object().cloned().unwrap_or_default();
        let left = wanted.differs(&mended, &there.state);
        found
            .filter(|finding| {
                !self.is_update
                    || !finding.risk.may_be_accepted()
                    || left.iter().any(|left| left.risk == finding.risk)
            })
            .collect()
    }

    /// What the server made of it is what counts.
    async fn read_back(&self, context: &Context, report: &mut Report) -> Result<(), Error> {
        report.findings.retain(|finding| finding.stream.is_none());
        for wanted in Wanted::all(&self.names, self.replicas) {
            let there = look(context, wanted.name()).await?;
            let there = there.ok_or_else(|| refused("it made no stream, and said it had"))?;
            report.findings.extend(self.differs(&wanted, &there));
        }
        self.note_accepted(&mut report.findings);
        Ok(())
    }

    fn report(&self, client: &Client) -> Report {
        Report {
            stream: self.names.stream().to_owned(),
            partitions: self.names.partitions(),
            server: clean(&client.server_info().version),
            made: Vec::new(),
            changed: Vec::new(),
            findings: Vec::new(),
        }
    }

    fn note_accepted(&self, findings: &mut [Finding]) {
        for finding in findings {
            let risk = finding.risk;
            finding.is_accepted = risk.may_be_accepted() && self.accepted.contains(&risk);
        }
    }

    fn differs(&self, wanted: &Wanted, there: &There) -> Vec<Finding> {
        let made_for = wanted::partitions(&there.config);
        let ours = self.names.partitions();
        let is_events = wanted.name() == self.names.stream();
        // Subjects that are not listed one by one say nothing of their number.
        if is_events && made_for.is_some_and(|made_for| made_for != ours) {
            let made_for = made_for.unwrap_or_default();
            let text = format!("it was made for {made_for} partitions, not {ours}");
            return vec![Finding::new(Risk::Partitions, Some(wanted.name()), text)];
        }
        wanted.differs(&there.config, &there.state)
    }

    /// What is wrong with the servers themselves.
    async fn servers(&self, client: &Client, context: &Context) -> Result<Vec<Finding>, Error> {
        let mut found = Vec::new();
        let account = account(context).await?;
        let info = client.server_info();
        let level = account.pointer("/api/level").and_then(Value::as_u64);
        if level.unwrap_or(0) < ATOMIC_LEVEL {
            let version = clean(&info.version);
            let text = format!("nats-server {version} has no atomic batches, 2.12 has");
            found.push(Finding::new(Risk::OldServer, None, text));
        }
        let mut seen = Vec::new();
        for address in &self.monitors {
            seen.push(monitor::ask(address).await?);
        }
        // Each server of a cluster is named, some by several addresses.
        let told = match info.cluster {
            Some(_) => info.connect_urls.len().max(1),
            None => 1,
        };
        let servers = seen.iter().map(Seen::servers).max().unwrap_or(told);
        if servers < usize::from(self.replicas) {
            let text = format!("{} for {} copies", counted(servers), self.replicas);
            found.push(Finding::new(Risk::FewServers, None, text));
        }
        found.extend(syncing(&seen, servers));
        found.extend(room(&account));
        Ok(found)
    }
}

/// Whether each of so many servers syncs before it acknowledges.
fn syncing(seen: &[Seen], servers: usize) -> Option<Finding> {
    let ids = |syncs: bool| -> BTreeSet<&str> {
        let chosen = seen.iter().filter(|one| one.syncs() == syncs);
        chosen.map(|one| one.server_id.as_str()).collect()
    };
    let (late, sound) = (ids(false).len(), ids(true).len());
    if late > 0 {
        let text = format!("{} without `sync_interval: always`", counted(late));
        return Some(Finding::new(Risk::SyncLater, None, text));
    }
    if sound >= servers {
        return None;
    }
    let text = match sound {
        0 => "whether the servers sync before they acknowledge was not seen".to_owned(),
        sound => format!("of {} only {sound} said that it syncs", counted(servers)),
    };
    Some(Finding::new(Risk::SyncUnknown, None, text))
}

/// Whether the account has room.
fn room(account: &Value) -> Option<Finding> {
    let max = account.pointer("/limits/max_storage")?.as_u64()?;
    let used = account.get("storage")?.as_u64()?;
    let text = format!("{used} of {max} bytes of the account are taken");
    wanted::is_full(used, max).then(|| Finding::new(Risk::NoRoom, None, text))
}

fn counted(servers: usize) -> String {
    match servers {
        1 => "one server".to_owned(),
        servers => format!("{servers} servers"),
    }
}

/// The names of the fleet whose events are in this stream, with the number of partitions that it
/// was made for; none if there is no such stream.
///
/// # Errors
/// [`Error::Fleet`] if the stream does not say for how many partitions it is.
///
/// # Cancel safety
/// It only looks.
pub async fn discover(client: &Client, stream: &str) -> Result<Option<Names>, Error> {
    let context = jetstream::new(client.clone());
    // Also a name is refused that would be something else in a subject.
    let stream = Names::new(stream, 1)?.stream().to_owned();
    let Some(there) = look(&context, &stream).await? else {
        return Ok(None);
    };
    let partitions = wanted::partitions(&there.config).ok_or_else(|| {
        fleet(format!(
            "the stream `{stream}` does not say for how many partitions it is; name their number, or \
             another stream"
        ))
    })?;
    Names::new(&stream, partitions).map(Some)
}

/// Has every partition begin at the beginning of the stream: its records are removed, and an empty stream
/// of records is made as it was. For a stream of events that was made anew or put back from a copy, whose
/// places are others. No event is lost by it: what is still in the stream is delivered again, under the same
/// ids.
///
/// # Errors
/// [`Error::Fleet`] if there is no stream of records, or the server refuses. `setup` makes one that is
/// missing after that, as where this was cancelled.
pub async fn rewind(client: &Client, names: &Names) -> Result<(), Error> {
    let context = jetstream::new(client.clone());
    let name = names.cursor_stream();
    let there = look(&context, &name).await?;
    let there = there.ok_or_else(|| fleet(format!("there is no stream `{name}`")))?;
    order(&context, "DELETE", &name, &json!({})).await?;
    order(&context, "CREATE", &name, &Value::Object(there.config)).await
}

/// The stream of this name, if it is there.
async fn look(context: &Context, stream: &str) -> Result<Option<There>, Error> {
    let subject = format!("STREAM.INFO.{stream}");
    let answer: Response<Map<String, Value>> = request(context, subject, &json!({})).await?;
    let mut info = match answer {
        Response::Ok(info) => info,
        Response::Err { error } if error.error_code().0 == STREAM_NOT_FOUND => return Ok(None),
        Response::Err { error } => return Err(refused(&error.to_string())),
    };
    let mut object = |key: &str| match info.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    Ok(Some(There {
        config: object("config"),
        state: object("state"),
    }))
}

/// Has the server make or change a stream.
async fn order(context: &Context, verb: &str, stream: &str, config: &Value) -> Result<(), Error> {
    let subject = format!("STREAM.{verb}.{stream}");
    match request::<Value>(context, subject, config).await? {
        Response::Ok(_) => Ok(()),
        Response::Err { error } => Err(refused(&error.to_string())),
    }
}

async fn account(context: &Context) -> Result<Value, Error> {
    match request(context, "INFO".to_owned(), &json!({})).await? {
        Response::Ok(account) => Ok(account),
        Response::Err { error } => Err(refused(&error.to_string())),
    }
}

async fn request<T: DeserializeOwned>(
    context: &Context,
    subject: String,
    body: &Value,
) -> Result<Response<T>, Error> {
    context.request(subject, body).await.map_err(unanswered)
}

fn unanswered(error: jetstream::context::RequestError) -> Error {
    use jetstream::context::RequestErrorKind::{NoResponders, TimedOut};

    fleet(match error.kind() {
        NoResponders => {
            "the server has no JetStream, or its cluster has no leader; switch it on with the block \
             `jetstream` of each server, or wait until most servers run"
        }
        TimedOut => {
            "the server does not answer; see that these credentials may publish to `$JS.API.>` and \
             subscribe to their inbox, and that most servers run"
        }
        _ => "the request failed; see that the servers run and can be reached",
    })
}

fn refused(said: &str) -> Error {
    fleet(format!("the server refuses: {}", clean(said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, syncs: bool) -> Seen {
        serde_json::from_value(json!({"server_id": id, "config": {"sync_always": syncs}})).unwrap()
    }

    #[test]
    fn every_server_has_to_say_that_it_syncs() {
        let risk = |seen: &[Seen], servers| syncing(seen, servers).map(|found| found.risk);
        assert_eq!(risk(&[], 1), Some(Risk::SyncUnknown));
        assert_eq!(risk(&[seen("a", true)], 1), None);
        // One server that is asked twice is one.
        assert_eq!(
            risk(&[seen("a", true), seen("a", true)], 2),
            Some(Risk::SyncUnknown)
        );
        assert_eq!(risk(&[seen("a", true), seen("b", true)], 2), None);
        assert_eq!(
            risk(&[seen("a", true), seen("b", false)], 3),
            Some(Risk::SyncLater)
        );
    }

    #[test]
    fn an_account_without_a_limit_has_room() {
        assert_eq!(
            room(&json!({"storage": 9, "limits": {"max_storage": -1}})),
            None
        );
        assert_eq!(
            room(&json!({"storage": 9, "limits": {"max_storage": 100}})),
            None
        );
        assert!(room(&json!({"storage": 95, "limits": {"max_storage": 100}})).is_some());
    }
}
