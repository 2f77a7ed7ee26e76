//! How a connection is made secure, as far as that is decided here.

mod files;
#[cfg(any(feature = "nats", all(feature = "rustls", not(feature = "native-tls"))))]
mod rustls;

pub(in crate::sink) use self::files::{Files, Renewed};
#[cfg(feature = "nats")]
pub(in crate::sink) use self::rustls::{advice as tls_advice, config as tls_config};
#[cfg(all(feature = "rustls", not(feature = "native-tls")))]
pub(super) use self::rustls::{advice, config};

/// What to do is not known here.
#[cfg(any(feature = "native-tls", not(feature = "rustls")))]
pub(super) fn advice(_: &(dyn std::error::Error + 'static)) -> Option<String> {
    None
}

/// # Errors
/// If any file is named: this build does not read them.
#[cfg(any(feature = "native-tls", not(feature = "rustls")))]
pub(super) fn no_files(files: &Files) -> Result<(), String> {
    if files.is_empty() {
        return Ok(());
    }
    Err(
        "a CA file and client certificates need TLS by rustls: build everpost with the feature \
         `rustls` and without `native-tls`, or put them where the operating system keeps its own"
            .to_owned(),
    )
}
