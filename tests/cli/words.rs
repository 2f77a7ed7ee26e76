//! What is typed and what is answered: several files, refused lines, wrong words, hostile texts.

use std::fs;

use everpost::exit;
use everpost::sandbox::{Fault, Reply, Sandbox};
use serde_json::{Value, json};

use crate::set_up::{Place, bad_message, message};

/// The objects on standard error, one for each line that is no remark.
fn errors(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{text}"));
    let lines = text.lines().filter(|line| !line.starts_with("everpost: "));
    lines.map(parse).collect()
}

/// Each line was a commit of its own unless a number was given, and 20,000 lines took half a
/// minute. What has been read goes together now; that this is so is seen in the books of the disk.
#[test]
fn several_files_are_taken_in_together_and_in_order() {
    let place = Place::new();
    let (first, second) = (place.path("first"), place.path("second"));
    let lines = |range: std::ops::Range<u64>| range.map(message).collect::<String>();
    fs::write(
        &first,
        format!("\u{FEFF}{}", lines(1..4_000).replace('\n', "\r\n")),
    )
    .unwrap();
    // Its last line has no end, and does not run into the first line of the next one.
    fs::write(&second, lines(4_000..4_101).trim_end()).unwrap();
    let names = [&first, &second].map(|path| path.to_str().unwrap());
    let args = ["append", names[0], names[1], "-"];
    let appended = place.feed(&args, &message(4_101)).expect(exit::DONE);
    assert_eq!(appended.out, "appended 4101 events, seq 1 to 4101\n");
    let exported = place.run(&["export"]).expect(exit::DONE).lines();
    let ids: Vec<&str> = exported
        .iter()
        .map(|line| line["event"]["id"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (1..=4_101).map(|n| n.to_string()).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_refused_line_names_its_file_and_its_column_and_no_second_line() {
    let place = Place::new();
    let (good, bad) = (place.path("good"), place.path("bad"));
    fs::write(&good, "1\n").unwrap();
    fs::write(&bad, "2\n{\"a\":}\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let alone = place.run(&["append", bad]).expect(exit::REFUSED);
    let why = "is refused: not one JSON value: it breaks the syntax at column 6\n";
    assert_eq!(alone.err, format!("{}everpost: line 2 {why}", place.made()));
    let both = place.run(&["append", good, bad]).expect(exit::REFUSED);
    assert_eq!(both.err, format!("everpost: line 2 of {bad} {why}"));
    let json = place
        .run(&["append", "--json", good, bad])
        .expect(exit::REFUSED);
    let told = errors(&json.err).remove(0);
    assert_eq!((&told["line"], &told["file"]), (&json!(2), &json!(bad)));
    assert_eq!(told["code"], exit::REFUSED);
    assert_eq!(json.json()["refused"], 1);
}

/// Three refusals that said nothing of the cause.
#[test]
fn json_that_is_spread_over_lines_is_named_before_anything_is_taken() {
    let place = Place::new();
    place.append(1, 1);
    for spread in [
        "{\n  \"a\": 1\n}\n",
        "[\n  1,\n  2\n]\n",
        "\n{\"a\": 1,\n\"b\": 2}\n",
    ] {
        let refused = place.feed(&["append"], spread).expect(exit::REFUSED);
        assert_eq!(refused.out, "");
        assert!(
            refused
                .err
                .contains("; nothing is appended\nhint: one event per line; "),
            "{refused:?}"
        );
        assert!(
            refused.err.contains("`jq -c . FILE | everpost append`"),
            "{refused:?}"
        );
        assert_eq!(refused.err.lines().count(), 2, "{refused:?}");
    }
    let late = place
        .feed(&["append"], "1\n{\n2\n{\n")
        .expect(exit::REFUSED);
    assert_eq!(late.out, "appended 2 events, seq 2 to 3; refused 2 lines\n");
    assert_eq!(late.err.matches("jq -c").count(), 1, "{late:?}");
}

#[test]
fn an_input_that_cannot_be_read_is_told_before_anything_is_done() {
    let place = Place::new();
    let here = place.dir.path().to_str().unwrap().to_owned();
    for (args, text, hint) in [
        (
            ["append", "nofile"],
            "failed to open nofile: No such file",
            "`-` is standard input",
        ),
        (["append", &here], "is a directory", "name the files in it"),
        (
            ["append", "{\"secret\":1}"],
            "an argument is JSON",
            "pipe it in",
        ),
        (
            ["import", "nofile"],
            "failed to open nofile: No such file",
            "`-` is standard input",
        ),
        (
            ["validate", "nofile"],
            "failed to open nofile: No such file",
            "`-` is standard input",
        ),
    ] {
        let failed = place.run(&args).expect(exit::USAGE);
        assert_eq!(failed.out, "", "{args:?}");
        assert!(
            failed.err.starts_with("everpost: ") && failed.err.contains(text),
            "{failed:?}"
        );
        assert!(
            failed.err.contains("\nhint: ") && failed.err.contains(hint),
            "{failed:?}"
        );
        assert!(!failed.err.contains("secret"), "{failed:?}");
    }
    assert!(!place.spool().exists());
}

/// A producer that waits for its acknowledgements had gone, and the command took all that came.
#[test]
fn no_more_is_taken_in_when_the_reader_of_the_acknowledgements_has_gone() {
    let place = Place::new();
    let mut running = place.start(&["append", "--ack"]);
    running.write(&message(1));
    running.read_until(|line| line == "ACK 0");
    // Its standard input stays open, and nothing more comes.
    drop(running.stdout);
    let output = running.child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(exit::UNEXPECTED)));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.contains("has gone; 1 event appended, and no more"),
        "{err}"
    );
    assert_eq!(place.run(&["peek", "--json"]).lines().len(), 1);
}

/// What the API refuses became a dead letter hours later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checked_append_refuses_what_the_api_would_refuse() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let input = message(1) + "[1,2]\n5\nnull\n{\"a\":1}\n" + &bad_message(2) + &message(3);
    let args = ["append", "--check", "universal", "--json"];
    let appended = place.feed(&args, &input).expect(exit::REFUSED);
    let lines: Vec<Value> = errors(&appended.err)
        .iter()
        .map(|e| e["line"].clone())
        .collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    assert_eq!(appended.json()["appended"], 2);
    let drained = place.run(&["drain", "--json"]).expect(exit::DONE).json();
    assert_eq!(
        (&drained["delivered"], &drained["dead"]),
        (&json!(2), &json!(0))
    );

    let exported = place
        .run(&["append", "--check", "universal"])
        .expect(exit::DONE);
    assert_eq!(exported.out, "appended 0 events\n");
    let entries = format!("{{\"event\":{}}}\n{{\"event\":5}}\n", message(1).trim_end());
    let imported = place.feed(&["import", "--check", "universal"], &entries);
    let imported = imported.expect(exit::REFUSED);
    assert!(
        imported
            .err
            .contains("line 2 is refused: message must be an object"),
        "{imported:?}"
    );

    let other = Place::new();
    let valid = other.feed(&["validate"], &input).expect(exit::REFUSED);
    assert_eq!(valid.out, "2 events valid; 5 lines refused\n");
    assert!(
        valid
            .err
            .contains("line 6 is refused: message.content.texts[0].text is required")
    );
    let valid = other
        .feed(&["validate", "--json"], &message(1))
        .expect(exit::DONE);
    assert_eq!(valid.json(), json!({"valid": 1, "refused": 0}));
    assert!(!other.spool().exists());
}

#[test]
fn every_failure_is_one_object_for_a_program() {
    let place = Place::new();
    for (args, error, code) in [
        (
            &["status", "--json"][..],
            "there is no spool yet.",
            exit::USAGE,
        ),
        (
            &["--json", "append", "nofile"],
            "failed to open nofile",
            exit::USAGE,
        ),
        (
            &["append", "--json", "--bach", "3"],
            "unexpected argument '--bach' found",
            exit::USAGE,
        ),
        (
            &["--json", "frobnicate"],
            "unrecognized subcommand 'frobnicate'",
            exit::USAGE,
        ),
        (&["--json"], "'everpost' requires a subcommand", exit::USAGE),
        (
            &["drain", "--json", "--deadline", "x"],
            "invalid value 'x' for '--deadline",
            exit::USAGE,
        ),
    ] {
        let failed = place.run(args).expect(code);
        assert_eq!(failed.out, "", "{args:?}");
        let told = errors(&failed.err);
        assert_eq!(told.len(), 1, "{args:?} {failed:?}");
        assert!(
            told[0]["error"].as_str().unwrap().starts_with(error),
            "{failed:?}"
        );
        assert_eq!(told[0]["code"], code, "{failed:?}");
        assert!(!told[0]["hint"].as_str().unwrap().is_empty(), "{failed:?}");
    }
    let typed = place.run(&["append", "--bach"]).expect(exit::USAGE);
    assert!(
        typed
            .err
            .starts_with("everpost: unexpected argument '--bach' found\n"),
        "{typed:?}"
    );
    let purge = place.run(&["purge"]).expect(exit::USAGE);
    assert!(
        purge
            .err
            .contains("\nhint: `everpost dead discard` removes"),
        "{purge:?}"
    );
}

#[test]
fn there_is_a_page_for_each_command_and_pages_name_only_each_other() {
    let place = Place::new();
    let dir = place.path("man");
    let dir = dir.to_str().unwrap();
    let written = place
        .run(&["man", "--dir", dir, "--json"])
        .expect(exit::DONE)
        .json();
    let pages: Vec<String> = serde_json::from_value(written["pages"].clone()).unwrap();
    assert!(
        pages.contains(&"everpost-dead-list.1".to_owned()),
        "{pages:?}"
    );
    let help = place.run(&["--help"]).expect(exit::DONE).out;
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let commands = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut seen = 0;
    for command in commands.filter(|name| *name != "help") {
        assert!(
            pages.contains(&format!("everpost-{command}.1")),
            "{command} {pages:?}"
        );
        seen += 1;
    }
    assert!(seen > 15, "{help}");
    for page in &pages {
        let text = fs::read_to_string(place.path("man").join(page))
            .unwrap()
            .replace("\\-", "-");
        for (at, _) in text.match_indices("(1)") {
            let begin = text[..at].rfind(|c: char| c.is_whitespace()).unwrap() + 1;
            let named = format!(
                "{}.1",
                text[begin..at].trim_matches(|c: char| "\\fBRI".contains(c))
            );
            assert!(pages.contains(&named), "{page} names {named}");
        }
    }
    let append = place.run(&["man", "append"]).expect(exit::DONE).out;
    for part in [
        "EVERPOST_SPOOL",
        "everpost append events.jsonl",
        "\\-\\-check",
    ] {
        assert!(append.contains(part), "{part} {append}");
    }
    let discard = place
        .run(&["man", "dead", "discard"])
        .expect(exit::DONE)
        .out;
    assert!(discard.contains(".TH everpost-dead-discard 1"), "{discard}");
    let none = place.run(&["man", "frobnicate"]).expect(exit::USAGE);
    assert!(
        none.err.contains("there is no page of this name"),
        "{none:?}"
    );
}

#[test]
fn help_has_the_options_of_all_commands_apart_and_shows_what_to_type() {
    let place = Place::new();
    for args in [
        &["append", "-h"][..],
        &["dead", "retry", "--help"],
        &["status", "-h"],
    ] {
        let help = place.run(args).expect(exit::DONE).out;
        let (own, global) = help.split_once("\nGlobal options:\n").unwrap();
        assert!(
            !own.contains("--spool") && !own.contains("--json"),
            "{help}"
        );
        assert!(
            global.contains("--spool") && global.contains("EVERPOST_SPOOL"),
            "{help}"
        );
        let examples = help.split_once("\nExamples:\n").unwrap().1;
        assert!(examples.starts_with("  everpost "), "{help}");
    }
}

/// What a terminal or a layout engine does something else with than to show it.
const HOSTILE: &str = "a\u{202E}b\u{9b}2J\u{1b}]0;x\u{7}\u{2066}\u{200F}\u{7f}\u{FEFF}\u{2028}z";

fn is_hostile(c: char) -> bool {
    c != '\n'
        && HOSTILE
            .chars()
            .filter(|c| !c.is_ascii_alphanumeric())
            .any(|h| h == c && !"]0;".contains(c))
}

/// Texts of an owner, an API, a file or a variable reached the terminal as they came, right-to-left
/// marks and C1 controls among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_from_outside_no_command_prints_what_a_terminal_obeys() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let event = json!({"id": HOSTILE, "timestamp": 1, "content": {"texts": [{"text": HOSTILE}]}});
    place
        .feed(&["append"], &format!("{event}\n{event}\n"))
        .expect(exit::DONE);
    let answer = json!({"errors": [HOSTILE], "request_id": HOSTILE}).to_string();
    let refusal = || Fault::Answer(Reply::status(400).body(answer.clone()));
    sandbox.script([refusal(), refusal(), Fault::None]);
    let hostile_file = place.path(&format!("f{HOSTILE}").replace('\u{1b}', ""));
    fs::write(&hostile_file, "bad\n").unwrap();
    let hostile_file = hostile_file.to_str().unwrap().to_owned();

    let mut commands: Vec<Vec<&str>> = vec![
        vec!["peek"],
        vec!["drain"],
        vec!["status"],
        vec!["dead", "list"],
        vec!["dead", "show"],
        vec!["dead", "retry", "--all"],
        vec!["dead", "show", HOSTILE],
        vec!["append", &hostile_file, &hostile_file],
        vec!["append", HOSTILE],
        vec!["validate", &hostile_file, &hostile_file],
        vec!["--spool", HOSTILE, "status"],
        vec!["--settings", HOSTILE, "append"],
        vec!["sandbox", "--script", HOSTILE],
        vec!["man", HOSTILE],
        vec!["append", "--batch", HOSTILE],
        vec![HOSTILE],
        vec!["verify"],
        vec!["incidents"],
        vec!["repair"],
    ];
    for command in &commands {
        shown_safely(&place, command);
    }
    // A file that does not belong there: its name is told by those that look.
    fs::write(
        place
            .spool()
            .join("journal")
            .join(format!("{HOSTILE}.journal").replace('\u{1b}', "")),
        "x",
    )
    .unwrap();
    fs::write(&hostile_file, format!("{HOSTILE} = 1\n")).unwrap();
    place.settings(&format!("\"{}\" = 1\n", "a\u{202E}b\u{2066}"));
    place.set_env("BA_BASE_URL", "http://\u{202E}x\u{9b}/");
    commands.truncate(3);
    commands.extend([
        vec!["verify"],
        vec!["repair"],
        vec!["incidents"],
        vec!["append"],
        vec!["drain"],
    ]);
    for command in &commands {
        shown_safely(&place, command);
    }
}

fn shown_safely(place: &Place, args: &[&str]) {
    for json in [false, true] {
        let mut args = args.to_vec();
        if json {
            args.push("--json");
        }
        let ended = place.run(&args);
        // JSON for a pipe may hold every character; what a person reads may not.
        let shown = if json {
            ended.err
        } else {
            ended.out + &ended.err
        };
        let found = shown.chars().find(|c| is_hostile(*c));
        assert_eq!(found, None, "{args:?} {shown:?}");
    }
}
