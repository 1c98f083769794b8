//! What the kernel tells of threads, processes, sockets and the machine: readers of /proc. Times are CPU times.
use crate::report::model::{CpuTime, Machine, MachineSample};
use std::collections::{HashMap, HashSet};
use std::fs;

/// The clock ticks of `/proc/<pid>/stat` in one second: a constant of Linux's interface to user space.
const TICKS_A_SECOND: u64 = 100;

/// What the calling thread has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadCpu {
    nanos: u64,
    user_ticks: u64,
    system_ticks: u64,
}

impl ThreadCpu {
    /// Of the calling thread.
    pub fn now() -> Self {
        Self::read("/proc/thread-self")
    }

    fn read(folder: &str) -> Self {
        let (user_ticks, system_ticks) = ticks(&format!("{folder}/stat")).unwrap_or_default();
        let exact = fs::read_to_string(format!("{folder}/schedstat")).ok();
        let nanos = exact.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
        // Without schedstat (a kernel option) the ticks must do.
        let nanos = nanos.unwrap_or((user_ticks + system_ticks) * (1_000_000_000 / TICKS_A_SECOND));
        Self { nanos, user_ticks, system_ticks }
    }

    /// What was used since an earlier moment. The sum is exact to a scheduler's tick; how it divides is by sampled ticks.
    pub fn since(&self, earlier: &Self) -> CpuTime {
        split(
            self.nanos.saturating_sub(earlier.nanos),
            self.user_ticks.saturating_sub(earlier.user_ticks),
            self.system_ticks.saturating_sub(earlier.system_ticks),
        )
    }
}

fn split(nanos: u64, user: u64, system: u64) -> CpuTime {
    let total_us = nanos / 1_000;
    let user_us = total_us * user / (user + system).max(1);
    CpuTime { user_us, system_us: total_us - user_us }
}

/// User and system ticks of a process or a thread.
fn ticks(path: &str) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(path).ok()?;
    // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// What a process has used and holds.
#[derive(Clone, Debug, Default)]
pub struct ProcessUsage {
    user_ticks: u64,
    system_ticks: u64,
    /// Of each thread that lives.
    threads: HashMap<u64, u64>,
    pub rss_bytes: u64,
    pub descriptors: u64,
}

impl ProcessUsage {
    /// None if there is no such process, or it is not ours to look at.
    pub fn read(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}");
        let (user_ticks, system_ticks) = ticks(&format!("{folder}/stat"))?;
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let rss_kib: u64 =
            status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
        let tasks = fs::read_dir(format!("{folder}/task")).ok()?.flatten();
        let threads = tasks.filter_map(|task| {
            let id = task.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((id, text.split_ascii_whitespace().next()?.parse().ok()?))
        });
        let descriptors = fs::read_dir(format!("{folder}/fd")).map_or(0, |entries| entries.count() as u64);
        Some(Self { user_ticks, system_ticks, threads: threads.collect(), rss_bytes: rss_kib * 1_024, descriptors })
    }

    /// CPU used since an earlier moment. Where the kernel counts nanoseconds for each thread they are used, and the ticks tell how they divide.
    pub fn cpu_since(&self, earlier: &Self) -> CpuTime {
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        let system = self.system_ticks.saturating_sub(earlier.system_ticks);
        let by_ticks = (user + system) * (1_000_000_000 / TICKS_A_SECOND);
        let threads =
            self.threads.iter().map(|(id, nanos)| nanos.saturating_sub(earlier.threads.get(id).copied().unwrap_or(0)));
        let nanos: u64 = threads.sum();
        // A thread that has ended meanwhile is only in the ticks.
        let ended = earlier.threads.keys().any(|id| !self.threads.contains_key(id));
        let nanos = if nanos == 0 || ended { nanos.max(by_ticks) } else { nanos };
        split(nanos, user, system)
    }
}

/// What each thread of a process has used, and what all did, those that have ended included.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    /// By the thread's id: its name, and nanoseconds.
    pub each: HashMap<u64, (String, u64)>,
    /// Nanoseconds.
    pub all: u64,
}

impl Threads {
    /// None if there is no such process, or it is not ours to look at.
    pub fn read(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}");
        let tasks = fs::read_dir(format!("{folder}/task")).ok()?.flatten();
        let each = tasks.filter_map(|task| {
            let id = task.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((id, (name, text.split_ascii_whitespace().next()?.parse().ok()?)))
        });
        let each = each.collect();
        let (user, system) = ticks(&format!("{folder}/stat"))?;
        Some(Self { each, all: (user + system) * (1_000_000_000 / TICKS_A_SECOND) })
    }
}

/// Counts the datagrams that the kernel dropped because a socket was full, for some ports.
#[derive(Debug, Default)]
pub struct SocketDrops {
    /// By port: what its socket said last.
    last: HashMap<u16, u64>,
    pub total: u64,
}

impl SocketDrops {
    /// Reads the sockets of these ports, and gives what is new since the last call. Sockets that closed meanwhile are in it as far as they were read.
    pub fn update(&mut self, ports: &HashSet<u16>) -> u64 {
        let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let mut now: HashMap<u16, u64> = HashMap::new();
        for (port, drops) in tables.iter().flat_map(|text| text.lines().skip(1).filter_map(port_and_drops)) {
            if ports.contains(&port) {
                *now.entry(port).or_default() += drops;
            }
        }
        let fresh = now.iter().map(|(port, drops)| {
            let before = self.last.get(port).copied().unwrap_or(0);
            // A port that is used again begins at zero.
            if *drops >= before { drops - before } else { *drops }
        });
        let fresh = fresh.sum();
        self.last = now;
        self.total += fresh;
        fresh
    }
}

/// The local port and the drops of a line of `/proc/net/udp`: the second and the last field.
fn port_and_drops(line: &str) -> Option<(u16, u64)> {
    let local = line.split_ascii_whitespace().nth(1)?;
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    Some((port, line.split_ascii_whitespace().next_back()?.parse().ok()?))
}

/// Time of all cores so far, in ticks: everything, idle, in interrupts, stolen by the hypervisor.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineCpu {
    total: u64,
    idle: u64,
    interrupts: u64,
    stolen: u64,
}

impl MachineCpu {
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().next().and_then(|l| l.strip_prefix("cpu ")).unwrap_or_default();
        let fields: Vec<u64> = line.split_ascii_whitespace().filter_map(|f| f.parse().ok()).collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or(0);
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
        let (idle, interrupts) = (field(3) + field(4), field(5) + field(6));
        Self { total: fields.iter().take(8).sum(), idle, interrupts, stolen: field(7) }
    }

    /// What was done since an earlier moment.
    pub fn since(&self, earlier: &Self) -> MachineSample {
        let total = self.total.saturating_sub(earlier.total).max(1) as f64;
        let share = |now: u64, then: u64| (now.saturating_sub(then) as f64 / total).clamp(0.0, 1.0);
        MachineSample {
            busy_share: 1.0 - share(self.idle, earlier.idle),
            interrupt_share: share(self.interrupts, earlier.interrupts),
            steal_share: share(self.stolen, earlier.stolen),
        }
    }
}

/// What this machine is.
pub fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let number = |path: &str| read(path).trim().parse().unwrap_or(0);
    let info = read("/proc/cpuinfo");
    let value = |line: &str| line.split_once(':').map(|(_, v)| v.trim().to_owned());
    let memory = read("/proc/meminfo");
    let total_kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let load = read("/proc/loadavg");
    Machine {
        cpu_model: info.lines().find(|l| l.starts_with("model name")).and_then(value).unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        memory_bytes: total_kib.unwrap_or(0u64) * 1_024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load_before: load.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0),
        rmem_max_bytes: number("/proc/sys/net/core/rmem_max"),
        wmem_max_bytes: number("/proc/sys/net/core/wmem_max"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_drops_of_ones_own_socket_are_seen_and_no_others() {
        let (full, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let port = full.local_addr().unwrap().port();
        let ports = HashSet::from([port]);
        let mut drops = SocketDrops::default();
        assert_eq!(drops.update(&ports), 0);
        // The usual buffer takes a few hundred of these.
        for _ in 0..2_000 {
            other.send_to(&[0; 1_000], full.local_addr().unwrap()).unwrap();
        }
        let first = drops.update(&ports);
        assert!(first > 500, "{first}");
        assert_eq!((drops.update(&ports), drops.total), (0, first));
        assert_eq!(drops.update(&HashSet::new()), 0);
    }

    #[test]
    fn a_line_of_proc_net_udp_is_read() {
        let line = "  497: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1357 2 ffff8881 42";
        assert_eq!(port_and_drops(line), Some((8080, 42)));
    }

    #[test]
    #[expect(clippy::disallowed_methods)]
    fn cpu_time_is_that_of_the_thread_and_of_the_process() {
        let (thread, process) = (ThreadCpu::now(), ProcessUsage::read(std::process::id()).unwrap());
        let until = std::time::Instant::now() + std::time::Duration::from_millis(120);
        let mut sum = 0u64;
        while std::time::Instant::now() < until {
            sum = std::hint::black_box(sum + 1);
        }
        let used = ThreadCpu::now().since(&thread).total_us();
        assert!((5_000..200_000).contains(&used), "{used}");
        let now = ProcessUsage::read(std::process::id()).unwrap();
        assert!(now.cpu_since(&process).total_us() >= used / 2);
        assert!(now.rss_bytes > 100_000 && now.descriptors > 2);
    }

    #[test]
    fn the_machines_shares_are_of_all_cores() {
        let before = MachineCpu::parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1");
        let after = MachineCpu::parse("cpu  150 0 120 710 100 0 10 10 5 0\ncpu0 1");
        let sample = after.since(&before);
        assert_eq!((sample.busy_share, sample.interrupt_share, sample.steal_share), (0.9, 0.1, 0.1));
    }
}
