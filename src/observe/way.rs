//! Log lines about the way to a receiver.

/// INFO: new connections use the certificates that are in the files now.
pub(crate) fn way_renewed() {
    tracing::info!("the certificates for the way to the receiver were read again");
}

/// ERROR: certificates were put in place that are of no use.
pub(crate) fn way_not_renewed(what: &str) {
    tracing::error!(
        what,
        "the certificates for the way to the receiver have changed and cannot be used; what was read \
         before stays in use"
    );
}
