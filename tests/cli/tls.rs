//! `doctor` on the way to an address with TLS, against a listener of this machine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use everpost::exit;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::set_up::{Ended, Place};

/// Makes `root.pem`, `other.pem`, and a certificate for localhost that the first of them signed:
/// `cert.der` with `key.der`.
const MAKE: &str = "
    new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    for root in root other; do
        openssl req -x509 $new -days 2 -subj /CN=$root -keyout $root.key -out $root.pem || exit 1
    done
    echo subjectAltName=DNS:localhost >extensions
    openssl req $new -subj /CN=localhost -keyout key.pem -out cert.csr &&
    openssl x509 -req -in cert.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 \\
        -extfile extensions -outform DER -out cert.der &&
    openssl pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der
";

fn make_certificates(dir: &Path) -> bool {
    by_openssl(dir, MAKE)
}

/// Has openssl make what this says; false, and said, where it does not.
pub(crate) fn by_openssl(dir: &Path, script: &str) -> bool {
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .output();
    let is_made = made.unwrap().status.success();
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    if !is_made {
        println!("skipped: openssl makes no certificates here");
    }
    is_made
}

/// Answers each request with 401 over TLS, as the API does without a key. Gives the port.
fn serve_with_tls(dir: &Path) -> u16 {
    let certificate = CertificateDer::from(fs::read(dir.join("cert.der")).unwrap());
    let key = PrivatePkcs8KeyDer::from(fs::read(dir.join("key.der")).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        // A client that does not trust it leaves.
        if stream.read(&mut [0; 4_096]).is_ok() {
            let answer =
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

/// Lets this answer each connection, one after the other.
fn serve(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    port
}

/// What `doctor` says of this address, where these roots are trusted.
fn doctor(port: u16, roots: &Path) -> Ended {
    let mut place = Place::new();
    place.append(1, 1);
    place.set_env("BA_API_KEY", "a.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.c");
    place.set_env("BA_BASE_URL", &format!("https://localhost:{port}/v2"));
    place.set_env("SSL_CERT_FILE", roots.to_str().unwrap());
    place.run(&["doctor"])
}

/// That a certificate was not trusted was told with advice about the network and a firewall.
#[test]
fn an_address_with_tls_is_tried_and_what_tls_dislikes_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    if !make_certificates(dir.path()) {
        return;
    }
    let port = serve_with_tls(dir.path());
    let root = dir.path().join("root.pem");
    let trusted = doctor(port, &root).expect(exit::DONE);
    assert!(
        trusted
            .out
            .contains("ok    api       an answer came over TLS (HTTP 401"),
        "{trusted:?}"
    );
    let other = doctor(port, &dir.path().join("other.pem")).expect(exit::UNEXPECTED);
    for said in [
        "fail  api ",
        "UnknownIssuer",
        "a file that SSL_CERT_FILE names",
    ] {
        assert!(other.out.contains(said), "{said}: {other:?}");
    }
    let plain = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let plain = doctor(plain, &root).expect(exit::UNEXPECTED);
    assert!(
        plain.out.contains("what answers there speaks no TLS"),
        "{plain:?}"
    );
}
