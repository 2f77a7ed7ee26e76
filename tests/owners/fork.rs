//! A program forks while it owns a spool.
//!
//! Rust without `unsafe` cannot fork, so `getppid` is made to: the program calls it where it wants
//! two processes, and in the child it gives 0.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use everpost::{Error, Event, Queue, blocking};

use crate::set_up::Place;

const SHIM: &str = "#include <unistd.h>\npid_t getppid(void) { return fork(); }\n";

fn event(n: u32) -> Event {
    Event::json(format!("{{\"n\":{n}}}")).unwrap()
}

/// Opens the spool, forks, and appends on both sides; does nothing as a test.
#[test]
fn the_program() {
    let Ok(spool) = std::env::var("OWNERS_SPOOL") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let queue = blocking::Queue::builder(&spool).flusher_thread();
    let queue = queue.open().unwrap();
    let control = runtime
        .block_on(everpost::control::serve(queue.as_async()))
        .unwrap();
    queue.append(event(1)).unwrap();
    let child = std::os::unix::process::parent_id();
    if child == 0 {
        in_the_child(queue.as_async(), control);
        drop(queue);
        // What libtest and the runtime would wait for is in the parent.
        std::process::exit(7);
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(7));
    // The parent goes on as if nothing had been.
    assert_eq!(queue.append(event(2)).unwrap().seq, 2);
    assert!(Path::new(&spool).join("control.sock").exists());
    drop(control);
    queue.close(Duration::ZERO).unwrap();
    println!("the parent is done");
}

fn in_the_child(queue: &Queue, control: everpost::control::Control) {
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NotOwner { .. }), "{error}");
        assert!(error.to_string().contains("forked"), "{error}");
    };
    let wait = tokio::runtime::Builder::new_current_thread().build();
    let wait = wait.unwrap();
    for _ in 0..2 {
        refused(
            queue
                .blocking()
                .append(event(9))
                .map(drop)
                .map_err(Error::from),
        );
        let appended = wait.block_on(queue.append(event(9)));
        refused(appended.map(drop).map_err(Error::from));
        refused(wait.block_on(queue.events(..).take(1)).map(drop));
        refused(
            wait.block_on(queue.dead_letters().list(..).take(1))
                .map(drop),
        );
        refused(queue.blocking().close(Duration::ZERO).map(drop));
    }
    drop(control);
}

// Parent and child once both acknowledged events, under the same numbers, and wrote over each other
// in the journal; or the child waited for ever for threads it does not have.
#[test]
fn i14_a_forked_process_owns_nothing_and_waits_for_nothing() {
    let place = Place::new();
    let (source, shim) = (place.path("shim.c"), place.path("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]);
    let built = compiler.arg(&shim).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        println!("skipped: there is no C compiler");
        return;
    }
    let output = Command::new("timeout")
        .arg("60")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "fork::the_program", "--nocapture"])
        .env("OWNERS_SPOOL", place.spool())
        .env("LD_PRELOAD", &shim)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("the parent is done"), "{text}");
    assert_eq!(place.pending(), 2);
}
