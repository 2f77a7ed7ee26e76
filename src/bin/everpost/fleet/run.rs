//! `fleet run`: a worker, as a service.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use everpost::exit;
use everpost::fleet::{Worker, WorkerStatus};
use serde::Serialize;
use toml::Value;
use tracing::level_filters::LevelFilter;

use super::access::Which;
use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::init::To;
use crate::listen::Listen;
use crate::logging::{self, LogArgs};
use crate::notify;
use crate::out::Out;
use crate::overrides::Word;
use crate::service::DEADLINE;
use crate::settings::{self, Effective};
use crate::signals::{Hangup, Hangups, Signals};
use crate::text::{count, plain};

/// How often the log is told what is wrong with the servers.
const LOOK: Duration = Duration::from_secs(5);

/// What is typed with `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    to: To,

    /// Authorities that the receiver's certificate is checked against beside those of the system, as
    /// certificates in PEM.
    #[arg(long, value_name = "FILE", requires = "to")]
    receiver_ca_file: Option<PathBuf>,

    /// The address of the Botanalytics API, up to and including the version.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,

    /// The channel of the API that the key must be of.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// The file with the key, read again before each request.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// What people know this worker by; something that no other start has is added. Otherwise the name
    /// of this machine.
    #[arg(long = "name", value_name = "NAME")]
    name: Option<String>,

    /// After how long without a word another worker takes over. All workers of a fleet need the same.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = crate::times::span)]
    lease: Duration,

    /// For how long delivered events stay in the stream: a device that is away for longer, right after a
    /// batch whose answer it did not get, sends that batch twice.
    #[arg(long, value_name = "TIME", default_value = "7days", value_parser = crate::times::span)]
    keep: Duration,

    /// How long the requests under way may take once a signal has come.
    #[arg(long, value_name = "TIME", value_parser = crate::times::span)]
    deadline: Option<Duration>,

    #[command(flatten)]
    listen: Listen,

    #[command(flatten)]
    log: LogArgs,

    #[command(flatten)]
    which: Which,
}

impl Run {
    /// What was typed about the receiver.
    fn words(&self) -> Result<Vec<Word>, Fault> {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let key_file = self.key_file.as_deref().map(crate::init::absolute);
        let named = [
            (
                "--to",
                "service.receiver",
                self.to.value_of_worker(self.receiver_ca_file.as_deref())?,
            ),
            ("--base-url", "service.base_url", text(&self.base_url)),
            ("--channel", "service.channel", text(&self.channel)),
            ("--key-file", "service.key_file", key_file.transpose()?),
        ];
        let mut words: Vec<Word> = self.log.word().into_iter().collect();
        for (word, name, value) in named {
            words.extend(value.map(|value| (word, name, value)));
        }
        Ok(words)
    }
}

pub(super) async fn run(cli: &Cli, run: &Run, out: Out) -> Result<(), Fault> {
    let effective = environment::effective_of_worker(cli, run.words()?)?;
    let service = effective.service();
    if let settings::To::Stream(_) = &service.receiver {
        return Err(
            Fault::usage("a worker carries events out of the stream, not into one")
                .hint("name the receiver: --to botanalytics, or --to https://..."),
        );
    }
    logging::begin_for_a_service(LevelFilter::INFO, service.log_format);
    // Before anything is taken: an address that cannot be had is a mistake in the command line.
    let ports = run.listen.bind(service.listen)?;
    let mut signals = Signals::catch_for_a_service()?;
    let mut hangups = Hangups::catch()?;
    let worker = tokio::select! {
        begun = begin(run, &effective) => begun?,
        () = signals.next() => return Err(Fault::silent(exit::PENDING)),
    };
    let ports = run.listen.serve_worker(&worker, ports)?;
    notify::say("READY=1");
    tokio::select! {
        () = signals.next() => {}
        () = terminal_gone(&mut hangups) => {}
        () = tell(&worker) => {}
        () = notify::keep_telling() => {}
    }
    let deadline = run.deadline.or(service.deadline).unwrap_or(DEADLINE);
    tracing::info!(?deadline, "giving the partitions up");
    notify::say("STOPPING=1");
    let closed = close(&worker, deadline, &mut signals).await;
    for port in ports {
        port.close().await?;
    }
    closed?;
    let report = Report::of(&worker.status());
    out.show(&report, || match report.left {
        0 => "closed; all partitions are given up\n".to_owned(),
        left => format!(
            "closed; {} left to the lease\n",
            count(left as u64, "partition")
        ),
    })?;
    match report.left {
        0 => Ok(()),
        _ => Err(Fault::silent(exit::PENDING)),
    }
}

/// Keys, certificates and credentials are read again by themselves, so that SIGHUP means nothing but the
/// end of the terminal.
async fn terminal_gone(hangups: &mut Hangups) {
    while hangups.next().await != Hangup::TerminalGone {}
}

async fn begin(run: &Run, effective: &Effective) -> Result<Arc<Worker>, Fault> {
    let sink = environment::upstream_that_waits(effective, true)?;
    let url = sink.url().to_owned();
    let (access, names) = run.which.open_for_a_service().await?;
    let servers = access.to_string();
    let name = match &run.name {
        Some(name) => name.clone(),
        None => crate::init::machine(),
    };
    let settings = effective.settings();
    let worker = Worker::builder(access, names)
        .sink(sink)
        .name(&name)
        .lease(run.lease)
        .keep(Some(run.keep))
        .delivery(settings.delivery.clone())
        .max_age(settings.max_age)
        .start()
        .await?;
    tracing::info!(%servers, %url, name = worker.name(), "working");
    Ok(Arc::new(worker))
}

/// Says in the log what the servers do not let this worker do, whenever that changes; never ends.
async fn tell(worker: &Worker) {
    let mut told: Option<String> = None;
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        let trouble = worker.status().trouble;
        match (&told, &trouble) {
            (old, Some(new)) if old.as_ref() != Some(new) => {
                tracing::error!("the servers refuse, and are asked again: {}", plain(new));
            }
            (Some(_), None) => tracing::info!("the servers let this worker in again"),
            _ => {}
        }
        told = trouble;
    }
}

/// Gives the partitions up within the deadline; a second signal ends the waiting at once.
async fn close(worker: &Worker, deadline: Duration, signals: &mut Signals) -> Result<(), Fault> {
    let mut patient = pin!(worker.close(deadline));
    tokio::select! {
        closed = &mut patient => Ok(closed?),
        // What is under way may come again, under the same ids.
        () = signals.next() => Ok(()),
    }
}

/// How the worker ended.
#[derive(Serialize)]
struct Report {
    name: String,
    /// Partitions that it could not give up in time: another worker takes them after the lease.
    left: usize,
}

impl Report {
    fn of(status: &WorkerStatus) -> Self {
        Self {
            name: status.name.clone(),
            left: status.held.len(),
        }
    }
}
