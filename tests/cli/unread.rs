//! A service whose standard error is a pipe that is open and is not read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::ChildStdin;

use everpost::exit;
use everpost::sandbox::{Fault, Sandbox};

use crate::set_up::{PATIENT, Place, Service, message};

/// Lines that are refused, each with a word on standard error: more than a pipe takes, and than may
/// wait.
const REFUSED: u64 = 12_000;

/// Writes this to the service from a thread, since a service that stands still does not read it.
fn feed(service: &mut Service, text: String) -> std::thread::JoinHandle<ChildStdin> {
    let mut stdin = service.running.stdin.take().unwrap();
    std::thread::spawn(move || {
        stdin.write_all(text.as_bytes()).unwrap();
        stdin
    })
}

/// Waits until so many events have arrived.
async fn accepted(sandbox: &Sandbox, events: u64) {
    let arrived = tokio::time::timeout(PATIENT, sandbox.wait_for_accepted(events)).await;
    arrived
        .unwrap_or_else(|_| panic!("the service stands still: {:?}", sandbox.stats()))
        .unwrap();
}

/// The pipe takes 64 KiB. A thread that had something to log waited for the rest: nothing was taken in,
/// nothing was delivered, no command was answered, and SIGTERM did not end it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let sandbox = Sandbox::start().await.unwrap();
    for format in ["text", "json"] {
        sandbox.script([Fault::status(503)]);
        let mut place = Place::with(&sandbox);
        // What is logged of each connection, batch and request is more than the rest.
        place.set_env("EVERPOST_LOG", "trace");
        let mut service = place.serve(&["--log-format", format]);
        let before = sandbox.stats().distinct;
        let lines = "nonsense\n".repeat(2_000) + &message(before);
        let writer = feed(&mut service, lines);
        accepted(&sandbox, before + 1).await;
        for n in 1..=20 {
            place.append(before + n, 1);
        }
        accepted(&sandbox, before + 21).await;
        let _stdin = writer.join().unwrap();
        // Nothing is read before it has ended.
        let ended = service.stop().expect(exit::REFUSED);
        assert_eq!(ended.out, "closed; 0 events pending\n");
    }
    assert!(sandbox.duplicates().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_of_the_log_is_counted_in_it_once_it_is_read() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    // So that nothing is said of a new spool.
    place.feed(&["append"], "").expect(exit::DONE);
    let mut service = place.serve(&[]);
    let lines = "nonsense\n".repeat(usize::try_from(REFUSED).unwrap()) + &message(1);
    let writer = feed(&mut service, lines);
    accepted(&sandbox, 1).await;
    let mut stdin = writer.join().unwrap();

    let mut log = BufReader::new(service.running.child.stderr.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
        line
    };
    let (mut told, mut bytes) = (0, 0);
    // More than the pipe held, so that there is room for what comes.
    while bytes < 100 << 10 {
        let line = next();
        assert!(line.contains(" is refused: "), "{line}");
        told += 1;
        bytes += line.len();
    }
    stdin.write_all(b"nonsense\n").unwrap();
    let note = loop {
        let line = next();
        if !line.contains(" is refused: ") {
            break line;
        }
        told += 1;
    };
    let (before, what) = note.split_once(" log lines ").unwrap();
    assert_eq!(
        what, "were dropped: standard error was not read\n",
        "{note}"
    );
    let (when, dropped) = before.rsplit_once(' ').unwrap();
    assert!(when.ends_with("Z  WARN"), "{note}");
    assert_eq!(told + dropped.parse::<u64>().unwrap(), REFUSED);
    let last = next();
    assert!(
        last.contains(&format!("line {} is refused: ", REFUSED + 2)),
        "{last}"
    );
    drop(log);
    service.stop().expect(exit::REFUSED);
}
