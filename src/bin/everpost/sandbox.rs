//! `sandbox`: the stand-in API.

use std::pin::pin;

use everpost::exit;
use everpost::sandbox::{Sandbox, parse_script};
use serde::Serialize;

use crate::args;
use crate::fault::Fault;
use crate::out::Out;
use crate::signals::Signals;

/// Where the sandbox is.
#[derive(Serialize)]
struct Address<'a> {
    base_url: &'a str,
    /// Opens nothing but this sandbox.
    key: &'a str,
}

/// What it has seen so far.
#[derive(Serialize)]
struct Seen {
    /// Requests that have come.
    requests: u64,
    /// Events accepted, repetitions included.
    accepted: u64,
    /// Different events accepted.
    distinct: u64,
}

pub(crate) async fn sandbox(args: &args::Sandbox, out: Out) -> Result<(), Fault> {
    let script = match &args.script {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| {
                Fault::usage(format!(
                    "failed to read script {}: {source}",
                    path.display()
                ))
            })?;
            let script = parse_script(&text).map_err(|error| Fault::usage(error.to_string()))?;
            script.into_iter().collect()
        }
    };
    let mut signals = Signals::catch()?;
    // Without the bodies, a sandbox that runs for days stays small.
    let started = Sandbox::builder()
        .port(args.port)
        .keep_bodies(false)
        .start()
        .await;
    let sandbox = started.map_err(|source| {
        Fault::new(exit::UNEXPECTED, format!("failed to listen: {source}"))
            .hint("choose another --port, or leave it out")
    })?;
    sandbox.script(script);
    let (base_url, key) = (sandbox.base_url(), sandbox.key());
    out.show(&Address { base_url, key }, || {
        format!(
            "# In the terminal of `everpost run` or `everpost drain`:\n\
             export BA_BASE_URL={base_url}\nexport BA_API_KEY={key}\n"
        )
    })?;
    let mut told = 0;
    let mut gone = pin!(out.gone());
    loop {
        let news = sandbox.wait_for(|stats| stats.answered > told);
        let stats = tokio::select! {
            () = signals.next() => break,
            () = &mut gone => break,
            stats = news => stats.map_err(|error| Fault::new(exit::UNEXPECTED, error.to_string()))?,
        };
        told = stats.answered;
        let seen = seen(&sandbox);
        out.show(&seen, || line(&seen))?;
    }
    let seen = seen(&sandbox);
    sandbox.stop().await;
    out.show(&seen, || line(&seen))
}

fn seen(sandbox: &Sandbox) -> Seen {
    let stats = sandbox.stats();
    Seen {
        requests: stats.requests,
        accepted: stats.accepted,
        distinct: stats.distinct,
    }
}

fn line(seen: &Seen) -> String {
    format!(
        "{} requests; {} events accepted, {} different\n",
        seen.requests, seen.accepted, seen.distinct
    )
}
