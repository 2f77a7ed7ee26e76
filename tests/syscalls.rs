//! What the system sees: an append is written and synced before it is acknowledged, and a queue
//! with nothing to do does nothing.
//!
//! Needs strace and the right to trace; says so and passes where there is neither.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use everpost::{Event, Queue};

const TRACED: &str =
    "trace=write,pwrite64,pwritev,fdatasync,fsync,sync_file_range,ftruncate,rename,unlink";

/// Opens, appends one event, and then waits for the end of its input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program() {
    let Ok(spool) = std::env::var("SYSCALLS_SPOOL") else {
        return;
    };
    if std::env::var_os("SYSCALLS_SEAL").is_some() {
        return seal(&spool).await;
    }
    let mut out = std::io::stdout();
    let queue = Queue::builder(spool).open().await.unwrap();
    out.write_all(b"\nMARK opened\n").unwrap();
    queue.append(Event::json("{}").unwrap()).await.unwrap();
    out.write_all(b"\nMARK acknowledged\n").unwrap();
    // The queue is open and idle until the input ends.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    out.write_all(b"\nMARK ending\n").unwrap();
    queue.close(std::time::Duration::ZERO).await.unwrap();
}

/// Appends so much that a segment is begun.
async fn seal(spool: &str) {
    let mut settings = everpost::Settings::default();
    settings.tail_bytes = 8 << 10;
    settings.chunk_bytes = 8 << 10;
    let queue = Queue::builder(spool)
        .settings(settings)
        .open()
        .await
        .unwrap();
    for n in 0..40 {
        let json = format!("[{n},{:?}]", "x".repeat(1_000));
        queue.append(Event::json(json).unwrap()).await.unwrap();
    }
    queue.close(std::time::Duration::ZERO).await.unwrap();
}

/// sled's flush is no fdatasync on Linux, and it leaves names to chance: both are ours.
#[test]
fn i3_a_segment_and_its_name_are_synced_by_calls_of_ours() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fdatasync,fsync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_program"])
        .env("SYSCALLS_SPOOL", dir.path().join("spool"))
        .env("SYSCALLS_SEAL", "1")
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let trace = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    let at = |call: &str, path: &str| {
        let is_it = |line: &&str| line.contains(call) && line.contains(path);
        lines.iter().position(is_it)
    };
    // Opening syncs the directory of all segments too: what counts is the time between the names in
    // the new one and the first chunk in it.
    let named = at(" fsync(", "/segments/00000000000000000001>").unwrap();
    let sealed = at(" fdatasync(", "/segments/00000000000000000001/db>").unwrap();
    let is_name = |line: &&str| line.contains(" fsync(") && line.contains("/segments>");
    assert!(lines[named..sealed].iter().any(is_name), "{trace}");
}

fn can_trace() -> bool {
    let run = Command::new("strace").arg("true").output();
    let can = run.is_ok_and(|run| run.status.success());
    if !can {
        println!("skipped: strace is not here, or may not trace");
    }
    can
}

/// The system calls between two marks, in the order they began.
fn between<'a>(trace: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    trace
        .lines()
        .skip_while(|line| !line.contains(from))
        .skip(1)
        .take_while(|line| !line.contains(to))
        // The runtime wakes its threads through an eventfd; that is no file.
        .filter(|line| !(line.contains(" write(") && line.contains(", 8)")))
        .collect()
}

#[test]
fn i1_an_append_is_written_and_synced_before_it_is_acknowledged_and_idling_writes_nothing() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut child = Command::new("strace")
        .args(["-f", "-e", TRACED, "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_program", "--nocapture"])
        .env("SYSCALLS_SPOOL", dir.path().join("spool"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "MARK acknowledged"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let trace = std::fs::read_to_string(&trace).unwrap();

    let append = between(&trace, "MARK opened", "MARK acknowledged");
    let written = append
        .iter()
        .position(|call| call.contains("pwrite64("))
        .unwrap();
    let synced = append
        .iter()
        .position(|call| call.contains("fdatasync("))
        .unwrap();
    assert!(written < synced, "{append:#?}");
    assert_eq!(
        append
            .iter()
            .filter(|call| call.contains("pwrite64("))
            .count(),
        1,
        "{append:#?}"
    );
    let finished = append
        .iter()
        .filter(|call| call.contains("fdatasync") && call.ends_with("= 0"));
    assert_eq!(
        finished.count(),
        1,
        "the sync ended before the acknowledgement: {append:#?}"
    );

    let idle = between(&trace, "MARK acknowledged", "MARK ending");
    assert!(idle.is_empty(), "{idle:#?}");
}
