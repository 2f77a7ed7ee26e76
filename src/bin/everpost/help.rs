//! The command line with what helps to read it.

use clap::builder::Styles;
use clap::{Arg, Command, CommandFactory as _};

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
            "everpost relay --channel universal",
        ],
    ),
    (
        &["relay", "token"],
        &["everpost relay token --channel universal"],
    ),
    (
        &["fleet"],
        &["everpost fleet setup --nats nats://10.0.0.1,10.0.0.2,10.0.0.3"],
    ),
    (
        &["fleet", "setup"],
        &[
            "everpost fleet setup --nats nats://10.0.0.1 --monitor http://10.0.0.1:8222",
            "everpost fleet setup --nats nats://127.0.0.1 --replicas 1 --accept-few-replicas",
        ],
    ),
    (
        &["fleet", "check"],
        &["everpost fleet check --nats nats://10.0.0.1 --json"],
    ),
    (
        &["fleet", "run"],
        &[
            "everpost fleet run --nats nats://10.0.0.1 --to botanalytics",
            "everpost fleet run --nats nats://10.0.0.1 --to https://hooks.example/in --form lines",
        ],
    ),
    (
        &["fleet", "status"],
        &["everpost fleet status --nats nats://10.0.0.1 --watch"],
    ),
    (
        &["fleet", "rewind"],
        &["everpost fleet rewind --nats nats://10.0.0.1 --yes"],
    ),
    (
        &["fleet", "dead"],
        &["everpost fleet dead list --nats nats://10.0.0.1"],
    ),
    (
        &["fleet", "dead", "list"],
        &["everpost fleet dead list --nats nats://10.0.0.1 --status 400"],
    ),
    (
        &["fleet", "dead", "show"],
        &["everpost fleet dead show --nats nats://10.0.0.1 17"],
    ),
    (
        &["fleet", "dead", "retry"],
        &["everpost fleet dead retry --nats nats://10.0.0.1 --all --yes"],
    ),
    (
        &["fleet", "dead", "discard"],
        &["everpost fleet dead discard --nats nats://10.0.0.1 17 --yes"],
    ),
    (
        &["fleet", "user"],
        &["everpost fleet user device --as sensor-7 --seed-file sensor-7.seed"],
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
        &["fate"],
        &["everpost fate 17", "everpost fate --settled=60s 17 --json"],
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
            "everpost init --to nats://10.0.0.1,10.0.0.2,10.0.0.3",
            "everpost --spool /mnt/spool init",
        ],
    ),
    (&["config"], &["everpost config", "everpost config --json"]),
    (&["pause"], &["everpost pause"]),
    (&["resume"], &["everpost resume"]),
    (&["wake"], &["everpost wake"]),
    (
        &["pace"],
        &[
            "everpost pace",
            "everpost pace --rate-events 100 --rate-bytes 64KiB",
            "everpost pace --rate-events off",
        ],
    ),
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
    for name in WITHOUT_A_SPOOL {
        command = without_globals(command, name);
    }
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

/// They touch no spool and ask no owner, so that what is typed about either does nothing there.
const WITHOUT_A_SPOOL: &[&str] = &[
    "completions",
    "fleet",
    "man",
    "sandbox",
    "validate",
    "version",
];

/// Options of all commands that these make something of all the same.
const MEANT_EVERYWHERE: &[&str] = &["json"];

/// Leaves the options of all commands out of the help of this one. They may still be typed, as in a
/// script that gives them to each command.
fn without_globals(command: Command, name: &str) -> Command {
    let global = command.get_arguments().filter(|arg| arg.is_global_set());
    let hidden: Vec<Arg> = global
        .filter(|arg| !MEANT_EVERYWHERE.contains(&arg.get_id().as_str()))
        .map(|arg| arg.clone().hide(true))
        .collect();
    // What a command has already is not given to it again when it is built.
    command.mut_subcommand(name, |part| part.args(hidden))
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
    use clap::FromArgMatches as _;

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

    /// `--spool` and `--settings` stood in the help of commands that have no use for them.
    #[test]
    fn what_does_nothing_is_not_in_the_help_and_may_be_typed() {
        let mut command = command();
        command.build();
        for name in WITHOUT_A_SPOOL {
            let part = command.find_subcommand_mut(name).unwrap();
            let help = part.render_long_help().to_string();
            for option in ["--spool", "--settings", "--wait", "--socket"] {
                assert!(!help.contains(&format!("{option} ")), "{name}: {help}");
            }
            assert!(help.contains("--json"), "{name}: {help}");
        }
        for line in [
            &[
                "everpost",
                "man",
                "--spool",
                "x",
                "--settings",
                "y",
                "append",
            ][..],
            &[
                "everpost",
                "--spool",
                "x",
                "--settings",
                "y",
                "man",
                "append",
            ],
        ] {
            let matches = super::command().try_get_matches_from(line).unwrap();
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.spool, Some("x".into()), "{line:?}");
            assert_eq!(cli.settings, Some("y".into()), "{line:?}");
        }
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
