//! A copy of the tree, in which code may be broken on purpose: the tree itself is never changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::prove::Failure;

/// What is built, and what its tests read.
const PATHS: [&str; 12] = [
    "src",
    "tests",
    "examples",
    "benches",
    "more",
    "docs",
    "fuzz/judges",
    "xtask",
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "clippy.toml",
];

/// The copy, whole between two patches, whatever becomes of the original meanwhile.
pub(crate) struct Tree {
    dir: PathBuf,
}

impl Tree {
    /// Copies the files that git knows to `target/{name}/tree`.
    pub(crate) fn copy(name: &str) -> Result<Self, Failure> {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        let original = xtask.parent().ok_or("no project around the tasks")?;
        let dir = original.join("target").join(name).join("tree");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let files = Command::new("git")
            .args(["ls-files", "-z"])
            .args(PATHS)
            .current_dir(original)
            .output()?;
        for name in String::from_utf8(files.stdout)?.split_terminator('\0') {
            let to = dir.join(name);
            fs::create_dir_all(to.parent().unwrap_or(&dir))?;
            fs::copy(original.join(name), to)?;
        }
        Ok(Self { dir })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts one text in the place of another, which must be there once; gives the file as it was.
    pub(crate) fn patch(&self, file: &str, find: &str, put: &str) -> Result<String, Failure> {
        let path = self.dir.join(file);
        let whole = fs::read_to_string(&path)?;
        match whole.matches(find).count() {
            1 => fs::write(&path, whole.replacen(find, put, 1))?,
            n => return Err(format!("{n} places in {file} where it says `{find}`").into()),
        }
        Ok(whole)
    }
}
