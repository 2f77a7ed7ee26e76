//! What the system lets this process do.

use super::Finding;

#[cfg(unix)]
pub(super) fn limits() -> Vec<Finding> {
    use rustix::process::{Resource, getrlimit};
    let limits = [
        (
            "files",
            "open files",
            getrlimit(Resource::Nofile).current,
            64,
            "`ulimit -n 1024`, or LimitNOFILE= in the unit",
        ),
        (
            "filesize",
            "bytes in a file",
            getrlimit(Resource::Fsize).current,
            64 << 20,
            "`ulimit -f unlimited`, or LimitFSIZE= in the unit",
        ),
        (
            "processes",
            "threads of this user",
            getrlimit(Resource::Nproc).current,
            64,
            "`ulimit -u 1024`, or LimitNPROC= in the unit",
        ),
    ];
    limits
        .into_iter()
        .map(|(check, of, limit, least, advice)| finding(check, of, limit, least, advice))
        .collect()
}

#[cfg(not(unix))]
pub(super) fn limits() -> Vec<Finding> {
    Vec::new()
}

#[cfg(unix)]
fn finding(check: &'static str, of: &str, limit: Option<u64>, least: u64, advice: &str) -> Finding {
    match limit {
        None => Finding::ok(check, format!("no limit of {of}")),
        Some(limit) if limit < least => {
            let text = format!("at most {limit} {of}; {least} are enough for every need");
            Finding::warn(check, text, advice)
        }
        Some(limit) => Finding::ok(check, format!("at most {limit} {of}")),
    }
}
