//! The console of a virtual machine → its part of a start: when the kernel started, when init, when the process.
//!
//! Kernel lines carry seconds since the kernel's start (`[    0.143252] …`, `CONFIG_PRINTK_TIME`). What init says comes in
//! one of three forms: a kernel line (a guest that writes its milestones to `/dev/kmsg`), or a line of Apple's vminitd,
//! `2026-08-07T08:15:41.905Z info vminitd: k: v message`, before containerization 0.31
//! `2026-02-25T08:15:41+0000 info vminitd : k=v [vminitd] message` (whole seconds). The guest's wall clock may be off, so
//! that only differences within it are used.
//!
//! A log is read as it grows: lines end in LF or CRLF, may be cut anywhere, may run into one another, and boots follow
//! one another in one file.

use super::Moments;
use crate::root::{Nanos, SECOND, parse_date};

/// A log that is being read. Feed it what is new.
#[derive(Debug, Default)]
pub struct BootLog {
    /// A line whose end has not come yet.
    partial: Vec<u8>,
    /// A line of init's that a kernel line interrupted.
    interrupted: String,
    boots: Vec<Boot>,
}

/// One boot of the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Boot {
    /// Kernel clock of the newest kernel line.
    latest: Option<Nanos>,
    /// Kernel clock when init was started.
    init: Option<Nanos>,
    /// First line of init's own, by the guest's wall clock.
    first_word: Option<Nanos>,
    process_created: Option<Stamp>,
    running: Option<Stamp>,
    /// Host's boot clock at the kernel clock's zero: never later than any kernel line was read, less its stamp.
    kernel_zero: Option<Nanos>,
    /// What init said of a start that failed.
    pub failure: Option<String>,
    /// The container's process ended.
    pub exit_status: Option<i32>,
}

/// When a milestone was, in the guest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stamp {
    Kernel(Nanos),
    /// The guest's wall clock, to the millisecond or finer.
    Wall(Nanos),
    /// Whole seconds: too coarse to measure with; the host's boot clock when the line was read is the better witness.
    Coarse {
        read: Option<Nanos>,
    },
}

/// A line longer than this is no line of a boot log.
const MAX_LINE: usize = 64 << 10;
/// Boots kept of one log, the newest.
const MAX_BOOTS: usize = 64;
/// Processors print their lines slightly out of order; a clock that goes back further is a new boot.
const OUT_OF_ORDER: Nanos = SECOND / 20;
/// The clock starts with the first lines, all at zero.
const FIRST_MOMENTS: Nanos = SECOND / 1000;

impl BootLog {
    /// Takes what was appended. `read` is the host's boot clock if the log is followed as it is written (within
    /// milliseconds), None when it is read afterwards.
    pub fn feed(&mut self, bytes: &[u8], read: Option<Nanos>) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            if self.partial.len() + piece.len() > MAX_LINE {
                self.partial.clear();
                continue;
            }
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                let text = String::from_utf8_lossy(&line);
                self.line(text.trim_end_matches(['\n', '\r']), read);
            }
        }
    }

    /// All boots, oldest first.
    pub fn boots(&self) -> &[Boot] {
        &self.boots
    }

    /// One line of the file, which may hold a line that another cut short.
    fn line(&mut self, text: &str, read: Option<Nanos>) {
        let cut = (1..text.len()).find(|at| {
            text.is_char_boundary(*at) && (kernel_stamp(&text[*at..]).is_some() || wall_stamp(&text[*at..]).is_some())
        });
        let (first, second) = text.split_at(cut.unwrap_or(text.len()));
        if kernel_stamp(first).is_none() && wall_stamp(first).is_some() && kernel_stamp(second).is_some() {
            // Its rest comes after the kernel's line.
            first.clone_into(&mut self.interrupted);
        } else {
            self.whole_line(first, read);
        }
        if !second.is_empty() {
            self.line(second, read);
        }
    }

    fn whole_line(&mut self, text: &str, read: Option<Nanos>) {
        if let Some((at, message)) = kernel_stamp(text) {
            self.kernel_line(at, message, read);
        } else if let Some((at, fine, rest)) = wall_stamp(text) {
            self.interrupted.clear();
            self.init_line(at, fine, rest, read);
        } else if !self.interrupted.is_empty() {
            let joined = std::mem::take(&mut self.interrupted) + text;
            if let Some((at, fine, rest)) = wall_stamp(&joined) {
                self.init_line(at, fine, rest, read);
            }
        }
    }

    fn kernel_line(&mut self, at: Nanos, message: &str, read: Option<Nanos>) {
        // Until init runs, a kernel may change its clock for a better one, and step back: then only its first moments tell.
        let goes_back = |b: &Boot| {
            b.latest.is_some_and(|latest| at + OUT_OF_ORDER < latest) && (b.init.is_some() || at < FIRST_MOMENTS)
        };
        let again = |b: &Boot| b.init.is_some() && starts_init(message);
        if self.boots.last().is_none_or(|b| goes_back(b) || again(b)) {
            self.begin();
        }
        let Some(boot) = self.boots.last_mut() else { return };
        boot.latest = boot.latest.max(Some(at));
        if let Some(zero) = read.map(|r| r - at) {
            boot.kernel_zero = Some(boot.kernel_zero.map_or(zero, |z| z.min(zero)));
        }
        if starts_init(message) {
            boot.init = Some(at);
        } else {
            boot.milestone(message, Stamp::Kernel(at));
        }
    }

    fn init_line(&mut self, at: Nanos, fine: bool, rest: &str, read: Option<Nanos>) {
        let Some(message) = rest.split_once("vminitd").map(|(_, m)| m.trim_start_matches([' ', ':'])) else { return };
        // Without kernel lines in between (none came before the console was up) this alone tells a new boot.
        let reborn = |b: &Boot| b.process_created.is_some() && is_booting(message);
        if self.boots.last().is_none_or(reborn) {
            self.begin();
        }
        let Some(boot) = self.boots.last_mut() else { return };
        if fine {
            boot.first_word.get_or_insert(at);
        }
        let stamp = if fine { Stamp::Wall(at) } else { Stamp::Coarse { read } };
        boot.milestone(message, stamp);
        if boot.running.is_none() && rest.trim_start().starts_with("error") && fails_start(message) {
            boot.failure = Some(message.to_owned());
        }
    }

    fn begin(&mut self) {
        self.interrupted.clear();
        if self.boots.len() == MAX_BOOTS {
            self.boots.remove(0);
        }
        self.boots.push(Boot::default());
    }
}

fn starts_init(message: &str) -> bool {
    message.starts_with("Run ") && message.ends_with(" as init process")
}

fn is_booting(message: &str) -> bool {
    message.ends_with("vminitd booting") || message.ends_with("vminitd booting...")
}

fn fails_start(message: &str) -> bool {
    message.ends_with("startProcess") || message.ends_with("createProcess")
}

impl Boot {
    /// The first process that is started is the container's; those after it are of `exec`.
    fn milestone(&mut self, message: &str, stamp: Stamp) {
        if message.ends_with("starting managed process") {
            self.process_created.get_or_insert(stamp);
        } else if message.ends_with("started managed process") {
            self.running.get_or_insert(stamp);
        } else if self.running.is_some() && self.exit_status.is_none() && message.ends_with("managed process exit") {
            // Which process ended is not told: this is the container's if nothing else was started meanwhile.
            let status = message.split_once("status").map(|(_, s)| s.trim_start_matches([':', '=', ' ']));
            self.exit_status = status.and_then(|s| s.split([' ', ',']).next()?.parse().ok());
        }
    }

    /// Kernel start → init starts, by the kernel's own clock.
    pub fn kernel_boot(&self) -> Option<Nanos> {
        self.init
    }

    /// Whether the container's process was started.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// A milestone's distance from the kernel's start. A first word of init's by its wall clock stands for the moment when
    /// the kernel started it: a few milliseconds late, its program being loaded.
    fn since_kernel_start(&self, stamp: Option<Stamp>) -> Option<Nanos> {
        match stamp? {
            Stamp::Kernel(at) => Some(at),
            Stamp::Wall(at) => Some(self.init? + (at - self.first_word?)),
            Stamp::Coarse { .. } => None,
        }
    }

    /// Its moments on the host's boot clock, as far as they can be placed there: by when the log's lines were read, or
    /// else backwards from `running`, when the host knows that the process ran. The request is the host's to tell.
    pub fn moments(&self, running: Option<Nanos>) -> Moments {
        let ran = self.since_kernel_start(self.running);
        let zero = self.kernel_zero.or_else(|| Some(running? - ran?));
        let place = |stamp: Option<Stamp>| match stamp? {
            Stamp::Coarse { read } => read,
            _ => Some(zero? + self.since_kernel_start(stamp)?),
        };
        Moments {
            requested: None,
            image_ready: None,
            kernel_started: zero,
            init_started: zero.zip(self.init).map(|(zero, init)| zero + init),
            process_created: place(self.process_created),
            running: running.or_else(|| place(self.running)),
        }
    }
}

/// `[    0.143252] message`: nanoseconds since the kernel's start. A caller id may follow the stamp (`CONFIG_PRINTK_CALLER`).
fn kernel_stamp(text: &str) -> Option<(Nanos, &str)> {
    let (stamp, rest) = text.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = stamp.trim_start_matches(' ').split_once('.')?;
    let digits = |s: &str| {
        (!s.is_empty() && s.len() <= 9)
            .then(|| s.bytes().all(|b| b.is_ascii_digit()))?
            .then(|| s.parse::<Nanos>().ok())?
    };
    if micros.len() != 6 {
        return None;
    }
    let at = digits(seconds)? * SECOND + digits(micros)? * 1000;
    let rest = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((caller, rest)) if caller.trim_start().starts_with(['T', 'C']) => rest,
        _ => rest,
    };
    Some((at, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// `2026-08-07T08:15:41.905Z rest`: the guest's wall clock, and whether it is finer than seconds.
fn wall_stamp(text: &str) -> Option<(Nanos, bool, &str)> {
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let (stamp, rest) = text.split_once(' ')?;
    if !rest.contains("vminitd") {
        return None;
    }
    Some((parse_date(stamp)?, stamp.contains('.'), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = SECOND / 1000;

    fn sample(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apple").join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn read(bytes: &[u8]) -> Vec<Boot> {
        let mut log = BootLog::default();
        log.feed(bytes, None);
        log.boots
    }

    /// kernel_boot, init and process of a boot, the process having run at a known moment.
    fn spans(boot: &Boot) -> [Option<Nanos>; 3] {
        use super::super::Phase::{Init, KernelBoot, Process};
        let phases = boot.moments(Some(10 * SECOND)).phases();
        [KernelBoot, Init, Process].map(|p| phases.get(p))
    }

    #[test]
    fn every_sample_of_one_good_boot_is_read_alike() {
        let expected = [Some(143_252_000), Some(92 * MS), Some(15 * MS)];
        for name in [
            "boot-log-web.txt",
            "boot-log-web.crlf.txt",
            "boot-log-web.no-early-kernel-lines.txt",
            "boot-log-web.with-execs.txt",
        ] {
            let boots = read(&sample(&format!("1.2.2/{name}")));
            assert_eq!(boots.len(), 1, "{name}");
            assert_eq!(spans(&boots[0]), expected, "{name}");
        }
        assert_eq!(spans(&read(&sample("0.12.3/boot-log-web.txt"))[0]), expected);
        let debug = &read(&sample("1.2.2/boot-log-web.debug-vminitd.txt"))[0];
        assert_eq!(spans(debug), [Some(143_252_000), Some(101 * MS), Some(15 * MS)]);
    }

    #[test]
    fn whole_seconds_measure_nothing_but_the_host_may() {
        let bytes = sample("0.10.0/boot-log-web.txt");
        let boots = read(&bytes);
        assert_eq!(boots.len(), 1);
        assert!(boots[0].is_running());
        assert_eq!(boots[0].kernel_boot(), Some(143_252_000));
        let m = boots[0].moments(Some(10 * SECOND));
        assert_eq!((m.kernel_started, m.process_created), (None, None));

        // Followed as it grows: one line each 5 ms from 2 s on.
        let mut log = BootLog::default();
        for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            log.feed(line, Some(2 * SECOND + i as Nanos * 5 * MS));
        }
        let m = log.boots()[0].moments(None);
        let run = bytes.split(|b| *b == b'\n').position(|l| l.ends_with(b"as init process")).unwrap() as Nanos;
        let bound = 2 * SECOND + run * 5 * MS - 143_252_000;
        assert!(m.kernel_started.is_some_and(|k| (bound - 10 * MS..=bound).contains(&k)), "{m:?}");
        assert_eq!(m.running.zip(m.process_created).map(|(r, p)| r - p), Some(15 * MS));
    }

    #[test]
    fn boots_in_one_file_are_told_apart() {
        for (name, running) in
            [("1.2.2/boot-log-web.two-boots.txt", [true, true]), ("0.10.0/boot-log-web.two-boots.txt", [true, true])]
        {
            let boots = read(&sample(name));
            assert_eq!(boots.iter().map(Boot::is_running).collect::<Vec<_>>(), running, "{name}");
        }
        // Cut in mid-line, and the next boot follows on the same line.
        let cut = [sample("1.2.2/boot-log-web.truncated-mid-boot.txt"), sample("1.2.2/boot-log-web.txt")].concat();
        let boots = read(&cut);
        assert_eq!(boots.iter().map(Boot::is_running).collect::<Vec<_>>(), [false, true]);
        assert_eq!(spans(&boots[1]), [Some(143_252_000), Some(92 * MS), Some(15 * MS)]);
    }

    #[test]
    fn a_clock_that_steps_back_before_init_is_one_boot() {
        let log = "[    0.000000] Linux version 6.1\n[    0.412000] tsc: Fast TSC calibration failed\n\
            [    0.040000] tsc: Detected 2400.000 MHz processor\n[    1.500000] Run /init as init process\n\
            [    0.000000] Linux version 6.1\n[    1.600000] Run /init as init process\n";
        let boots: Vec<_> = read(log.as_bytes()).iter().map(|b| b.kernel_boot().unwrap() / MS).collect();
        assert_eq!(boots, [1500, 1600]);
    }

    #[test]
    fn a_failed_start_and_an_exit_are_told() {
        let failed = &read(&sample("1.2.2/boot-log-start-failed.txt"))[0];
        assert!(!failed.is_running());
        assert!(failed.failure.as_ref().is_some_and(|f| f.contains("failed to find target executable /nope")));
        let exited = &read(&sample("1.2.2/boot-log-terminal-exit3.txt"))[0];
        assert_eq!((exited.is_running(), exited.exit_status), (true, Some(3)));
        assert_eq!(read(&sample("1.2.2/boot-log-empty.txt")), []);
    }

    #[test]
    fn lines_that_run_into_one_another_are_parted() {
        let log = "[    0.100000] Run /sbin/vminitd as init process\n\
            2026-08-07T08:15:41.900Z info vminitd: vminitd booting\n\
            2026-08-07T08:15:41.950Z info vminitd: id: web star[    0.298117] EXT4-fs (vdb): mounted\n\
            ting managed process\n\
            [    0.400000] IPv6: eth0: li2026-08-07T08:15:41.990Z info vminitd: id: web, pid: 7 started managed process\n";
        assert_eq!(spans(&read(log.as_bytes())[0]), [Some(100 * MS), Some(50 * MS), Some(40 * MS)]);
    }

    #[test]
    fn a_guest_may_write_its_milestones_to_the_kernels_log() {
        let log = "[    1.500000][    T1] Run /init as init process\n[    1.700000] init: starting managed process\n[    1.900000] init: started managed process\n";
        assert_eq!(spans(&read(log.as_bytes())[0]), [Some(1500 * MS), Some(200 * MS), Some(200 * MS)]);
    }

    #[test]
    fn it_makes_no_difference_how_the_bytes_come() {
        let bytes = [sample("1.2.2/boot-log-web.two-boots.txt"), sample("1.2.2/boot-log-web.crlf.txt")].concat();
        let whole = read(&bytes);
        assert_eq!(whole.len(), 3);
        for size in [1, 2, 3, 7, 64, 1000] {
            let mut log = BootLog::default();
            bytes.chunks(size).for_each(|c| log.feed(c, None));
            assert_eq!(log.boots(), whole, "chunks of {size}");
        }
    }

    #[test]
    fn no_bytes_break_the_parser() {
        let good = sample("1.2.2/boot-log-web.two-boots.txt");
        let mut seed = 3_u64;
        let mut random = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % n
        };
        for _ in 0..1500 {
            let mut bytes = good.clone();
            for _ in 0..=random(20) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = random(256) as u8,
                    1 => bytes.truncate(at.max(1)),
                    2 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                    _ => bytes.insert(at, b"[].:0TZ\n\r2"[random(10)]),
                }
                if bytes.is_empty() {
                    bytes.push(b'[');
                }
            }
            for boot in read(&bytes) {
                assert!(boot.moments(Some(SECOND)).phases().iter().all(|(_, d)| d >= 0));
            }
        }
        let mut log = BootLog::default();
        log.feed(&vec![b'x'; MAX_LINE * 3], None);
        assert!(log.partial.len() <= MAX_LINE);
    }
}
