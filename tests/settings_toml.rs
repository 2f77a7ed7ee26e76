//! Settings as people write them: a TOML file, with every fault named.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use everpost::{Durability, OnFull, Settings};

fn documented() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("docs/settings.toml")).unwrap()
}

#[test]
fn the_documented_file_holds_the_defaults_and_is_usable() {
    let settings: Settings = toml::from_str(&documented()).unwrap();
    assert_eq!(settings, Settings::default());
    settings.check().unwrap();
}

#[test]
fn the_documented_file_holds_every_setting() {
    let file: toml::Table = toml::from_str(&documented()).unwrap();
    // The settings whose default is nothing are there as comments.
    let mut settings = Settings::default();
    settings.max_age = Some(Duration::from_secs(30 * 24 * 3600));
    settings.delivery.rate_events = Some(100);
    settings.delivery.rate_bytes = Some(64 << 10);
    let mut all = toml::Table::try_from(&settings).unwrap();
    for (name, line) in [
        ("max_age", "\n# max_age = \"30days\"\n"),
        ("rate_events", "\n# rate_events = 100\n"),
        ("rate_bytes", "\n# rate_bytes = \"64 KiB\"\n"),
    ] {
        assert!(documented().contains(line), "{name}");
        let delivery = all["delivery"].as_table_mut().unwrap();
        let removed = delivery.remove(name).or_else(|| all.remove(name));
        assert!(removed.is_some(), "{name}");
    }
    let names = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&file), names(&all));
    assert_eq!(
        names(file["delivery"].as_table().unwrap()),
        names(all["delivery"].as_table().unwrap())
    );
}

#[test]
fn the_choices_in_the_comments_can_be_made() {
    let settings: Settings = toml::from_str(
        r#"
        durability = { written = { sync_every = "1s" } }
        on_full = "drop_oldest"
        max_age = "30days"
        [delivery]
        backoff_max = "1h 30min"
        "#,
    )
    .unwrap();
    let sync_every = Duration::from_secs(1);
    assert_eq!(settings.durability, Durability::Written { sync_every });
    assert_eq!(settings.on_full, OnFull::DropOldest);
    assert_eq!(settings.max_age, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(settings.delivery.backoff_max, Duration::from_secs(5_400));
    settings.check().unwrap();
    for name in ["reject", "block", "drop_oldest"] {
        toml::from_str::<Settings>(&format!("on_full = \"{name}\"")).unwrap();
    }
}

#[test]
fn a_size_is_a_number_of_bytes_or_has_a_unit() {
    for (text, bytes) in [
        ("1048576", 1 << 20),
        ("1_048_576", 1 << 20),
        ("\"1048576\"", 1 << 20),
        ("\"1 MiB\"", 1 << 20),
        ("\"64MiB\"", 64 << 20),
        ("\"1 GB\"", 1_000_000_000),
        ("\"1.5gib\"", 3 << 29),
        ("\"900k\"", 900_000),
    ] {
        let text = format!("max_bytes = {text}\ndelivery.batch_bytes = {text}");
        let settings: Settings = toml::from_str(&text).unwrap();
        assert_eq!(settings.max_bytes, bytes, "{text}");
        assert_eq!(settings.delivery.batch_bytes, bytes, "{text}");
        // What is written for programs stays a number.
        let json = serde_json::to_value(&settings).unwrap();
        assert_eq!(json["max_bytes"], bytes);
        assert_eq!(serde_json::from_value::<Settings>(json).unwrap(), settings);
    }
}

#[test]
fn an_unknown_setting_is_refused_by_its_name() {
    for (text, name) in [
        ("max_byte = 1", "max_byte"),
        ("[delivery]\nbatch_size = 1", "batch_size"),
        (
            "durability = { written = { interval = \"1s\" } }",
            "interval",
        ),
        ("on_full = \"explode\"", "explode"),
    ] {
        let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
        assert!(
            error.lines().last().unwrap().contains(name),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_shown_where_it_stands() {
    for (text, line) in [
        ("\nmax_bytes = \"1 GiBB\"", "line 2"),
        ("\nmax_bytes = true", "line 2"),
        ("[delivery]\nbackoff_min = 5", "line 2"),
        ("max_age = \"soon\"", "line 1"),
        ("max_bytes = -1", "line 1"),
    ] {
        let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
        assert!(error.contains(line), "{text}: {error}");
    }
}

#[test]
fn every_setting_out_of_its_range_is_named_with_that_range() {
    let cases = [
        (
            "max_bytes = 1",
            "`max_bytes` is 1 B and must be at least 596 KiB",
        ),
        (
            "max_bytes = 1048576\njournal_bytes = 1048576",
            "`max_bytes` is 1 MiB and must be at least 5696 KiB",
        ),
        (
            "max_event_bytes = 0",
            "`max_event_bytes` is 0 B and must be from 1 B to 1 MiB",
        ),
        (
            "delivery.rate_events = 0",
            "`rate_events` is 0 and must be at least 1",
        ),
        (
            "delivery.rate_bytes = \"0 B\"",
            "`rate_bytes` is 0 and must be at least 1",
        ),
        (
            "delivery.return_delay_max = \"8days\"",
            "`return_delay_max` is 8days and must be from 0s to 7days",
        ),
        (
            "max_age = \"1ms\"",
            "`max_age` is 1ms and must be at least 1s",
        ),
        (
            "journal_bytes = 1",
            "`journal_bytes` is 1 B and must be from 16 KiB to 1 GiB",
        ),
        (
            "tail_bytes = 1",
            "`tail_bytes` is 1 B and must be from 4 KiB to 4 MiB",
        ),
        (
            "chunk_bytes = 1",
            "`chunk_bytes` is 1 B and must be from 4 KiB to 4 MiB",
        ),
        (
            "segment_bytes = 1",
            "`segment_bytes` is 1 B and must be from 256 KiB to 1 GiB",
        ),
        (
            "intake_bytes = 1",
            "`intake_bytes` is 1 B and must be from 64 KiB to 1 GiB",
        ),
        (
            "durability = { written = { sync_every = \"2h\" } }",
            "`sync_every` is 2h and must be from 1ms to 1h",
        ),
        (
            "delivery.batch_events = 0",
            "`batch_events` is 0 and must be from 1 to 100000",
        ),
        (
            "delivery.batch_bytes = 0",
            "`batch_bytes` is 0 B and must be from 1 B to 1 GiB",
        ),
        (
            "delivery.backoff_min = \"0s\"",
            "`backoff_min` is 0s and must be from 1ms to 7days",
        ),
        (
            "delivery.backoff_max = \"1ms\"",
            "`backoff_max` is 1ms and must be from 500ms to 7days",
        ),
        (
            "delivery.backoff_multiplier = 0.5",
            "`backoff_multiplier` is 0.5 and must be from 1 to 100",
        ),
        (
            "delivery.backoff_jitter = 2.0",
            "`backoff_jitter` is 2 and must be from 0 to 1",
        ),
        (
            "delivery.retry_after_max = \"8days\"",
            "`retry_after_max` is 8days and must be from 1s to 7days",
        ),
        (
            "delivery.breaker_refusals = 0",
            "`breaker_refusals` is 0 and must be at least 1",
        ),
        (
            "delivery.probe_min = \"0s\"",
            "`probe_min` is 0s and must be from 1ms to 7days",
        ),
        (
            "delivery.probe_max = \"1s\"",
            "`probe_max` is 1s and must be from 30s to 7days",
        ),
    ];
    for (text, expected) in cases {
        let settings: Settings = toml::from_str(text).unwrap();
        let error = settings.check().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_queue_does_not_open_with_bad_settings_and_names_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let text = "chunk_bytes = 1\n[delivery]\nbatch_events = 0\nbackoff_jitter = 7.0";
    let opened = everpost::blocking::Queue::builder(dir.path().join("spool"))
        .settings(toml::from_str(text).unwrap())
        .open();
    let error = opened.unwrap_err().to_string();
    for name in ["chunk_bytes", "batch_events", "backoff_jitter"] {
        assert!(error.contains(name), "{name}: {error}");
    }
    assert!(!dir.path().join("spool").exists());
}
