//! Real Linux kernels in virtual machines: cgroup v2 alone, a console to read, a clean machine for each check.
//!
//! A [`Guest`] is a kernel (the host's installed one), an initramfs made here of a static busybox and whatever files a
//! check brings, and a shell script. No disk, no network card, no root needed, and no KVM: emulation boots in about 2 s.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use crate::common::skip;

const INIT: &str = include_str!("../vm/init");

/// What runs in the machine.
#[derive(Debug, Default)]
pub struct Guest {
    files: Vec<(String, u32, Vec<u8>)>,
    script: String,
    append: String,
    memory_mib: u32,
}

/// What came out of the console.
#[derive(Debug)]
pub struct Console {
    /// When the machine was asked for, by the host's wall clock.
    pub asked: SystemTime,
    /// Bytes as they came, with the time since `asked` at which the host read them.
    pub chunks: Vec<(Duration, Vec<u8>)>,
}

impl Guest {
    /// A machine that runs `script` (busybox's shell, cgroup v2 mounted with all controllers on) and powers off.
    pub fn new(script: impl Into<String>) -> Self {
        Self { script: script.into(), memory_mib: 384, ..Self::default() }
    }

    /// Adds a file; `mode` as in `0o755`.
    pub fn file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), mode, content.into()));
        self
    }

    /// Adds a program of the host with the shared libraries that it needs, at the paths where it looks for them.
    pub fn program(mut self, at: &str, host: &Path) -> Self {
        self = self.file(at, 0o755, std::fs::read(host).expect("program"));
        let needs = Command::new("ldd").arg(host).output().expect("ldd");
        for line in String::from_utf8_lossy(&needs.stdout).lines() {
            let Some(library) = line.split_whitespace().find(|w| w.starts_with('/')) else { continue };
            self = self.file(library, 0o755, std::fs::read(library).expect("library"));
        }
        self
    }

    /// Adds to the kernel's command line, e.g. `psi=1`.
    pub fn append(mut self, arguments: &str) -> Self {
        write!(self.append, " {arguments}").expect("string");
        self
    }

    #[allow(dead_code)]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Boots, and reads the console until the machine is off. None where this machine cannot do it (said by
    /// [`skip`]); panics when the deadline passes.
    #[track_caller]
    pub fn boot(self, deadline: Duration) -> Option<Console> {
        let Some((kernel, busybox)) = ingredients() else {
            skip("no VM: needs qemu-system-x86_64, a readable /boot/vmlinuz-* and a static busybox");
            return None;
        };
        let folder = tempfile::tempdir().expect("temporary folder");
        let initramfs = folder.path().join("initramfs");
        std::fs::write(&initramfs, self.initramfs(&busybox)).expect("initramfs");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args("-M pc -accel tcg -nodefaults -no-user-config -display none -serial stdio -no-reboot".split(' '))
            .args(["-m", &self.memory_mib.to_string()])
            .args([Path::new("-kernel"), &kernel, Path::new("-initrd"), &initramfs])
            // The kernel gives an emulated timer some milliseconds to tick and panics; on a busy machine that is not enough.
            .args(["-append", &format!("console=ttyS0 panic=-1 no_timer_check rdinit=/init{}", self.append)])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .stdout(Stdio::piped());
        Some(read_console(command, deadline))
    }

    fn initramfs(&self, busybox: &Path) -> Vec<u8> {
        let mut archive = Cpio::default();
        archive.add("bin/busybox", 0o755, &std::fs::read(busybox).expect("busybox"));
        archive.add("init", 0o755, INIT.as_bytes());
        archive.add("check", 0o644, self.script.as_bytes());
        for (path, mode, content) in &self.files {
            archive.add(path, *mode, content);
        }
        archive.finish()
    }
}

fn read_console(mut command: Command, deadline: Duration) -> Console {
    let (asked, begin) = (SystemTime::now(), Instant::now());
    let mut qemu = command.spawn().expect("qemu");
    let mut out = qemu.stdout.take().expect("piped");
    let (sender, chunks) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = out.read(&mut buffer) {
            let _ = sender.send((begin.elapsed(), buffer[..n].to_vec()));
        }
    });
    let mut console = Console { asked, chunks: Vec::new() };
    loop {
        match chunks.recv_timeout(deadline.saturating_sub(begin.elapsed())) {
            Ok(chunk) => console.chunks.push(chunk),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                panic!("the machine was not off after {deadline:?}; its console:\n{}", console.text());
            }
        }
    }
    let _ = qemu.wait();
    console
}

impl Console {
    /// All of it, line ends as `\n`.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.chunks.iter().flat_map(|(_, b)| b.iter().copied()).collect();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// What the script printed, kernel lines left out; panics unless it ended with status 0.
    #[track_caller]
    pub fn output(&self) -> String {
        let text = self.text();
        // The kernel may have a word of its own between the mark and the end of its line.
        let body = text.split_once("@@begin").map_or("", |(_, after)| after.strip_prefix('\n').unwrap_or(after));
        let (body, end) = body.rsplit_once("@@exit ").unwrap_or((body, "?"));
        assert!(end.starts_with("0\n"), "the check in the machine failed; its console:\n{text}");
        let own = body.lines().filter(|l| !is_kernel_line(l)).skip_while(|l| l.is_empty());
        own.fold(String::new(), |all, l| all + l + "\n")
    }
}

/// `[    0.123456] …`
fn is_kernel_line(line: &str) -> bool {
    let Some((stamp, _)) = line.strip_prefix('[').and_then(|l| l.split_once(']')) else { return false };
    stamp
        .trim_start()
        .split_once('.')
        .is_some_and(|(s, us)| us.len() == 6 && s.bytes().chain(us.bytes()).all(|b| b.is_ascii_digit()))
}

/// Kernel and static busybox of this machine.
fn ingredients() -> Option<(PathBuf, PathBuf)> {
    let mut kernels: Vec<PathBuf> = std::fs::read_dir("/boot")
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")))
        .filter(|p| std::fs::File::open(p).is_ok())
        .collect();
    kernels.sort();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|p| is_static(p))?;
    Command::new("qemu-system-x86_64").arg("--version").output().ok()?.status.success().then_some(())?;
    Some((kernels.pop()?, busybox))
}

fn is_static(program: &Path) -> bool {
    program.exists() && Command::new("ldd").arg(program).output().is_ok_and(|o| !o.status.success())
}

/// A `newc` cpio archive, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    folders: std::collections::BTreeSet<String>,
    inode: u32,
}

impl Cpio {
    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        for (at, _) in path.match_indices('/') {
            if self.folders.insert(path[..at].to_owned()) {
                self.entry(&path[..at], 0o040_755, &[]);
            }
        }
        self.entry(path, 0o100_000 | mode, content);
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let fields = [self.inode, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        let header = fields.iter().fold("070701".to_owned(), |h, f| h + &format!("{f:08X}"));
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[test]
fn a_guest_has_cgroup_v2_and_what_it_was_given() {
    let script =
        "cat /given; cat /sys/fs/cgroup/cgroup.subtree_control; mkdir /sys/fs/cgroup/a; cat /sys/fs/cgroup/a/memory.max
cat /sys/fs/cgroup/a/memory.pressure; /host/true && echo ran";
    let guest = Guest::new(script).file("/given", 0o644, "hello\n").program("/host/true", Path::new("/bin/true"));
    let Some(console) = guest.append("psi=1").boot(Duration::from_secs(120)) else { return };
    let output = console.output();
    assert!(output.starts_with("hello\n"), "{output}");
    for word in ["memory", "cpu", "io", "pids", "max\n", "some avg10=", "ran\n"] {
        assert!(output.contains(word), "{word:?} is not in\n{output}");
    }
}
