#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/v1");

/// In memory where the system has such a place, since every input writes a spool.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    dir.expect("no directory for a spool")
}

fuzz_target!(
    init: {
        // sled panics on damaged files, and the library catches that. libFuzzer's hook would end
        // the process at once; what nobody catches still does.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    },
    |edits: &[u8]| {
        let scratch = scratch();
        everpost_fuzz::spool(edits, GOLDEN.as_ref(), scratch.path());
    }
);
