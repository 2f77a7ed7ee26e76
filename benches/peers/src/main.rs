//! Measures everpost beside what people would use instead, and beside the physical limit: on one
//! machine, in one run, with the same bytes, the same producers and the same promise, the rounds
//! of all systems interleaved.

mod args;
mod backlog;
mod bench;
mod cases;
mod child;
mod client;
mod cluster;
mod contest;
mod delay;
mod device;
mod docs;
mod events;
mod goal;
mod packed;
mod parts;
mod place;
mod process;
mod processor;
mod receiver;
mod report;
mod stats;
mod systems;
mod watched;

use std::process::ExitCode;

fn main() -> ExitCode {
    let ended = match child::role() {
        Some(role) => role.and_then(child::run).map(|()| true),
        None => bench::run(),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
