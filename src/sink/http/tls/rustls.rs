//! How TLS by rustls is set up.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use rustls_platform_verifier::Verifier;
use secrecy::zeroize::Zeroizing;

use super::files::Files;

/// Bytes of a file: a bundle of every public authority has a quarter of it.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// How a connection is made secure: with the cryptography that the program has installed for
/// rustls, else ring's, the root certificates of the operating system, and what the files hold.
///
/// Where every request is plain HTTP (`is_used` is false), no certificate is read and none is
/// trusted, so that a machine without root certificates can reach its own loopback.
///
/// # Errors
/// If there are no root certificates, a file is of no use, or the installed cryptography knows no
/// version of TLS.
pub(in crate::sink) fn config(files: &Files, is_used: bool) -> Result<ClientConfig, String> {
    let failed = |error: rustls::Error| format!("TLS cannot be set up: {error}");
    // Nothing is installed here: that is the program's to decide, once for the whole process.
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(ring::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = if is_used {
        named_roots()?;
        let private = files.ca.as_deref().map(authorities).transpose()?;
        let verifier = Verifier::new_with_extra_roots(private.into_iter().flatten(), provider);
        let verifier = verifier.map_err(failed)?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    let mut config = match files.client.as_ref().filter(|_| is_used) {
        Some((certificate, key)) => {
            let chain = certificates("client certificate", certificate)?;
            let read = private_key(key)?;
            builder
                .with_client_auth_cert(chain, read)
                .map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => format!(
                        "the client key does not fit the client certificate. key=`{}` \
                         certificate=`{}`",
                        key.display(),
                        certificate.display()
                    ),
                    error => format!(
                        "the client certificate cannot be used: {error}. certificate=`{}`",
                        certificate.display()
                    ),
                })?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Wiped when it is no longer needed: it may be a key.
fn pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if read as u64 > PEM_BYTES_MAX {
        return Err("is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}

/// Every certificate of a PEM file.
fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |text: &str| format!("the {what} {text}. path=`{}`", path.display());
    let bytes = pem(path).map_err(|text| fault(&text))?;
    let read = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| {
        fault(match error {
            PemError::MissingSectionEnd { .. } => "ends in the midst of a certificate",
            _ => "holds what is no certificate: its PEM cannot be read",
        })
    })?;
    if !read.is_empty() {
        return Ok(read);
    }
    let text = String::from_utf8_lossy(&bytes);
    Err(fault(if text.contains("PRIVATE KEY-----") {
        "is a private key and no certificate"
    } else if text.contains("-----BEGIN ") {
        "is PEM, and there is no certificate in it"
    } else {
        "is not PEM: a file in DER becomes PEM by `openssl x509 -inform DER -in FILE`"
    }))
}

/// The authorities that are trusted beside those of the system.
fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = certificates("CA file", path)?;
    for (certificate, number) in read.iter().zip(1..) {
        let mut store = RootCertStore::empty();
        store.add(certificate.clone()).map_err(|error| {
            format!(
                "certificate {number} of the CA file cannot be used: {error}. path=`{}`",
                path.display()
            )
        })?;
    }
    Ok(read)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let fault = |text: &str| format!("the client key {text}. path=`{}`", path.display());
    let bytes = pem(path).map_err(|text| fault(&text))?;
    // What is wrong with it is not told: it could show a part.
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes);
        fault(match error {
            _ if text.contains("ENCRYPTED") => {
                "has a passphrase: write it without one by `openssl pkey -in FILE`"
            }
            PemError::MissingSectionEnd { .. } => "ends in its midst",
            _ if text.contains("-----BEGIN CERTIFICATE") => "is a certificate and no private key",
            _ => "is no private key in PEM",
        })
    })
}

/// `SSL_CERT_FILE` and `SSL_CERT_DIR` take the place of the roots of the system, where those are files.
/// A name that leads nowhere was passed over without a word.
fn named_roots() -> Result<(), String> {
    if cfg!(not(unix)) || cfg!(any(target_vendor = "apple", target_os = "android")) {
        return Ok(());
    }
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        certificates("file that SSL_CERT_FILE names", Path::new(&file))?;
    }
    let dirs = std::env::var_os("SSL_CERT_DIR").unwrap_or_default();
    for dir in std::env::split_paths(&dirs).filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::read_dir(&dir).map_err(|error| {
            format!(
                "the directory that SSL_CERT_DIR names cannot be read: {error}. path=`{}`",
                dir.display()
            )
        })?;
    }
    Ok(())
}

/// What the other side dislikes, or what is disliked about it, for a person to act upon.
pub(in crate::sink) fn advice(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = error;
    loop {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return of_rustls(error);
        }
        // An I/O error hides what it was made of from its sources.
        let inner = cause
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref());
        cause = match inner {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}

fn of_rustls(error: &rustls::Error) -> Option<String> {
    use AlertDescription as Alert;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => return of_certificate(error),
        rustls::Error::AlertReceived(Alert::NoApplicationProtocol) => {
            "the receiver does not speak HTTP/1.1, such as one for HTTP/2 alone; HTTP/1.1 is spoken \
             here"
                .to_owned()
        }
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            "the receiver wants a client certificate".to_owned()
        }
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => "the receiver refuses the client certificate, or that there is none".to_owned(),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "TLS is not spoken at this port".to_owned()
        }
        _ => return None,
    })
}

fn of_certificate(error: &CertificateError) -> Option<String> {
    Some(match error {
        // The latter is said where another authority has the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority that is trusted here has signed the certificate; a private one belongs \
             into the CA file"
                .to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate was good until {}, and it is {} by the clock of this machine",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate is good from {} on, and it is {} by the clock of this machine: is the \
             clock right?",
            date(*not_before),
            date(*time)
        ),
        // webpki names it by this word alone (rustls-webpki 0.103 src/error.rs).
        CertificateError::Other(error) if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "the receiver shows the certificate of an authority as its own, as `openssl req -x509` \
             makes it; make one with `-addext basicConstraints=critical,CA:FALSE`, or let the \
             authority sign another"
                .to_owned()
        }
        _ => return None,
    })
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
