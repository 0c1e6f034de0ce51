//! What the process costs: CPU time, memory and descriptors, read from `/proc/self`.
//!
//! Owned by `admin`, which reads it at a scrape. What cannot be read (no `/proc`, another system) is left out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// Reads the process's costs.
///
/// It keeps `/proc/self/stat` open, so that a scrape still answers when descriptors have run out, which is when it
/// matters most.
#[derive(Debug)]
pub struct ProcessReader {
    stat: Option<File>,
    /// Since the Unix epoch.
    started: Option<Duration>,
}

/// What the process costs, as far as it could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// CPU time, user and system, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// The limit of open descriptors; `None` where there is none.
    pub max_fds: Option<u64>,
    /// When the process started, in seconds since the Unix epoch.
    pub start_time: Option<f64>,
}

impl ProcessReader {
    /// Opens what is read at every scrape.
    #[must_use]
    pub fn open() -> Self {
        let stat = File::open("/proc/self/stat").ok();
        let started = stat.as_ref().and_then(read_stat).and_then(|s| Some(boot_time()? + s.started_after_boot));
        Self { stat, started }
    }

    /// Reads everything.
    #[must_use]
    pub fn read(&self) -> Process {
        let stat = self.stat.as_ref().and_then(read_stat);
        Process {
            cpu_seconds: stat.map(|s| s.cpu.as_secs_f64()),
            resident_bytes: stat.map(|s| s.resident_bytes),
            virtual_bytes: stat.map(|s| s.virtual_bytes),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            start_time: self.started.map(|d| d.as_secs_f64()),
        }
    }
}

/// The fields of `/proc/self/stat` that matter here (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu: Duration,
    started_after_boot: Duration,
    virtual_bytes: u64,
    resident_bytes: u64,
}

fn read_stat(file: &File) -> Option<Stat> {
    let mut buffer = [0; 2048]; // the line has some fifty numbers
    let n = file.read_at(&mut buffer, 0).ok()?;
    parse_stat(std::str::from_utf8(&buffer[..n]).ok()?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The rest begins with field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu: ticks(field(14)?.checked_add(field(15)?)?),
        started_after_boot: ticks(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.checked_mul(page_size() as u64)?,
    })
}

fn ticks(n: u64) -> Duration {
    Duration::from_secs_f64(n as f64 / clock_ticks_per_second().max(1) as f64)
}

/// When the system started, since the Unix epoch.
fn boot_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(Duration::from_secs(seconds))
}

fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the folder's size is the count, and asking for it takes no descriptor. Before, it is 0.
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        n => Some(n),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::{ProcessReader, parse_stat};

    #[test]
    fn this_process_has_a_cost() {
        let process = ProcessReader::open().read();
        assert!(process.resident_bytes.unwrap() > 1 << 20 && process.virtual_bytes > process.resident_bytes);
        assert!(process.open_fds.unwrap() >= 3);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..=now + 1.0).contains(&process.start_time.unwrap()));
    }

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 900 4096 2 18446744073709551615";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.cpu.as_secs(), stat.started_after_boot.as_secs(), stat.virtual_bytes), (2, 9, 4096));
        assert_eq!(stat.resident_bytes, 2 * rustix::param::page_size() as u64);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9() S-]{0,200}") {
            let _ = parse_stat(&text);
        }
    }
}
