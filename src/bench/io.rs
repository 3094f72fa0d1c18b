//! Storage operations a second, past the page cache.

use std::path::Path;
use std::time::Duration;

use crate::root::{Block, Clock, DirectFile, Nanos};

/// Bytes of one operation.
pub const BLOCK: usize = 4096;
/// Operations in flight: threads, each waiting for its own.
pub const DEPTH: usize = 16;
/// Bytes of the file that is read and written.
const SIZE: u64 = 256 << 20;
const TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pattern {
    SequentialRead,
    SequentialWrite,
    RandomRead,
    RandomWrite,
}

impl Pattern {
    pub fn name(self) -> &'static str {
        match self {
            Self::SequentialRead => "sequential-read",
            Self::SequentialWrite => "sequential-write",
            Self::RandomRead => "random-read",
            Self::RandomWrite => "random-write",
        }
    }

    fn writes(self) -> bool {
        matches!(self, Self::SequentialWrite | Self::RandomWrite)
    }
}

/// Operations a second of a pattern, on a file made in a folder and removed again.
pub fn rate(folder: &Path, pattern: Pattern) -> Result<f64, String> {
    let path = folder.join(format!("kina-bench-{}.tmp", std::process::id()));
    let file = DirectFile::create(&path, SIZE).map_err(|e| format!("{}: {e}", path.display()))?;
    let clock = Clock::System;
    let begin = clock.boot();
    let end = begin + TIME.as_nanos() as Nanos;
    let done: Result<u64, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..DEPTH)
            .map(|n| {
                scope.spawn({
                    let file = &file;
                    move || operate(file, pattern, n, end)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread ended".into()))).sum()
    });
    Ok(done? as f64 / ((clock.boot() - begin) as f64 / 1e9))
}

/// One thread's operations until the time is over: its own share of the file in order, or blocks all over it.
fn operate(file: &DirectFile, pattern: Pattern, thread: usize, end: Nanos) -> Result<u64, String> {
    let blocks = SIZE / BLOCK as u64;
    let share = blocks / DEPTH as u64;
    let mut random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(thread as u64 + 1);
    let mut buf = Block([0x5a; BLOCK]);
    let mut done = 0;
    while Clock::System.boot() < end {
        let block = match pattern {
            Pattern::SequentialRead | Pattern::SequentialWrite => thread as u64 * share + done % share,
            Pattern::RandomRead | Pattern::RandomWrite => {
                // xorshift64: evenly spread is all that is needed.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % blocks
            }
        };
        let at = block * BLOCK as u64;
        let moved = if pattern.writes() { file.write_at(&buf, at) } else { file.read_at(&mut buf, at) };
        moved.map_err(|e| e.to_string())?;
        done += 1;
    }
    Ok(done)
}
