//! A service under which the disk does not answer any more, or refuses.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use everpost::exit;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::health::get_inside;
use crate::opening::preload;
use crate::set_up::{Place, Service, message};

/// A sync waits where a pipe of this name is: until it is opened and closed at the other end.
const SHIM: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    char byte;
    int pipe = open(getenv("HELD_BY"), O_RDONLY);
    if (pipe >= 0) {
        if (read(pipe, &byte, 1) != 0) return -1;
        close(pipe);
    }
    return syscall(SYS_fdatasync, fd);
}
"#;

/// It was written that the watchdog is told only while the log answers, and tried only that it is told.
#[test]
fn the_watchdog_is_told_nothing_while_the_log_does_not_answer() {
    let mut place = Place::new();
    if !preload(&mut place, SHIM) {
        return;
    }
    let pipe = place.path("pipe");
    place.set_env("HELD_BY", pipe.to_str().unwrap());
    place.set_env("EVERPOST_LOG", "error");
    let mut service = place.serve_with(&["--deadline", "0s"], |command| {
        command.env("WATCHDOG_USEC", "60000").stdin(Stdio::piped())
    });
    let mut log = BufReader::new(service.running.child.stderr.take().unwrap());
    service.hear("WATCHDOG=1");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    service.running.write(&message(1));
    // Returns once the log's thread is held.
    let hold = File::options().write(true).open(&pipe).unwrap();
    let mut line = String::new();
    while !line.contains("the log does not answer, and systemd is not told that all is well") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
    }
    // What was said before.
    while service.heard_within(Duration::from_millis(1)).is_some() {}
    // Five times the limit.
    assert_eq!(service.heard_within(Duration::from_millis(300)), None);

    fs::remove_file(&pipe).unwrap();
    drop(hold);
    service.hear("WATCHDOG=1");
    service.running.signal("-TERM");
    while service.heard() == "WATCHDOG=1" {}
    let ended = service.running.end().expect(exit::PENDING);
    assert_eq!(ended.out, "closed; 1 event pending\n");
}

/// Lets no file of the service be longer than this from here on, as on a full disk.
fn limit_files(service: &Service, bytes: Option<u64>) {
    let pid = i32::try_from(service.running.child.id()).unwrap();
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Pid::from_raw(pid), Resource::Fsize, limit).unwrap();
}

/// Whether `/readyz` says yes, and why not.
fn ready(place: &Place) -> (u16, Option<String>) {
    let answer = get_inside(place, "/readyz");
    let kind = answer.json()["kind"].as_str().map(str::to_owned);
    (answer.status, kind)
}

/// A queue that waited for nothing stayed "not ready" until the next append, and a producer that asks
/// first made none.
#[test]
fn a_disk_that_works_again_is_found_out_without_an_append() {
    let place = Place::new();
    let service = place.serve(&["--deadline", "0s"]);
    place.append(1, 1);
    assert_eq!(ready(&place), (200, None));
    limit_files(&service, Some(1));
    let refused = place.feed(&["append"], &message(2));
    assert!(refused.code != 0, "{refused:?}");
    let storage = (503, Some("storage".to_owned()));
    assert_eq!(ready(&place), storage);
    // It is tried, and refuses still.
    place.run(&["wake"]).expect(exit::DONE);
    assert_eq!(ready(&place), storage);

    limit_files(&service, None);
    // A look tries nothing.
    assert_eq!(ready(&place), storage);
    place.run(&["wake"]).expect(exit::DONE);
    assert_eq!(ready(&place), (200, None));
    place.append(2, 1);
    let ended = service.stop().expect(exit::PENDING);
    assert_eq!(ended.out, "closed; 2 events pending\n");
}
