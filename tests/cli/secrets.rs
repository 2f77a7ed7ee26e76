//! What is secret stays out of all that is kept and shown, and goes nowhere but where it belongs.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use everpost::exit;
use everpost::sandbox::{Reply, Sandbox};

use super::set_up::Place;

/// Every byte of every file in a directory.
fn all_bytes(dir: &Path, into: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_bytes(&path, into);
        } else if path.is_file() {
            std::fs::File::open(path)
                .unwrap()
                .read_to_end(into)
                .unwrap();
        }
    }
}

/// A server that shows its visitor the request it got: the signature of the key, or the base64 of the
/// whole header, stood in the log, the status and the dead letter, since only the whole key was known.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_repeats_pieces_of_the_key_leaves_none_of_them_anywhere() {
    let signature = "Zm9yZ2VkLW5vLXdoZXJlIQ";
    let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"channel":"universal"}"#);
    let key = format!("eyJhbGciOiJIUzI1NiJ9.{claims}.{signature}");
    let sandbox = Sandbox::builder().key(key.clone()).start().await.unwrap();
    let dump = BASE64_STANDARD.encode(format!("Authorization: Bearer {key}"));
    let said = || {
        let escaped = signature.replace('l', "%6C");
        [
            signature.to_owned(),
            dump.clone(),
            escaped,
            format!("Bearer {key}"),
        ]
    };
    let header = Reply::status(302).header("location", format!("https://x/{signature}"));
    let place = Place::with(&sandbox);
    let mut shown = String::new();
    for (reply, code) in [
        (Reply::status(400).errors(said()), exit::DONE),
        (Reply::status(401).errors(said()), exit::PAUSED),
        (Reply::status(403).body(said().join(" ")), exit::PAUSED),
        (header.body(dump.clone()), exit::PAUSED),
    ] {
        place.append(1, 1);
        sandbox.always(reply.into());
        let mut drain = place.command(&["drain", "--deadline", "60s"]);
        let output = drain.env("EVERPOST_LOG", "trace").output().unwrap();
        assert_eq!(output.status.code(), Some(code.into()), "{output:?}");
        shown += &String::from_utf8(output.stdout).unwrap();
        shown += &String::from_utf8(output.stderr).unwrap();
        for look in [
            &["status"][..],
            &["dead", "list"],
            &["dead", "show", "--all"],
        ] {
            shown += &place.run(look).expect(exit::DONE).out;
            shown += &place
                .run(&[look, &["--json"]].concat())
                .expect(exit::DONE)
                .out;
        }
    }
    assert!(shown.contains("[key]"), "{shown}");
    let mut kept = shown.into_bytes();
    all_bytes(&place.spool(), &mut kept);
    // A journal is zeros where nothing has been written.
    kept.retain(|byte| *byte != 0);
    let kept: HashSet<&[u8]> = kept.windows(8).collect();
    // Where the key begins in the dump, in letters of base64.
    let of_the_key = "Authorization: Bearer ".len() * 8 / 6 + 1;
    for form in [&key, &dump[of_the_key..]] {
        for piece in form.as_bytes().windows(8) {
            let piece_is_held = kept.contains(piece);
            assert!(!piece_is_held, "{:?}", std::str::from_utf8(piece));
        }
    }
    sandbox.stop().await;
}

/// A proxy that cannot be one was ignored: requests went straight, or nowhere, without a word.
#[test]
fn a_proxy_that_is_none_is_refused_by_its_name_before_anything_is_sent() {
    let mut place = Place::new();
    place.append(1, 1);
    place.set_env("BA_API_KEY", "e30.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c2ln");
    place.set_env("BA_BASE_URL", "https://api.example.com/v2");
    for (name, value) in [
        ("HTTPS_PROXY", "htp://me:hunter2@proxy.example:3128"),
        ("https_proxy", "\"http://proxy.example:3128\""),
        ("ALL_PROXY", "http://proxy.example:3128 "),
    ] {
        for command in ["drain", "run"] {
            let mut command = place.command(&[command, "--deadline", "5s"]);
            let output = command.env(name, value).output().unwrap();
            let err = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(exit::USAGE.into()), "{err}");
            assert!(
                err.contains(&format!("{name} is no address of a proxy")),
                "{err}"
            );
            assert!(err.contains(&format!("export {name}=http://")), "{err}");
            assert!(!err.contains("hunter2"), "{err}");
        }
    }
    let pending = place.run(&["status", "--json"]).json()["pending"].clone();
    assert_eq!(pending, 1, "nothing is lost");
}

/// The proxy is asked for the API, told its login, and what it repeats of that is struck out.
#[test]
fn a_proxy_is_used_and_what_it_says_of_its_login_is_struck_out() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = proxy.local_addr().unwrap().port();
    let mut place = Place::new();
    place.append(1, 1);
    place.set_env("BA_API_KEY", "e30.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c2ln");
    place.set_env("BA_BASE_URL", "https://api.example.com/v2");
    place.set_env(
        "HTTPS_PROXY",
        &format!("http://me:hunter2!@127.0.0.1:{port}"),
    );
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream
            .write_all(b"HTTP/1.1 407 hunter2! is wrong\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8(asked).unwrap()
    });
    let ended = place
        .run(&["drain", "--deadline", "60s"])
        .expect(exit::PAUSED);
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"),
        "{asked}"
    );
    let login = BASE64_STANDARD.encode("me:hunter2!");
    assert!(asked.contains(&format!("Basic {login}")), "{asked}");
    let shown = place.run(&["status", "--json"]).expect(exit::DONE).out;
    for text in [&shown, &ended.out, &ended.err] {
        assert!(
            !text.contains("hunter2") && !text.contains(&login),
            "{text}"
        );
    }
}
