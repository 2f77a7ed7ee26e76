//! What `init` makes of settings, of presets and of what is there already.

use super::*;

#[test]
fn init_makes_a_spool_whose_settings_every_command_follows() {
    let place = Place::new();
    let args = [
        "init",
        "--max-bytes",
        "64MiB",
        "--on-full",
        "block",
        "--key-file",
        "/k",
        "--listen",
    ];
    let mut args = args.to_vec();
    args.extend([
        "127.0.0.1:9464",
        "--set",
        "delivery.batch_events=100",
        "--durability",
        "written=2s",
    ]);
    let made = place.run(&args).expect(exit::DONE);
    let spool = place.spool();
    let file = spool.join("settings.toml");
    let begin = format!(
        "made a spool at {}\nits settings are in {}\n",
        spool.display(),
        file.display()
    );
    assert!(made.out.starts_with(&begin), "{}", made.out);
    assert!(made.out.contains("next: everpost append"), "{}", made.out);
    assert_eq!(made.err, "");
    assert_eq!(
        says(&place),
        "durability = { written = { sync_every = \"2s\" } }\non_full = \"block\"\n\
         max_bytes = \"64MiB\"\n[delivery]\nbatch_events = 100\n[service]\nkey_file = \"/k\"\n\
         listen = \"127.0.0.1:9464\"\n"
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!spool.join("settings.toml.new").exists());
    assert_eq!(setting(&place, "delivery.batch_events")["value"], 100);
    let appended = place.feed(&["append"], &message(1)).expect(exit::DONE);
    // It was `init` that made the spool.
    assert_eq!(appended.err, "");
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["max_bytes"], 64 << 20);
}

#[test]
fn init_again_changes_nothing_unless_it_is_forced_and_never_an_event() {
    let place = Place::new();
    // What a file says that is named is taken over.
    let file = place.path("wanted.toml");
    fs::write(&file, "max_bytes = 4000000\n").unwrap();
    let args = [
        "init",
        "--settings",
        file.to_str().unwrap(),
        "--max-bytes",
        "8MiB",
        "--json",
    ];
    let made = place.run(&args);
    let made = made.expect(exit::DONE).json();
    assert_eq!(
        (&made["made"], &made["wrote"]),
        (&json!(true), &json!(true))
    );
    place.append(1, 3);
    let before = fs::read(place.spool().join("settings.toml")).unwrap();
    let same = place.run(&["init", "--max-bytes", "8192 KiB", "--json"]);
    let same = same.expect(exit::DONE).json();
    assert_eq!(
        (&same["made"], &same["wrote"]),
        (&json!(false), &json!(false))
    );
    let other = ["init", "--max-bytes", "9MiB", "--channel", "rasa"];
    let refused = place.run(&other).expect(exit::USAGE);
    let what = "max_bytes is 8 MiB, not 9 MiB; service.channel is none, not rasa";
    assert!(refused.err.contains(what), "{}", refused.err);
    assert!(
        refused.err.contains("hint: --force changes"),
        "{}",
        refused.err
    );
    let file = || fs::read(place.spool().join("settings.toml")).unwrap();
    assert_eq!(file(), before);
    let forced = place.run(&["init", "--force", "--channel", "rasa"]);
    forced.expect(exit::DONE);
    // What was not named again stays.
    assert_eq!(
        says(&place),
        "max_bytes = \"8MiB\"\n[delivery]\n[service]\nchannel = \"rasa\"\n"
    );
    let status = place.run(&["status", "--json"]).expect(exit::DONE).json();
    assert_eq!(status["pending"], 3);
}

/// A wrong command left half of a spool.
#[test]
fn init_that_fails_leaves_nothing() {
    let place = Place::new();
    for (args, what) in [
        (
            &["--max-bytes", "1"][..],
            "`max_bytes` is 1 B and must be at least 596 KiB (--max-bytes)",
        ),
        (&["--max-bytes", "much"], "--max-bytes cannot be \"much\""),
        (&["--listen", "here"], "--listen cannot be \"here\""),
        (&["--max-age", "soon"], "--max-age cannot be \"soon\""),
        (
            &["--base-url", "localhost:9999"],
            "`base_url` cannot be \"localhost:9999\"",
        ),
        (&["--durability", "perhaps"], "write `synced`"),
        (&["--set", "nothing=1"], "NAME=VALUE"),
        (&["--set", "delivery.batch_events=0"], "`batch_events` is 0"),
        (
            &["--set", "delivery.batch_events=x"],
            "--set cannot be \"x\"",
        ),
    ] {
        let mut all = vec!["init"];
        all.extend(args);
        let refused = place.run(&all).expect(exit::USAGE);
        assert!(refused.err.contains(what), "{args:?}: {}", refused.err);
        assert!(!place.spool().exists(), "{args:?}");
    }
    // A directory that is no spool stays as it is.
    fs::create_dir(place.spool()).unwrap();
    fs::write(place.spool().join("letter"), "dear").unwrap();
    let refused = place.run(&["init"]).expect(exit::USAGE);
    assert!(refused.err.contains("not a spool"), "{}", refused.err);
    assert_eq!(place.spool().read_dir().unwrap().count(), 1);
    fs::remove_file(place.spool().join("letter")).unwrap();
    // One that was made beforehand, as a mount is, is taken.
    place.run(&["init"]).expect(exit::DONE);
    let file = place.path("afile");
    fs::write(&file, "").unwrap();
    let refused = place.run(&["--spool", file.to_str().unwrap(), "init"]);
    let refused = refused.expect(exit::USAGE);
    assert!(
        refused.err.contains("afile is not a directory"),
        "{}",
        refused.err
    );
}

/// Four of eight `init` at once said that they had made the spool, each with other settings.
#[test]
fn of_several_init_at_once_only_the_one_whose_settings_stay_says_so() {
    let place = Place::new();
    let start = |mib: u64| {
        let max_bytes = format!("{mib}MiB");
        place.start(&["init", "--json", "--max-bytes", &max_bytes])
    };
    let running: Vec<_> = (1..=8).map(start).collect();
    let ended = running.into_iter().map(crate::set_up::Running::end);
    let (done, refused): (Vec<_>, Vec<_>) = ended.partition(|ended| ended.code == 0);
    assert_eq!(done.len(), 1, "{done:?}");
    let wished = done[0].json()["settings"]["max_bytes"].clone();
    assert_eq!(
        says(&place),
        format!("max_bytes = {wished}\n[delivery]\n[service]\n")
    );
    for ended in refused {
        let codes = [exit::USAGE, exit::IN_USE].map(i32::from);
        assert!(codes.contains(&ended.code), "{ended:?}");
    }
    assert!(!place.spool().join("settings.toml.new").exists());
}

/// With `RLIMIT_FSIZE` of one block the spool cannot be made; what was written before goes too.
#[test]
fn init_without_room_leaves_nothing() {
    let place = Place::new();
    let mut shell = std::process::Command::new("sh");
    let everpost = place.command(&["init", "--max-bytes", "8MiB"]);
    shell
        .arg("-c")
        .arg("ulimit -f 64; exec \"$0\" \"$@\"")
        .arg(everpost.get_program())
        .args(everpost.get_args())
        .env_clear()
        .envs(everpost.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let ended = shell.output().unwrap();
    assert_eq!(
        ended.status.code(),
        Some(i32::from(exit::FULL)),
        "{ended:?}"
    );
    assert!(!place.spool().exists());
}

#[test]
fn the_presets_are_usable_and_what_is_typed_beside_them_wins() {
    for (preset, max_bytes) in [("edge", 64 << 20), ("log", 256 << 20), ("bot", 1 << 30)] {
        let place = Place::new();
        place.run(&["init", "--preset", preset]).expect(exit::DONE);
        assert_eq!(setting(&place, "max_bytes")["value"], max_bytes, "{preset}");
    }
    let place = Place::new();
    let args = ["init", "--max-bytes", "9MiB", "--preset", "edge"];
    place.run(&args).expect(exit::DONE);
    assert_eq!(setting(&place, "max_bytes")["value"], 9 << 20);
    assert_eq!(setting(&place, "on_full")["value"], "drop_oldest");
}

/// The owner that runs has its own settings until it starts again, and is told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_beside_an_owner_writes_for_its_next_start() {
    let sandbox = everpost::sandbox::Sandbox::start().await.unwrap();
    let place = Place::with(&sandbox);
    let service = place.serve(&[]);
    let forced = place.run(&["init", "--force", "--max-bytes", "8MiB"]);
    let forced = forced.expect(exit::DONE);
    // It said nothing of SIGHUP, which has `run` read them too.
    let told = "the owner that runs takes them when it starts next; on SIGHUP it reads its key again, \
                and only names the settings that have changed\n";
    assert!(forced.out.contains(told), "{}", forced.out);
    let max_bytes =
        || place.run(&["status", "--json"]).expect(exit::DONE).json()["max_bytes"].clone();
    assert_eq!(max_bytes(), 1 << 30);
    service.stop().expect(exit::DONE);
    fs::remove_file(place.path("notify")).unwrap();
    let service = place.serve(&[]);
    assert_eq!(max_bytes(), 8 << 20);
    service.stop().expect(exit::DONE);
}
