//! TLS by rustls: the only file that names it.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, Error, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// How a connection is made secure: with the cryptography that the program has installed for
/// rustls, else ring's, and the root certificates of the operating system.
///
/// Where every request is plain HTTP (`is_used` is false), no certificate is read and none is
/// trusted, so that a machine without root certificates can reach its own loopback.
///
/// # Errors
/// If there are no root certificates, or the installed cryptography knows no version of TLS.
pub(super) fn config(is_used: bool) -> Result<ClientConfig, Error> {
    // Nothing is installed here: that is the program's to decide, once for the whole process.
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(ring::default_provider()));
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = if is_used {
        builder.with_platform_verifier()?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
