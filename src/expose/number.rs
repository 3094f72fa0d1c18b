//! Numbers as the text formats have them.

/// Whole numbers up to here are exact in an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends a sample's value: the shortest form that reads back as the same number; whole numbers without a fraction.
#[inline]
pub fn value(out: &mut Vec<u8>, v: f64) {
    let whole = v as i64;
    if whole as f64 == v && v.abs() < EXACT {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if v.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(v).as_bytes());
    } else if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    }
}

#[inline]
pub fn count(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends a bucket's bound. It is a label value, so its spelling counts: it must equal what Go's `%g` writes (`5e-05`),
/// as other exporters of the same bucket have it. OpenMetrics wants a fraction on whole numbers (`1.0`), text has none.
pub fn bound(out: &mut Vec<u8>, v: f64, fraction: bool) {
    use std::io::Write;
    let exponent = if v == 0.0 { 0 } else { v.abs().log10().floor() as i32 };
    // Writing to a Vec does not fail.
    let _ = if (-4..21).contains(&exponent) {
        if fraction && v.fract() == 0.0 { write!(out, "{v:.1}") } else { write!(out, "{v}") }
    } else {
        let scientific = format!("{v:e}");
        let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, power) = power.strip_prefix('-').map_or(('+', power), |p| ('-', p));
        write!(out, "{digits}e{sign}{power:0>2}")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values() {
        for (v, want) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (1.5e-7, "1.5e-7"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|o| value(o, v)), want);
        }
        for v in
            [u64::MAX as f64, 9_007_199_254_740_992.0, f64::MAX, f64::MIN_POSITIVE, -1e300, 5e-324, i64::MIN as f64]
        {
            assert_eq!(text(|o| value(o, v)).parse::<f64>(), Ok(v));
        }
    }

    #[test]
    fn bounds_as_go_writes_them() {
        for (v, classic, open) in [
            (0.00005, "5e-05", "5e-05"),
            (0.0001, "0.0001", "0.0001"),
            (0.00025, "0.00025", "0.00025"),
            (0.65, "0.65", "0.65"),
            (1.0, "1", "1.0"),
            (60.0, "60", "60.0"),
            (0.0, "0", "0.0"),
            (1.5e-7, "1.5e-07", "1.5e-07"),
            (1e21, "1e+21", "1e+21"),
        ] {
            assert_eq!(text(|o| bound(o, v, false)), classic);
            assert_eq!(text(|o| bound(o, v, true)), open);
        }
    }
}
