//! Settings of a command that finds another process in possession of the spool.

use std::fs;

use everpost::exit;
use everpost::sandbox::Sandbox;

use crate::set_up::{Place, message};

/// A broken settings file in the spool, or of the system, stopped every command with 2, also those
/// that had their work done by an owner and needed no settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_broken_keep_nobody_from_the_owner() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let service = place.serve(&[]);
    fs::create_dir_all(place.path("etc")).unwrap();
    fs::write(place.path("etc/settings.toml"), "max_bytes = [[[[").unwrap();
    fs::write(place.spool().join("settings.toml"), "max_byte = 1\n").unwrap();
    place.set_env("EVERPOST_SETTINGS", "nofile");
    place.append(1, 3);
    let exported = "{\"event\":5}\n";
    place.feed(&["import"], exported).expect(exit::DONE);
    let commands: [&[&str]; 7] = [
        &["pause"],
        &["resume"],
        &["wake"],
        &["drain"],
        &["dead", "retry", "--all", "--yes"],
        &["dead", "discard", "--all", "--yes"],
        &["incidents", "--all"],
    ];
    for args in commands {
        let ended = place.run(args).expect(exit::DONE);
        assert!(!ended.err.contains("settings"), "{args:?}: {}", ended.err);
    }
    // What was typed has to be a value, whichever process owns the spool.
    let typed = place.run(&["append", "--max-bytes", "64XB"]);
    let typed = typed.expect(exit::USAGE);
    assert!(typed.err.contains("--max-bytes cannot be"), "{}", typed.err);
    // These own the spool themselves, and say so at once.
    let alone: [&[&str]; 2] = [&["append", "--level", "written"], &["run"]];
    for args in alone {
        let ended = place.run(args).expect(exit::USAGE);
        assert!(ended.err.contains("etc/settings.toml"), "{}", ended.err);
    }
    service.stop().expect(exit::DONE);
    let own = place.feed(&["append"], &message(4)).expect(exit::USAGE);
    assert!(own.err.contains("etc/settings.toml, line 1"), "{}", own.err);
}

/// Settings that were typed beside an owner did nothing, without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_were_typed_in_vain_are_told_of_in_one_line() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut place = Place::with(&sandbox);
    let service = place.serve(&[]);
    let file = place.path("other.toml");
    fs::write(&file, "max_bytes = \"8 MiB\"\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let told = |args: &[&str]| place.feed(args, &message(1)).expect(exit::DONE).err;
    let line = |what: &str, values: &str| {
        format!(
            "everpost: {what} no effect: another process owns the spool, and its settings hold; \
             for its next start: `everpost init --force{values}`\n"
        )
    };
    let one = line("--max-bytes has", " --max-bytes ...");
    assert_eq!(told(&["append", "--max-bytes", "8MiB"]), one);
    // It is no part of what a program reads.
    assert_eq!(told(&["append", "--max-bytes", "8MiB", "--json"]), one);
    let two = line(
        "--on-full and --settings have",
        " --on-full ... --settings ...",
    );
    assert_eq!(
        told(&["append", "--on-full", "reject", "--settings", &file]),
        two
    );
    let settings = line("--settings has", " --settings ...");
    for command in ["drain", "pause", "resume"] {
        assert!(told(&[command, "--settings", &file]).contains(&settings));
    }
    // Nothing is in vain here, and who only looks follows nothing.
    assert_eq!(told(&["append"]), "");
    let drained = told(&["drain", "--log-format", "json"]);
    assert!(!drained.contains("no effect"), "{drained}");
    assert_eq!(told(&["peek", "--settings", &file]), "");
    // A variable may be meant for the owner.
    place.set_env("EVERPOST_SETTINGS", &file);
    assert_eq!(
        place.feed(&["append"], &message(2)).expect(exit::DONE).err,
        ""
    );
    service.stop().expect(exit::DONE);
}

/// A relative `key_file` was looked for in the directory that the service was started in, and
/// nothing said so before there was no key.
#[test]
fn a_relative_key_file_is_refused_wherever_it_would_be_kept() {
    let mut place = Place::new();
    let text = "[service]\nkey_file = \"key\"\n";
    let what = "line 2, column 12: `key_file` cannot be \"key\": it must be an absolute path";
    let refused = |place: &Place, args: &[&str], file: &str, what: &str| {
        let ended = place.run(args).expect(exit::USAGE);
        assert!(ended.err.contains(file), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(what), "{args:?}: {}", ended.err);
        let hint = "hint: write the whole path, such as \"/etc/everpost/key\"";
        assert!(ended.err.contains(hint), "{args:?}: {}", ended.err);
    };
    let named = place.path("named.toml");
    fs::write(&named, text).unwrap();
    let named = named.to_str().unwrap().to_owned();
    refused(
        &place,
        &["init", "--settings", &named],
        "named.toml, ",
        what,
    );
    refused(
        &place,
        &["append", "--settings", &named],
        "named.toml, ",
        what,
    );
    let set = "--set cannot be \"key\": it must be an absolute path";
    refused(&place, &["init", "--set", "service.key_file=key"], "", set);
    assert!(!place.spool().exists());
    fs::create_dir(place.path("etc")).unwrap();
    fs::write(place.path("etc/settings.toml"), text).unwrap();
    refused(&place, &["run"], "etc/settings.toml, ", what);
    fs::remove_file(place.path("etc/settings.toml")).unwrap();

    // What is given relative to the directory of this command is kept as what it is.
    place.run(&["init", "--key-file", "key"]).expect(exit::DONE);
    let spool = fs::read_to_string(place.spool().join("settings.toml")).unwrap();
    let absolute = std::path::absolute("key").unwrap();
    assert!(spool.contains(&format!("key_file = \"{}\"", absolute.display())));
    fs::write(place.spool().join("settings.toml"), text).unwrap();
    refused(&place, &["append"], "spool/settings.toml, ", what);
    fs::remove_file(place.spool().join("settings.toml")).unwrap();
    place.set_env("BA_API_KEY_FILE", "key");
    let config = place.run(&["config", "--json"]).expect(exit::DONE).json();
    assert_eq!(config["key"]["source"], "key");
}
