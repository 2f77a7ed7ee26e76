//! Tells when `import` is given what this very spool has exported.

use everpost::{EventId, Seq};
use serde::Deserialize;

use crate::out::remark;
use crate::target::Target;

/// Where a line says that it comes from.
#[derive(Deserialize)]
struct Origin {
    seq: Seq,
    id: EventId,
}

/// Says so if the event of this line is pending at the same place of this spool: no other event ever
/// has both its number and its id. One that has left the spool since leaves no trace to tell it by.
pub(crate) async fn tell(target: &Target<'_>, line: &[u8]) {
    let Ok(Origin { seq, id }) = serde_json::from_slice(line) else {
        return;
    };
    // Not every owner shows its events to this user, and the import does not need to see them.
    let Ok(found) = target.ids(seq.saturating_sub(1), 1).await else {
        return;
    };
    if found == [(seq, id)] {
        remark(&format!(
            "everpost: the input begins with event {seq} of this very spool: what comes from it is \
             appended again, and is then there twice"
        ));
    }
}
