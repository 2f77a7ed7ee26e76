//! Settings that stay in the spool, and who wins over them.

mod init;

use std::fs;

use everpost::exit;
use serde_json::{Value, json};

use crate::set_up::{Ended, Place, message};

/// Writes the settings of the spool, as `init` or a person would.
fn spool_says(place: &Place, text: &str) {
    fs::create_dir_all(place.spool()).unwrap();
    fs::write(place.spool().join("settings.toml"), text).unwrap();
}

fn etc_says(place: &Place, text: &str) {
    fs::create_dir_all(place.path("etc")).unwrap();
    fs::write(place.path("etc/settings.toml"), text).unwrap();
}

/// What `config` says of a setting.
fn setting(place: &Place, name: &str) -> Value {
    let config = place.run(&["config", "--json"]).expect(exit::DONE).json();
    config["settings"][name].clone()
}

/// Settings were lost between two commands: a spool made with 1 MiB became one of 1 GiB with the
/// next command that was not told again.
#[test]
fn a_command_uses_the_settings_of_the_spool() {
    let place = Place::new();
    spool_says(&place, "max_bytes = \"1 MiB\"\n");
    place.append(1, 3);
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["max_bytes"], 1 << 20);
    // The spool was made for it.
    assert!(status["disk_bytes"].as_u64().unwrap() < 1 << 20, "{status}");
    let verified = place.run(&["verify"]).expect(exit::DONE);
    assert_eq!(verified.err, "");
}

#[test]
fn each_layer_wins_over_the_one_before_it_and_config_says_which() {
    let mut place = Place::new();
    let said = |place: &Place| {
        let entry = setting(place, "max_event_bytes");
        (entry["value"].clone(), entry["from"].clone())
    };
    assert_eq!(said(&place), (json!(256 << 10), json!("default")));
    etc_says(
        &place,
        "max_event_bytes = 1000\n[service]\nchannel = \"rasa\"\n",
    );
    assert_eq!(said(&place), (json!(1000), json!("system")));
    spool_says(&place, "\nmax_event_bytes = \"2k\"\n");
    assert_eq!(said(&place), (json!(2000), json!("spool")));
    let entry = setting(&place, "max_event_bytes");
    assert_eq!(entry["line"], 2);
    let file = place.spool().join("settings.toml");
    assert_eq!(entry["by"], file.to_str().unwrap());
    // What a later layer leaves out stays.
    assert_eq!(setting(&place, "service.channel")["from"], "system");
    place.settings("max_event_bytes = 3000\n");
    assert_eq!(said(&place), (json!(3000), json!("file")));
    place.set_env("BA_BASE_URL", "http://127.0.0.1:1/v2");
    let url = setting(&place, "service.base_url");
    assert_eq!(url["value"], "http://127.0.0.1:1/v2");
    assert_eq!(url["from"], "environment");
    let text = place.run(&["config"]).expect(exit::DONE).out;
    let row = text
        .lines()
        .find(|line| line.starts_with("max_event_bytes"));
    assert!(row.unwrap().ends_with("settings.toml, line 1"), "{text}");
}

#[test]
fn config_scales_what_is_not_said_and_says_so() {
    let place = Place::new();
    spool_says(&place, "max_bytes = \"1MiB\"\ntail_bytes = \"20 KiB\"\n");
    let entry = |name| setting(&place, name);
    assert_eq!(entry("journal_bytes")["value"], 64 << 10);
    assert_eq!(entry("journal_bytes")["from"], "scaled");
    assert_eq!(entry("tail_bytes")["value"], 20 << 10);
    assert_eq!(entry("tail_bytes")["from"], "spool");
    assert_eq!(entry("max_age")["value"], Value::Null);
    assert_eq!(entry("service.deadline")["value"], "10s");
    assert_eq!(entry("service.deadline")["from"], "default");
}

/// What the spool says and a later layer overrides was applied without a word.
#[test]
fn who_wins_over_the_spool_says_so_in_one_line() {
    let mut place = Place::new();
    spool_says(&place, "max_bytes = \"2 MiB\"\non_full = \"reject\"\n");
    let append = |place: &Place, args: &[&str]| {
        let mut all = vec!["append"];
        all.extend(args);
        place.feed(&all, &message(1)).expect(exit::DONE)
    };
    append(&place, &[]);
    let told = append(&place, &["--max-bytes", "3MiB", "--on-full", "drop-oldest"]);
    let file = place.spool().join("settings.toml");
    let line = format!(
        "everpost: not as {} says: max_bytes = \"3MiB\" (--max-bytes), not \"2 MiB\"; \
         on_full = \"drop_oldest\" (--on-full), not \"reject\"\n",
        file.display()
    );
    assert_eq!(told.err, line);
    // The same value is no other one.
    assert_eq!(append(&place, &["--on-full", "reject"]).err, "");
    let told = append(&place, &["--level", "written", "--json"]);
    assert_eq!(told.err, "");
    place.settings("max_bytes = 4000000\n");
    let told = append(&place, &[]);
    assert!(told.err.contains("max_bytes = 4000000 ("), "{}", told.err);
    assert_eq!(told.err.lines().count(), 1);
    // Who only looks follows nothing, and has nothing to say.
    assert_eq!(place.run(&["status"]).expect(exit::DONE).err, "");
}

/// A mistyped `--spool` made a spool in a place that is never looked at, without a word.
#[test]
fn a_new_spool_is_told_of_or_refused() {
    let place = Place::new();
    let typo = place.path("typo");
    let typo = typo.to_str().unwrap();
    for command in ["append", "import"] {
        let refused = place.run(&["--spool", typo, command, "--no-create"]);
        let refused = refused.expect(exit::USAGE);
        assert!(
            refused.err.contains("there is no spool yet"),
            "{}",
            refused.err
        );
        let what = format!("everpost init --spool {typo}");
        assert!(refused.err.contains(&what), "{}", refused.err);
        assert!(!place.path("typo").exists());
    }
    let told = format!("everpost: made a new spool at {typo}\n");
    let made = place.feed(&["--spool", typo, "append"], &message(1));
    assert_eq!(made.expect(exit::DONE).err, told);
    let again = place.feed(&["--spool", typo, "append", "--no-create"], &message(2));
    assert_eq!(again.expect(exit::DONE).err, "");
}

fn refused(place: &Place, text: &str) -> Ended {
    let file = place.path("bad.toml");
    fs::write(&file, text).unwrap();
    place.run(&["config", "--settings", file.to_str().unwrap()])
}

/// A wrong value named neither its key nor its line, and sizes took no units.
#[test]
fn a_wrong_setting_is_named_with_its_place_its_value_and_what_to_type() {
    let place = Place::new();
    for (text, line, hint) in [
        (
            "\nmax_bytes = \"1GBB\"",
            "line 2, column 13: `max_bytes` cannot be \"1GBB\"",
            "\"64MiB\"",
        ),
        (
            "[delivery]\n backoff_min = 5",
            "line 2, column 16: `backoff_min` cannot be 5",
            "\"500ms\"",
        ),
        (
            "on_full = \"explode\"",
            "line 1, column 11: `on_full` cannot be \"explode\"",
            "\"drop_oldest\"",
        ),
        (
            "max_byte = 1",
            "line 1, column 1: there is no setting `max_byte`",
            "did you mean `max_bytes`?",
        ),
        (
            "base_url = \"x\"",
            "line 1, column 1: there is no setting `base_url`",
            "`base_url` belongs under [service]",
        ),
        ("x = 1\u{202E}", "line 1", "mend that line"),
        ("a = gb", "line 1, column 5", "mend that line"),
        ("a = 1\na = 2", "line 2, column 1", "a name once"),
        ("delivery = 1", "line 1, column 12", "[delivery]"),
        (
            "[service]\nlisten = \"x\"",
            "line 2, column 10",
            "127.0.0.1:9464",
        ),
        (
            "max_bytes = 1",
            "`max_bytes` is 1 B and must be at least 596 KiB (",
            "",
        ),
    ] {
        let refused = refused(&place, text).expect(exit::USAGE);
        let [told, hinted] = refused.err.lines().collect::<Vec<_>>()[..] else {
            panic!("{refused:?}");
        };
        assert!(told.contains("bad.toml"), "{told}");
        assert!(told.contains(line), "{text:?}: {told}");
        assert!(hinted.contains(hint), "{text:?}: {hinted}");
        assert!(!refused.err.contains('\u{202E}'), "{told}");
    }
    let none = place
        .run(&["append", "--settings", "nofile"])
        .expect(exit::USAGE);
    assert!(
        none.err
            .starts_with("everpost: settings nofile cannot be read: No such file")
    );
    let flag = place
        .run(&["append", "--max-bytes", "64XB"])
        .expect(exit::USAGE);
    assert!(
        flag.err
            .starts_with("everpost: --max-bytes cannot be \"64XB\": "),
        "{}",
        flag.err
    );
    assert!(!place.spool().exists());
}

/// What stands in the spool may be anything. No owner follows it; who only looks does not read it.
#[test]
fn settings_in_a_spool_that_are_none_are_refused_and_keep_nobody_from_looking() {
    let place = Place::new();
    place.append(1, 2);
    let file = place.spool().join("settings.toml");
    let secret = place.path("secret");
    fs::write(&secret, "key = \"SECRET\"\n").unwrap();
    let link = || std::os::unix::fs::symlink(&secret, &file).unwrap();
    let pipe = || {
        let mut mkfifo = std::process::Command::new("mkfifo");
        assert!(mkfifo.arg(&file).status().unwrap().success());
    };
    let huge = || fs::write(&file, "#".repeat((64 << 10) + 1)).unwrap();
    let bytes = || fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    let dir = || fs::create_dir(&file).unwrap();
    let broken = || fs::write(&file, "max_bytes = [[[[").unwrap();
    let cases: [(&dyn Fn(), &str); 6] = [
        (&link, "it is a link"),
        (&pipe, "it is no regular file"),
        (&huge, "more than 64 KiB"),
        (&bytes, "no text in UTF-8"),
        (&dir, "it is no regular file"),
        (&broken, "line 1"),
    ];
    for (make, what) in cases {
        make();
        let refused = place.feed(&["append"], &message(3)).expect(exit::USAGE);
        let name = file.to_str().unwrap();
        assert!(refused.err.contains(name), "{what}: {}", refused.err);
        assert!(refused.err.contains(what), "{what}: {}", refused.err);
        assert!(!refused.err.contains("SECRET"), "{}", refused.err);
        for look in ["status", "peek", "verify", "dead"] {
            let args: &[&str] = if look == "dead" {
                &["dead", "list"]
            } else {
                &[look]
            };
            let looked = place.run(args).expect(exit::DONE);
            assert_eq!(looked.err, "", "{what}: {look}");
        }
        if file.is_dir() {
            fs::remove_dir(&file).unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
    }
    place.append(3, 1);
}

/// The page that `init` writes, without its comments.
fn says(place: &Place) -> String {
    let text = fs::read_to_string(place.spool().join("settings.toml")).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Delivery was told where to by variables alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_follows_the_settings_of_the_spool() {
    let sandbox = everpost::sandbox::Sandbox::start().await.unwrap();
    let place = Place::new();
    let key = place.path("key");
    fs::write(&key, sandbox.key()).unwrap();
    let args = [
        "init",
        "--base-url",
        sandbox.base_url(),
        "--key-file",
        key.to_str().unwrap(),
    ];
    place.run(&args).expect(exit::DONE);
    place.append(1, 3);
    place.run(&["drain"]).expect(exit::DONE);
    assert_eq!(sandbox.accepted().len(), 3);
    let config = place.run(&["config", "--json"]).expect(exit::DONE);
    assert_eq!(config.json()["key"]["kind"], "file");
    assert!(!config.out.contains(sandbox.key()), "{}", config.out);
}
