//! Deterministic damage for tests of parsers.

/// Calls `parse` with the recorded bytes cut at every length, and with thousands of seeded random changes to them.
pub fn mutations(recorded: &[u8], mut parse: impl FnMut(&[u8])) {
    for end in 0..=recorded.len() {
        parse(&recorded[..end]);
    }
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    const TELLING: &[u8] = b"-+:. \n\0\xff9/";
    for _ in 0..5_000 {
        let mut bytes = recorded.to_vec();
        for _ in 0..=random(8) {
            if bytes.is_empty() {
                break;
            }
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] = TELLING[random(TELLING.len())],
                2 => bytes.truncate(at),
                _ => bytes.insert(at, TELLING[random(TELLING.len())]),
            }
        }
        parse(&bytes);
    }
}
