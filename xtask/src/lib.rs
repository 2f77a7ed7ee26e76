//! The tasks of the project that cargo has no command for.

mod fuzz;
mod mutate;
mod power;
mod prove;
mod soak;
mod tree;

use std::process::ExitCode;

const TASKS: &str = "tasks: prove, soak, mutate";

/// Runs the task the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprintln!("{TASKS}");
        return ExitCode::from(2);
    };
    match command.as_str() {
        "prove" => return prove::prove(rest),
        "soak" => return soak::soak(rest),
        "mutate" => return mutate::mutate(rest),
        _ => {}
    }
    if command == "--help" || command == "help" {
        println!("{TASKS}");
        return ExitCode::SUCCESS;
    }
    let inner = prove::inner(command, rest)
        .or_else(|| power::inner(command, rest))
        .or_else(|| soak::inner(command, rest));
    match inner {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{command}: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("no task `{command}`; {TASKS}");
            ExitCode::from(2)
        }
    }
}
