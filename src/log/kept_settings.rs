//! The settings of the last owner, in the sheet `settings`, as JSON: what a look shows as the bound
//! of a spool that no owner answers for. No owner reads them, since each is given its own.

use std::path::Path;

use super::sheet::{self, Sheet};
use crate::error::Error;
use crate::incident::{Finding, IncidentKind};
use crate::settings::Settings;

/// The name of the sheet.
const NAME: &str = "settings";

/// Reads them. Those of a later version that are not understood are none; those that are damaged
/// are none, and a finding.
pub(crate) fn read(spool: &Path) -> Result<(Option<Settings>, Option<Finding>), Error> {
    Ok(match sheet::read(spool, NAME)? {
        Sheet::Missing => (None, None),
        Sheet::Content(content) => (serde_json::from_slice(&content).ok(), None),
        Sheet::Damaged => {
            let what = "it does not check; the next owner writes it again from its own settings";
            let finding = Finding::new(IncidentKind::Damaged, NAME, what);
            (None, Some(finding))
        }
    })
}

/// Replaces them, durably. A sheet that does not check is lost with this: it held nothing that an
/// owner or an event needs, and stands on record.
pub(crate) fn write(spool: &Path, settings: &Settings) -> Result<(), Error> {
    // Numbers, names and times always serialise.
    let content = serde_json::to_vec_pretty(settings).unwrap_or_default();
    sheet::replace(spool, NAME, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_again_and_damaged_or_later_ones_are_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), (None, None));
        let settings = Settings {
            max_bytes: 1 << 20,
            ..Settings::default()
        };
        write(dir.path(), &settings).unwrap();
        assert_eq!(read(dir.path()).unwrap(), (Some(settings), None));
        sheet::replace(dir.path(), NAME, br#"{"of_tomorrow":1}"#).unwrap();
        assert_eq!(read(dir.path()).unwrap(), (None, None));
        std::fs::write(dir.path().join(NAME), "x").unwrap();
        assert!(read(dir.path()).unwrap().1.is_some());
    }
}
