//! Leaves out what durability rests on, for the negative controls of `cargo xtask prove`: a proof
//! that cannot fail proves nothing. No build has this unless the feature `break-for-proof` is on.

use std::path::Path;
use std::sync::OnceLock;

/// Whether the fdatasync of this part is to be left out: `journal`, `segments` or `letters`.
pub(crate) fn is_left_out(part: &str) -> bool {
    static PART: OnceLock<Option<String>> = OnceLock::new();
    let named = PART.get_or_init(|| std::env::var("EVERPOST_BREAK").ok());
    named.as_deref() == Some(part)
}

/// Whether that of a store is: the segments lie in a directory of that name, the letters do not.
pub(crate) fn is_left_out_of(store: &Path) -> bool {
    let is_segment = store
        .parent()
        .is_some_and(|parent| parent.ends_with("segments"));
    is_left_out(if is_segment { "segments" } else { "letters" })
}
