//! Disks, loop devices and mounts. Everything lives in mount and process namespaces of its own,
//! so the system clears up whatever is left when this process ends, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use everpost::clock::{Clock, SystemClock};

use super::device::Device;
use super::mark::Mark;
use super::recording::{Entry, Recording};
use super::workload::Workload;

/// Bytes of the disk: room for every workload's backlog.
const DISK_BYTES: u64 = 28 << 20;

/// How long one process of a workload may take.
const WORK_PATIENCE: Duration = Duration::from_secs(180);

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A directory in memory to work in.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Makes one below a directory.
    pub(crate) fn new(parent: &Path, name: &str) -> Result<Self, Failure> {
        let dir = parent.join(name);
        for sub in ["fuse", "mount"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        Ok(Self { dir })
    }

    pub(crate) fn mount_dir(&self) -> PathBuf {
        self.dir.join("mount")
    }

    /// An empty file system.
    pub(crate) fn empty_disk(&self) -> Result<Vec<u8>, Failure> {
        let path = self.dir.join("empty");
        File::create(&path)?.set_len(DISK_BYTES)?;
        let text = path.to_string_lossy();
        // Nothing is left for later, so that a workload meets only its own writes.
        let extended = "lazy_itable_init=0,lazy_journal_init=0";
        run(
            "mkfs.ext4",
            &[
                "-q", "-F", "-b", "4096", "-N", "512", "-m", "0", "-E", extended, &text,
            ],
        )?;
        let image = fs::read(&path)?;
        fs::remove_file(&path)?;
        Ok(image)
    }

    /// Mounts an image that is not recorded.
    pub(crate) fn mount_image(&self, image: &[u8]) -> Result<Mounted, Failure> {
        let path = self.dir.join("image");
        let mut file = OpenOptions::new();
        file.write(true).create(true).truncate(false);
        file.open(&path)?.write_all(image)?;
        let at = self.mount_dir();
        let (image, dir) = (path.to_string_lossy(), at.to_string_lossy());
        run("mount", &["-t", "ext4", "-o", "loop", &image, &dir])?;
        Ok(Mounted { at })
    }

    /// Records a workload on a disk.
    pub(crate) fn record(&self, take: &Take) -> Result<Recording, Failure> {
        let fuse = self.dir.join("fuse");
        let device = Device::mount(Vec::clone(&take.image), &fuse)?;
        let looped = Loop::over(&fuse.join("disk"))?;
        let at = self.mount_dir();
        run(
            "mount",
            &["-t", "ext4", &looped.device, &at.to_string_lossy()],
        )?;
        let mounted = Mounted { at };
        let start = if take.from_mount {
            0
        } else {
            run("sync", &["-f", &mounted.at.to_string_lossy()])?;
            device.len()
        };
        take.perform(&mounted.at, &fuse.join("mark"))?;
        // What the unmounting writes is no part of it.
        let end = device.len();
        drop(mounted);
        looped.detach()?;
        let mut entries = device.finish()?;
        entries.truncate(end);
        let is_open = |entry: &Entry| *entry == Entry::Mark("OPEN".to_owned());
        let opened = entries.iter().position(is_open).unwrap_or(0);
        Ok(Recording {
            image: Arc::clone(&take.image),
            entries,
            start,
            opening: take.from_mount.then_some(opened),
            before: take.before.clone(),
        })
    }
}

/// One recording to be made.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) workload: Workload,
    pub(crate) seed: u64,
    pub(crate) producer: u64,
    pub(crate) image: Arc<Vec<u8>>,
    /// Whether the mounting and the opening belong to it: a power cut came before.
    pub(crate) from_mount: bool,
    pub(crate) before: Vec<Mark>,
    /// The program that runs the workload, and what is broken in it on purpose.
    pub(crate) program: PathBuf,
    pub(crate) broken: Option<&'static str>,
}

impl Take {
    fn perform(&self, mount: &Path, mark: &Path) -> Result<(), Failure> {
        let spool = mount.join("a/spool");
        if self.workload != Workload::Kill {
            return self.run_to_end(self.workload, self.producer, &spool, mark);
        }
        let mut rng = fastrand::Rng::with_seed(self.seed);
        for round in 0..8 {
            let mut child = self.spawn(self.workload, self.producer + round, &spool, mark)?;
            let life = Duration::from_millis(rng.u64(20..600));
            match wait(&mut child, life)? {
                None => {
                    child.kill()?;
                    child.wait()?;
                }
                Some(status) => return Err(format!("{self}: ended with {status}").into()),
            }
        }
        self.run_to_end(Workload::Resume, self.producer + 8, &spool, mark)
    }

    fn run_to_end(
        &self,
        workload: Workload,
        producer: u64,
        spool: &Path,
        mark: &Path,
    ) -> Result<(), Failure> {
        let mut child = self.spawn(workload, producer, spool, mark)?;
        match wait(&mut child, WORK_PATIENCE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{self}: ended with {status}").into()),
            None => {
                child.kill()?;
                child.wait()?;
                Err(format!("{self}: no end within {WORK_PATIENCE:?}").into())
            }
        }
    }

    fn spawn(
        &self,
        workload: Workload,
        producer: u64,
        spool: &Path,
        mark: &Path,
    ) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["power-work", workload.name()]);
        command.args([self.seed.to_string(), producer.to_string()]);
        command.arg(spool);
        command.stdout(OpenOptions::new().write(true).open(mark)?);
        if let Some(broken) = self.broken {
            command.env("EVERPOST_BREAK", broken);
        }
        Ok(command.spawn()?)
    }
}

impl std::fmt::Display for Take {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "workload `{}` seed {}", self.workload.name(), self.seed)
    }
}

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.at.to_string_lossy();
        if run("umount", &[&at]).is_err() {
            // A process still looks into it; it goes with that.
            drop(run("umount", &["-l", &at]));
        }
    }
}

/// A loop device, given back when dropped.
struct Loop {
    device: String,
}

impl Loop {
    fn over(file: &Path) -> Result<Self, Failure> {
        let file = file.to_string_lossy();
        let device = run("losetup", &["--direct-io=on", "--show", "-f", &file])?;
        let device = device.trim().to_owned();
        Ok(Self { device })
    }

    /// Gives it back and waits until it is.
    fn detach(self) -> Result<(), Failure> {
        let name = self.device.trim_start_matches("/dev/").to_owned();
        drop(self);
        let backing = format!("/sys/block/{name}/loop/backing_file");
        for _ in 0..500 {
            if !Path::new(&backing).exists() {
                return Ok(());
            }
            pause();
        }
        Err(format!("loop device {name} is not given back").into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(run("losetup", &["-d", &self.device]));
    }
}

/// Waits for a child; `None` if it still runs after so long.
pub(crate) fn wait(
    child: &mut Child,
    patience: Duration,
) -> Result<Option<std::process::ExitStatus>, Failure> {
    let deadline = SystemClock.monotonic() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if SystemClock.monotonic() >= deadline {
            return Ok(None);
        }
        pause();
    }
}

/// Without unsafe code a child does not tell that it has ended, so it is looked for now and then.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(2));
}

/// Runs a program of the system and gives what it says.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, Failure> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("failed to start {program}: {error}"))?;
    let mut said = String::new();
    if let Some(out) = &mut child.stdout {
        out.read_to_string(&mut said)?;
    }
    let end = child.wait_with_output()?;
    if end.status.success() {
        return Ok(said);
    }
    let error = String::from_utf8_lossy(&end.stderr);
    Err(format!("{program} {}: {}", args.join(" "), error.trim()).into())
}

pub(super) fn read_from_start(mut file: File, text: &mut String) -> std::io::Result<()> {
    use std::io::Seek;
    file.rewind()?;
    file.read_to_string(text).map(drop)
}
