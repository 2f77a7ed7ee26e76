//! The tasks of the project that cargo has no command for: `cargo xtask prove` and
//! `cargo xtask soak`.

mod power;
mod prove;
mod soak;

use std::process::ExitCode;

/// Runs the task the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprintln!("tasks: prove, soak");
        return ExitCode::from(2);
    };
    if command == "prove" {
        return prove::prove(rest);
    }
    if command == "soak" {
        return soak::soak(rest);
    }
    let inner = power::inner(command, rest).or_else(|| soak::inner(command, rest));
    match inner {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{command}: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("no task `{command}`; tasks: prove, soak");
            ExitCode::from(2)
        }
    }
}
