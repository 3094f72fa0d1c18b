//! Text for people, safely: escaping, figures with units, bars.

use std::fmt::{self, Display, Formatter, Write};

use crate::root::{Nanos, SECOND};

/// Text from outside, safe in element content and in quoted attributes. Control characters, and those that turn the
/// direction of what follows, are shown as U+FFFD: a name must not disguise itself.
pub struct Esc<'a>(pub &'a str);

impl Display for Esc<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// As much of a long text as helps.
pub fn short(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A container's name. Of one that no runtime names it is its id: then the twelve digits that commands show.
pub fn name(text: &str) -> String {
    let is_id = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { text[..12].to_owned() } else { short(text, 80) }
}

/// `1.5 GiB`.
pub fn bytes(n: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut n = n;
    let mut unit = 0;
    while n >= 999.5 && unit + 1 < UNITS.len() {
        n /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && n < 99.95);
    format!("{n:.decimals$}\u{a0}{}", UNITS[unit])
}

/// A number of cores or the like, with as many digits as say something.
pub fn number(n: f64) -> String {
    match n {
        n if n >= 99.95 => format!("{n:.0}"),
        n if n >= 9.995 => format!("{n:.1}"),
        n if n >= 0.0995 || n == 0.0 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    }
}

/// `2`, not `2.00`.
pub fn trimmed(n: f64) -> String {
    if n.fract() == 0.0 { format!("{n:.0}") } else { number(n) }
}

/// `42 %` of a ratio.
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let decimals = usize::from(percent > 0.0 && percent < 9.95);
    format!("{percent:.decimals$}\u{a0}%")
}

/// `3 d 4 h`: the two largest units.
pub fn duration(nanos: Nanos) -> String {
    let s = (nanos / SECOND).max(0);
    let (d, h, m) = (s / 86_400, s / 3600 % 24, s / 60 % 60);
    match (d, h, m) {
        (1.., ..) => format!("{d}\u{a0}d {h}\u{a0}h"),
        (0, 1.., _) => format!("{h}\u{a0}h {m}\u{a0}min"),
        (0, 0, 1..) => format!("{m}\u{a0}min {}\u{a0}s", s % 60),
        _ => format!("{s}\u{a0}s"),
    }
}

/// What stands where nothing is known.
pub const UNKNOWN: &str = "<span class=dim aria-label=\"not known\">–</span>";

/// A bar of parts, each a class and a share of the whole. `label` is read aloud in its place.
pub struct Bar<'a> {
    /// Whether the rest of the whole is shown: not where the whole is only the largest of several.
    pub track: bool,
    pub label: &'a str,
    pub parts: &'a [(&'static str, f64)],
}

impl Display for Bar<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let label = Esc(self.label);
        let track = if self.track { " track" } else { "" };
        write!(
            f,
            "<svg class=\"bar{track}\" viewBox=\"0 0 100 1\" preserveAspectRatio=none role=img aria-label=\"{label}\"><title>{label}</title>"
        )?;
        let mut at = 0.0;
        for (class, share) in self.parts {
            let width = (share * 100.0).clamp(0.0, 100.0 - at);
            if width > 0.0 {
                write!(f, "<rect class={class} x={at:.2} width={width:.2} height=1 />")?;
                at += width;
            }
        }
        f.write_str("</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_text() {
        let hostile = "<script>alert('x')</script>\"&\u{202e}gnp\n\0";
        assert_eq!(
            Esc(hostile).to_string(),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}gnp\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn figures() {
        for (n, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1000.0, "1.0 KiB"),
            (1_048_576.0, "1.0 MiB"),
            (123.4 * 1_048_576.0, "123 MiB"),
            (1.5e18, "1332.3 PiB"),
        ] {
            assert_eq!(bytes(n).replace('\u{a0}', " "), text.replace("1332.3", "1332"));
        }
        assert_eq!([0.0, 0.034, 0.34, 12.34, 123.4].map(number), ["0.00", "0.034", "0.34", "12.3", "123"]);
        assert_eq!(percent(0.034).replace('\u{a0}', " "), "3.4 %");
        assert_eq!(percent(1.5).replace('\u{a0}', " "), "150 %");
        assert_eq!(duration(90_061 * SECOND).replace('\u{a0}', " "), "1 d 1 h");
        assert_eq!(duration(-5).replace('\u{a0}', " "), "0 s");
        assert_eq!(short("añb", 2), "añ…");
        assert_eq!(short("añ", 2), "añ");
    }

    #[test]
    fn a_bar_never_runs_over() {
        let bar = Bar {
            track: true,
            label: "a \"b\"",
            parts: &[("f-cpu", 0.7), ("f-net", f64::NAN), ("f-user", 0.9), ("f-disk", 1.0)],
        };
        let text = bar.to_string();
        assert!(text.contains("x=0.00 width=70.00") && text.contains("x=70.00 width=30.00"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("f-disk") && text.contains("a &quot;b&quot;"), "{text}");
    }
}
