//! What the kernel says of this process (proc(5)), under the names that Prometheus's own clients use.

use super::{Page, amount, number};
use std::fs;

/// Puts it onto the page; what cannot be read is left out.
pub(super) fn read(page: &Page) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(fields) {
        let ticks = number(rustix::param::clock_ticks_per_second());
        page.counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            number(stat.cpu) / ticks,
        );
        page.gauge("process_threads", "Number of OS threads in the process.", number(stat.threads));
        if let Some(boot) = boot_time() {
            let started = number(boot) + number(stat.started) / ticks;
            let help = "Start time of the process since unix epoch in seconds.";
            page.gauge("process_start_time_seconds", help, started);
        }
    }
    if let Ok(statm) = fs::read_to_string("/proc/self/statm") {
        let size = amount(rustix::param::page_size());
        let mut pages = statm.split_whitespace().map(|field| field.parse().ok().map(|n| number(n) * size));
        if let (Some(Some(all)), Some(Some(resident))) = (pages.next(), pages.next()) {
            page.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", all);
            page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The listing itself has one open.
        let open = open.count().saturating_sub(1);
        page.gauge("process_open_fds", "Number of open file descriptors.", amount(open));
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.gauge("process_max_fds", "Maximum number of open file descriptors.", number(most));
    }
}

struct Stat {
    /// Ticks, of user and system.
    cpu: u64,
    threads: u64,
    /// Ticks since boot.
    started: u64,
}

/// Fields are counted from behind the program's name, which may hold spaces and brackets.
fn fields(stat: &str) -> Option<Stat> {
    let rest: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // proc(5) counts from 1 and has two fields before these.
    let field = |number: usize| rest.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { cpu: field(14)? + field(15)?, threads: field(20)?, started: field(22)? })
}

/// Seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_bracket_moves_no_field() {
        let line = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0 9 0 12345 0 0";
        let stat = fields(line).expect("read");
        assert_eq!((stat.cpu, stat.threads, stat.started), (100, 9, 12345));
        assert!(fields("42 (short) S 1").is_none());
    }
}
