//! The command line with what helps to read it.

use clap::builder::Styles;
use clap::{Command, CommandFactory as _};

use crate::args::Cli;

/// What a person would type, for each command.
const EXAMPLES: &[(&[&str], &[&str])] = &[
    (
        &["append"],
        &[
            "everpost append events.jsonl",
            "producer | everpost append --ack",
            "everpost append --check universal day1.jsonl day2.jsonl",
        ],
    ),
    (
        &["validate"],
        &[
            "everpost validate events.jsonl",
            "producer | everpost validate --json",
        ],
    ),
    (
        &["drain"],
        &["everpost drain", "everpost drain --deadline 60s --json"],
    ),
    (
        &["run"],
        &["everpost run", "producer | everpost run --deadline 30s"],
    ),
    (
        &["relay"],
        &[
            "everpost relay --sandbox",
            "BA_API_KEY_FILE=/run/key everpost relay --channel universal",
        ],
    ),
    (
        &["relay", "token"],
        &["export BA_API_KEY=$(everpost relay token --channel universal)"],
    ),
    (&["status"], &["everpost status", "everpost status --watch"]),
    (&["peek"], &["everpost peek -n 3", "everpost peek --json"]),
    (
        &["export"],
        &["everpost export > backlog.jsonl", "everpost export --dead"],
    ),
    (
        &["import"],
        &["everpost --spool /mnt/new import backlog.jsonl"],
    ),
    (
        &["dead"],
        &["everpost dead list", "everpost dead retry --all --yes"],
    ),
    (
        &["dead", "list"],
        &["everpost dead list", "everpost dead list --status 400"],
    ),
    (&["dead", "show"], &["everpost dead show 17"]),
    (
        &["dead", "retry"],
        &["everpost dead retry 17", "everpost dead retry --all --yes"],
    ),
    (
        &["dead", "discard"],
        &["everpost dead discard --text timestamp --yes"],
    ),
    (
        &["init"],
        &[
            "everpost init --max-bytes 64MiB",
            "everpost --spool /mnt/spool init",
        ],
    ),
    (&["config"], &["everpost config", "everpost config --json"]),
    (&["pause"], &["everpost pause"]),
    (&["resume"], &["everpost resume"]),
    (&["wake"], &["everpost wake"]),
    (&["verify"], &["everpost verify", "everpost verify --json"]),
    (
        &["incidents"],
        &["everpost incidents", "everpost incidents --acknowledge 1 2"],
    ),
    (&["repair"], &["everpost repair", "everpost repair --apply"]),
    (
        &["sandbox"],
        &["everpost sandbox", "everpost sandbox --show"],
    ),
    (
        &["completions"],
        &["everpost completions bash > /etc/bash_completion.d/everpost"],
    ),
    (
        &["man"],
        &[
            "everpost man append | man -l -",
            "everpost man --dir /usr/local/share/man/man1",
        ],
    ),
    (&["doctor"], &["everpost doctor", "everpost doctor --json"]),
    (&["version"], &["everpost version --json"]),
    (
        &[],
        &[
            "everpost append events.jsonl",
            "everpost drain",
            "everpost status",
        ],
    ),
];

/// The command line with examples. clap leaves its colours out where no terminal is.
pub(crate) fn command() -> Command {
    let heading = *Styles::styled().get_header();
    let mut command = Cli::command();
    for (path, lines) in EXAMPLES {
        let mut text = format!("{heading}Examples:{heading:#}");
        for line in *lines {
            text.push_str("\n  ");
            text.push_str(line);
        }
        command = with(command, path, &text);
    }
    command
}

fn with(command: Command, path: &[&str], text: &str) -> Command {
    let Some((name, rest)) = path.split_first() else {
        let long = match command.get_after_long_help() {
            Some(more) => format!("{text}\n\n{more}"),
            None => text.to_owned(),
        };
        return command.after_help(text.to_owned()).after_long_help(long);
    };
    command.mut_subcommand(name, |part| with(part, rest, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of an example that is this command: not what is piped into it, nor what follows.
    fn typed(line: &str) -> Vec<&str> {
        let words = line.split_whitespace();
        words
            .skip_while(|word| *word != "everpost")
            .take_while(|word| !["|", ">"].contains(word))
            .collect()
    }

    fn without_examples(command: &Command) -> Vec<&str> {
        let parts = command.get_subcommands().filter(|part| !part.is_hide_set());
        let mut without: Vec<&str> = parts.flat_map(without_examples).collect();
        if command.get_after_help().is_none() {
            without.push(command.get_name());
        }
        without
    }

    #[test]
    fn every_command_shows_what_to_type() {
        assert_eq!(without_examples(&command()), [""; 0]);
    }

    #[test]
    fn every_example_can_be_typed_and_is_of_its_command() {
        for (path, lines) in EXAMPLES {
            for line in *lines {
                let matches = command().try_get_matches_from(typed(line));
                let mut matches = matches.unwrap_or_else(|error| panic!("{line}: {error}"));
                for name in *path {
                    let (found, rest) = matches.remove_subcommand().unwrap();
                    assert_eq!(&found, name, "{line}");
                    matches = rest;
                }
            }
        }
    }
}
