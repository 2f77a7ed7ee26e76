//! `cargo xtask mutate`: breaks the code in chosen places, one at a time, and shows which test
//! goes red. A break that no test notices is a missing test.
//!
//! The work is done on a copy of the tree under `target/mutate`; the tree itself is never
//! changed.

mod list;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use list::{BREAKS, Break};

use crate::prove::{Failure, Progress, Report};
use crate::tree::Tree;

/// A test that hangs has noticed, too. Seconds.
const PATIENCE_S: u32 = 240;
const BUILD_PATIENCE_S: u32 = 1_200;

/// Stands in a line between the number of red tests and what was broken.
const RED_WHEN: &str = " red when it ";

/// How `timeout` says that it was one.
const TIMED_OUT: i32 = 124;

/// What became of a break.
enum Fate {
    /// The tests that went red.
    Noticed(Vec<String>),
    Hung,
    Survived,
}

/// Runs all breaks whose description or file contains one of the words; all if there are none.
pub(crate) fn mutate(words: &[String]) -> ExitCode {
    let done = suite(words, None);
    match done {
        Ok(report) => {
            println!("{}", report.table());
            ExitCode::from(u8::from(!report.is_whole()))
        }
        Err(error) => {
            eprintln!("mutate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a run that was ended before its time has written about each break.
fn earlier(log: Option<&Path>) -> Result<BTreeMap<String, (String, String)>, Failure> {
    let Some(log) = log else {
        return Ok(BTreeMap::new());
    };
    let text = fs::read_to_string(log)?;
    let line = |line: &str| {
        let (red, rest) = line.split_once(RED_WHEN)?;
        let (what, names) = rest.split_once(": ")?;
        // A break that no test noticed is tried again.
        (red != "0").then(|| (what.to_owned(), (red.to_owned(), names.to_owned())))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// The breaks as a suite of `prove`; those that are in the log of a run of the same code, which was
/// ended before its time, are not tried again.
pub(crate) fn suite(words: &[String], since: Option<&Path>) -> Result<Report, Failure> {
    let chosen: Vec<&Break> = BREAKS
        .iter()
        .filter(|b| {
            let hit =
                |word: &String| b.what.contains(word.as_str()) || b.file.contains(word.as_str());
            words.is_empty() || words.iter().any(hit)
        })
        .collect();
    let earlier = earlier(since)?;
    let bench = Bench::set_up()?;
    for b in &chosen {
        bench.check(b)?;
    }
    let mut report = Report::new(
        "Mutations: the code broken on purpose",
        &["the broken code", "violates", "red", "tests that notice"],
    );
    let mut progress = Progress::new("mutations", chosen.len());
    for b in &chosen {
        if let Some((red, names)) = earlier.get(b.what) {
            let cells = [b.what, b.violates, red, names];
            report.row(cells.map(str::to_owned));
            report.count("breaks", 1);
            progress.step();
            continue;
        }
        let (red, names) = match bench.run(b)? {
            Fate::Noticed(tests) => (tests.len().to_string(), shown(&tests)),
            Fate::Hung => (
                "hangs".to_owned(),
                "every test that waits for it".to_owned(),
            ),
            Fate::Survived => {
                report.fail(format!("no test notices that the code {}", b.what));
                ("0".to_owned(), String::new())
            }
        };
        // A run that is ended early has told what it knows.
        eprintln!("{red}{RED_WHEN}{}: {names}", b.what);
        report.row([b.what.to_owned(), b.violates.to_owned(), red, names]);
        report.count("breaks", 1);
        progress.step();
    }
    progress.end();
    if !earlier.is_empty() {
        report.note(format!(
            "{} of them were tried in a run of the same code that was ended before its time.",
            earlier.len()
        ));
    }
    Ok(report)
}

/// The first two.
fn shown(tests: &[String]) -> String {
    let first: Vec<String> = tests
        .iter()
        .take(2)
        .map(|name| format!("`{name}`"))
        .collect();
    first.join(", ")
}

/// The copy of the tree that is broken and tested.
struct Bench {
    tree: Tree,
}

impl Bench {
    fn set_up() -> Result<Self, Failure> {
        let tree = Tree::copy("mutate")?;
        Ok(Self { tree })
    }

    /// Whether the place to break is there, once.
    fn check(&self, b: &Break) -> Result<(), Failure> {
        let text = fs::read_to_string(self.tree.dir().join(b.file))?;
        match text.matches(b.find).count() {
            1 => Ok(()),
            n => Err(format!("{n} places in {} to break so that it {}", b.file, b.what).into()),
        }
    }

    fn run(&self, b: &Break) -> Result<Fate, Failure> {
        let whole = self.tree.patch(b.file, b.find, b.put)?;
        let fate = self.test(b);
        fs::write(self.tree.dir().join(b.file), whole)?;
        fate
    }

    fn test(&self, b: &Break) -> Result<Fate, Failure> {
        let (built, said) = self.cargo(b.target, &["--no-run"], BUILD_PATIENCE_S)?;
        if built != Some(true) {
            return Err(format!("does not build when it {}:\n{said}", b.what).into());
        }
        let first: Vec<&str> = ["--"].iter().chain(b.first).copied().collect();
        match self.look(b, &first)? {
            Fate::Survived if !b.first.is_empty() => self.look(b, &[]),
            fate => Ok(fate),
        }
    }

    fn look(&self, b: &Break, filter: &[&str]) -> Result<Fate, Failure> {
        let (green, said) = self.cargo(b.target, filter, PATIENCE_S)?;
        let red: Vec<String> = said
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... FAILED"))
            .map(|(name, _)| name.to_owned())
            .collect();
        Ok(match green {
            Some(true) => Fate::Survived,
            None => Fate::Hung,
            Some(false) if red.is_empty() => {
                return Err(format!("no test ran when it {}:\n{said}", b.what).into());
            }
            Some(false) => Fate::Noticed(red),
        })
    }

    /// Runs `cargo test`; gives whether it was green, none if it took too long, and what it said.
    fn cargo(
        &self,
        target: &[&str],
        args: &[&str],
        patience_s: u32,
    ) -> Result<(Option<bool>, String), Failure> {
        let log = self.tree.dir().with_file_name("output");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // `timeout` ends the whole group of processes, the tests' own children included.
        let status = Command::new("timeout")
            .arg(patience_s.to_string())
            .arg(cargo)
            .args(["test", "--locked", "--color=never"])
            .args(target)
            .args(args)
            .current_dir(self.tree.dir())
            .env("CARGO_TARGET_DIR", self.tree.dir().with_file_name("target"))
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .status()?;
        let green = match status.code() {
            Some(0) => Some(true),
            Some(TIMED_OUT) => None,
            _ => Some(false),
        };
        let mut said = String::new();
        File::open(&log)?.read_to_string(&mut said)?;
        Ok((green, said))
    }
}
