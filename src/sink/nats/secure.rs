//! TLS towards a server.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::trouble::Trouble;
use crate::error::Error;
use crate::sink::http::{Files, Renewed, tls_advice, tls_config};

/// What TLS is set up from: the authorities of the system and those of a file, which is read again when
/// it has changed.
pub(super) struct Secure {
    files: Files,
    /// Nothing is read before TLS is needed, so that a machine without root certificates can reach its
    /// own loopback.
    config: OnceCell<Arc<Renewed<Arc<ClientConfig>>>>,
}

impl Secure {
    /// `is_needed`: what the files hold is read now, so that what is wrong with them is told now.
    ///
    /// # Errors
    /// [`Error::Sink`] with the path and what is wrong.
    pub(super) fn new(ca_file: Option<PathBuf>, is_needed: bool) -> Result<Self, Error> {
        let files = Files {
            ca: ca_file,
            client: None,
        };
        let config = if is_needed || files.ca.is_some() {
            let read = read(files.clone()).map_err(|reason| Error::Sink { reason })?;
            OnceCell::new_with(Some(read))
        } else {
            OnceCell::new()
        };
        Ok(Self { files, config })
    }

    /// Speaks TLS on this connection, to the server of this name.
    pub(super) async fn wrap<S>(&self, stream: S, name: &str) -> Result<TlsStream<S>, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let insecure = |text: String| Trouble::Insecure(text);
        let files = self.files.clone();
        let config = self.config.get_or_try_init(async || {
            let read = tokio::task::spawn_blocking(move || read(files)).await;
            read.unwrap_or_else(|_| Err("the files of TLS could not be read".to_owned()))
        });
        let (config, complaint) = config.await.map_err(insecure)?.now().await;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| insecure(format!("TLS knows no server of this name. name=`{name}`")))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| {
            let Some(advice) = tls_advice(&error) else {
                return Trouble::Gone(format!("TLS: {error}"));
            };
            insecure(match complaint {
                Some(complaint) => format!("{advice}; {complaint}"),
                None => advice,
            })
        })
    }
}

fn read(files: Files) -> Result<Arc<Renewed<Arc<ClientConfig>>>, String> {
    let make = |files: &Files| {
        let mut config = tls_config(files, true)?;
        // A server of NATS is offered none.
        config.alpn_protocols.clear();
        Ok(Arc::new(config))
    };
    Renewed::new(files, make).map(Arc::new)
}
