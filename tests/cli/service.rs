//! `run` as a service that stays: without a key, without standard error, with signals that come at
//! any time, and with an input that breaks.

mod streams;

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use everpost::clock::{Clock as _, SystemClock};
use everpost::exit;
use everpost::sandbox::{Fault, Sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::set_up::{Place, Service, message};

/// A place whose API is this sandbox, and whose key is to come in a file.
fn place_of(sandbox: &Sandbox) -> Place {
    let mut place = Place::new();
    place.set_env("BA_BASE_URL", sandbox.base_url());
    let file = place.path("key");
    place.set_env("BA_API_KEY_FILE", file.to_str().unwrap());
    place
}

/// Puts this in place of the key file, as one should: whole or not at all.
fn put_key(place: &Place, key: &str) {
    let new = place.path("key.new");
    fs::write(&new, key).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, place.path("key")).unwrap();
}

fn key(claims: &str) -> String {
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    format!("e30.{claims}.c2ln")
}

fn unix_now() -> u64 {
    let now = SystemClock.wall();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What `status` says of the pause, once there is one.
fn pause_of(place: &Place) -> (String, String) {
    let mut watcher = place.start(&["status", "--watch", "--json"]);
    let paused = watcher.read_until(|line| line.contains("\"state\":\"paused\""));
    watcher.signal("-INT");
    watcher.end().expect(exit::DONE);
    let status: Value = serde_json::from_str(&paused).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let flusher = &status["flusher"];
    let detail = &flusher["last_error"]["detail"];
    (text(&flusher["reason"]), text(detail))
}

fn kill(service: &Service, signal: Signal) {
    let pid = i32::try_from(service.running.child.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn stderr(service: &mut Service) -> BufReader<ChildStderr> {
    BufReader::new(service.running.child.stderr.take().unwrap())
}

/// Reads lines up to the first that holds this.
fn line_with(log: &mut impl BufRead, wanted: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "{wanted}: {seen}");
        if line.contains(wanted) {
            return line;
        }
        seen.push_str(&line);
    }
}

/// A machine gets its key later than its first events. The service ended with 2, was not started
/// again, and there was nothing to append to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_it_keeps_and_serves_and_takes_the_key_when_it_comes() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = place_of(&sandbox);
    let service = place.serve(&[]);
    let (reason, detail) = pause_of(&place);
    assert_eq!(reason, "credentials");
    assert!(detail.contains("no such file"), "{detail}");
    assert!(detail.contains(place.path("key").to_str().unwrap()));
    place.append(1, 5);
    let drained = place.run(&["drain"]).expect(exit::PAUSED);
    assert!(drained.err.contains("no such file"), "{}", drained.err);
    let status = place.run(&["status", "--json"]).json();
    assert_eq!(
        (&status["pending"], &status["requests"]),
        (&5.into(), &0.into())
    );

    put_key(&place, sandbox.key());
    sandbox.wait_for_accepted(5).await.unwrap();
    sandbox
        .check_order((1..=5).map(|n: u64| n.to_string()))
        .unwrap();
    service.stop().expect(exit::DONE);

    // A pause that it found by itself is not remembered: the next one finds out anew.
    let service = place.serve(&[]);
    let status = place.run(&["status", "--json"]).json();
    assert_eq!(status["flusher"]["state"], "idle");
    service.stop().expect(exit::DONE);
}

/// A key that the API had refused was probed again up to a quarter of an hour after a new one was
/// in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_in_the_file_is_noticed_by_itself() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = place_of(&sandbox);
    put_key(&place, &key(r#"{"channel":"universal"}"#));
    let service = place.serve(&[]);
    place.append(1, 2);
    let mut watcher = place.start(&["status", "--watch", "--json"]);
    watcher.read_until(|line| line.contains("\"reason\":\"credentials\""));
    put_key(&place, sandbox.key());
    watcher.read_until(|line| line.contains("\"delivered\":2"));
    watcher.signal("-INT");
    watcher.end().expect(exit::DONE);
    service.stop().expect(exit::DONE);
}

#[test]
fn whatever_is_wrong_with_the_key_the_service_stays_and_says_it() {
    let cases = [
        (None, "variable=`BA_API_KEY`; set `BA_API_KEY`"),
        (Some(String::new()), "key is empty"),
        (Some("nonsense".to_owned()), "three parts"),
        (Some("Bearer a.b.c".to_owned()), "characters"),
        (Some(key(r#"{"channel":"c","exp":1}"#)), "key has expired"),
    ];
    for (key, told) in cases {
        let mut place = Place::new();
        place.set_env("EVERPOST_LOG", "info");
        if let Some(key) = &key {
            place.set_env("BA_API_KEY", key);
        }
        let service = place.serve(&["--deadline", "0s"]);
        let (reason, detail) = pause_of(&place);
        assert_eq!(reason, "credentials");
        assert!(detail.contains(told), "{detail}");
        let empty = service.stop().expect(exit::DONE);
        let warned = empty.err.contains("there is no key to deliver with");
        assert!(warned && empty.err.contains(told), "{}", empty.err);
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            assert!(!empty.err.contains(&key), "{}", empty.err);
        }
        let service = place.serve(&["--deadline", "0s"]);
        place.append(1, 1);
        service.stop().expect(exit::PENDING);
        // A drain is over at once, and says so in its exit code.
        let drained = place.run(&["drain"]);
        let is_told = drained.err.contains(told.split(';').next().unwrap());
        assert!(is_told, "{drained:?}");
        let expected = if told == "key has expired" {
            exit::PAUSED
        } else {
            exit::USAGE
        };
        drained.expect(expected);
    }
}

#[test]
fn an_address_that_is_none_still_ends_it() {
    let mut place = Place::new();
    place.set_env("BA_BASE_URL", "nonsense");
    place.run(&["run"]).expect(exit::USAGE);
}

/// A FIFO as key file: each request cost a thread that waited for a writer, and SIGTERM did not end
/// the process.
#[test]
fn a_key_file_that_is_no_file_holds_nothing_up() {
    let mut place = Place::new();
    let fifo = place.path("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    place.set_env("BA_API_KEY_FILE", fifo.to_str().unwrap());
    let service = place.serve(&["--deadline", "5s"]);
    place.append(1, 3);
    let (_, detail) = pause_of(&place);
    assert!(detail.contains("a pipe, a socket or a device"), "{detail}");
    let threads = || {
        let tasks = format!("/proc/{}/task", service.running.child.id());
        fs::read_dir(tasks).map_or(0, Iterator::count)
    };
    for _ in 0..20 {
        place.run(&["wake"]).expect(exit::DONE);
    }
    assert!(threads() < 20, "{}", threads());
    service.stop().expect(exit::PENDING);
    place.run(&["drain"]).expect(exit::USAGE);
}

/// An expired key was delivered with until the API said so, and nothing was said at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_says_where_events_go_and_what_is_odd_about_the_key() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = place_of(&sandbox);
    place.set_env("EVERPOST_LOG", "info");
    let soon = unix_now() + 3_600;
    put_key(
        &place,
        &key(&format!(r#"{{"channel":"rasa","exp":{soon}}}"#)),
    );
    fs::set_permissions(place.path("key"), Permissions::from_mode(0o644)).unwrap();
    let told = place.serve(&[]).stop().expect(exit::DONE).err;
    let started = told.lines().find(|line| line.contains(" delivering "));
    let started = started.unwrap_or_else(|| panic!("{told}"));
    for wanted in [
        "INFO",
        "channel=rasa",
        "pending=0",
        &format!("url={}/messages", sandbox.base_url()),
        &format!("spool={}", place.spool().display()),
    ] {
        assert!(started.contains(wanted), "{wanted}: {told}");
    }
    assert!(told.contains("expires within a day"), "{told}");
    assert!(told.contains("mode=\"0644\""), "{told}");

    put_key(&place, sandbox.key());
    let told = place.serve(&[]).stop().expect(exit::DONE).err;
    assert!(!told.contains("WARN"), "{told}");
}

/// The service ended at a SIGHUP; `nohup` did not help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_key_and_settings_again() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = place_of(&sandbox);
    place.set_env("EVERPOST_LOG", "info");
    place.settings("max_event_bytes = 100000\n");
    let mut service = place.serve(&[]);
    let mut log = stderr(&mut service);
    let again = |service: &Service, log: &mut BufReader<ChildStderr>, wanted: &str| {
        kill(service, Signal::HUP);
        let word = service.heard();
        assert!(word.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{word}");
        service.hear("READY=1");
        line_with(log, wanted)
    };
    fs::write(place.path("settings.toml"), "max_event_bytes = 200000\n").unwrap();
    let changed = again(&service, &mut log, "at the next start");
    assert!(changed.contains("settings=max_event_bytes"), "{changed}");
    fs::write(place.path("settings.toml"), "max_event_bytes = \"much\"\n").unwrap();
    let refused = again(&service, &mut log, "cannot be read again");
    assert!(refused.contains("ERROR"), "{refused}");
    fs::write(place.path("settings.toml"), "").unwrap();
    put_key(&place, sandbox.key());
    let read = again(&service, &mut log, "channel=universal");
    assert!(read.contains("were read again"), "{read}");
    place.append(1, 1);
    sandbox.wait_for_accepted(1).await.unwrap();
    service.stop().expect(exit::DONE);
}

/// The same command, started by a shell that does something before it.
fn by_shell<'a>(command: &'a mut Command, script: &str) -> &'a mut Command {
    // The shell says what becomes of signals.
    let mut args = command.get_args().map(ToOwned::to_owned).skip(1);
    let program = args.next().unwrap();
    let args: Vec<_> = args.collect();
    let variables: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    *command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .arg(program)
        .args(args)
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
}

/// What is started with `nohup`, or in the background of a script, is to live on.
#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let place = Place::new();
    let service = place.serve_with(&[], |command| {
        by_shell(command, "trap '' HUP INT; exec \"$0\" \"$@\"")
    });
    kill(&service, Signal::HUP);
    kill(&service, Signal::INT);
    // Had it been caught, this would be the second one, and the word to systemd another.
    service.stop().expect(exit::DONE);
}

/// Two signals a millisecond apart: the second one found a queue that the first had closed, and
/// the service ended with 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_at_any_time_after_the_first_changes_no_exit_code() {
    let sandbox = Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    for offset_us in (0..12).map(|step| step * step * 100) {
        let mut service = place.serve(&[]);
        service.running.write(&message(offset_us));
        kill(&service, Signal::TERM);
        let by = SystemClock.monotonic() + Duration::from_micros(offset_us);
        while SystemClock.monotonic() < by {
            std::hint::spin_loop();
        }
        kill(&service, Signal::TERM);
        service.hear("STOPPING=1");
        let ended = service.running.end();
        assert!(!ended.err.contains("closed"), "{offset_us}: {ended:?}");
        let codes = [exit::DONE, exit::PENDING].map(i32::from);
        assert!(codes.contains(&ended.code), "{offset_us} us: {ended:?}");
    }
}

#[test]
fn the_watchdog_hears_from_it_while_the_log_answers() {
    let place = Place::new();
    let service = place.serve_with(&[], |command| command.env("WATCHDOG_USEC", "60000"));
    for _ in 0..3 {
        service.hear("WATCHDOG=1");
    }
    kill(&service, Signal::TERM);
    while service.heard() == "WATCHDOG=1" {}
    service.running.end().expect(exit::DONE);

    // Another process of the same service is meant.
    let service = place.serve_with(&[], |command| {
        command
            .env("WATCHDOG_USEC", "1000")
            .env("WATCHDOG_PID", "1")
    });
    service.stop().expect(exit::DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_log_is_json_if_that_is_wanted() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    place.set_env("EVERPOST_LOG", "debug");
    place.set_env("EVERPOST_LOG_FORMAT", "json");
    let mut service = place.serve(&[]);
    sandbox.script([Fault::status(503)]);
    service.running.write(&(message(1) + "nonsense\n"));
    sandbox.wait_for_accepted(1).await.unwrap();
    let told = service.stop().expect(exit::REFUSED).err;
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    for line in &lines {
        let names: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(names, ["fields", "level", "message", "time"], "{line}");
    }
    let find = |message: &str| {
        let found = lines
            .iter()
            .find(|line| line["message"].as_str().unwrap().contains(message));
        found.unwrap_or_else(|| panic!("{message}: {told}"))
    };
    let fails = find("delivery fails");
    assert_eq!(
        (&fails["level"], &fails["fields"]["status"]),
        (&"WARN".into(), &503.into())
    );
    assert_eq!(find("an outage is over")["fields"]["requests"], 2);
    assert_eq!(find("line 2 is refused")["level"], "WARN");
}

#[test]
fn what_the_log_may_be_is_named_where_it_is_something_else() {
    let mut place = Place::new();
    place.set_env("EVERPOST_LOG", "loud");
    let told = place.serve(&[]).stop().expect(exit::DONE).err;
    let named =
        "EVERPOST_LOG is `loud`, which is no level; it may be off, error, warn, info, debug";
    assert!(told.contains(named), "{told}");
    place.set_env("EVERPOST_LOG_FORMAT", "xml");
    let ended = place.run(&["run"]).expect(exit::USAGE);
    assert!(ended.err.contains("\"text\" or \"json\""), "{}", ended.err);
    let ended = place
        .run(&["run", "--log-format", "xml"])
        .expect(exit::USAGE);
    assert!(ended.err.contains("text, json"), "{}", ended.err);
}

/// The unit in the repository is one that systemd takes without a word.
#[test]
fn the_unit_pings_reloads_and_does_without_its_file() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/everpost.service");
    let mut text = String::new();
    File::open(unit).unwrap().read_to_string(&mut text).unwrap();
    for line in [
        "Type=notify",
        "WatchdogSec=120s",
        "EnvironmentFile=-/etc/everpost/everpost.env",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}
