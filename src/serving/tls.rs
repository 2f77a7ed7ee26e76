//! TLS at a door: a certificate and its key, read again when their files change.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::observe;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// How often it is seen whether the files have changed.
const LOOK: Duration = Duration::from_secs(2);

/// Bytes of each file.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// What is spoken inside.
const HTTP: &[u8] = b"http/1.1";

/// A certificate with its key, by which a port speaks TLS 1.2 and 1.3.
///
/// The files are looked at every few seconds while clients come, and read again when they have
/// changed. If they cannot be used then, as between the replacement of one and of the other, those
/// that were read before stay in use, and the log says so once.
///
/// Cloning gives another handle to the same one. `Debug` shows the places of the files alone.
#[derive(Clone)]
pub struct Tls(Arc<Pair>);

struct Pair {
    certificates: PathBuf,
    key: PathBuf,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    /// The files that were read last, also if they were of no use.
    stamp: Stamp,
    looked: Instant,
}

/// By what a change of both files is seen.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

impl Tls {
    /// Reads the certificates, that of the server first and then those that lead to a root, and its
    /// private key; both are PEM files.
    ///
    /// # Errors
    /// If a file cannot be read, holds no certificate or no key, or the two do not belong together.
    pub fn open(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> io::Result<Self> {
        let (certificates, key) = (certificates.into(), key.into());
        let stamp = stamp(&certificates, &key);
        let state = State {
            config: read(&certificates, &key)?,
            stamp,
            looked: Instant::now(),
        };
        Ok(Self(Arc::new(Pair {
            certificates,
            key,
            state: Mutex::new(state),
        })))
    }

    /// Looks at the files now, instead of within a few seconds. True if they have changed and are in
    /// use from here on. Reads files: not for a thread that must not wait for a disk.
    ///
    /// # Errors
    /// As [`open`](Self::open); what was read before stays in use.
    pub fn look(&self) -> io::Result<bool> {
        let Pair {
            certificates, key, ..
        } = &*self.0;
        let new = stamp(certificates, key);
        {
            let mut state = self.state();
            state.looked = Instant::now();
            if state.stamp == new {
                return Ok(false);
            }
            // Told once, also if they are of no use.
            state.stamp = new;
        }
        let config = read(certificates, key)?;
        self.state().config = config;
        Ok(true)
    }

    /// For one client.
    pub(super) async fn acceptor(&self) -> TlsAcceptor {
        let is_due = {
            let mut state = self.state();
            let is_due = state.looked.elapsed() >= LOOK;
            if is_due {
                // The others go on with what there is.
                state.looked = Instant::now();
            }
            is_due
        };
        if is_due {
            let tls = self.clone();
            // That it panics is told by what every panic is told by.
            let _ = tokio::task::spawn_blocking(move || tls.look_and_tell()).await;
        }
        TlsAcceptor::from(Arc::clone(&self.state().config))
    }

    fn look_and_tell(&self) {
        match self.look() {
            Ok(false) => {}
            Ok(true) => observe::certificate_renewed(&self.0.certificates),
            Err(error) => observe::certificate_unusable(&error),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificates", &self.0.certificates)
            .field("key", &self.0.key)
            .finish_non_exhaustive()
    }
}

fn stamp(certificates: &Path, key: &Path) -> Stamp {
    [certificates, key].map(|path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len(), inode(&meta)))
    })
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

fn read(certificates: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let fault = |path: &Path, text: &str| {
        let text = format!("{text}. path=`{}`", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let chain = pem(certificates)?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.unwrap_or_default();
    if chain.is_empty() {
        return Err(fault(
            certificates,
            "there is no certificate in the file: it has to be PEM, that of the server first",
        ));
    }
    let read = PrivateKeyDer::from_pem_slice(&pem(key)?);
    let no_key = "there is no private key in the file: it has to be PEM, without a passphrase";
    // What is wrong with it is not told: it could show a part.
    let read = read.map_err(|_| fault(key, no_key))?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, read)
        .map_err(|error| {
            let text = format!("the certificate cannot be used with its key: {error}");
            fault(certificates, &text)
        });
    let mut config = config?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(Arc::new(config))
}

/// Wiped when it is no longer needed: it may be a key.
fn pem(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut bytes).map(drop));
    read.map_err(|error| {
        let text = format!("{error}. path=`{}`", path.display());
        io::Error::new(error.kind(), text)
    })?;
    Ok(bytes)
}
