//! The tasks of the project that cargo has no command for: `cargo xtask prove`.

mod power;
mod prove;

use std::process::ExitCode;

/// Runs the task the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprintln!("tasks: prove");
        return ExitCode::from(2);
    };
    if command == "prove" {
        return prove::prove(rest);
    }
    if command == "--help" || command == "help" {
        println!("tasks: prove");
        return ExitCode::SUCCESS;
    }
    match prove::inner(command, rest).or_else(|| power::inner(command, rest)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{command}: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("no task `{command}`; tasks: prove");
            ExitCode::from(2)
        }
    }
}
