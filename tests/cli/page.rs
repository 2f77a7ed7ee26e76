//! `docs/operations.md`: every console block is run as it stands there, and what came out is held
//! against the page. Most of the page had been copied from a terminal once, and nothing told when a
//! command began to say something else.
//!
//! Numbers, times, sizes, ids and ports may differ. A block that is not run stands behind a comment,
//! `<!-- not run: why -->`, and in the list here.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use everpost::sandbox::Sandbox;

use crate::health::get_inside;
use crate::incidents::{letter_files, with_letters};
use crate::set_up::{Place, bad_message};

/// The blocks that are not run, by their first lines, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo install --path . --features cli", "it installs"),
    (
        "# groupadd --system bots; usermod -aG bots alice",
        "it makes users; tests/owners has its own",
    ),
    (
        "everpost init --to https://hooks.example/readings --form lines --header-file \
         X-Api-Key=/etc/door/key",
        "they make four spools in one place; tests/cli/receivers.rs has their like",
    ),
    (
        "$ everpost sandbox --script script",
        "it takes two terminals; tests/cli/sandbox.rs has each of its lines",
    ),
    (
        "install -m 0600 /dev/stdin key.new <<< \"$KEY\" && mv key.new \"$BA_API_KEY_FILE\"",
        "it is not this command",
    ),
];

/// A block of the page, without what it stands in.
#[derive(Debug)]
struct Block {
    lines: Vec<String>,
    mark: Option<String>,
}

impl Block {
    fn first(&self) -> &str {
        self.lines.first().map_or("", String::as_str)
    }

    /// Each command, with the lines that follow it.
    fn commands(&self) -> Vec<(&str, Vec<&str>)> {
        let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in &self.lines {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command, Vec::new())),
                None => commands.last_mut().unwrap().1.push(line),
            }
        }
        commands
    }
}

/// The blocks of the page that are left.
struct Page(VecDeque<Block>);

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
        let text = fs::read_to_string(path).unwrap();
        let (mut blocks, mut mark, mut open) = (VecDeque::new(), None, None::<Block>);
        let mut depth = 0;
        for line in text.lines() {
            let bare = line.trim_start();
            match &mut open {
                Some(_) if bare == "```" => blocks.extend(open.take()),
                // In a list it stands as deep as the list does.
                Some(block) => block.lines.push(line.get(depth..).unwrap_or("").to_owned()),
                None if bare == "```text" => {
                    depth = line.len() - bare.len();
                    open = Some(Block {
                        lines: Vec::new(),
                        mark: mark.take(),
                    });
                }
                None => {
                    let marked = bare.strip_prefix("<!-- not run: ");
                    let why = marked.and_then(|marked| marked.strip_suffix(" -->"));
                    mark = why.map(str::to_owned).or(mark);
                }
            }
        }
        Self(blocks)
    }

    /// The next block that is run, which must begin with this command.
    fn next(&mut self, command: &str) -> Block {
        self.0.retain(|block| block.mark.is_none());
        let block = self.0.pop_front().unwrap();
        assert_eq!(
            block.first(),
            format!("$ {command}"),
            "the order of the page"
        );
        block
    }
}

/// A directory in which the commands of the page are typed.
struct Shell {
    place: Place,
}

impl Shell {
    /// With `everpost` where a shell finds it, and nothing else but what a place has.
    fn of(place: Place) -> Self {
        let bin = place.path("bin");
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_everpost"), bin.join("everpost")).unwrap();
        Self { place }
    }

    fn new() -> Self {
        Self::of(Place::new())
    }

    /// What a terminal shows of it, whatever the command ends with.
    fn typed(&self, line: &str) -> String {
        let path = format!("{}:/usr/bin:/bin", self.place.path("bin").display());
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1; {line}")])
            .current_dir(self.place.dir.path())
            .env_clear()
            .env("PATH", path)
            .env("EVERPOST_SPOOL", "spool")
            .env("EVERPOST_ETC", "etc")
            .envs(self.place.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// Types the commands of a block and compares; `before` each it is told what comes.
    fn plays_after(&self, block: &Block, mut before: impl FnMut(&str)) {
        for (command, expected) in block.commands() {
            before(command);
            compare(command, &self.typed(command), &expected);
        }
    }

    fn plays(&self, block: &Block) {
        self.plays_after(block, |_| {});
    }
}

/// Holds what was shown against the page.
#[track_caller]
fn compare(command: &str, shown: &str, expected: &[&str]) {
    let lines = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        let lines = lines.map(normal).filter(|line| !is_progress(line));
        // A blank one at the end would be lost on the page.
        lines.filter(|line| !line.is_empty()).collect()
    };
    let shown = lines(&mut shown.lines());
    let expected = lines(&mut expected.iter().copied());
    let is_same = shown.len() == expected.len()
        && shown
            .iter()
            .zip(&expected)
            .all(|(shown, expected)| fits(shown, expected));
    assert!(
        is_same,
        "docs/operations.md, `{command}`: it shows\n{}\nand not\n{}",
        shown.join("\n"),
        expected.join("\n")
    );
}

/// `...` on the page stands for anything.
fn fits(shown: &str, expected: &str) -> bool {
    let parts: Vec<&str> = expected.split("...").collect();
    let [begin, midst @ .., end] = parts.as_slice() else {
        return shown == expected;
    };
    let inner = shown.strip_prefix(begin);
    let Some(mut rest) = inner.and_then(|inner| inner.strip_suffix(end)) else {
        return false;
    };
    midst.iter().all(|part| {
        let found = rest.find(part);
        rest = found.map_or("", |at| &rest[at + part.len()..]);
        found.is_some()
    })
}

/// `0 of 2: sending`. How many lines of progress there are is a matter of moments.
fn is_progress(line: &str) -> bool {
    line.starts_with("N of N: ")
}

/// The line without what differs from run to run.
fn normal(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let core = word.trim_matches(|c: char| ",;:()`=\"".contains(c));
        let instead = if core.len() == 24 && core.ends_with('Z') {
            Some("TIME")
        } else if core.len() == 36 && core.split('-').count() == 5 {
            Some("ID")
        } else if is_span(core) {
            Some("SPAN")
        } else if ["B", "KiB", "MiB", "GiB"].contains(&core) {
            Some("UNIT")
        } else {
            None
        };
        let word = match instead {
            Some(name) => word.replace(core, name),
            None => numbers(word),
        };
        // `1s 234ms` is one span.
        let goes_on = words.last().is_some_and(|last| last == "SPAN") && word.starts_with("SPAN");
        if goes_on {
            words.pop();
        }
        words.push(word);
    }
    words.join(" ")
}

/// `293ms`, `10s`, `1m`.
fn is_span(word: &str) -> bool {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < word.len() && ["ns", "us", "ms", "s", "m", "h"].contains(&unit)
}

/// Each number as `N`, with its fraction.
fn numbers(word: &str) -> String {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = word.as_bytes();
    let mut out = String::new();
    for (at, c) in word.char_indices() {
        let is_begun = at > 0 && out.ends_with('N') && !word[..at].ends_with('N');
        let is_point = c == '.' && is_begun && is_digit(bytes.get(at + 1));
        match c.is_ascii_digit() || is_point {
            true if is_begun => {}
            true => out.push('N'),
            false => out.push(c),
        }
    }
    out
}

#[test]
fn what_is_not_run_is_marked_on_the_page_and_listed_here() {
    let page = Page::read();
    let marked: Vec<(&str, &str)> = page
        .0
        .iter()
        .filter_map(|block| Some((block.first(), block.mark.as_deref()?)))
        .collect();
    assert_eq!(marked, NOT_RUN);
    let runs = page.0.len() - marked.len();
    assert!(runs > 20, "{runs}");
}

#[test]
fn a_line_is_the_same_but_for_what_differs_from_run_to_run() {
    assert_eq!(
        normal("pending      4 events, 244 B; the oldest is 1s 293ms old"),
        "pending      N events, N UNIT; the oldest is SPAN old"
    );
    assert_eq!(normal("(127.0.0.1:9); took 0s"), "(N:N); took SPAN");
    assert_eq!(normal("journal/00000003.journal"), "journal/N.journal");
    assert!(fits("{\"a\":N,\"b\":N}", "{\"a\":N,...}") && fits("a b", "a b") && fits("ab", "a..."));
    assert!(!fits("a b", "a") && !fits("a", "a b") && !fits("{\"a\":N}x", "{\"a\":N...}"));
}

/// In the order of the page. Each part has a spool of its own, as the page tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_the_commands_say() {
    let mut page = Page::read();
    first_look(&mut page);
    settings(&mut page);
    needs(&mut page);
    appending(&mut page);
    delivering(&mut page);
    health(&mut page).await;
    refusals(&mut page).await;
    full(&mut page);
    incidents(&mut page).await;
    damage(&mut page);
    page.0.retain(|block| block.mark.is_none());
    assert_eq!(page.0.len(), 0, "{:?}", page.0);
}

fn first_look(page: &mut Page) {
    let shell = Shell::new();
    shell.place.append(1, 4);
    shell.plays(&page.next("everpost status"));
}

fn settings(page: &mut Page) {
    let init = "everpost init --preset edge --max-bytes 32MiB --key-file /etc/everpost/key";
    let shell = Shell::new();
    shell.plays(&page.next(init));
    shell.plays(&page.next("everpost init --max-bytes 16MiB"));
    shell.plays(&page.next("echo '{\"n\":1}' | everpost append --max-bytes 8MiB"));
    let owner = shell.place.serve(&[]);
    shell.plays(&page.next("echo '{\"n\":1}' | everpost append --max-bytes 8MiB"));
    owner.stop();
    // The first lines.
    let config = page.next("everpost config");
    let shown = shell.typed("everpost config");
    let first: Vec<&str> = shown.lines().take(config.lines.len() - 1).collect();
    compare(
        "everpost config",
        &first.join("\n"),
        &config.commands()[0].1,
    );
    fs::write(shell.place.path("bad.toml"), "\nmax_bytes = \"64MB B\"\n").unwrap();
    fs::write(shell.place.path("events.jsonl"), "{}\n").unwrap();
    shell.plays(&page.next("everpost --settings bad.toml append events.jsonl"));
    shell.plays(&page.next("echo '{}' | everpost --spool typo append"));
}

/// What this machine has is its own: the disk, the limits, the control group.
fn needs(page: &mut Page) {
    const OWN: [&str; 6] = ["disk", "files", "filesize", "processes", "memory", "tasks"];
    let mut shell = Shell::new();
    shell.place.append(1, 1);
    shell.place.set_env("BA_BASE_URL", "http://127.0.0.1:9/v2");
    let block = page.next("everpost doctor");
    let shown = shell
        .typed("everpost doctor")
        .replace("spool: 1", "/var/lib/everpost: 1");
    let common = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        let mut is_own = false;
        let lines = lines.filter(|line| {
            // What to do stands below it.
            if !line.starts_with(' ') {
                is_own = line
                    .split_whitespace()
                    .nth(1)
                    .is_some_and(|check| OWN.contains(&check));
            }
            !is_own
        });
        lines.map(str::to_owned).collect()
    };
    let shown = common(&mut shown.lines());
    let expected = common(&mut block.commands()[0].1.iter().copied());
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    compare("everpost doctor", &shown.join("\n"), &expected);
}

fn appending(page: &mut Page) {
    let shell = Shell::new();
    shell.place.feed(&["append"], "").expect(0);
    shell.plays(&page.next("everpost --json append nofile"));
    let line = r#"printf '{"id":"m1","timestamp":1,"content":{"texts":[{"text":"hi"}]}}\noops\n' | everpost append"#;
    shell.plays(&page.next(line));
    shell.plays(&page.next(r#"printf '{"timestamp":1}\n{"a":1}\n5\n' | everpost validate"#));
}

fn delivering(page: &mut Page) {
    let mut shell = Shell::new();
    shell.place.append(1, 1);
    shell.place.set_env("BA_BASE_URL", "http://127.0.0.1:9/v2");
    shell
        .place
        .set_env("BA_API_KEY", "a.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c");
    shell.plays(&page.next("everpost drain --deadline 2s"));

    // A service says on standard error what a terminal shows above its last line.
    let block = page.next("BA_API_KEY_FILE=key everpost run");
    let mut place = Place::new();
    place.feed(&["append"], "").expect(0);
    place.set_env("EVERPOST_LOG", "info");
    place.set_env("BA_API_KEY_FILE", "key");
    place.set_env("BA_BASE_URL", "http://127.0.0.1:9/v2");
    let spool = place.spool().display().to_string();
    let service = place.serve_with(&[], |command| command.stdin(Stdio::piped()));
    let mut watcher = place.start(&["status", "--watch", "--json"]);
    watcher.read_until(|line| line.contains("\"state\":\"paused\""));
    watcher.signal("-INT");
    watcher.end().expect(0);
    let ended = service.stop().expect(0);
    let shown = (ended.err + &ended.out).replace(&spool, "s");
    // Delivery speaks for itself: which of two lines comes first is a matter of moments.
    let by_words = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        let mut lines: Vec<String> = lines.map(normal).collect();
        lines.sort();
        lines
    };
    let expected = by_words(&mut block.commands()[0].1.iter().copied());
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    compare(
        "everpost run",
        &by_words(&mut shown.lines()).join("\n"),
        &expected,
    );
}

async fn health(page: &mut Page) {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.feed(&["append"], "").expect(0);
    let service = place.serve(&[]);
    let block = page.next("curl -s http://127.0.0.1:9464/readyz");
    let ready = get_inside(&place, "/readyz").body;
    compare("curl", &ready, &block.commands()[0].1);
    service.stop().expect(0);

    place.feed(&["append"], &bad_message(1)).expect(0);
    place.run(&["drain"]).expect(0);
    let service = place.serve(&[]);
    place.run(&["pause"]).expect(0);
    let shell = Shell::of(place);
    shell.plays(&page.next("everpost status --check"));
    service.stop().expect(0);
}

async fn refusals(page: &mut Page) {
    let sandbox = Sandbox::start().await.unwrap();
    let shell = Shell::of(Place::with(&sandbox));
    shell.place.append(1, 1);
    let key = sandbox.key().to_owned();
    assert!(sandbox.revoke_key(&key));
    shell.plays(&page.next("everpost drain"));
    sandbox.accept_key(key);
    shell.place.run(&["drain"]).expect(0);

    // The seventh is refused, and again after it was retried.
    shell.place.append(2, 5);
    let bad = "{\"id\":\"m7\",\"timestamp\":\"noon\"}\n";
    shell.place.feed(&["append"], bad).expect(0);
    shell.place.run(&["drain"]).expect(0);
    shell.plays_after(&page.next("everpost dead list"), |command| {
        if command.contains("discard") {
            shell.place.run(&["drain"]).expect(0);
        }
    });

    shell.place.feed(&["append"], &bad.repeat(21)).expect(0);
    shell.plays(&page.next("everpost drain"));
    shell.plays(&page.next("everpost export > backlog.jsonl"));
}

fn full(page: &mut Page) {
    let shell = Shell::new();
    shell.place.feed(&["append"], "").expect(0);
    fs::write(shell.place.path("small.toml"), "max_bytes = \"5MiB\"\n").unwrap();
    let mut noise = 1_u64;
    let mut text = || -> String {
        let words = (0..1_000).map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            format!("{noise:016x}")
        });
        words.collect()
    };
    let lines: String = (0..600).map(|_| format!("\"{}\"\n", text())).collect();
    fs::write(shell.place.path("events.jsonl"), lines).unwrap();
    let small = "everpost --settings small.toml append --batch 16 events.jsonl";
    shell.plays(&page.next(small));
}

async fn incidents(page: &mut Page) {
    let (_sandbox, place) = with_letters(3).await;
    for file in letter_files(&place) {
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
    place.feed(&["append"], "").expect(0);
    let shell = Shell::of(place);
    shell.plays(&page.next("everpost peek"));
}

fn damage(page: &mut Page) {
    let shell = Shell::new();
    for first in [1, 11, 21] {
        shell.place.append(first, 10);
    }
    crate::damage::damage_the_journal(&shell.place);
    shell.plays(&page.next("everpost verify"));
    shell.plays(&page.next("everpost repair"));
}
