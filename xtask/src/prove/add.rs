//! `cargo xtask prove --add FILE`: puts suites that were run by themselves into `docs/evidence.md`.
//!
//! A whole run takes an hour and more. Where one of its suites could not do its work, say because a
//! tool was missing, that suite is run again under the same seed, with `--suite NAME --json`, and takes
//! its place in the page, which says so. Both must be about the same code. Single breaks of the suite
//! `mutations`, run again with `--break WORDS` once a test was mended, take their rows.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::check::{PROVEN, commit};
use super::report::table;
use super::suites::Suite;
use super::{Failure, Report, root};

const PAGE: &str = "docs/evidence.md";
const RESULT: &str = "## Result\n\n";
const LIST: &str = "\n## What each suite does\n";

/// A suite that was run by itself, as `--json` prints it.
#[derive(Deserialize)]
struct Part {
    suite: String,
    length: String,
    seed: String,
    /// Which breaks, if it were not all.
    breaks: Option<String>,
    date: String,
    commit: String,
    #[serde(flatten)]
    report: Report,
}

/// Adds the suites in the file, and says what the page says now.
pub(super) fn add(file: &Path) -> Result<String, Failure> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path)?;
    let mut parts = Vec::new();
    for line in fs::read_to_string(file)?.lines() {
        parts.push(serde_json::from_str(line)?);
    }
    let (old, _) = commit(&page).ok_or("docs/evidence.md names no commit")?;
    for part in &parts {
        same_code(old, part)?;
    }
    let (page, verdict) = added(&page, parts)?;
    fs::write(path, page)?;
    Ok(verdict)
}

fn same_code(old: &str, part: &Part) -> Result<(), Failure> {
    if part.commit.contains(',') {
        let text = format!("the suite {} ran on {}", part.suite, part.commit);
        return Err(text.into());
    }
    let same = Command::new("git")
        .args(["diff", "--quiet", old, &part.commit, "--"])
        .args(PROVEN)
        .current_dir(root())
        .status()?;
    if same.success() {
        return Ok(());
    }
    let (names, suite, new) = (PROVEN.join(" and "), &part.suite, &part.commit);
    Err(format!("{names} are not the same in {old} and in {new}, where {suite} ran").into())
}

/// The page with these suites in it, and its verdict.
fn added(page: &str, mut parts: Vec<Part>) -> Result<(String, String), Failure> {
    let again = parts.extract_if(.., |part| part.breaks.is_some());
    let again: Vec<Part> = again.collect();
    for part in parts.iter_mut().filter(|part| part.suite == "mutations") {
        let later = again.iter().map(|part| &part.report);
        later.for_each(|later| part.report.take_over(later));
    }
    let cut = |text: &'_ str, at: &str| {
        let (before, after) = text.split_once(at).ok_or(format!("{PAGE} has no `{at}`"))?;
        Ok::<_, Failure>((before.to_owned(), after.to_owned()))
    };
    let (head, rest) = cut(page, RESULT)?;
    let (result, rest) = cut(&rest, LIST)?;
    let (intro, result) = cut(&result, "\n\n")?;
    let mut result = Summary::parse(&result);
    let mut sections: Vec<String> = rest.split("\n## ").map(str::to_owned).collect();
    for part in &parts {
        if !head.contains(&format!(": {} run, seed {},", part.length, part.seed)) {
            let (length, seed) = (&part.length, &part.seed);
            return Err(
                format!("the page is not about a {length} run with the seed {seed}").into(),
            );
        }
        result.put(&part.suite, &part.report);
        if let (Some(list), Some(suite)) = (sections.first_mut(), suite(&part.suite))
            && !list.contains(&format!("- **{}**", suite.name))
        {
            *list = format!(
                "{}\n- **{}**: {}\n",
                list.trim_end(),
                suite.name,
                suite.what
            );
        }
        let own = part.report.table();
        let own = own.trim_start_matches("## ");
        let title = own.lines().next().unwrap_or_default();
        sections.retain(|section| title.is_empty() || section.lines().next() != Some(title));
        if !own.is_empty() {
            sections.push(own.to_owned());
        }
    }
    let (head, verdict) = with_verdict(&head, result.verdict(), &parts, &again)?;
    let result = result.text();
    let rest = sections.join("\n## ");
    let page = format!("{head}{RESULT}{intro}\n\n{result}{LIST}{rest}");
    Ok((page, verdict))
}

fn suite(name: &str) -> Option<&'static Suite> {
    super::SUITES.iter().find(|suite| suite.name == name)
}

/// The head of the page with this verdict, and with what was added.
fn with_verdict(
    head: &str,
    word: &str,
    parts: &[Part],
    again: &[Part],
) -> Result<(String, String), Failure> {
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    let line = lines.iter_mut().find(|line| line.starts_with("**"));
    let line = line.ok_or(format!("{PAGE} has no verdict"))?;
    let (_, run) = line.split_once(": ").ok_or("the verdict is about no run")?;
    let verdict = format!(
        "{word}: {}",
        run.trim_end_matches("**").trim_end_matches('.')
    );
    *line = format!("**{verdict}.**");
    for part in parts.iter().chain(again) {
        let (suite, date, commit) = (&part.suite, &part.date, &part.commit);
        let which = match &part.breaks {
            Some(words) => format!("{suite}, again `{words}`"),
            None => suite.clone(),
        };
        let run = format!("- run by itself: {which}, ");
        // What an earlier run of it said is gone from the tables.
        lines.retain(|line| !line.starts_with(&run));
        let last = lines.iter().rposition(|line| line.starts_with("- "));
        let at = last.map_or(lines.len(), |last| last + 1);
        lines.insert(at, format!("{run}{date}, commit {commit}"));
    }
    let (alone, added) = (
        ", and by nothing else.",
        " and `cargo xtask prove --add FILE`",
    );
    let mut head = lines.join("\n") + "\n";
    if !head.contains(added) {
        head = head.replacen(alone, &format!("{added}{alone}"), 1);
    }
    Ok((head, verdict))
}

/// The table of all suites, and the remarks on them.
struct Summary {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    remarks: Vec<String>,
}

impl Summary {
    fn parse(text: &str) -> Self {
        let cells = |line: &str| {
            let line = line.trim().trim_matches('|');
            line.split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let mut lines = text.lines().filter(|line| line.starts_with('|'));
        let columns = lines.next().map(cells).unwrap_or_default();
        let rows = lines.skip(1).map(cells).collect();
        let remarks = text
            .lines()
            .filter(|line| !line.starts_with('|') && !line.is_empty());
        Self {
            columns,
            rows,
            remarks: remarks.map(str::to_owned).collect(),
        }
    }

    /// In the place of the row of this suite, or at the end: there may be suites that are younger than
    /// the page.
    fn put(&mut self, suite: &str, report: &Report) {
        let cells = report.cells(suite);
        let is_it = |row: &&mut Vec<String>| row.first().is_some_and(|name| name == suite);
        match self.rows.iter_mut().find(is_it) {
            Some(row) => *row = cells,
            None => self.rows.push(cells),
        }
        self.remarks
            .retain(|remark| !remark.starts_with(&format!("{suite}: ")));
        let remarks = report.remarks().into_iter();
        self.remarks
            .extend(remarks.map(|remark| format!("{suite}: {remark}")));
    }

    fn verdict(&self) -> &'static str {
        let any = |word: &str| self.rows.iter().flatten().any(|cell| cell.contains(word));
        match (any("FAULT"), any("SKIPPED")) {
            (true, _) => "NOT PROVEN",
            (false, true) => "PROVEN, but for what was skipped",
            (false, false) => "PROVEN",
        }
    }

    fn text(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut text = table(&columns, &self.rows);
        for remark in &self.remarks {
            text += &format!("\n{remark}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# Evidence\n\nWritten by it, and by nothing else.\n\n**NOT PROVEN: long run, seed 7, 3 s.**\n\n\
        - date: then\n- commit: c\n\n## Result\n\nAn empty cell.\n\n\
        | suite | done | acknowledged | lost | altered | reordered | unreported | panics | result | time |\n\
        | ----- | ---- | ------------ | ---- | ------- | --------- | ---------- | ------ | ------ | ---- |\n\
        | kills | 3 kills | 9 | 0 | 0 | 0 | | 0 | holds | 1 s |\n\
        | mutations | | | | | | | | FAULT | 0 s |\n\n\
        mutations: FAULT ended\n\n## What each suite does\n\n- **kills**: kills.\n\n## Power\n\ntable\n";

    fn part(seed: &str, fails: bool) -> Part {
        let mut report = Report::new("Mutations", &["what"]);
        report.row(["broken".to_owned()]);
        report.count("breaks", 2);
        if fails {
            report.fail("no test notices that the code broken".to_owned());
        }
        Part {
            suite: "mutations".into(),
            length: "long".into(),
            seed: seed.into(),
            breaks: None,
            date: "now".into(),
            commit: "d".into(),
            report,
        }
    }

    #[test]
    fn a_suite_takes_its_place_and_the_page_says_so() {
        let (page, verdict) = added(OLD, vec![part("7", false)]).unwrap();
        assert_eq!(verdict, "PROVEN: long run, seed 7, 3 s");
        assert!(
            page.contains("**PROVEN: long run, seed 7, 3 s.**"),
            "{page}"
        );
        assert!(
            page.contains("- commit: c\n- run by itself: mutations, now, commit d\n\n## Result"),
            "{page}"
        );
        assert!(
            !page.contains("FAULT") && page.contains("| mutations | 2 breaks"),
            "{page}"
        );
        assert!(
            page.contains("## Power\n\ntable\n\n## Mutations\n\n| what"),
            "{page}"
        );
        assert!(page.contains("| kills     | 3 kills"), "{page}");
        let (page, _) = added(&page, vec![part("7", false)]).unwrap();
        for once in [
            "`cargo xtask prove --add FILE`",
            "- run by itself: mutations",
        ] {
            assert_eq!(page.matches(once).count(), 1, "{once}: {page}");
        }
    }

    #[test]
    fn a_suite_that_is_younger_than_the_page_gets_a_row() {
        let young = Part {
            suite: "fleet".into(),
            ..part("7", false)
        };
        let (page, _) = added(OLD, vec![part("7", false), young]).unwrap();
        assert!(page.contains("| fleet     | 2 breaks"), "{page}");
        assert!(page.contains("\n- **fleet**: Spools"), "{page}");
    }

    #[test]
    fn a_fault_stays_one_and_another_seed_is_refused() {
        let (page, verdict) = added(OLD, vec![part("7", true)]).unwrap();
        assert_eq!(verdict, "NOT PROVEN: long run, seed 7, 3 s");
        assert!(page.contains("mutations: FAULT no test notices"), "{page}");
        assert!(!page.contains("FAULT ended"), "{page}");
        assert!(added(OLD, vec![part("8", false)]).is_err());
    }

    #[test]
    fn a_break_that_was_tried_again_takes_its_row() {
        let again = Part {
            breaks: Some("broken".to_owned()),
            ..part("7", false)
        };
        let (page, verdict) = added(OLD, vec![part("7", true), again]).unwrap();
        assert_eq!(verdict, "PROVEN: long run, seed 7, 3 s");
        assert!(
            page.contains("- run by itself: mutations, again `broken`, now, commit d"),
            "{page}"
        );
    }
}
