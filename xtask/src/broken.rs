//! The same program, linked with a library that breaks its promise on request: what the negative
//! controls run.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::run()
}
