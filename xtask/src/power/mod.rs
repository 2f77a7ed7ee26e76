//! Power cuts: workloads run on a real ext4 over a recording disk, and the disk is then put back
//! to what a power cut at a random moment may have left of it, and opened.

mod broken;
mod device;
mod event;
mod inspect;
mod mark;
mod oracle;
mod recording;
mod stage;
mod told;
mod workload;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use everpost::clock::{Clock, SystemClock};

use crate::prove::{Plan, Progress, Report};
use inspect::{Told, check_second};
use oracle::{Expected, Fault, Found, Kind};
use recording::{Model, Recording, mix};
use stage::{Failure, Stage, Take, read_from_start};

pub(crate) use stage::run as run_program;
use told::{kinds, refused_of, tell};
use workload::{Program, Workload, settings};

/// How long the inspection of one disk may take: a hang is a fault.
const INSPECT_PATIENCE: Duration = Duration::from_secs(20);

/// Failed disks that are kept to be looked at.
const KEPT_MAX: usize = 5;

/// What each break leaves out, and the workload that must show it.
const CONTROLS: [(&str, Workload); 3] = [
    ("journal", Workload::Append),
    ("segments", Workload::Roll),
    ("letters", Workload::Bury),
];

/// Why the suite cannot run here.
pub(crate) fn missing() -> Option<String> {
    let uid = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = uid.lines().find(|line| line.starts_with("Uid:"));
    if uid.and_then(|line| line.split_whitespace().nth(2)) != Some("0") {
        return Some("it needs root".into());
    }
    let open = |path| File::options().read(true).write(true).open(path);
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if let Err(error) = open(device) {
            return Some(format!("{device}: {error}"));
        }
    }
    for (program, flag) in [
        ("mkfs.ext4", "-V"),
        ("losetup", "-V"),
        ("mount", "-V"),
        ("unshare", "-V"),
    ] {
        if let Err(error) = stage::run(program, &[flag]) {
            return Some(error.to_string());
        }
    }
    let spaces = ["--mount", "--pid", "--fork", "--mount-proc", "true"];
    stage::run("unshare", &spaces)
        .err()
        .map(|error| error.to_string())
}

/// Builds the broken program and runs the suite in namespaces of its own.
pub(crate) fn run(plan: &Plan) -> Result<Report, Failure> {
    let this = std::env::current_exe()?;
    eprintln!("PROGRESS building the program that breaks its promise");
    broken::build(&this)?;
    let mut child = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        .arg(this)
        .args(["power-suite", &serde_json::to_string(plan)?])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(out) = &mut child.stdout {
        out.read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    let last = said.lines().next_back().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| format!("the suite ended with {status}").into())
}

/// The inner commands: what processes of the suite are started with.
pub(crate) fn inner(command: &str, args: &[String]) -> Option<Result<(), Failure>> {
    Some(match (command, args) {
        ("power-suite", [plan]) => suite(plan),
        ("power-work", [workload, seed, producer, spool]) => {
            work(workload, seed, producer, Path::new(spool))
        }
        ("power-inspect", [workload, seed, spool]) => look(workload, seed, Path::new(spool)),
        _ => return None,
    })
}

fn work(workload: &str, seed: &str, producer: &str, spool: &Path) -> Result<(), Failure> {
    // Standard output is the file of the marks.
    let out = File::options().write(true).open("/dev/fd/1")?;
    let program = Program {
        workload: workload.parse()?,
        seed: seed.parse()?,
        producer: producer.parse()?,
        marks: mark::Marks::new(out),
    };
    program.run(spool)
}

fn look(workload: &str, seed: &str, spool: &Path) -> Result<(), Failure> {
    let told = inspect::inspect(spool, workload.parse()?, seed.parse()?);
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

fn suite(plan: &str) -> Result<(), Failure> {
    // The first process of its namespace: when it goes, so do all others, and their mounts. It
    // goes when the process that started it is gone, however that ended.
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(1);
    });
    let plan: Plan = serde_json::from_str(plan)?;
    let scratch = tempfile::tempdir()?;
    // In memory, and in this mount namespace alone.
    let dir = scratch.path().to_string_lossy().into_owned();
    stage::run("mount", &["-t", "tmpfs", "-o", "size=2g", "tmpfs", &dir])?;
    let report = Suite::new(plan, scratch.path())?.run();
    drop(stage::run("umount", &["-l", &dir]));
    println!("{}", serde_json::to_string(&report?)?);
    Ok(())
}

/// A recording with the row of the table it belongs to.
struct Scene {
    row: String,
    workload: Workload,
    seed: u64,
    recording: Recording,
}

/// One power cut.
struct Cut {
    scene: Arc<Scene>,
    model: Model,
    seed: u64,
}

/// What came of it.
struct Outcome {
    row: String,
    model: Model,
    noted: bool,
    /// What ext4 says if it refuses to mount the disk: then there is nothing to open.
    refused: Option<String>,
    unflushed: usize,
    faults: Vec<Fault>,
    told: String,
}

/// What the two openings found, and what is wrong with the looks.
type Inspected = (Found, Found, Vec<String>);

struct Suite {
    plan: Plan,
    this: PathBuf,
    broken: PathBuf,
    stages: Vec<Stage>,
    empty: Arc<Vec<u8>>,
    kept: AtomicUsize,
}

impl Suite {
    fn new(plan: Plan, scratch: &Path) -> Result<Self, Failure> {
        let workers = std::thread::available_parallelism()?.get();
        let stages = (0..workers).map(|n| Stage::new(scratch, &n.to_string()));
        let stages = stages.collect::<Result<Vec<_>, _>>()?;
        let first = stages.first().ok_or("no worker")?;
        let empty = Arc::new(first.empty_disk()?);
        let this = std::env::current_exe()?;
        let broken = this.with_file_name("xtask-broken");
        let kept = AtomicUsize::new(0);
        Ok(Self {
            plan,
            this,
            broken,
            stages,
            empty,
            kept,
        })
    }

    fn run(&self) -> Result<Report, Failure> {
        let began = SystemClock.monotonic();
        let mut report = Report::new(
            "Power cuts",
            &[
                "workload",
                "model",
                "points",
                "whole",
                "with a note",
                "not mounted",
                "faults",
            ],
        );
        let fresh = self.record_fresh()?;
        let nested = self.record_nested(&fresh)?;
        let twice = self.record_nested(&nested)?;
        let scenes: Vec<Arc<Scene>> = fresh.into_iter().chain(nested).chain(twice).collect();
        let cuts = self.cuts(&scenes, self.plan.points, &Model::ALL);
        let outcomes = self.cut_all("power cuts", cuts)?;
        tell(&outcomes, &mut report);
        self.control(&mut report)?;
        let took = SystemClock.monotonic().saturating_sub(began);
        let at_stake = outcomes.iter().filter(|o| o.unflushed > 0).count();
        let most = outcomes.iter().map(|o| o.unflushed).max().unwrap_or(0);
        report.note(format!(
            "{} recordings; {} power cuts without the controls, {at_stake} of them with unflushed \
             writes, {most} at the most; {} s.",
            scenes.len(),
            outcomes.len(),
            took.as_secs()
        ));
        Ok(report)
    }

    fn record_fresh(&self) -> Result<Vec<Arc<Scene>>, Failure> {
        let mut takes = Vec::new();
        for take in 0..self.plan.takes {
            let wanted = |workload: &Workload| {
                let only = self.plan.workload.as_deref();
                only.is_none_or(|only| only == workload.name())
            };
            for (n, workload) in (0..).zip(Workload::FRESH).filter(|(_, w)| wanted(w)) {
                let seed = mix(self.plan.seed, take * 100 + n);
                let row = workload.name().to_owned();
                takes.push((row, self.take(workload, seed)));
            }
        }
        self.record_all("recordings", takes)
    }

    fn take(&self, workload: Workload, seed: u64) -> Take {
        Take {
            workload,
            seed,
            producer: 0,
            image: Arc::clone(&self.empty),
            from_mount: false,
            before: Vec::new(),
            program: self.this.clone(),
            broken: None,
        }
    }

    /// Cuts each scene once, and records the mounting, the recovery and the going on after it.
    fn record_nested(&self, scenes: &[Arc<Scene>]) -> Result<Vec<Arc<Scene>>, Failure> {
        let mut takes = Vec::new();
        for (n, scene) in (0..).zip(scenes) {
            let seed = mix(self.plan.seed, 10_000 + n);
            let mut rng = fastrand::Rng::with_seed(seed);
            let cut = scene.recording.cut(&mut rng);
            let model = Model::ALL[rng.usize(0..Model::ALL.len())];
            let depth = 1 + scene.row.matches("again").count() as u64;
            let row = match depth {
                1 => "cut again".to_owned(),
                _ => "cut again, and again".to_owned(),
            };
            let take = Take {
                workload: Workload::Resume,
                seed: scene.seed,
                producer: 100 * depth,
                image: Arc::new(scene.recording.disk(cut, model, &mut rng)),
                from_mount: true,
                before: scene.recording.marks(cut),
                program: self.this.clone(),
                broken: None,
            };
            takes.push((row, take));
        }
        self.record_all("recordings of recoveries", takes)
    }

    fn record_all(
        &self,
        what: &str,
        takes: Vec<(String, Take)>,
    ) -> Result<Vec<Arc<Scene>>, Failure> {
        let scenes = self.in_parallel(what, takes, |stage, (row, take)| {
            let recording = stage.record(&take)?;
            Ok(Arc::new(Scene {
                row,
                workload: take.workload,
                seed: take.seed,
                recording,
            }))
        })?;
        Ok(scenes)
    }

    /// So many cuts for each model, spread evenly over the scenes.
    fn cuts(&self, scenes: &[Arc<Scene>], points: u64, models: &[Model]) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for n in 0..points {
            for &model in models {
                let at = usize::try_from(n).unwrap_or(0) % scenes.len().max(1);
                let scene = scenes.get(at).map(Arc::clone);
                let seed = mix(self.plan.seed, 1_000_000 + cuts.len() as u64);
                cuts.extend(scene.map(|scene| Cut { scene, model, seed }));
            }
        }
        cuts
    }

    fn cut_all(&self, what: &str, cuts: Vec<Cut>) -> Result<Vec<Outcome>, Failure> {
        self.in_parallel(what, cuts, |stage, cut| self.cut(stage, &cut))
    }

    /// The broken programs must be found out.
    fn control(&self, report: &mut Report) -> Result<(), Failure> {
        for (broken, workload) in CONTROLS {
            // With the smallest journal, so that files are recycled and what they held is lost
            // with the segments.
            let seeds = (0..).map(|n| mix(self.plan.seed, 2_000_000 + n));
            let small = |seed: &u64| settings(workload, *seed).journal_bytes == 16 << 10;
            let seed = seeds.take(100).find(small).ok_or("no seed")?;
            let mut take = self.take(workload, seed);
            take.program.clone_from(&self.broken);
            take.broken = Some(broken);
            let what = format!("control: {broken} not synced");
            let scenes = self.record_all(&what, vec![(what.clone(), take)])?;
            let cuts = self.cuts(&scenes, self.plan.control_points, &Model::ALL);
            // Their disks are not worth keeping.
            self.kept.store(KEPT_MAX, Ordering::Relaxed);
            let outcomes = self.cut_all(&what, cuts)?;
            let bad = outcomes.iter().filter(|o| !o.faults.is_empty()).count();
            let kinds = kinds(&outcomes);
            report.row([
                what.clone(),
                "all three".into(),
                outcomes.len().to_string(),
                (outcomes.len() - bad - refused_of(&outcomes)).to_string(),
                String::new(),
                refused_of(&outcomes).to_string(),
                format!("{bad}, as it must be ({kinds})"),
            ]);
            if bad == 0 {
                report.fail(format!(
                    "{what}: no cut shows it, so the suite proves nothing"
                ));
            }
        }
        Ok(())
    }

    fn cut(&self, stage: &Stage, cut: &Cut) -> Result<Outcome, Failure> {
        let mut rng = fastrand::Rng::with_seed(cut.seed);
        let recording = &cut.scene.recording;
        let at = recording.cut(&mut rng);
        let disk = recording.disk(at, cut.model, &mut rng);
        let expected = Expected::of(&recording.marks(at));
        let mut refused = None;
        let (faults, noted) = match stage.mount_image(&disk) {
            Err(error) => {
                refused = Some(error.to_string());
                (Vec::new(), false)
            }
            Ok(_mounted) => match self.inspect(stage, &cut.scene)? {
                Err(fault) => (vec![fault], false),
                Ok((first, second, alarms)) => {
                    let mut faults = expected.check(&first);
                    faults.extend(check_second(&first, &second));
                    faults.extend(alarms.iter().map(|text| Fault::new(Kind::Look, text)));
                    (faults, !first.notes.is_empty())
                }
            },
        };
        let told = format!(
            "workload `{}` seed {} position {at} of {} model {}",
            cut.scene.row,
            cut.scene.seed,
            recording.entries.len(),
            cut.model.name()
        );
        if !faults.is_empty() {
            self.keep(&disk, &told, &faults, recording, at)?;
        }
        Ok(Outcome {
            row: cut.scene.row.clone(),
            model: cut.model,
            noted,
            refused,
            unflushed: recording.unflushed(at),
            faults,
            told,
        })
    }

    fn inspect(&self, stage: &Stage, scene: &Scene) -> Result<Result<Inspected, Fault>, Failure> {
        let out = tempfile::tempfile()?;
        let mut child = Command::new(&self.this)
            .args(["power-inspect", scene.workload.name()])
            .arg(scene.seed.to_string())
            .arg(stage.mount_dir().join("a/spool"))
            .stdout(out.try_clone()?)
            .stderr(Stdio::null())
            .spawn()?;
        let Some(status) = stage::wait(&mut child, INSPECT_PATIENCE)? else {
            child.kill()?;
            child.wait()?;
            let text = format!("no end within {INSPECT_PATIENCE:?}");
            return Ok(Err(Fault::new(Kind::Hang, text)));
        };
        let mut said = String::new();
        read_from_start(out, &mut said)?;
        Ok(match serde_json::from_str(&said) {
            Ok(Told::Found(first, second, alarms)) => Ok((*first, *second, alarms)),
            Ok(Told::Refused(text)) => Err(Fault::new(Kind::Refused, text)),
            Err(_) => Err(Fault::new(Kind::Panic, format!("ended with {status}"))),
        })
    }

    /// Keeps a disk that failed, with what was expected of it.
    fn keep(
        &self,
        disk: &[u8],
        told: &str,
        faults: &[Fault],
        recording: &Recording,
        at: usize,
    ) -> Result<(), Failure> {
        let number = self.kept.fetch_add(1, Ordering::Relaxed);
        if number >= KEPT_MAX {
            return Ok(());
        }
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/prove");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("{number}.img")), disk)?;
        let marks = recording.marks(at);
        let marks: String = marks.iter().map(mark::Mark::line).collect();
        let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let text = format!("{told}\n{}\n\n{marks}", faults.join("\n"));
        fs::write(dir.join(format!("{number}.txt")), text)?;
        Ok(())
    }

    /// Does each piece of work on the next free stage, and gives what came of them in order.
    fn in_parallel<I: Send, O: Send>(
        &self,
        what: &str,
        work: Vec<I>,
        perform: impl Fn(&Stage, I) -> Result<O, Failure> + Sync,
    ) -> Result<Vec<O>, Failure> {
        let mut progress = Progress::new(what, work.len());
        let work = Mutex::new(work.into_iter().enumerate());
        let next = || {
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            work.next()
        };
        let (done, results) = mpsc::channel();
        let mut all = BTreeMap::new();
        std::thread::scope(|scope| {
            for stage in &self.stages {
                let (next, done, perform) = (&next, done.clone(), &perform);
                scope.spawn(move || {
                    while let Some((number, piece)) = next() {
                        if done.send((number, perform(stage, piece))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            while let Ok((number, result)) = results.recv() {
                all.insert(number, result?);
                progress.step();
            }
            // The others see that their results are not taken any more.
            drop(results);
            Ok::<_, Failure>(())
        })?;
        progress.end();
        Ok(all.into_values().collect())
    }
}
