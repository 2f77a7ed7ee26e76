//! Standard input, output and error of a service: closed, broken, full, not blocking.

use super::*;

/// A full disk or a closed pipe behind standard error: a line of the log ended the process with
/// 101, and in a drain it ended the delivery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_error_may_fail_in_every_way() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.set_env("EVERPOST_LOG", "debug");
    let mut first = 1;
    let mut through_fault = |sandbox: &Sandbox| {
        // Something to log for each of them.
        sandbox.script([Fault::status(503)]);
        first += 3;
        first - 3
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let service = place.serve_with(&[], |command| command.stdin(Stdio::piped()).stderr(full()));
    place.append(through_fault(&sandbox), 3);
    sandbox.wait_for_accepted(3).await.unwrap();
    service.stop().expect(exit::DONE);

    let mut service = place.serve(&[]);
    drop(service.running.child.stderr.take());
    place.append(through_fault(&sandbox), 3);
    sandbox.wait_for_accepted(6).await.unwrap();
    service.stop().expect(exit::DONE);

    for format in ["text", "json"] {
        place.append(through_fault(&sandbox), 3);
        let mut drain = place.command(&["drain", "--log-format", format]);
        let ended = drain.stderr(full()).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    sandbox.wait_for_accepted(12).await.unwrap();
    assert!(sandbox.duplicates().is_empty());

    // A drain that cannot deliver says so by its exit code alone.
    sandbox.go_away().await.unwrap();
    place.append(13, 1);
    let mut drain = place.command(&["drain", "--deadline", "50ms"]);
    let ended = drain.stderr(full()).stdout(full()).output().unwrap();
    assert_eq!(ended.status.code(), Some(i32::from(exit::PENDING)));
}

/// Its report went nowhere, and the service that ended with events pending said that all was well.
#[test]
fn without_standard_output_the_exit_code_is_the_same() {
    let place = Place::new();
    place.append(1, 1);
    let mut service = place.serve(&["--deadline", "0s"]);
    let stdout = std::mem::replace(&mut service.running.stdout, BufReader::new(empty_stdout()));
    drop(stdout);
    service.stop().expect(exit::PENDING);

    // Nothing is pending there, and a full disk takes no report.
    let empty = Place::new();
    let service = empty.serve_with(&[], |command| {
        by_shell(command, "exec \"$0\" \"$@\" >/dev/full")
    });
    service.stop().expect(exit::DONE);
}

/// The standard output of something that has ended.
fn empty_stdout() -> std::process::ChildStdout {
    let mut ended = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    ended.wait().unwrap();
    ended.stdout.take().unwrap()
}

/// A producer that shares its end of the pipe may make it one that does not block: the input was
/// never read again, and all looked well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_does_not_block_is_read_to_its_end() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    let service = place.serve_with(&[], |command| command.stdin(Stdio::from(reader)));
    for n in 1..=3 {
        writer.write_all(message(n).as_bytes()).unwrap();
        sandbox.wait_for_accepted(n).await.unwrap();
    }
    drop(writer);
    place.append(4, 1);
    sandbox.wait_for_accepted(4).await.unwrap();
    service.stop().expect(exit::DONE);
}

/// An input that cannot be read goes nowhere: the service ends in good order and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_broken_ends_it_with_1() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    place.append(1, 2);
    let broken = File::open(place.dir.path()).unwrap();
    let ended = place
        .command(&["run"])
        .stdin(Stdio::from(broken))
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(i32::from(exit::UNEXPECTED)));
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(told.contains("failed to read the input"), "{told}");
    assert_eq!(ended.stdout, b"closed; 0 events pending\n");
    sandbox.wait_for_accepted(2).await.unwrap();
}
