//! The list of the suites.

use super::{Failure, Plan, Report};
use crate::{fuzz, mutate, power, soak};

/// One suite. To add one is to add it to `SUITES`.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// What it does, in a sentence.
    pub(crate) what: &'static str,
    pub(crate) how: How,
}

pub(crate) enum How {
    /// By tests of the library, in one or more processes.
    Tests(fn(&Plan) -> Vec<Run>),
    /// By a function; the first says why it cannot run here. It runs in a process of its own.
    Function(fn() -> Option<String>, fn(&Plan) -> Result<Report, Failure>),
}

/// One process of tests. They print what they counted as `PROVED kills=3 lost=0`, how far they are
/// as `PROGRESS 1 of 3 kills`, and what they cannot do here as `SKIPPED why`.
#[derive(Clone)]
pub(crate) struct Run {
    /// The file in `tests/` without its ending, or `lib` for the tests in `src/`.
    pub(crate) target: &'static str,
    /// Only tests whose name holds this.
    pub(crate) filter: &'static str,
    pub(crate) env: Vec<(&'static str, String)>,
    /// Whether its spools are in memory, where that is possible. What a dead process has written is
    /// with the system, wherever that keeps it; only what outlives the system needs a disk.
    pub(crate) in_memory: bool,
}

impl Run {
    fn of(target: &'static str) -> Self {
        Self {
            target,
            filter: "",
            env: Vec::new(),
            in_memory: true,
        }
    }

    fn only(self, filter: &'static str) -> Self {
        Self { filter, ..self }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.env.push((name, value.to_string()));
        self
    }

    fn on_disk(self) -> Self {
        Self {
            in_memory: false,
            ..self
        }
    }
}

/// Suites that have no quick form.
pub(super) const ONLY_LONG: [&str; 2] = ["fuzzing", "mutations"];

/// The longest come first, so that none is left alone at the end.
pub(crate) static SUITES: [Suite; 14] = [
    Suite {
        name: "power",
        what: "Workloads run on ext4 over a disk that records every write. The disk is put back to \
               what a power cut at a random moment may have left of it, mounted and opened.",
        how: How::Function(power::missing, power::run),
    },
    Suite {
        name: "mutations",
        what: "The code is broken on purpose, in one place at a time, and a test must notice.",
        how: How::Function(
            || None,
            |plan| {
                let breaks: Vec<String> = plan.breaks.iter().cloned().collect();
                mutate::suite(&breaks, plan.since.as_deref())
            },
        ),
    },
    Suite {
        name: "kills",
        what: "A program that appends and delivers dies of SIGKILL, at random moments and at chosen \
               system calls. Everything acknowledged arrives in order and to the byte; only the \
               batch in flight comes twice.",
        how: How::Tests(kills),
    },
    Suite {
        name: "syscalls",
        what: "The system refuses a call of the whole program, once or from there on, with one \
               of the errors that it may give. Everything acknowledged is there afterwards.",
        how: How::Tests(syscalls),
    },
    Suite {
        name: "model",
        what: "Random operations, reopenings and crashes on the log on disk and on a model in \
               memory. Both say the same after each step.",
        how: How::Tests(|plan| {
            let half = plan.either(600, 3_000);
            let run = |seed| {
                Run::of("lib")
                    .only("log::model_tests")
                    .with("MODEL_CASES", half)
                    .with("MODEL_SEED", seed)
            };
            vec![run(plan.seed), run(plan.seed + half)]
        }),
    },
    Suite {
        name: "damage",
        what: "Random harm to every kind of file of a spool, and one flipped bit wherever a reader \
               begins; a look before and after every opening. Nothing altered is delivered, what is \
               gone is reported with its exact range, a look changes nothing and says what the \
               opening finds.",
        how: How::Tests(damage),
    },
    Suite {
        name: "soak",
        what: "A program with a small queue is killed again and again while it appends and delivers; \
               the receiver checks every event, and memory, disk, descriptors, threads and the time \
               to open do not grow.",
        how: How::Function(
            || None,
            |plan| {
                soak::suite(soak::Soak {
                    events: plan.either(200_000, 10_000_000),
                    kills: plan.either(20, 500),
                    seed: plan.seed,
                    write: false,
                })
            },
        ),
    },
    Suite {
        name: "fuzz",
        what: "Bytes of any kind for everything that reads bytes from the disk or the network: those \
               of the corpus.",
        how: How::Tests(|_| vec![Run::of("corpus")]),
    },
    Suite {
        name: "concurrency",
        what: "The thread of the log, its callers, commits and ends, under many schedules.",
        how: How::Tests(|plan| {
            vec![
                Run::of("lib")
                    .only("log::schedule_tests")
                    .with("SCHEDULES", plan.either(300, 20_000))
                    .with("SCHEDULES_SEED", plan.seed),
            ]
        }),
    },
    Suite {
        name: "network",
        what: "Everything that can happen to a request on its way, through real sockets: \
               connections that break, answers that are lost, late, wrong or endless.",
        how: How::Tests(|_| vec![Run::of("delivery").on_disk()]),
    },
    Suite {
        name: "fleet",
        what: "Spools deliver into a stream on three real servers of NATS while the leaders are killed and \
               connections cut; workers carry the events on to a receiver while servers and workers are \
               killed, frozen and continued. Every acknowledged event is in the stream once and in \
               order, and reaches the receiver in order; only batches under way come twice.",
        how: How::Tests(fleet),
    },
    Suite {
        name: "disk",
        what: "A disk that is full to the last byte, before and after a restart. Delivery goes on, \
               and makes room.",
        how: How::Tests(|_| vec![Run::of("full_disk")]),
    },
    Suite {
        name: "faults",
        what: "Each call below the journal fails, once or for ever. Everything acknowledged is \
               there afterwards.",
        how: How::Tests(|_| vec![Run::of("lib").only("log::fault_tests")]),
    },
    Suite {
        name: "fuzzing",
        what: "A fuzzer changes the inputs of the suite `fuzz` and keeps what reaches new code.",
        how: How::Function(fuzz::missing, fuzz::run),
    },
];

/// The servers have their files in memory: what a power cut leaves is theirs to say.
fn fleet(plan: &Plan) -> Vec<Run> {
    let storm = Run::of("fleet")
        .only("storm::")
        .with("FLEET_EVENTS", plan.either(4_000, 80_000))
        .with("FLEET_KILLS", plan.either(6, 60))
        .with("FLEET_CUTS", plan.either(10, 100))
        .with("FLEET_SEED", plan.seed);
    let workers = Run::of("fleet")
        .only("workers::")
        .with("FLEET_SECONDS", plan.either(20, 180))
        .with("FLEET_SEED", plan.seed);
    vec![storm, workers]
}

/// Half of the random kills meet the program waiting for a disk, half at work in memory.
fn kills(plan: &Plan) -> Vec<Run> {
    let half = plan.either(300, 5_000);
    let crash = |seed| {
        Run::of("crash")
            .with("CRASH_KILLS", half)
            .with("CRASH_SEED", seed)
    };
    let mut runs = vec![crash(plan.seed).on_disk(), crash(plan.seed + 1_000)];
    runs.extend(traced("kill_points", plan));
    runs
}

/// In the long run the flipped bits are divided among several processes, each with places of its own.
fn damage(plan: &Plan) -> Vec<Run> {
    let trials = Run::of("damage").only("i8_");
    let trials = trials
        .with("DAMAGE_TRIALS", plan.either(400, 4_000))
        .with("DAMAGE_SEED", plan.seed);
    let bits = |n| {
        Run::of("damage")
            .only("i11_")
            .with("DAMAGE_BITS", plan.either(400, 2_000))
            .with("DAMAGE_SEED", plan.seed + n)
    };
    let parts = plan.either(1, 4);
    std::iter::once(trials)
        .chain((0..parts).map(bits))
        .collect()
}

fn syscalls(plan: &Plan) -> Vec<Run> {
    traced("syscall_faults", plan)
}

/// In the long run every place, divided among several processes.
fn traced(target: &'static str, plan: &Plan) -> Vec<Run> {
    let run = Run::of(target).with("TRACED_SEED", plan.seed);
    if !plan.long {
        return vec![run];
    }
    let part = |n| format!("{n}/4");
    let all = run.with("TRACED_ALL", 1);
    (0..4)
        .map(|n| all.clone().with("TRACED_PART", part(n)))
        .collect()
}
