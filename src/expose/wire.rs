//! The wire format of protocol buffers, as much of it as is written here.

pub fn tag(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

pub fn uint(out: &mut Vec<u8>, field: u64, v: u64) {
    tag(out, field, 0);
    varint(out, v);
}

pub fn sint(out: &mut Vec<u8>, field: u64, v: i64) {
    tag(out, field, 0);
    varint(out, zigzag(v));
}

pub fn fixed64(out: &mut Vec<u8>, field: u64, v: u64) {
    tag(out, field, 1);
    out.extend_from_slice(&v.to_le_bytes());
}

pub fn double(out: &mut Vec<u8>, field: u64, v: f64) {
    fixed64(out, field, v.to_bits());
}

pub fn string(out: &mut Vec<u8>, field: u64, v: &str) {
    bytes(out, field, v.as_bytes());
}

/// A message that is already encoded, too.
pub fn bytes(out: &mut Vec<u8>, field: u64, v: &[u8]) {
    tag(out, field, 2);
    varint(out, v.len() as u64);
    out.extend_from_slice(v);
}

pub fn message(out: &mut Vec<u8>, field: u64, content: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, 2);
    let start = out.len();
    content(out);
    prefix_length(out, start);
}

/// Puts the length of what was written since `start` before it.
pub fn prefix_length(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    varint(out, (end - start) as u64);
    let prefix = out.len() - end;
    out[start..].rotate_right(prefix);
}

pub fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

pub fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}
