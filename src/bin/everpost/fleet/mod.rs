//! `fleet`: the streams that many devices share, and the workers that carry them on.

mod access;
mod setup;
mod user;

use clap::Subcommand;

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
}

pub(crate) async fn fleet(_cli: &Cli, command: &Fleet, out: Out) -> Result<(), Fault> {
    match command {
        Fleet::Setup(args) => setup::setup(args, out).await,
        Fleet::Check(args) => setup::check(args, out).await,
        Fleet::User(args) => user::user(args, out),
    }
}
