//! `cargo xtask prove --check`: whether docs/evidence.md is about the code as it is.

use std::fs;
use std::process::{Command, ExitCode};

use super::{Failure, root};

/// What the suites are about. What is around it may change without a new run.
pub(super) const PROVEN: [&str; 2] = ["src/log", "src/inspect.rs"];

/// Says it in a sentence.
pub(super) fn check() -> ExitCode {
    match compare() {
        Ok((true, sentence)) => {
            println!("{sentence}");
            ExitCode::SUCCESS
        }
        Ok((false, sentence)) => {
            println!("{sentence}");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("It is not known whether the evidence is about this code: {error}.");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<(bool, String), Failure> {
    let text = fs::read_to_string(root().join("docs/evidence.md"))?;
    let said = commit(&text).ok_or("docs/evidence.md names no commit")?;
    let names = PROVEN.join(" and ");
    let (commit, had_changes) = said;
    let status = Command::new("git")
        .args(["diff", "--quiet", commit, "--"])
        .args(PROVEN)
        .current_dir(root())
        .status()?;
    Ok(match status.code() {
        Some(0) if had_changes => {
            let text = format!("The evidence is of {commit} with changes that no commit has.");
            (false, text)
        }
        Some(0) => {
            let text = format!("The evidence is about this code: {names} are as in {commit}.");
            (true, text)
        }
        Some(1) => {
            let text = format!(
                "The evidence is older than the code: {names} have changed since {commit}; run \
                 `cargo xtask prove --long --write`."
            );
            (false, text)
        }
        _ => return Err(format!("git does not know the commit {commit}").into()),
    })
}

/// The commit in the text of the evidence, and whether the tree had changes beside it.
pub(super) fn commit(text: &str) -> Option<(&str, bool)> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("- commit: "))?;
    let (commit, rest) = line.split_once(',').unwrap_or((line, ""));
    let is_hash = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some((commit, !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_found_in_the_evidence_and_nothing_else_is_taken_for_one() {
        let hash = "8d3fd1b84edde41e1536ed84bf8e1f38d9396181";
        let text = format!("# Evidence\n\n- date: today\n- commit: {hash}\n");
        assert_eq!(commit(&text), Some((hash, false)));
        let text = format!("- commit: {hash}, with changes\n");
        assert_eq!(commit(&text), Some((hash, true)));
        assert_eq!(commit("- commit: --output=/tmp/x\n"), None);
        assert_eq!(commit("none"), None);
    }
}
