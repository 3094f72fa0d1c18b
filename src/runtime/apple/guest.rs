//! What a guest's own kernel tells, read with `container exec ID cat …`: off by default, for each call adds some ten lines
//! to the boot log and needs a `cat` in the image.
//!
//! One call reads all files. `cat` prints them one after the other without a mark, so between any two of them it is given
//! `/proc/version`, one line that no other of these files has; a file that is not there leaves its place empty (`cat` goes
//! on to the next, and exits 1).

use crate::root::Nanos;

/// The files, in the order in which they are read. A container's cgroup is the root of its cgroup namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    MemoryStat,
    MemoryEvents,
    CpuStat,
    IoStat,
    CpuPressure,
    MemoryPressure,
    IoPressure,
    Meminfo,
    Snmp,
}

impl File {
    const ALL: [(File, &'static str); 9] = [
        (Self::MemoryStat, "/sys/fs/cgroup/memory.stat"),
        (Self::MemoryEvents, "/sys/fs/cgroup/memory.events"),
        (Self::CpuStat, "/sys/fs/cgroup/cpu.stat"),
        (Self::IoStat, "/sys/fs/cgroup/io.stat"),
        (Self::CpuPressure, "/sys/fs/cgroup/cpu.pressure"),
        (Self::MemoryPressure, "/sys/fs/cgroup/memory.pressure"),
        (Self::IoPressure, "/sys/fs/cgroup/io.pressure"),
        (Self::Meminfo, "/proc/meminfo"),
        // A process that is run in the container is in the VM's network namespace, as the container is.
        (Self::Snmp, "/proc/self/net/snmp"),
    ];
}

/// The file between two others.
const SEPARATOR: &str = "/proc/version";
/// How its line begins.
const SEPARATOR_LINE: &[u8] = b"Linux version ";

/// The files' contents; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guest {
    /// When it was read, boot clock of the host.
    pub boot: Nanos,
    files: Vec<Vec<u8>>,
}

impl Guest {
    pub fn file(&self, file: File) -> &[u8] {
        self.files.get(file as usize).map_or(&[], Vec::as_slice)
    }

    /// The arguments of `cat`.
    pub fn paths() -> Vec<&'static str> {
        let mut all: Vec<_> = File::ALL.iter().flat_map(|(_, path)| [*path, SEPARATOR]).collect();
        all.pop();
        all
    }

    /// Takes apart what `cat` printed; None if it is not that.
    pub fn parse(printed: &[u8], boot: Nanos) -> Option<Self> {
        let mut files = vec![Vec::new()];
        for line in printed.split_inclusive(|b| *b == b'\n') {
            match files.last_mut() {
                Some(file) if !line.starts_with(SEPARATOR_LINE) => file.extend_from_slice(line),
                _ => files.push(Vec::new()),
            }
        }
        (files.len() == File::ALL.len()).then_some(Self { boot, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_their_places_whichever_are_missing() {
        let version = "Linux version 6.18.15 (@4bbee6c8b0d5) #1 SMP\n";
        let parts = ["anon 5\n", "", "usage_usec 7\n", "", "", "", "", "MemTotal: 3 kB\n", "Tcp: OutSegs\nTcp: 1\n"];
        let guest = Guest::parse(parts.join(version).as_bytes(), 1).unwrap();
        for ((file, _), expected) in File::ALL.into_iter().zip(parts) {
            assert_eq!(guest.file(file), expected.as_bytes(), "{file:?}");
        }
        assert_eq!(Guest::parse(b"", 1), None);
        assert_eq!(Guest::parse(parts[..8].join(version).as_bytes(), 1), None, "cut");
    }

    #[test]
    fn the_order_is_that_of_the_names() {
        for (at, (file, _)) in File::ALL.into_iter().enumerate() {
            assert_eq!(file as usize, at);
        }
        assert_eq!(Guest::paths().len(), 2 * File::ALL.len() - 1);
    }
}
