//! `fleet`: the streams that many devices share, and the workers that carry them on.

mod access;
mod dead;
mod rewind;
mod run;
mod setup;
mod status;
mod user;

use clap::Subcommand;

pub(crate) use access::Servers;

use crate::args::Cli;
use crate::fault::Fault;
use crate::out::Out;

#[derive(Debug, Subcommand)]
pub(crate) enum Fleet {
    /// Makes the streams of a fleet, or refuses and says what is not as a fleet needs it.
    ///
    /// Three streams: of events, of the places up to which workers have delivered, and of dead
    /// letters. What is there and differs is changed only with --update, and the number of partitions
    /// never. Each finding says what it costs; --accept-NAME lives with it.
    Setup(setup::Setup),

    /// Says what is not as a fleet needs it; makes and changes nothing.
    ///
    /// Ends with 1 if anything is found that was not accepted.
    Check(setup::Check),

    /// Prints what a user has to be allowed, for the configuration of the servers.
    ///
    /// One user for each device, one for the workers, one for the person who works on the fleet. The
    /// seed stays in its file; what is printed belongs into the list `users` of each server.
    User(user::User),

    /// Works for ever, as a service does: takes its share of the partitions and delivers their events to
    /// the receiver, in order.
    ///
    /// Any number of workers share the partitions. SIGTERM or Ctrl-C has it finish the requests under way
    /// and give its partitions up, within the deadline; a second signal ends it at once, and what was under
    /// way then may come again, under the same ids. Ends with 6 if partitions are left that others take only
    /// after the lease. Tells systemd when it is ready.
    Run(Box<run::Run>),

    /// Shows the books of the fleet: what became of every event that was ever stored.
    Status(status::Status),

    /// Delivers all that is in the stream again, from its beginning, under the same ids.
    ///
    /// For a stream of events that was made anew or put back from a copy: its places are others then, and
    /// workers refuse to go on. Forgets what was delivered; nothing is lost by it.
    Rewind(rewind::Rewind),

    /// Looks at the events that were set aside, sends them again or discards them.
    #[command(subcommand)]
    Dead(dead::Dead),
}

pub(crate) async fn fleet(cli: &Cli, command: &Fleet, out: Out) -> Result<(), Fault> {
    match command {
        Fleet::Setup(args) => setup::setup(args, out).await,
        Fleet::Check(args) => setup::check(args, out).await,
        Fleet::User(args) => user::user(args, out),
        Fleet::Run(args) => run::run(cli, args, out).await,
        Fleet::Status(args) => status::status(args, out).await,
        Fleet::Rewind(args) => rewind::rewind(args, out).await,
        Fleet::Dead(command) => dead::dead(command, out).await,
    }
}
