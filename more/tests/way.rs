//! The way to a receiver over TLS, against servers whose certificates are made here: private
//! authorities, client certificates, files that change, and what is told of each fault.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::http::{Proxy, Wire};
use everpost::{Batch, Event, Outcome, Request, Sink, StoredEvent, Verdict};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const RETRY: Verdict = Verdict::Retry { not_before: None };
const TAKEN: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Authorities that were made: each has a name of its own.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// An authority that signs certificates.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

/// A certificate with its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn signs(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        Pair {
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn localhost(&self) -> Pair {
        self.signs("localhost", |_| {})
    }
}

/// A file with this text, put in place at once.
fn put(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    let new = dir.join("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

/// Takes every request over TLS.
async fn serve(pair: &Pair, clients: Option<&Authority>, protocol: &[u8]) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => stream,
                // A client that dislikes the certificate leaves; one that is disliked reads why.
                Err((_, mut stream)) => {
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
                    continue;
                }
            };
            let mut request = Vec::new();
            while !request.ends_with(b"]}") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(TAKEN).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn sink(address: SocketAddr, wire: Wire) -> Result<Botanalytics, everpost::Error> {
    let key = "eyJhbGciOiJIUzI1NiJ9.eyJjaGFubmVsIjoidW5pdmVyc2FsIn0.SECRETSIGNATURE";
    Botanalytics::builder(KeySource::value(key))
        .base_url(format!("https://localhost:{}/v2", address.port()))
        .wire(wire.proxy(Proxy::None))
        .build()
}

async fn send(sink: &Botanalytics) -> Outcome {
    let event = Event::json("{}").unwrap();
    let batch = Batch::new(vec![StoredEvent { seq: 1, event }]).unwrap();
    sink.deliver(Request::new(batch)).await
}

fn detail(outcome: &Outcome) -> &str {
    outcome.answer.detail.as_deref().unwrap_or_default()
}

/// One authority, trusted through a file, and a server with this certificate of its.
async fn told(change: impl FnOnce(&mut CertificateParams), name: &str) -> Outcome {
    let authority = Authority::new();
    let dir = TempDir::new().unwrap();
    let file = put(dir.path(), "ca.pem", &authority.pem);
    let server = serve(&authority.signs(name, change), None, b"http/1.1").await;
    send(&sink(server, Wire::default().ca_file(file)).unwrap()).await
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_its_file_alone() {
    let delivered = told(|_| {}, "localhost").await;
    assert_eq!(delivered.verdict, Verdict::Delivered, "{delivered:?}");

    let authority = Authority::new();
    let server = serve(&authority.localhost(), None, b"http/1.1").await;
    let dir = TempDir::new().unwrap();
    let other = put(dir.path(), "ca.pem", &Authority::new().pem);
    let refused = send(&sink(server, Wire::default().ca_file(other)).unwrap()).await;
    assert_eq!(refused.verdict, RETRY);
    let said = detail(&refused);
    assert!(said.contains("UnknownIssuer"), "{said}");
    assert!(said.contains("belongs into the CA file"), "{said}");
}

/// What TLS dislikes about a certificate was told by the word of a library: `CaUsedAsEndEntity`.
#[tokio::test]
async fn each_fault_of_a_certificate_is_told_with_what_to_do() {
    let expired = told(
        |params| params.not_after = date_time_ymd(2001, 2, 3),
        "localhost",
    )
    .await;
    assert!(
        detail(&expired).contains("good until Sat, 03 Feb 2001"),
        "{expired:?}"
    );
    let early = told(
        |params| params.not_before = date_time_ymd(2999, 2, 3),
        "localhost",
    )
    .await;
    assert!(detail(&early).contains("is the clock right?"), "{early:?}");
    let other = told(|_| {}, "example.com").await;
    let said = detail(&other);
    assert!(
        said.contains("localhost") && said.contains("example.com"),
        "{said}"
    );

    // As `openssl req -x509` makes it: signed by itself, and the certificate of an authority.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pair = Pair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    };
    let dir = TempDir::new().unwrap();
    let file = put(dir.path(), "ca.pem", &pair.certificate);
    let server = serve(&pair, None, b"http/1.1").await;
    let own = send(&sink(server, Wire::default().ca_file(file)).unwrap()).await;
    assert!(detail(&own).contains("CA:FALSE"), "{own:?}");
}

/// A receiver that speaks HTTP/2 alone.
#[tokio::test]
async fn a_receiver_that_speaks_no_http_1_is_named() {
    let authority = Authority::new();
    let dir = TempDir::new().unwrap();
    let file = put(dir.path(), "ca.pem", &authority.pem);
    let server = serve(&authority.localhost(), None, b"h2").await;
    let outcome = send(&sink(server, Wire::default().ca_file(file)).unwrap()).await;
    assert_eq!(outcome.verdict, RETRY);
    assert!(
        detail(&outcome).contains("HTTP/1.1 is spoken here"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_receiver_that_asks() {
    let authority = Authority::new();
    let dir = TempDir::new().unwrap();
    let ca = put(dir.path(), "ca.pem", &authority.pem);
    let client = authority.signs("device-7", |_| {});
    let certificate = put(dir.path(), "client.pem", &client.certificate);
    let key = put(dir.path(), "client.key", &client.key);
    let server = serve(&authority.localhost(), Some(&authority), b"http/1.1").await;
    let wire = Wire::default().ca_file(ca);

    let without = send(&sink(server, wire.clone()).unwrap()).await;
    assert_ne!(without.verdict, Verdict::Delivered);
    assert!(
        detail(&without).contains("client certificate"),
        "{without:?}"
    );
    let sink = sink(server, wire.client_certificate(certificate, key)).unwrap();
    let with = send(&sink).await;
    assert_eq!(with.verdict, Verdict::Delivered, "{with:?}");
}

/// A certificate is renewed every few weeks, and a sink lives for years.
#[tokio::test]
async fn files_that_change_are_read_again_and_those_of_no_use_change_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let dir = TempDir::new().unwrap();
    let file = put(dir.path(), "ca.pem", &old.pem);
    let by_old = serve(&old.localhost(), None, b"http/1.1").await;
    let by_new = serve(&new.localhost(), None, b"http/1.1").await;
    let wire = Wire::default().ca_file(&file);
    let to_old = sink(by_old, wire.clone()).unwrap();
    let to_new = sink(by_new, wire).unwrap();
    assert_eq!(send(&to_old).await.verdict, Verdict::Delivered);
    assert_eq!(send(&to_new).await.verdict, RETRY);

    // Half of it is there: what was read before stays in use, and it is said what is wrong.
    put(dir.path(), "ca.pem", &new.pem[..new.pem.len() / 2]);
    assert_eq!(send(&to_old).await.verdict, Verdict::Delivered);
    let refused = send(&to_new).await;
    let said = detail(&refused);
    assert!(
        said.contains("ends in the midst of a certificate"),
        "{said}"
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(send(&to_old).await.verdict, Verdict::Delivered);

    put(dir.path(), "ca.pem", &new.pem);
    assert_eq!(send(&to_new).await.verdict, Verdict::Delivered);
    let refused = send(&to_old).await;
    assert_eq!(refused.verdict, RETRY, "{refused:?}");
}

/// What a process with other variables says of its roots.
#[expect(
    clippy::print_stdout,
    reason = "the test that started this process reads it"
)]
fn tell_of_roots() {
    match sink(([127, 0, 0, 1], 1).into(), Wire::default()) {
        Ok(_) => println!("told: nothing"),
        Err(error) => println!("told: {error}"),
    }
}

/// A name that leads nowhere was passed over, and then nothing was trusted.
#[cfg(all(unix, not(target_vendor = "apple")))]
#[test]
fn roots_that_a_variable_names_and_that_are_not_there_are_named() {
    if std::env::var_os("WAY_TELLS").is_some() {
        return tell_of_roots();
    }
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing");
    let told = |variable: &str, value: &Path| {
        let said = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "roots_that_a_variable_names_and_that_are_not_there_are_named",
                "--nocapture",
            ])
            .env("WAY_TELLS", "1")
            .env_remove("SSL_CERT_FILE")
            .env_remove("SSL_CERT_DIR")
            .env(variable, value)
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let told = said.lines().find_map(|line| line.split_once("told: "));
        told.unwrap().1.to_owned()
    };
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let said = told(variable, &missing);
        assert!(said.contains(variable), "{said}");
        assert!(said.contains(missing.to_str().unwrap()), "{said}");
    }
    let file = put(dir.path(), "roots.pem", &Authority::new().pem);
    assert_eq!(told("SSL_CERT_FILE", &file), "nothing");
}

#[test]
fn a_file_of_no_use_is_refused_by_its_name() {
    let authority = Authority::new();
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| put(dir.path(), name, text);
    let pair = authority.localhost();
    let certificate = file("client.pem", &pair.certificate);
    let key = file("client.key", &pair.key);
    let other = file("other.key", &authority.localhost().key);
    let half = &authority.pem[..authority.pem.len() / 2];
    let ca = |path: PathBuf| Wire::default().ca_file(path);
    let client =
        |certificate: &PathBuf, key: &PathBuf| Wire::default().client_certificate(certificate, key);
    let missing = dir.path().join("missing.pem");
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let sealed =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (wire, said) in [
        (ca(missing.clone()), "No such file"),
        (ca(file("empty.pem", "")), "is not PEM"),
        (
            ca(file("der.pem", "0\u{1}\u{2}")),
            "`openssl x509 -inform DER",
        ),
        (
            ca(file("key.pem", &pair.key)),
            "is a private key and no certificate",
        ),
        (
            ca(file("half.pem", half)),
            "ends in the midst of a certificate",
        ),
        (
            ca(file("garbled.pem", garbled)),
            "certificate 1 of the CA file cannot be used",
        ),
        (client(&missing, &key), "No such file"),
        (
            client(&key, &key),
            "the client certificate is a private key",
        ),
        (
            client(&certificate, &certificate),
            "is a certificate and no private key",
        ),
        (
            client(&certificate, &file("sealed.key", sealed)),
            "has a passphrase",
        ),
        (
            client(&certificate, &other),
            "does not fit the client certificate",
        ),
    ] {
        let error = sink(([127, 0, 0, 1], 1).into(), wire)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{said}: {error}");
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
    }
}
