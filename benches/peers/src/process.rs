//! What the system says of another process.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// A field of a `status` file of /proc, without its unit.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Bytes of a process that are in memory.
pub(crate) fn resident_bytes(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    Ok(field(&text, "VmRSS").context("no VmRSS")? * 1024)
}

/// The most bytes of a process that ever were in memory.
pub(crate) fn peak_bytes(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    Ok(field(&text, "VmHWM").context("no VmHWM")? * 1024)
}

/// Seconds of processor that a process has used, all its threads together, to the hundredth.
pub(crate) fn processor_seconds(id: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name stands in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')').context("no name")?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds that all processors together were ready to work and the machine below this one did not
/// let them, since it started.
pub(crate) fn stolen_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("no processors")?;
    let ticks = line.split_ascii_whitespace().nth(8).context("no steal")?;
    Ok(ticks.parse::<f64>()? / rustix::param::clock_ticks_per_second() as f64)
}

/// How often each thread of a process has been put on a processor, by the name of the thread.
pub(crate) fn wake_ups(id: u32) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = fs::read_to_string(task?.path().join("status"))?;
        let name = text.lines().find_map(|line| line.strip_prefix("Name:"));
        let name = name.unwrap_or_default().trim().to_owned();
        let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        let count: u64 = switches
            .iter()
            .filter_map(|switch| field(&text, switch))
            .sum();
        *found.entry(name).or_default() += count;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "Name:\tx\nnonvoluntary_ctxt_switches:\t3\nvoluntary_ctxt_switches:\t7\nVmRSS:\t 12 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches"), Some(7));
        assert_eq!(field(text, "VmRSS"), Some(12));
        assert_eq!(field(text, "VmHWM"), None);
    }
}
