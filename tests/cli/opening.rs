//! Commands without time to open the spool, and those that are told twice to end.

use std::fs::{self, File};
use std::process::Command;

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::set_up::{Place, Running};

/// Stands in for a disk that does not answer: the lock is not given before a pipe is written to, and
/// it never is. `open` returns once the other end is opened too.
const SHIM: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int flock(int fd, int operation) {
    char byte;
    int pipe = open(getenv("HELD_BY"), O_RDONLY);
    return read(pipe, &byte, 1) == 1 ? 0 : -1;
}
"#;

/// Has these functions take the place of those of the C library in every command from here on.
/// False, and said, without a C compiler.
pub(crate) fn preload(place: &mut Place, functions: &str) -> bool {
    let [source, shim] = ["shim.c", "shim.so"].map(|name| place.path(name));
    fs::write(&source, functions).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&shim)
        .arg(&source);
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    if !compiler.status().is_ok_and(|status| status.success()) {
        println!("skipped: there is no C compiler");
        return false;
    }
    place.set_env("LD_PRELOAD", shim.to_str().unwrap());
    true
}

/// A spool that does not open, and the pipe that holds it up. None without a C compiler.
fn stuck(place: &mut Place) -> Option<std::path::PathBuf> {
    place.append(1, 1);
    let pipe = place.path("pipe");
    if !preload(place, SHIM) {
        return None;
    }
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    place.set_env("HELD_BY", pipe.to_str().unwrap());
    Some(pipe)
}

/// Starts a command and waits until it is in the midst of opening.
fn opening(place: &Place, pipe: &std::path::Path, args: &[&str]) -> (Running, File) {
    let running = place.start(args);
    // Returns once there is a reader, which then waits for what is never written.
    let writer = fs::OpenOptions::new().write(true).open(pipe).unwrap();
    (running, writer)
}

/// The commands that catch signals did not look for them before the spool was open: on a disk that
/// did not answer only `kill -9` ended them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_a_command_whose_spool_does_not_open() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let Some(pipe) = stuck(&mut place) else {
        return;
    };
    for (args, code) in [
        (&["append"][..], exit::UNEXPECTED),
        (&["import"], exit::UNEXPECTED),
        (&["drain"], exit::PENDING),
        (&["run"], exit::PENDING),
    ] {
        let (running, _writer) = opening(&place, &pipe, args);
        running.signal("-TERM");
        let ended = running.end().expect(code);
        let told = "everpost: a signal came before the spool was open; nothing was done\n";
        assert!(ended.err.starts_with(told), "{args:?}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 2, "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_a_drain_counts_while_the_spool_does_not_open() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let Some(pipe) = stuck(&mut place) else {
        return;
    };
    let (running, _writer) = opening(&place, &pipe, &["drain", "--deadline", "1ms"]);
    let ended = running.end().expect(exit::PENDING);
    let told = "everpost: the deadline came before the spool was open";
    assert!(ended.err.starts_with(told), "{}", ended.err);
}

/// A drain without time said "0 events still pending" and ended with 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_without_time_is_enough_for_nothing_and_for_nothing_else() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    let place = Place::with(&sandbox);
    place.feed(&["append"], "").expect(exit::DONE);
    let drained = place.run(&["drain", "--deadline", "0s", "--json"]);
    assert_eq!(drained.expect(exit::DONE).json()["end"], "drained");
    let service = place.serve(&[]);
    place.run(&["drain", "--deadline", "0s"]).expect(exit::DONE);
    service.stop().expect(exit::DONE);
    place.append(1, 1);
    let drained = place.run(&["drain", "--deadline", "0s", "--json"]);
    assert_eq!(drained.expect(exit::PENDING).json()["end"], "deadline");
}

/// The second signal came upon a queue that the first had all but closed, and `run` ended with 1
/// and "queue is closed".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_signals_in_a_row_end_the_service_as_one() {
    let sandbox = Sandbox::start().await.unwrap();
    for _ in 0..10 {
        let place = Place::with(&sandbox);
        let service = place.serve(&[]);
        service.running.signal("-TERM");
        // It may have ended already.
        let pid = service.running.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).output().unwrap();
        let ended = service.running.end().expect(exit::DONE);
        assert_eq!(ended.out, "closed; 0 events pending\n");
    }
}
