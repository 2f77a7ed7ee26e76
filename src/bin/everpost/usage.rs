//! What was typed, understood or told what is wrong with it.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Error, FromArgMatches as _};
use everpost::exit;

use crate::args::Cli;
use crate::fault::Fault;
use crate::help;
use crate::out::remark;

/// Words that other commands use for what is called otherwise here.
const CALLED: &[(&[&str], &str)] = &[
    (
        &["send", "add", "push", "put", "publish", "write", "enqueue"],
        "`everpost append` takes events in",
    ),
    (
        &["flush", "deliver", "sync", "upload"],
        "`everpost drain` delivers what is pending, then ends",
    ),
    (
        &["serve", "start", "daemon", "service"],
        "`everpost run` delivers for ever",
    ),
    (
        &["stop", "hold"],
        "`everpost pause` stops delivery; SIGTERM or Ctrl-C ends `everpost run`",
    ),
    (
        &["purge", "clear", "delete", "remove", "rm"],
        "`everpost dead discard` removes dead letters; pending events are never removed",
    ),
    (
        &["list", "ls", "show", "cat"],
        "`everpost peek` shows pending events, `everpost dead list` those that were set aside",
    ),
    (
        &["tail", "watch", "top"],
        "`everpost status --watch` shows what changes",
    ),
    (
        &["fsck", "test", "lint"],
        "`everpost verify` checks the spool, `everpost validate` events, `everpost doctor` all around",
    ),
];

/// Reads the command line. What is left to do otherwise, help for example, is done, and the exit
/// code given.
pub(crate) fn parse() -> Result<Cli, u8> {
    let mut command = help::command();
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    parsed
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| tell(&error.format(&mut command)))
}

fn tell(error: &Error) -> u8 {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand => {
            // To standard output, or where it was not asked for to standard error. That the
            // reader has gone changes nothing.
            let _ = error.print();
        }
        _ if wants_json() => fault(error).tell(true),
        _ if called(error).is_some() => fault(error).tell(false),
        _ => {
            // It begins as every other error of this command.
            let text = error.render().to_string();
            remark(text.replacen("error:", "everpost:", 1).trim_end());
        }
    }
    u8::try_from(error.exit_code()).unwrap_or(exit::USAGE)
}

/// Whether JSON was asked for, as far as that can be seen in what could not be understood.
fn wants_json() -> bool {
    let mut typed = std::env::args_os().skip(1).take_while(|arg| arg != "--");
    typed.any(|arg| arg == "--json")
}

/// The same in two sentences: what is wrong, and what to type.
fn fault(error: &Error) -> Fault {
    let text = error.render().to_string();
    let mut paragraphs = text.trim_start_matches("error:").split("\n\n");
    let what = paragraphs.next().unwrap_or_default();
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let tips: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("tip: "))
        .collect();
    let hint = match (called(error), tips.is_empty()) {
        (Some(called), _) => called.to_owned(),
        (None, false) => tips.join("; "),
        (None, true) => "see `everpost --help`".to_owned(),
    };
    Fault::usage(what).hint(hint)
}

/// What a command of this name is called here.
fn called(error: &Error) -> Option<&'static str> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let mut called = CALLED.iter();
    let found = called.find(|(names, _)| names.contains(&typed.as_str()));
    found.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(args: &[&str]) -> Error {
        help::command().try_get_matches_from(args).unwrap_err()
    }

    #[test]
    fn what_other_commands_call_otherwise_is_found() {
        for (names, hint) in CALLED {
            for name in *names {
                let fault = fault(&error(&["everpost", name]));
                assert_eq!(fault.hint.as_deref(), Some(*hint), "{name}");
                assert_eq!(fault.text, format!("unrecognized subcommand '{name}'"));
            }
        }
    }

    #[test]
    fn a_fault_is_said_in_one_sentence_and_the_hint_in_another() {
        let typo = fault(&error(&["everpost", "append", "--bach", "1"]));
        assert_eq!(typo.text, "unexpected argument '--bach' found");
        assert_eq!(
            typo.hint.as_deref(),
            Some("a similar argument exists: '--batch'")
        );
        let missing = fault(&error(&["everpost", "completions"]));
        assert!(
            missing.text.starts_with("the following required arguments"),
            "{missing:?}"
        );
        assert_eq!(missing.hint.as_deref(), Some("see `everpost --help`"));
    }
}
