//! `/proc/PID/net/sockstat` and `sockstat6`: how many TCP sockets the process's network namespace has. The kernel keeps the
//! counts, while for a list of the sockets it walks through the whole machine's.

/// The sockets of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tcp {
    /// In any state but TIME_WAIT, and but half-open.
    pub in_use: u64,
    /// In TIME_WAIT, of both families; told in `sockstat` alone. Before 4.10 the machine's.
    pub time_wait: u64,
}

/// Reads the line `TCP: inuse 2 orphan 0 tw 1 …`, or `TCP6: inuse 1`. None when there is no such line.
pub fn parse(bytes: &[u8]) -> Option<Tcp> {
    let line =
        bytes.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"TCP: ").or_else(|| l.strip_prefix(b"TCP6: ")))?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut tcp = Tcp { in_use: u64::MAX, time_wait: 0 };
    while let (Some(title), Some(value)) = (words.next(), words.next()) {
        match title {
            "inuse" => tcp.in_use = value.parse().ok()?,
            "tw" => tcp.time_wait = value.parse().ok()?,
            _ => {}
        }
    }
    (tcp.in_use != u64::MAX).then_some(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read() {
        let text = b"sockets: used 3\nTCP: inuse 2 orphan 0 tw 1 alloc 2 mem 0\nUDP: inuse 1 mem 0\n";
        assert_eq!(parse(text), Some(Tcp { in_use: 2, time_wait: 1 }));
        assert_eq!(parse(b"TCP6: inuse 4\nUDP6: inuse 0\n"), Some(Tcp { in_use: 4, time_wait: 0 }));
        assert_eq!((parse(b""), parse(b"TCP: inuse"), parse(b"TCP: inuse x\n")), (None, None, None));
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        crate::kernel::fuzz::mutations(b"TCP: inuse 2 orphan 0 tw 1 alloc 2 mem 0\n", |bytes| {
            parse(bytes);
        });
    }
}
