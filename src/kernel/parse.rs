//! Kernel files as bytes: no allocation, no UTF-8 validation, nothing that can panic.
//!
//! A line that can't be understood costs itself alone: the sound ones around it count, and the file is reported as
//! [`Malformed`]. Lines with keys that nobody asked for are ignored, so newer kernels parse too.

use crate::snapshot::Limit;

/// The bytes are not in the form that the kernel documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What a parser says of a file: all of it was sound, or some of it was not.
pub type Sound = Result<(), Malformed>;

/// A decimal number and nothing else.
#[inline]
pub fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |n, b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A number, also with the ` kB` that `/proc` puts after it: the field's scale is to hold it.
#[inline]
pub fn amount(bytes: &[u8]) -> Option<u64> {
    number(bytes.strip_suffix(b" kB").unwrap_or(bytes))
}

/// Lines that are not empty.
#[inline]
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty())
}

/// Words of a line, separated by blanks and tabs.
#[inline]
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty())
}

/// `key value`, as flat keyed files have it; also `key: value` of `/proc`.
#[inline]
pub fn pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|b| matches!(b, b' ' | b':'))?;
    let (key, rest) = line.split_at(at);
    Some((key, rest.trim_ascii_start().strip_prefix(b":").unwrap_or(rest).trim_ascii()))
}

/// Kernel keys → fields of a struct of `Option<u64>`, one line each; `* n` scales to the field's unit.
macro_rules! flat {
    ($bytes:expr, $into:expr, { $($key:literal => $field:ident $(* $scale:tt)?),* $(,)? }) => {{
        let mut sound = Ok(());
        for line in $crate::kernel::parse::lines($bytes) {
            match $crate::kernel::parse::pair(line) {
                $(Some(($key, value)) => match $crate::kernel::parse::amount(value) {
                    Some(n) => $into.$field = Some(n $(.saturating_mul($scale))?),
                    None => sound = Err($crate::kernel::parse::Malformed),
                },)*
                Some(_) => {}
                None => sound = Err($crate::kernel::parse::Malformed),
            }
        }
        sound
    }};
}
pub(crate) use flat;

/// A file that is one number.
pub fn value(bytes: &[u8]) -> Result<u64, Malformed> {
    number(bytes.trim_ascii()).ok_or(Malformed)
}

/// A file that is one number or `max`.
pub fn limit(bytes: &[u8]) -> Result<Limit, Malformed> {
    match bytes.trim_ascii() {
        b"max" => Ok(Limit::Max),
        n => number(n).map(Limit::Value).ok_or(Malformed),
    }
}

/// A v1 limit in bytes: "unlimited" is the largest multiple of the page size below 2^63 (pages are 64 KiB at most).
pub fn limit_v1(bytes: &[u8]) -> Result<Limit, Malformed> {
    const UNLIMITED: u64 = (1 << 63) - (64 << 10);
    Ok(match value(bytes)? {
        n if n >= UNLIMITED => Limit::Max,
        n => Limit::Value(n),
    })
}

/// `cpu.cfs_quota_us`: −1 is no quota.
pub fn quota_v1(bytes: &[u8]) -> Result<Limit, Malformed> {
    match bytes.trim_ascii() {
        [b'-', rest @ ..] if number(rest).is_some() => Ok(Limit::Max),
        n => number(n).map(Limit::Value).ok_or(Malformed),
    }
}

/// `cpu.max`: quota (or `max`) and period, in microseconds.
pub fn cpu_max(bytes: &[u8]) -> Result<(Limit, u64), Malformed> {
    let mut words = words(bytes.trim_ascii());
    let quota = limit(words.next().ok_or(Malformed)?)?;
    let period = number(words.next().ok_or(Malformed)?).ok_or(Malformed)?;
    Ok((quota, period))
}

/// Totals of a pressure file in microseconds, `some` and `full`.
pub fn pressure(bytes: &[u8]) -> (Option<u64>, Option<u64>, Sound) {
    let (mut some, mut full, mut sound) = (None, None, Ok(()));
    for line in lines(bytes) {
        let total = words(line).find_map(|w| w.strip_prefix(b"total=")).and_then(number);
        match (words(line).next(), total) {
            (Some(b"some"), Some(n)) => some = Some(n),
            (Some(b"full"), Some(n)) => full = Some(n),
            (Some(b"some" | b"full"), None) => sound = Err(Malformed),
            _ => {}
        }
    }
    (some, full, sound)
}

/// `major:minor`.
pub fn device(word: &[u8]) -> Option<(u32, u32)> {
    let at = word.iter().position(|b| *b == b':')?;
    let part = |b: &[u8]| u32::try_from(number(b)?).ok();
    Some((part(&word[..at])?, part(&word[at + 1..])?))
}

/// Ranges of a CPU list (`0-3,8`), both ends included. An empty list is sound.
pub fn cpu_list(bytes: &[u8]) -> impl Iterator<Item = Result<(u32, u32), Malformed>> {
    bytes.trim_ascii().split(|b| *b == b',').filter(|p| !p.is_empty()).map(|part| {
        let cpu = |b: &[u8]| number(b.trim_ascii()).filter(|n| *n <= MAX_CPU).map(|n| n as u32).ok_or(Malformed);
        let mut ends = part.splitn(2, |b| *b == b'-');
        let first = cpu(ends.next().ok_or(Malformed)?)?;
        let last = ends.next().map_or(Ok(first), cpu)?;
        if last < first { Err(Malformed) } else { Ok((first, last)) }
    })
}

/// Far above any kernel's NR_CPUS: keeps a garbage range from being walked for minutes.
const MAX_CPU: u64 = 65_535;

/// Process ids of `cgroup.procs`. 0 stands for a process that our pid namespace does not see.
pub fn pids(bytes: &[u8]) -> impl Iterator<Item = Result<u32, Malformed>> {
    lines(bytes).map(|l| number(l).and_then(|n| u32::try_from(n).ok()).ok_or(Malformed)).filter(|p| !matches!(p, Ok(0)))
}

/// What is used of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcStat<'a> {
    pub comm: &'a [u8],
    pub ppid: u32,
    /// Clock ticks after boot.
    pub starttime: u64,
}

/// The command may hold blanks and parentheses: the last `)` ends it.
pub fn proc_stat(bytes: &[u8]) -> Result<ProcStat<'_>, Malformed> {
    let open = bytes.iter().position(|b| *b == b'(').ok_or(Malformed)?;
    let close = bytes.iter().rposition(|b| *b == b')').filter(|c| *c > open).ok_or(Malformed)?;
    // After the command: field 3 (state) is word 0, 4 (ppid) word 1, 22 (starttime) word 19.
    let mut rest = words(bytes[close + 1..].trim_ascii());
    let ppid = rest.nth(1).and_then(number).and_then(|n| u32::try_from(n).ok()).ok_or(Malformed)?;
    let starttime = rest.nth(17).and_then(number).ok_or(Malformed)?;
    Ok(ProcStat { comm: &bytes[open + 1..close], ppid, starttime })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Fields {
        a: Option<u64>,
        b: Option<u64>,
    }

    fn fields(bytes: &[u8]) -> (Fields, Sound) {
        let mut f = Fields::default();
        let sound = flat!(bytes, f, { b"a" => a, b"b_usec" => b * 1000 });
        (f, sound)
    }

    #[test]
    fn flat_files() {
        assert_eq!(fields(b"a 1\nb_usec 2\nnew thing\n"), (Fields { a: Some(1), b: Some(2000) }, Ok(())));
        assert_eq!(fields(b"a: 7\n").0.a, Some(7), "as /proc writes it");
        assert_eq!(fields(b""), (Fields::default(), Ok(())), "missing is absent, not malformed");
        assert_eq!(fields(b"a x\nb_usec 2\n"), (Fields { a: None, b: Some(2000) }, Err(Malformed)));
        assert_eq!(fields(b"b_usec 2\na").1, Err(Malformed), "half a line");
        assert_eq!(fields(b"b_usec 18446744073709551615\n").0.b, Some(u64::MAX), "scaling saturates");
        assert_eq!(fields(b"a 18446744073709551616\n").1, Err(Malformed), "overflow");
    }

    #[test]
    fn values_and_limits() {
        assert_eq!(value(b"12\n"), Ok(12));
        assert_eq!(value(b""), Err(Malformed));
        assert_eq!(value(b"-1\n"), Err(Malformed));
        assert_eq!(limit(b"max\n"), Ok(Limit::Max));
        assert_eq!(limit(b"4096\n"), Ok(Limit::Value(4096)));
        assert_eq!(limit_v1(b"9223372036854771712\n"), Ok(Limit::Max), "4 KiB pages");
        assert_eq!(limit_v1(b"9223372036854710272\n"), Ok(Limit::Max), "64 KiB pages");
        assert_eq!(limit_v1(b"18446744073709551615\n"), Ok(Limit::Max));
        assert_eq!(limit_v1(b"0\n"), Ok(Limit::Value(0)));
        assert_eq!(quota_v1(b"-1\n"), Ok(Limit::Max));
        assert_eq!(quota_v1(b"50000\n"), Ok(Limit::Value(50000)));
        assert_eq!(cpu_max(b"max 100000\n"), Ok((Limit::Max, 100_000)));
        assert_eq!(cpu_max(b"50000 100000\n"), Ok((Limit::Value(50_000), 100_000)));
        assert_eq!(cpu_max(b"50000\n"), Err(Malformed));
    }

    #[test]
    fn pressure_files() {
        let text = b"some avg10=0.00 avg60=0.12 avg300=0.00 total=17\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        assert_eq!(pressure(text), (Some(17), Some(3), Ok(())));
        assert_eq!(
            pressure(b"some avg10=0.00 total=17\n"),
            (Some(17), None, Ok(())),
            "cpu before 5.13 has no full line"
        );
        assert_eq!(pressure(b"some avg10=0.00 tot"), (None, None, Err(Malformed)));
    }

    #[test]
    fn lists() {
        let all = |b: &[u8]| cpu_list(b).collect::<Result<Vec<_>, _>>();
        assert_eq!(all(b"0-3,8\n"), Ok(vec![(0, 3), (8, 8)]));
        assert_eq!(all(b"\n"), Ok(vec![]));
        assert_eq!(all(b"3-1\n"), Err(Malformed));
        assert_eq!(all(b"0-4294967295\n"), Err(Malformed));
        assert_eq!(pids(b"1\n0\n22\nx\n").collect::<Vec<_>>(), [Ok(1), Ok(22), Err(Malformed)]);
        assert_eq!(device(b"259:3"), Some((259, 3)));
        assert_eq!(device(b"259"), None);
    }

    #[test]
    fn process_stat() {
        let text = b"42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456 1 2\n";
        assert_eq!(proc_stat(text), Ok(ProcStat { comm: b"a) b (c", ppid: 7, starttime: 123_456 }));
        assert_eq!(proc_stat(b"42 (x) S 7"), Err(Malformed));
        assert_eq!(proc_stat(b")("), Err(Malformed));
    }
}
