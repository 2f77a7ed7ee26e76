//! Streams of NATS JetStream on real servers: three nodes on loopback that die, freeze and come back.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it did"
)]

mod cluster;
mod device;
mod field;
mod ground;
mod letters;
mod login;
mod rights;
mod storm;
mod watch;
mod week;
mod workers;
