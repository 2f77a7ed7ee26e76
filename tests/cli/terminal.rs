//! What a person at a terminal sees: on a real one, a pty.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use everpost::exit;
use everpost::sandbox::{Fault, Reply, Sandbox};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::set_up::{Place, message};

/// A terminal of 100 columns, and the command that runs on it.
struct Terminal {
    child: Child,
    /// The person's side.
    screen: File,
    seen: String,
}

impl Terminal {
    /// Starts a command whose standard input, output and error are one terminal.
    fn start(place: &Place, args: &[&str]) -> Self {
        Self::start_with(place, args, None)
    }

    /// As [`start`](Self::start), but for the standard input if another is given.
    fn start_with(place: &Place, args: &[&str], stdin: Option<Stdio>) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&ours, size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side = || Stdio::from(rustix::fs::open(&name, flags, Mode::empty()).unwrap());
        let mut command = place.command(args);
        command
            .env("TERM", "xterm")
            .stdin(stdin.unwrap_or_else(side))
            .stdout(side())
            .stderr(side());
        let child = command.spawn().unwrap();
        Self {
            child,
            screen: ours.into(),
            seen: String::new(),
        }
    }

    /// Reads once; false at the end, which a pty tells by an error.
    fn read(&mut self) -> bool {
        let mut block = [0; 4_096];
        let bytes = self.screen.read(&mut block).unwrap_or(0);
        self.seen
            .push_str(&String::from_utf8_lossy(&block[..bytes]));
        bytes > 0
    }

    /// Reads until this has been seen.
    fn read_until(&mut self, wanted: &str) {
        while !self.seen.contains(wanted) {
            assert!(self.read(), "{:?}", self.seen);
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let killed = std::process::Command::new("kill")
            .args([name, &pid])
            .status();
        assert!(killed.unwrap().success());
    }

    /// Everything that was shown, and the exit code.
    fn end(mut self) -> (String, i32) {
        while self.read() {}
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (self.seen, code)
    }
}

/// The bar said "0s left" while nothing moved, the time to the next attempt stood still until it
/// was over, the bar was squeezed by the text behind it, and lines of the log tore it apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_backs_off_counts_down() {
    let sandbox = Sandbox::start().await.unwrap();
    let wait = std::time::Duration::from_secs(60);
    sandbox.always(Fault::Answer(Reply::status(503).retry_after(wait)));
    let place = Place::with(&sandbox);
    place.append(1, 1_200);
    let mut terminal = Terminal::start(&place, &["drain"]);
    // Two different times for one attempt: it counts down.
    terminal.read_until("0 of 1,200  backing off, next attempt in 59s; attempt 1 failed (HTTP 503");
    terminal.read_until("0 of 1,200  backing off, next attempt in 57s; attempt 1 failed (HTTP 503");
    terminal.signal("-INT");
    let (seen, code) = terminal.end();
    assert_eq!(code, i32::from(exit::PENDING), "{seen:?}");
    assert!(!seen.contains("left"), "{seen:?}");
    assert!(
        !seen.contains("WARN") && !seen.contains("ERROR"),
        "{seen:?}"
    );
    assert!(
        seen.contains("delivered 0 events; 1200 pending; took "),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hostile_is_shown_on_a_terminal_in_json_either() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place
        .feed(&["append"], "\"a\u{202E}\u{9b}b\"\n")
        .expect(exit::DONE);
    for args in [&["peek"][..], &["peek", "--json"], &["export"]] {
        let (seen, code) = Terminal::start(&place, args).end();
        assert_eq!(code, i32::from(exit::DONE));
        assert!(seen.contains("a\\u202e\\u009bb"), "{args:?} {seen:?}");
        assert!(
            !seen.contains(['\u{202E}', '\u{9b}', '\u{1b}']),
            "{args:?} {seen:?}"
        );
    }
}

/// A command that waits for what a person types said nothing at all.
#[test]
fn a_person_is_told_that_it_is_their_turn() {
    let place = Place::new();
    let mut terminal = Terminal::start(&place, &["append"]);
    terminal.read_until("everpost: reading events from the terminal");
    write!(terminal.screen, "{}\u{4}", message(1)).unwrap();
    let (seen, code) = terminal.end();
    assert_eq!(code, i32::from(exit::DONE), "{seen:?}");
    assert!(seen.contains("appended 1 event, seq 1 to 1"), "{seen:?}");
}

/// 20,000 lines were taken in without a word.
#[test]
fn an_input_that_takes_a_while_shows_how_it_goes() {
    let place = Place::new();
    let mut terminal = Terminal::start_with(&place, &["append"], Some(Stdio::piped()));
    let mut stdin = terminal.child.stdin.take().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut n = 0;
        // Until the bar has been seen.
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            stdin.write_all(message(n).as_bytes()).unwrap();
            n += 1;
        }
        n
    });
    terminal.read_until(" events appended, ");
    drop(stop);
    let written = writer.join().unwrap();
    let (seen, code) = terminal.end();
    assert_eq!(code, i32::from(exit::DONE), "{seen:?}");
    let last = format!("appended {written} events, seq 1 to {written}");
    assert!(seen.contains(&last), "{last} {seen:?}");
}

/// What was documented of headings, no terminal had shown to a test; and incidents had none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_have_a_heading_for_a_person_alone() {
    let (_sandbox, place) = crate::incidents::with_letters(1).await;
    place.append(10, 1);
    let heading = |args: &[&str], heading: &str| {
        let (seen, code) = Terminal::start(&place, args).end();
        assert_eq!(code, i32::from(exit::DONE), "{seen:?}");
        let mut lines = seen
            .lines()
            .skip_while(|line| line.starts_with("everpost: "));
        assert_eq!(lines.next(), Some(heading), "{args:?}");
        let piped = place.run(args).expect(exit::DONE).out;
        let rest: Vec<&str> = lines.collect();
        assert_eq!(rest, piped.lines().collect::<Vec<_>>(), "{args:?}");
    };
    heading(
        &["peek"],
        "seq  happened (UTC)            id                                    event",
    );
    heading(
        &["dead", "list"],
        "seq  set aside (UTC)           id                                    why",
    );
    for file in crate::incidents::letter_files(&place) {
        std::fs::write(file, "").unwrap();
    }
    place.append(11, 1);
    heading(
        &["incidents"],
        "no.  found (UTC)               kind and what (acknowledged or not)",
    );
    // Rows that have names need none.
    let (seen, _) = Terminal::start(&place, &["status"]).end();
    assert!(seen.starts_with("state        "), "{seen:?}");

    let empty = Place::new();
    empty.feed(&["append"], "").expect(exit::DONE);
    for (args, none) in [
        (&["peek"][..], "no pending events\r\n"),
        (&["dead", "list"], "no dead letters\r\n"),
    ] {
        assert_eq!(Terminal::start(&empty, args).end().0, none);
        assert_eq!(empty.run(args).expect(exit::DONE).out, "");
    }
    let none = "nothing was found wrong with the spool";
    assert_eq!(
        Terminal::start(&empty, &["incidents"]).end().0.trim_end(),
        none
    );
    assert_eq!(empty.run(&["incidents"]).out.trim_end(), none);
}

#[test]
fn help_is_coloured_for_a_person_alone() {
    let place = Place::new();
    let (seen, code) = Terminal::start(&place, &["append", "-h"]).end();
    assert_eq!(code, i32::from(exit::DONE));
    assert!(seen.contains("\u{1b}["), "{seen:?}");
    assert!(!place.run(&["append", "-h"]).out.contains('\u{1b}'));
}
