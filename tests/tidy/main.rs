//! The rules of the house that a compiler does not know.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod graph;

use std::fs;
use std::path::{Path, PathBuf};

use graph::Crate;

fn files(dir: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                dirs.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no files in {dir}");
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root)
        .unwrap()
        .to_string_lossy()
        .replace('\\', "/")
}

/// The code of a source file, without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_test_file(name: &str) -> bool {
    name.contains("test") || name.ends_with("contract.rs") || name.ends_with("script.rs")
}

/// Which files name something in their code, apart from tests.
fn naming(needle: &str) -> Vec<String> {
    files("src", &[".rs"])
        .iter()
        .filter(|path| code(path).contains(needle))
        .map(|path| relative(path))
        .filter(|name| !is_test_file(name))
        .collect()
}

#[test]
fn each_third_party_crate_with_a_heavy_api_is_named_in_one_place() {
    assert_eq!(naming("sled::"), ["src/log/store.rs"]);
    assert_eq!(naming("bincode::"), ["src/log/codec.rs"]);
    assert_eq!(naming("use backoff::"), ["src/flusher/backoff.rs"]);
    assert_eq!(naming("zstd::"), ["src/zip.rs"]);
    assert_eq!(naming("pollster::"), ["src/log/sync.rs"]);
    assert_eq!(naming("reqwest::"), ["src/sink/http/transport.rs"]);
    for name in naming("async_nats::") {
        assert!(name.starts_with("src/fleet/"), "{name}");
    }
    for name in naming("axum::").iter().chain(&naming("hyper::")) {
        let homes = [
            "admin/",
            "sandbox/",
            "control/",
            "relay/",
            "hosts.rs",
            "intake.rs",
            "serving/",
        ];
        let is_at_home = |home: &&str| name.starts_with(&format!("src/{home}"));
        assert!(homes.iter().any(is_at_home), "{name}");
    }
}

fn library() -> Crate {
    Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
}

#[test]
fn modules_name_each_other_in_no_circle() {
    let library = library();
    let parents = library.parents();
    assert!(parents.contains("log::spool"), "{parents:?}");
    for parent in parents {
        // Inside these two, one type knows what looks after it.
        if !["admin", "relay"].contains(&parent.as_str()) {
            let circles = library.circles(&parent);
            assert!(circles.is_empty(), "{parent}: {}", circles.join("\n"));
        }
    }
}

#[test]
fn a_circle_is_seen_also_through_a_name_that_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "lib.rs",
        "mod a;\nmod b;\nmod c;\npub use a::A as Passed;\n",
    );
    write(
        "a.rs",
        "pub struct A;\nfn f() { println!(\"{}\", crate::b::f()); }\n",
    );
    write("b.rs", "use crate::{Passed, c};\n");
    write(
        "c.rs",
        "// crate::a\n#[cfg(test)]\nmod tests { use crate::a::A; }\nconst C: &str = \"crate::a\";\n",
    );
    let circles = Crate::read(&dir.path().join("lib.rs")).circles("");
    let steps = circles.iter().map(|step| step.split(" (").next().unwrap());
    assert_eq!(steps.collect::<Vec<_>>(), ["a -> b", "b -> a"]);
}

#[test]
fn parts_that_stand_side_by_side_do_not_know_each_other() {
    let library = library();
    for (part, strangers) in [
        ("log", &["sink"][..]),
        ("sink", &["log"]),
        ("flusher", &["sink::botanalytics", "log::spool"]),
        ("control", &["flusher", "log::spool", "sandbox"]),
        ("sandbox", &["log", "flusher", "queue", "sink"]),
    ] {
        for stranger in strangers {
            let named = library.naming(part, stranger);
            assert!(named.is_empty(), "{part} names {stranger}: {named:?}");
        }
    }
}

#[test]
fn files_are_where_their_names_say() {
    let placing = library().placed_by_attribute();
    assert!(placing.is_empty(), "{placing:?}");
}

#[test]
fn what_is_done_in_one_place_is_done_nowhere_else() {
    let library = |needle: &str| {
        let mut names = naming(needle);
        names.retain(|name| !name.starts_with("src/bin/"));
        names
    };
    for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
        for name in library(&format!("tracing::{level}")) {
            assert!(name.starts_with("src/observe"), "{name} logs by itself");
        }
    }
    for sync in [".sync_all(", ".sync_data(", "fn sync_dir(path"] {
        assert_eq!(library(sync), ["src/log/disk.rs"], "{sync}");
    }
    assert_eq!(library("fn panic_text("), ["src/ending.rs"]);
    assert_eq!(library("fn block_on"), ["src/log/sync.rs"]);
    assert_eq!(library("park_timeout("), ["src/clock.rs"]);
    // Dates that the system gives to files, and how long ago it was asked for the process.
    let mut names = library("SystemClock");
    names.retain(|name| name.starts_with("src/log/"));
    assert_eq!(names, ["src/log/guard.rs", "src/log/look/race.rs"]);
}

#[test]
fn the_pure_parts_have_no_clock_and_no_runtime() {
    for name in [
        "src/flusher/machine.rs",
        "src/flusher/machine/answers.rs",
        "src/flusher/machine/orders.rs",
        "src/flusher/machine/verdict.rs",
        "src/flusher/age.rs",
        "src/flusher/alarm.rs",
        "src/flusher/bisect.rs",
        "src/flusher/breaker.rs",
        "src/flusher/flow.rs",
        "src/flusher/limit.rs",
        "src/flusher/outbox.rs",
        "src/flusher/pacing.rs",
        "src/flusher/remembered.rs",
        "src/flusher/storage.rs",
        "src/flusher/trouble.rs",
        "src/flusher/ease.rs",
        "src/flusher/growth.rs",
        "src/flusher/rate.rs",
        "src/flusher/shape.rs",
        "src/sink/classify/mod.rs",
        "src/sink/classify/reply.rs",
        "src/sink/classify/text.rs",
        "src/sink/nats/batch.rs",
        "src/sink/nats/names.rs",
        "src/sink/nats/protocol.rs",
        "src/sink/nats/servers.rs",
        "src/sink/nats/standing.rs",
        "src/sink/nats/trouble.rs",
        "src/log/frame.rs",
        "src/log/recovery.rs",
        "src/log/chunk.rs",
    ] {
        let code = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
        for forbidden in [
            "async fn",
            ".await",
            "Instant::now",
            "SystemTime::now",
            "tokio::spawn",
        ] {
            assert!(!code.contains(forbidden), "{name} names {forbidden}");
        }
    }
}

#[test]
fn files_hold_one_noun() {
    // Two that test the log as it was proven, and stay as they were then.
    let proven = ["src/log/schedule_tests.rs", "src/log/spool/tests.rs"];
    let homes = ["src", "tests", "more"];
    for path in homes.iter().flat_map(|dir| files(dir, &[".rs"])) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let name = relative(&path);
        let is_short = lines <= 500 || proven.contains(&name.as_str());
        assert!(is_short, "{name}: {lines} lines");
    }
}

/// A function ends where its closing brace stands in the column it began in, as rustfmt has it.
#[test]
fn functions_fit_on_a_screen() {
    for path in files("src", &[".rs"]) {
        let (name, code) = (relative(&path), code(&path));
        let lines: Vec<&str> = code.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let bare = line.trim_start();
            let mut words = bare
                .split(' ')
                .skip_while(|word| word.starts_with("pub") || ["async", "const"].contains(word));
            if words.next() != Some("fn") || is_test_file(&name) {
                continue;
            }
            let close = format!("{}}}", &line[..line.len() - bare.len()]);
            let length = lines[at..].iter().position(|line| *line == close);
            let length = length.map_or(0, |length| length + 1);
            assert!(length <= 60, "{name}: {length} lines: {bare}");
        }
    }
}

/// The walk through the design is a list of functions that exist, and is no longer than it says.
#[test]
fn the_walk_of_one_event_names_functions_that_are_there() {
    let design = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design.md");
    let design = fs::read_to_string(design).unwrap();
    let walk = design.split("### The walk of one event").nth(1).unwrap();
    let walk = walk.split("\n## ").next().unwrap();
    let names = walk.split('`').skip(1).step_by(2);
    let names: Vec<_> = names.filter_map(|name| name.split_once("::")).collect();
    assert!((20..=32).contains(&names.len()), "{names:?}");
    for (of, name) in names {
        let found = naming(&format!("fn {name}("));
        let generic = naming(&format!("fn {name}<"));
        assert!(!found.is_empty() || !generic.is_empty(), "{of}::{name}");
        let impls = [format!("{of} {{"), format!("{of}<"), format!("{of}:")];
        assert!(impls.iter().any(|of| !naming(of).is_empty()), "{of}");
    }
}

#[test]
fn every_invariant_is_named_in_the_design_and_in_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let design = fs::read_to_string(root.join("docs/design.md")).unwrap();
    let tests: String = files("src", &[".rs"])
        .into_iter()
        .chain(files("tests", &[".rs"]))
        .chain(files("more", &[".rs"]))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for n in 1..=17 {
        assert!(
            design.contains(&format!("**I{n}**")),
            "I{n} is not in docs/design.md"
        );
        assert!(
            tests.contains(&format!("fn i{n}_")) || tests.contains(&format!("_i{n}_")),
            "no test names I{n}"
        );
    }
}

/// A reader must see at once whether a decision still holds.
#[test]
fn every_decision_has_its_number_its_status_and_a_line_in_the_list() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions/README.md");
    let list = fs::read_to_string(list).unwrap();
    for path in files("docs/decisions", &[".md"]) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(number) = name.get(..4).and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let (title, rest) = text.split_once("\n\n").unwrap();
        let title = title.strip_prefix(&format!("# {number}. ")).expect(name);
        let status = rest.lines().next().unwrap().strip_prefix("Status: ");
        let is_known = |status: &str| {
            let known = ["stands", "replaced in part: ", "replaced by ["];
            known.iter().any(|word| status.starts_with(word))
        };
        assert!(status.is_some_and(is_known), "{name}: {status:?}");
        let line = format!("\n{number}. [{title}]({name})");
        assert!(list.contains(&line), "{name} is not in the list as {line}");
    }
}

#[test]
fn sources_are_ascii_and_tests_assert() {
    for dir in ["src", "tests", "examples", "more"] {
        for path in files(dir, &[".rs"]) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.is_ascii(), "{} is not ASCII", relative(&path));
            for line in text.lines() {
                let bare =
                    line.trim_start().starts_with("matches!(") && line.trim_end().ends_with(';');
                assert!(
                    !bare,
                    "a matches! that asserts nothing in {}: {line}",
                    relative(&path)
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for path in files("src", &[".rs"]) {
        let code = code(&path);
        for word in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
            assert!(!code.contains(word), "{word} in {}", relative(&path));
        }
    }
}

#[test]
fn tests_do_not_sleep() {
    let sleeps = ["thread::", "time::"].map(|place| format!("{place}sleep("));
    for path in ["tests", "more"]
        .iter()
        .flat_map(|dir| files(dir, &[".rs"]))
    {
        let text = fs::read_to_string(&path).unwrap();
        for sleep in &sleeps {
            assert!(!text.contains(sleep), "{sleep} in {}", relative(&path));
        }
    }
}

#[test]
fn the_failure_model_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = fs::read_to_string(root.join("docs/failure-model.md")).unwrap();
    let code: String = ["src", "tests", "more"]
        .iter()
        .flat_map(|dir| files(dir, &[".rs"]))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let rows = model.lines().filter(|line| line.starts_with("| "));
    let mut named = 0;
    for row in rows {
        let shown_by = row.rsplit('|').nth(1).unwrap();
        for name in shown_by
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|n| n.contains('_'))
        {
            assert!(code.contains(&format!("fn {name}(")), "no test {name}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}
