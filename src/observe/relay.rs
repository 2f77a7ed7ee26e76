//! Log lines about the relay and the page.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

/// What a person did on the page.
pub(crate) struct Done<'a> {
    pub(crate) channel: &'a str,
    pub(crate) what: &'a str,
    pub(crate) number: Option<u64>,
    pub(crate) count: Option<u64>,
    pub(crate) outcome: &'a dyn Display,
    pub(crate) from: &'a str,
    pub(crate) by: &'a str,
}

/// INFO: a person did something on the page.
pub(crate) fn done_on_page(done: &Done<'_>) {
    tracing::info!(
        channel = done.channel,
        what = done.what,
        number = done.number,
        count = done.count,
        outcome = %done.outcome,
        from = done.from,
        by = done.by,
        "done by a person on the page"
    );
}

/// INFO: new connections get the certificate that is in the file now.
pub(crate) fn certificate_renewed(certificates: &Path) {
    tracing::info!(certificates = %certificates.display(), "the certificate was read again");
}

/// ERROR: a certificate was put in place that does not work.
pub(crate) fn certificate_unusable(error: &dyn Display) {
    tracing::error!(
        %error,
        "the certificate or its key has changed and cannot be used; those from before stay in use"
    );
}

/// WARN: a file of what was taken lately cannot be read at all.
pub(crate) fn repeats_damaged(path: &Path) {
    tracing::warn!(path = %path.display(), "a file of what was taken lately is damaged: it is set \
        aside, and what comes again is taken as new");
}

/// WARN: records of what was taken lately cannot be read.
pub(crate) fn repeats_left_out(path: &Path, left_out: usize) {
    tracing::warn!(path = %path.display(), left_out, "records of what was taken lately do not \
        check, as after a power cut: what they speak of is taken as new");
}

/// WARN: more was taken than the memory of repeats holds.
pub(crate) fn repeats_forgotten(dir: &Path, age: Duration, window: Duration, records: usize) {
    tracing::warn!(dir = %dir.display(), ?age, ?window, records, "more came than is kept: what is \
        older than this is not known any more if it comes again");
}
