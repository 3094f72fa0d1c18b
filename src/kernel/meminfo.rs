//! `/proc/meminfo`: the machine's memory and swap, in bytes.

use super::parse::{self, Malformed};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub memory: Option<u64>,
    pub swap: Option<u64>,
}

/// With `Malformed` where a line that is asked for holds no number of kB.
pub fn parse(bytes: &[u8]) -> (Memory, Result<(), Malformed>) {
    let mut memory = Memory::default();
    let mut sound = Ok(());
    for (key, value) in parse::lines(bytes).filter_map(parse::pair) {
        let field = match key {
            b"MemTotal" => &mut memory.memory,
            b"SwapTotal" => &mut memory.swap,
            _ => continue,
        };
        let kib = value.strip_suffix(b" kB").and_then(parse::number).and_then(|n| n.checked_mul(1024));
        match kib {
            Some(bytes) => *field = Some(bytes),
            None => sound = Err(Malformed),
        }
    }
    (memory, sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &[u8] = b"MemTotal:       24684084 kB\nMemFree:          100 kB\nSwapTotal:             0 kB\n";

    #[test]
    fn totals_are_in_bytes() {
        let memory = Memory { memory: Some(24_684_084 << 10), swap: Some(0) };
        assert_eq!(parse(RECORDED), (memory, Ok(())));
        assert_eq!(parse(b""), (Memory::default(), Ok(())));
    }

    #[test]
    fn a_bad_total_is_absent() {
        for bad in ["MemTotal: -1 kB\n", "MemTotal: 18446744073709551615 kB\n", "MemTotal: 12", "MemTotal:\n"] {
            assert_eq!(parse(bad.as_bytes()), (Memory::default(), Err(Malformed)), "{bad}");
        }
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        crate::kernel::fuzz::mutations(RECORDED, |bytes| {
            let _ = parse(bytes);
        });
    }
}
