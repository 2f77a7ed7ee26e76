//! The socket: who may reach it, and how it comes and goes.

use super::*;

#[tokio::test]
async fn the_directory_and_the_socket_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    std::fs::set_permissions(&spool, PermissionsExt::from_mode(0o775)).unwrap();
    let queue = Queue::builder(&spool).open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    assert_eq!(control.path(), spool.join(SOCKET));
    assert_eq!(mode(&spool), 0o700);
    assert_eq!(mode(control.path()), 0o600);
    let kind = std::fs::metadata(control.path()).unwrap().file_type();
    assert!(kind.is_socket());
    queue.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_client_that_waits_for_an_event_is_told_and_holds_up_no_close() {
    let sandbox = Sandbox::start().await.unwrap();
    let owner = Owner::delivering(&sandbox).await;
    let client = owner.client();
    owner.queue.append(message(1)).await.unwrap();
    let settled = client.settled(1, LONG).await.unwrap();
    let Fate::Delivered { request_id } = &settled.fate else {
        panic!("{settled:?}");
    };
    assert!(request_id.is_some());
    assert_eq!(client.fate(1).await.unwrap(), settled);
    assert_eq!(client.fate(2).await.unwrap().fate, Fate::Unknown);
    let unknown = client.fate_of_id(id(1)).await.unwrap();
    assert_eq!((unknown.seq, unknown.fate), (None, Fate::Unknown));
    owner.queue.pause().await.unwrap();
    owner.queue.append(message(2)).await.unwrap();
    let found = client.fate_of_id(id(2)).await.unwrap();
    assert_eq!((found.seq, found.fate), (Some(2), Fate::Pending));
    let waited = client.settled(2, Duration::from_millis(1)).await.unwrap();
    assert_eq!(waited.fate, Fate::Pending);
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.settled(2, LONG).await }
    });
    // The answer has begun once its first line is there; those that wait are cut off by a close.
    let asked = request("GET", "/fate/2?wait_ms=60000", "");
    let mut stream = owner.connect().await;
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut begun = String::new();
    while !begun.contains("pending") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        begun.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    let within = Duration::from_secs(20);
    timeout(within, owner.close()).await.expect("it waits");
    let ended = timeout(LONG, waits).await.unwrap().unwrap().unwrap_err();
    let is_gone = matches!(
        &ended,
        ClientError::Broken { .. } | ClientError::NoOwner { .. }
    ) || matches!(&ended, ClientError::Refused { kind, .. } if kind == "closed");
    assert!(is_gone, "{ended:?}");
}

#[tokio::test]
async fn the_socket_is_gone_once_the_queue_or_the_control_is_closed_or_dropped() {
    let owner = Owner::start().await;
    let path = owner.control.path().to_owned();
    owner.control.close().await.unwrap();
    assert!(!path.exists());
    let again = control::serve(&owner.queue).await.unwrap();
    assert!(path.exists());
    drop(again);
    assert!(!path.exists());
    let client = Client::new(owner.dir.path().join("spool"));
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoOwner { .. }), "{error}");
    let last = control::serve(&owner.queue).await.unwrap();
    assert!(path.exists());
    owner.queue.close(Duration::ZERO).await.unwrap();
    assert!(!path.exists());
    last.close().await.unwrap();
    let error = control::serve(&owner.queue).await.unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
}

#[tokio::test]
async fn a_closed_control_does_not_take_away_the_socket_of_the_next_owner() {
    let owner = Owner::start().await;
    let spool = owner.spool();
    owner.queue.close(Duration::ZERO).await.unwrap();
    let next = Queue::builder(&spool).open().await.unwrap();
    let _serving = control::serve(&next).await.unwrap();
    owner.control.close().await.unwrap();
    drop(owner.queue);
    let client = Client::new(&spool);
    assert_eq!(client.status().await.unwrap().pending, 0);
}

/// A watcher holds up the close of the first, and by then the second is there.
#[tokio::test]
async fn a_control_that_closes_slowly_leaves_its_successor_alone() {
    let owner = Owner::start().await;
    let mut watch = owner.client().watch().await.unwrap();
    watch.next().await.unwrap();
    let path = owner.control.path().to_owned();
    let mut closing = Box::pin(owner.control.close());
    while path.exists() {
        tokio::select! {
            biased;
            _ = &mut closing => panic!("the watcher is still there"),
            () = tokio::task::yield_now() => {}
        }
    }
    let next = control::serve(&owner.queue).await.unwrap();
    closing.await.unwrap();
    assert!(watch.next().await.is_err(), "the watcher was cut off");
    let client = Client::new(owner.dir.path().join("spool"));
    assert_eq!(client.status().await.unwrap().pending, 0);
    drop(next);
    owner.queue.close(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_queue_serves_one_socket() {
    let owner = Owner::start().await;
    let error = control::serve(&owner.queue).await.unwrap_err();
    assert!(error.to_string().contains("serves one already"), "{error}");
    assert_eq!(owner.client().status().await.unwrap().pending, 0);
    owner.close().await;
}

/// There was no socket for it, and the owner could not be reached.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_too_long_for_a_socket_is_reached_through_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("x".repeat(120));
    let queue = Queue::builder(&spool).open().await.unwrap();
    let control = control::serve(&queue).await.unwrap();
    let client = Client::new(&spool);
    client.append(&[message(1)]).await.unwrap();
    assert_eq!(client.status().await.unwrap().pending, 1);
    assert_eq!(mode(control.path()), 0o600);
    queue.close(Duration::ZERO).await.unwrap();
    assert!(!control.path().exists());
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::NoOwner { .. }), "{error:?}");
}

/// A request on a connection that the owner had let in, but asked as it closed, was cut off: it
/// could have been done or not.
#[tokio::test]
async fn what_is_asked_of_an_owner_that_closes_is_refused_for_certain() {
    let owner = Owner::start().await;
    let mut stream = owner.connect().await;
    let hello = "GET /status HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let path = owner.control.path().to_owned();
    let spool = owner.spool();
    let mut closing = Box::pin(owner.queue.close(Duration::ZERO));
    while path.exists() {
        tokio::select! {
            biased;
            _ = &mut closing => panic!("a client was let in and says nothing yet"),
            () = tokio::task::yield_now() => {}
        }
    }
    let append = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    stream.write_all(append.as_bytes()).await.unwrap();
    let (answer, closed) = tokio::join!(rest(&mut stream), closing);
    closed.unwrap();
    let answer = &answer[answer.find("HTTP/1.1 503").expect("it is refused")..];
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains("\"kind\":\"closed\""), "{answer}");
    let next = Queue::builder(spool).open().await.unwrap();
    assert_eq!(next.status().last_seq, 0, "and not done");
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::builder(dir.path()).open().await.unwrap();
    std::fs::write(dir.path().join(SOCKET), "precious").unwrap();
    let error = control::serve(&queue).await.unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");
    let text = std::fs::read_to_string(dir.path().join(SOCKET)).unwrap();
    assert_eq!(text, "precious");
}
