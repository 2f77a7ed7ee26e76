//! The way to a stream of NATS.

use everpost::nats::Target;

use super::Finding;
use crate::fault::Fault;

/// Whether the servers take this device in and know where its spool stands.
pub(super) async fn look(target: &Target) -> Vec<Finding> {
    let servers = target.servers().to_string();
    let mut findings = vec![Finding::ok("address", servers)];
    let sink = match target.clone().builder().wait_for_secrets().build() {
        Ok(sink) => sink,
        Err(error) => return vec![Finding::of("stream", Fault::from(error))],
    };
    let outcome = sink.knock().await;
    let subject = sink.subject();
    findings.push(match outcome.verdict {
        everpost::Verdict::Delivered => Finding::ok("stream", format!("{subject} is known there")),
        _ => Finding::fail(
            "stream",
            crate::view::said(&outcome.answer),
            "see that the servers run, that `everpost fleet setup` made the stream, and that this device \
             may use its subject; everything is kept meanwhile",
        ),
    });
    findings
}
