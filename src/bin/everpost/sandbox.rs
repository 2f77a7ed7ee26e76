//! `sandbox`: the stand-in API.

mod access;
pub(crate) mod args;
mod record;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use everpost::botanalytics::Key;
use everpost::clock::{Clock as _, SystemClock};
use everpost::exit;
use everpost::sandbox::{Builder, CHANNELS, Sandbox, parse_script};
use serde::Serialize;

use crate::fault::Fault;
use crate::out::{Out, remark};
use crate::signals::Signals;
use crate::text::{count, plain};
use access::Access;
use args::PORT;
use record::Record;

/// Where the sandbox is.
#[derive(Serialize)]
struct Address<'a> {
    base_url: &'a str,
    /// Opens nothing but a sandbox.
    key: &'a str,
}

/// What it has seen in all.
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
    check(args);
    if args.env {
        return env(args, out);
    }
    let script = script(args)?;
    let record = args.record.as_deref().map(Record::open).transpose()?;
    let mut signals = Signals::catch()?;
    let mut builder = builder(args).keep_bodies(args.show || record.is_some());
    if let Some(record) = record {
        builder = builder.store(move |events| record.append(events));
    }
    let sandbox = start(args, builder).await?;
    sandbox.script(script);
    let (base_url, key) = (sandbox.base_url(), sandbox.key());
    out.show(&Address { base_url, key }, || {
        format!(
            "# Serves the channel {} until Ctrl-C. In another terminal: eval \"$({})\", or:\n{}",
            plain(&args.channel),
            env_command(args, sandbox.address()),
            exports(base_url, key),
        )
    })?;
    let mut told = 0;
    let mut gone = std::pin::pin!(out.gone());
    loop {
        let news = sandbox.wait_for(|stats| stats.ended > told);
        let ended = tokio::select! {
            biased;
            () = signals.next() => break,
            () = &mut gone => break,
            stats = news => stats.map_err(|error| Fault::new(exit::UNEXPECTED, error.to_string()))?,
        };
        told = ended.ended;
        tell(&sandbox, args, out)?;
    }
    tell(&sandbox, args, out)?;
    let stats = sandbox.stats();
    let seen = Seen {
        requests: stats.requests,
        accepted: stats.accepted,
        distinct: stats.distinct,
    };
    sandbox.stop().await;
    out.show(&seen, || {
        let (requests, accepted) = (
            count(seen.requests, "request"),
            count(seen.accepted, "event"),
        );
        format!(
            "{requests}; {accepted} accepted, {} different\n",
            seen.distinct
        )
    })
}

/// Tells of the requests that have ended since the last time. They are forgotten thereby, so that a
/// sandbox that runs for days stays small.
fn tell(sandbox: &Sandbox, args: &args::Sandbox, out: Out) -> Result<(), Fault> {
    for ended in sandbox.take_ended() {
        let access = Access::new(&ended, SystemClock.wall(), args.show);
        out.show(&access, || access.text())?;
    }
    Ok(())
}

fn script(args: &args::Sandbox) -> Result<Vec<everpost::sandbox::Fault>, Fault> {
    let Some(path) = &args.script else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(path).map_err(|source| {
        let shown = path.display();
        Fault::usage(format!("failed to read script {shown}: {source}"))
    })?;
    parse_script(&text).map_err(|error| {
        let text = format!("{}: {error}", path.display());
        Fault::usage(text).hint("`everpost sandbox --help` lists the faults and what they do")
    })
}

/// Says what is allowed but hardly meant.
fn check(args: &args::Sandbox) {
    if !args.bind.is_loopback() {
        remark(&format!(
            "everpost: plain HTTP on {}: other machines can send, and what they send can be read on \
             the way",
            args.bind
        ));
    }
    if !CHANNELS.contains(&args.channel.as_str()) {
        remark(&format!(
            "everpost: no documented channel is called `{}`; there are {}",
            plain(&args.channel),
            CHANNELS.join(", ")
        ));
    }
    if let Some(key) = &args.key {
        let usable = Key::parse(key.as_str())
            .and_then(|key| key.check(Some(&args.channel), SystemClock.wall()));
        if let Err(why) = usable {
            remark(&format!(
                "everpost: everpost and the official clients will not send this key: {why}"
            ));
        }
    }
}

fn builder(args: &args::Sandbox) -> Builder {
    let mut builder = Sandbox::builder()
        .bind(args.bind)
        .port(args.port.unwrap_or(PORT))
        .channel(&args.channel);
    if args.channel == "microsoft-bot-framework" {
        builder = builder.id_pointer("/activity/id");
    }
    if args.any_receiver {
        builder = builder.any_receiver();
    }
    match &args.key {
        Some(key) => builder.key(key),
        None => builder.any_key(),
    }
}

async fn start(args: &args::Sandbox, builder: Builder) -> Result<Sandbox, Fault> {
    let failed = |source: io::Error| {
        let (bind, port) = (args.bind, args.port.unwrap_or(PORT));
        let address = SocketAddr::new(bind, port);
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => "choose another --port, or 0 for any free one",
            io::ErrorKind::AddrNotAvailable => "--bind takes an address of this machine",
            _ => "choose another --port or --bind",
        };
        let text = format!("failed to listen on {address}: {source}");
        Fault::new(exit::UNEXPECTED, text).hint(hint)
    };
    let again = builder.clone();
    match builder.start().await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && args.port.is_none() => {
            again.port(0).start().await.map_err(failed)
        }
        started => started.map_err(failed),
    }
}

/// `--env`: the lines alone.
fn env(args: &args::Sandbox, out: Out) -> Result<(), Fault> {
    let Some((base_url, key)) = builder(args).preview() else {
        return Err(Fault::usage("--env needs the port of the sandbox")
            .hint("give both commands the same --port, such as 7678"));
    };
    let port = args.port.unwrap_or(PORT);
    let mut address = SocketAddr::new(args.bind, port);
    if address.ip().is_unspecified() {
        let here: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(here);
    }
    // Long for a machine on the same desk; the lines are right in any case.
    if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        remark(&format!(
            "everpost: nothing answers at {address} yet; start the sandbox without --env in another \
             terminal"
        ));
    }
    let (base_url, key) = (base_url.as_str(), key.as_str());
    out.show(&Address { base_url, key }, || exports(base_url, key))
}

fn exports(base_url: &str, key: &str) -> String {
    let (base_url, key) = (quoted(base_url), quoted(key));
    format!("export BA_BASE_URL={base_url}\nexport BA_API_KEY={key}\n")
}

/// The command that prints the lines for a sandbox that listens there.
fn env_command(args: &args::Sandbox, address: SocketAddr) -> String {
    let mut command = "everpost sandbox --env".to_owned();
    let mut option = |name: &str, value: &str| {
        command.push_str(&format!(" --{name} {}", quoted(value)));
    };
    if address.port() != PORT {
        option("port", &address.port().to_string());
    }
    if address.ip() != std::net::Ipv4Addr::LOCALHOST {
        option("bind", &address.ip().to_string());
    }
    if args.channel != CHANNELS[0] {
        option("channel", &plain(&args.channel));
    }
    if let Some(key) = &args.key {
        option("key", key);
    }
    command
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:-+=@%,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in [
            "http://127.0.0.1:1/v2",
            "http://[::1]:1/v2",
            "a b",
            "it's",
            "$x`y`",
            "",
            "~",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let shell = std::process::Command::new("sh")
                .args(["-c", &script])
                .output();
            let said = String::from_utf8(shell.unwrap().stdout).unwrap();
            assert_eq!(said, word, "{script}");
        }
        assert_eq!(quoted("a.b-c_d"), "a.b-c_d");
    }
}
