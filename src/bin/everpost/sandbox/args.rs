//! What can be typed after `sandbox`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use everpost::sandbox::{CHANNELS, FAULTS};

/// The port where none is named: P, O, S, T on the keys of a telephone. Being always the same, it
/// lets `--env` name a sandbox that runs in another terminal.
pub(crate) const PORT: u16 = 7678;

#[derive(Debug, Args)]
pub(crate) struct Sandbox {
    /// The port; 0 for any free one. Without it 7678, or any free one if that is taken.
    #[arg(long, value_name = "P")]
    pub(crate) port: Option<u16>,

    /// The address to listen on. It is plain HTTP: on another than a loopback address, others can
    /// read what is sent, and send too.
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::LOCALHOST.into())]
    pub(crate) bind: IpAddr,

    /// The channel whose keys are accepted. Messages of `universal` are checked field by field,
    /// those of other channels for being objects.
    #[arg(long, value_name = "CH", default_value = CHANNELS[0])]
    pub(crate) channel: String,

    /// Takes what other receivers are sent as well, on every path but the API's: JSON in any form,
    /// CloudEvents, OTLP logs and Loki. No key is asked for there.
    #[arg(long)]
    pub(crate) any_receiver: bool,

    /// The only key that is accepted. Without it, every key of the channel is: three parts with
    /// dots between them, the middle one with the claims.
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) key: Option<String>,

    /// A file with faults, one a line, each met by one request; see below.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,

    /// Shows the events that are accepted. They are private, so by default they are not shown.
    #[arg(long)]
    pub(crate) show: bool,

    /// Appends the events that are accepted to this file, one a line, repetitions included. What
    /// cannot be written there is answered with 500 and not accepted.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Prints the lines that point a shell to a sandbox with these options, and ends; nothing is
    /// started.
    #[arg(long, conflicts_with_all = ["script", "show", "record"])]
    pub(crate) env: bool,
}

/// A key that a header can carry.
fn key(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("a key is letters, digits and signs without blanks".to_owned())
}

/// What `--help` says at its end.
pub(crate) fn help() -> String {
    let mut help = String::from(
        "In two terminals:\n  \
           everpost sandbox\n  \
           eval \"$(everpost sandbox --env)\"; echo '{\"timestamp\":1}' | everpost append; everpost drain\n\n\
         Each request is shown when it has ended:\n  \
           TIME POST /v2/messages 400 node/3.0.0 1 message: message.timestamp is required\n\n\
         Faults for --script, one a line; `x3` behind one repeats it, `#` begins a comment:\n",
    );
    for (form, what) in FAULTS {
        help.push_str(&format!("  {form:<26} {what}\n"));
    }
    help.push_str(&format!("\nDocumented channels: {}", CHANNELS.join(", ")));
    help
}
