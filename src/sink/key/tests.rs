use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::clock::SystemClock;

const SIGNATURE: &str = "c2lnbmF0dXJlLXNlY3JldA";

fn key_of(claims: &str) -> String {
    format!(
        "eyJhbGciOiJIUzI1NiJ9.{}.{SIGNATURE}",
        URL_SAFE_NO_PAD.encode(claims)
    )
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_good_key_is_taken_with_white_space_and_padding() {
    let key = Key::parse(key_of(r#"{"channel":"universal"}"#)).unwrap();
    assert_eq!((key.channel(), key.expires()), ("universal", None));
    key.check(Some("universal"), at(u64::from(u32::MAX)))
        .unwrap();

    let padded = format!(
        " a.{}.c\n",
        base64::engine::general_purpose::URL_SAFE.encode(r#"{"channel": "rasa"}"#)
    );
    assert!(padded.contains("=."), "the case has padding");
    let key = Key::parse(padded.clone()).unwrap();
    assert_eq!(key.channel(), "rasa");
    assert_eq!(key.expose(), padded.trim());
}

#[test]
fn the_url_alphabet_is_decoded() {
    // These claims encode to both characters in which base64url differs from base64.
    let text = key_of(r#"{"channel":"universal","x":"???>>>~~~"}"#);
    assert!(text.contains('_') || text.contains('-'), "{text}");
    Key::parse(text).unwrap();
}

#[test]
fn each_fault_of_a_key_has_its_kind_and_no_text_repeats_the_key() {
    let cases = [
        (String::new(), KeyError::Empty),
        (" \n".into(), KeyError::Empty),
        ("secretsecret".into(), KeyError::Parts { found: 1 }),
        ("secret.secret".into(), KeyError::Parts { found: 2 }),
        ("s.e.c.r.e.t".into(), KeyError::Parts { found: 6 }),
        (format!("Bearer {}", key_of("{}")), KeyError::Characters),
        (format!("\"{}\"", key_of("{}")), KeyError::Characters),
        ("se\ncret.b.c".into(), KeyError::Characters),
        ("secret.a+b/.c".into(), KeyError::NotBase64),
        ("secret.a.c".into(), KeyError::NotBase64),
        ("secret..c".into(), KeyError::NotJson),
        (key_of("secret"), KeyError::NotJson),
        (key_of("[\"secret\"]"), KeyError::NotJson),
        (
            format!("a.{}.c", URL_SAFE_NO_PAD.encode(b"{\"channel\":\"\xff\"}")),
            KeyError::NotJson,
        ),
        (key_of("{}"), KeyError::NoChannel),
        (key_of(r#"{"channel":7}"#), KeyError::NoChannel),
        (key_of(r#"{"channel":""}"#), KeyError::NoChannel),
    ];
    for (text, expected) in cases {
        let error = Key::parse(text.clone()).unwrap_err();
        assert_eq!(error, expected, "{text:?}");
        let shown = format!("{error} {error:?} {}", error.hint());
        assert!(!shown.contains("secret"), "{shown}");
        assert!(!shown.contains("eyJ"), "{shown}");
    }
}

#[test]
fn a_wrong_channel_names_both() {
    let key = Key::parse(key_of(r#"{"channel":"rasa"}"#)).unwrap();
    let error = key.check(Some("universal"), at(0)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`universal`") && text.contains("`rasa`"),
        "{text}"
    );

    // A claim that does not look like a channel may be anything, so it is not shown.
    let odd = Key::parse(key_of(r#"{"channel":"Secret\u0007"}"#)).unwrap();
    let text = odd.check(Some("universal"), at(0)).unwrap_err().to_string();
    assert!(text.contains("`unprintable`"), "{text}");
}

#[test]
fn a_key_ends_at_its_exp() {
    let key = Key::parse(key_of(r#"{"channel":"c","exp":1000}"#)).unwrap();
    key.check(None, at(999)).unwrap();
    let error = key.check(None, at(1000)).unwrap_err();
    assert_eq!(error, KeyError::Expired { since: at(1000) });
    assert!(
        error.to_string().contains("Thu, 01 Jan 1970 00:16:40 GMT"),
        "{error}"
    );
}

#[test]
fn an_odd_exp_is_read_without_a_panic() {
    let cases = [
        (
            "1000.5",
            Some(UNIX_EPOCH + Duration::from_millis(1_000_500)),
        ),
        ("-1", Some(UNIX_EPOCH)),
        ("1e300", None),
        ("99999999999999999999999", None),
        ("\"1000\"", None),
        ("null", None),
    ];
    for (exp, expected) in cases {
        let key = Key::parse(key_of(&format!(r#"{{"channel":"c","exp":{exp}}}"#))).unwrap();
        assert_eq!(key.expires(), expected, "{exp}");
    }
    let far = KeyError::Expired { since: at(1 << 50) };
    assert!(far.to_string().contains("9999"), "{far}");
}

#[test]
fn debug_shows_neither_key_nor_claims() {
    let text = key_of(r#"{"channel":"secret-channel"}"#);
    let key = Key::parse(text.clone()).unwrap();
    assert_eq!(format!("{key:?}"), "Key(..)");
    let source = KeySource::value(text);
    assert_eq!(format!("{source:?}"), "KeySource::value(..)");
}

fn ring(source: KeySource) -> Result<Arc<KeyRing>, KeyError> {
    KeyRing::open(source, Some("c".into()), Arc::new(SystemClock)).map(Arc::new)
}

fn key_named(name: &str) -> String {
    key_of(&format!(r#"{{"channel":"c","name":"{name}"}}"#))
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_file_is_read_again_before_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let missing = ring(KeySource::file(&path)).unwrap_err();
    assert!(
        matches!(missing, KeyError::Unreadable { .. }),
        "{missing:?}"
    );

    std::fs::write(&path, key_named("one") + "\n").unwrap();
    let ring = ring(KeySource::file(&path)).unwrap();
    assert_eq!(
        ring.present(PATIENCE).await.unwrap().expose(),
        key_named("one")
    );
    std::fs::write(&path, key_named("two") + "\r\n").unwrap();
    assert_eq!(
        ring.present(PATIENCE).await.unwrap().expose(),
        key_named("two")
    );
    std::fs::remove_file(&path).unwrap();
    let gone = ring.present(PATIENCE).await.unwrap_err();
    assert!(gone.to_string().contains("no such file"), "{gone}");
    std::fs::write(&path, vec![b'a'; 70_000]).unwrap();
    let large = ring.present(PATIENCE).await.unwrap_err();
    assert!(large.to_string().contains("file too large"), "{large}");
}

/// A FIFO as key file held up the thread that opened it, for ever and once more for each request.
#[cfg(unix)]
#[tokio::test]
async fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    let device = std::path::PathBuf::from("/dev/zero");
    for (path, is) in [
        (fifo, "a pipe, a socket or a device"),
        (link.clone(), "a pipe, a socket or a device"),
        (socket, "a pipe, a socket or a device"),
        (device, "a pipe, a socket or a device"),
        (dir.path().to_owned(), "a directory"),
    ] {
        let error = ring(KeySource::file(&path)).unwrap_err();
        let expected = KeyError::NotAFile { path, found: is };
        assert_eq!(error, expected);
    }
    // A link to a file is how secrets are mounted.
    std::fs::remove_file(&link).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, key_named("one")).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    ring(KeySource::file(&link)).unwrap();
}

/// A ring that waits for its key says why it has none, and tells of a file that comes, and of one
/// that another is renamed over.
#[tokio::test]
async fn a_file_that_comes_or_changes_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let clock = Arc::new(SystemClock);
    let ring = KeyRing::waiting(KeySource::file(&path), Some("c".into()), clock);
    for name in ["one", "two"] {
        let _ = ring.present(PATIENCE).await;
        let mut waiting = Box::pin(ring.changed(PATIENCE));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let new = dir.path().join("new");
        std::fs::write(&new, key_named(name)).unwrap();
        std::fs::rename(&new, &path).unwrap();
        waiting.await;
        // Not read yet, so it is told of again.
        ring.changed(PATIENCE).await;
        let key = ring.present(PATIENCE).await.unwrap();
        assert_eq!(key.expose(), key_named(name));
    }
}

/// A source that never answers cost a thread for each request.
#[test]
fn a_source_that_never_answers_costs_one_thread() {
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let (counter, wait) = (Arc::clone(&asked), std::sync::Mutex::new(wait));
    let source = KeySource::function(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // Ends when the test drops the other end.
        let _ = wait.lock().unwrap().recv();
        Ok::<_, ()>(key_named("late"))
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let ring = KeyRing::waiting(source, Some("c".into()), Arc::new(SystemClock));
    runtime.block_on(async {
        for _ in 0..20 {
            let late = ring.present(Duration::from_millis(1)).await.unwrap_err();
            let what = "did not answer in time";
            assert_eq!(late, KeyError::NoSupply { what });
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
        drop(answer);
        let key = ring.present(PATIENCE).await.unwrap();
        assert_eq!(key.expose(), key_named("late"));
    });
}

#[tokio::test]
async fn a_function_may_fail_or_panic_and_its_error_is_not_shown() {
    let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let ring = ring(KeySource::function(move || {
        match counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 | 1 => Ok(key_named("one")),
            2 => Err("secret"),
            _ => panic!("secret"),
        }
    }))
    .unwrap();
    assert_eq!(
        ring.present(PATIENCE).await.unwrap().expose(),
        key_named("one")
    );
    for what in ["failed", "panicked"] {
        let error = ring.present(PATIENCE).await.unwrap_err();
        assert_eq!(error, KeyError::NoSupply { what });
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let error = ring(KeySource::variable("EVERPOST_TEST_NOT_SET")).unwrap_err();
    assert!(
        error.to_string().contains("EVERPOST_TEST_NOT_SET"),
        "{error}"
    );
    let error = ring(KeySource::variable("PATH")).unwrap_err();
    assert!(!error.to_string().contains("bin"), "{error}");
}

fn poll_once(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_replacement_is_reported_once_and_never_lost() {
    let ring = ring(KeySource::value(key_named("one"))).unwrap();
    let handle = KeyHandle::new(Arc::clone(&ring));
    let mut waiting = Box::pin(ring.changed(PATIENCE));
    assert!(poll_once(waiting.as_mut()).is_pending());

    // Dropped while waiting, replaced in between, asked again: it is still reported.
    drop(waiting);
    handle.replace(key_named("two")).unwrap();
    assert!(poll_once(Box::pin(ring.changed(PATIENCE)).as_mut()).is_ready());
    assert!(
        poll_once(Box::pin(ring.changed(PATIENCE)).as_mut()).is_pending(),
        "once only"
    );
    assert_eq!(
        ring.present(PATIENCE).await.unwrap().expose(),
        key_named("two")
    );

    // A key that a request has used is no news.
    handle.replace(key_named("three")).unwrap();
    ring.present(PATIENCE).await.unwrap();
    assert!(poll_once(Box::pin(ring.changed(PATIENCE)).as_mut()).is_pending());

    // Replaced after the request took its key: the answer speaks of the old one.
    ring.present(PATIENCE).await.unwrap();
    handle.replace(key_named("four")).unwrap();
    assert!(poll_once(Box::pin(ring.changed(PATIENCE)).as_mut()).is_ready());
}

#[tokio::test]
async fn a_bad_replacement_leaves_the_old_key() {
    let ring = ring(KeySource::value(key_named("one"))).unwrap();
    let handle = KeyHandle::new(Arc::clone(&ring));
    assert_eq!(
        handle.replace("nonsense"),
        Err(KeyError::Parts { found: 1 })
    );
    assert!(handle.replace(key_of(r#"{"channel":"other"}"#)).is_err());
    assert!(
        handle
            .replace(key_of(r#"{"channel":"c","exp":1}"#))
            .is_err()
    );
    assert_eq!(
        ring.present(PATIENCE).await.unwrap().expose(),
        key_named("one")
    );
    assert!(poll_once(Box::pin(ring.changed(PATIENCE)).as_mut()).is_pending());
}

#[tokio::test]
async fn a_replacement_outranks_the_source() {
    let ring = ring(KeySource::function(|| Ok::<_, ()>(key_named("source")))).unwrap();
    KeyHandle::new(Arc::clone(&ring))
        .replace(key_named("hand"))
        .unwrap();
    assert_eq!(
        ring.present(PATIENCE).await.unwrap().expose(),
        key_named("hand")
    );
}

#[tokio::test]
async fn an_expired_key_can_be_opened_but_not_used() {
    let ring = ring(KeySource::value(key_of(r#"{"channel":"c","exp":1}"#))).unwrap();
    let error = ring.present(PATIENCE).await.unwrap_err();
    assert_eq!(error, KeyError::Expired { since: at(1) });
}
