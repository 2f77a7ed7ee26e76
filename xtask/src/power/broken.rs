//! The program of the negative controls: this one, linked with a library that leaves out the
//! fdatasyncs which `EVERPOST_BREAK` names. A proof that cannot fail proves nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::prove::Failure;
use crate::tree::Tree;

/// Texts of the sources, and what stands in their place in the program: file, text, other text.
const PATCHES: [[&str; 3]; 4] = [
    [
        "src/log/disk.rs",
        "        sync_data(self)\n",
        r#"        if std::env::var_os("EVERPOST_BREAK").is_some_and(|part| part == "journal") {
            return Ok(());
        }
        sync_data(self)
"#,
    ],
    [
        "src/log/store.rs",
        "        let synced = sync_data(&self.file);\n",
        r#"        let lies_in = self.path.parent();
        let is_segment = lies_in.is_some_and(|parent| parent.ends_with("segments"));
        let part = if is_segment { "segments" } else { "letters" };
        let is_left_out = std::env::var_os("EVERPOST_BREAK").is_some_and(|named| named == part);
        let synced = if is_left_out { Ok(()) } else { sync_data(&self.file) };
"#,
    ],
    [
        "xtask/Cargo.toml",
        "default-run = \"xtask\"\n",
        "default-run = \"xtask-broken\"\n",
    ],
    [
        "xtask/Cargo.toml",
        "name = \"xtask\"\npath = \"src/main.rs\"\n",
        "name = \"xtask-broken\"\npath = \"src/main.rs\"\n",
    ],
];

/// Builds it beside this program, of the same dependencies, and says where it is.
pub(super) fn build(this: &Path) -> Result<PathBuf, Failure> {
    let target = this.ancestors().nth(2).ok_or("no target directory")?;
    let tree = Tree::copy("broken")?;
    for [file, find, put] in PATCHES {
        tree.patch(file, find, put)?;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--manifest-path",
        ])
        .arg(tree.dir().join("xtask/Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        .status()?;
    if !built.success() {
        return Err("the program for the negative controls does not build".into());
    }
    Ok(this.with_file_name("xtask-broken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The controls would find nothing to break otherwise, and say so an hour too late.
    #[test]
    fn what_the_controls_break_stands_once_in_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for [file, find, _] in PATCHES {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            assert_eq!(text.matches(find).count(), 1, "{file}: {find}");
        }
    }
}
