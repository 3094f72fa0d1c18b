//! A measured figure beside what it is compared with, and the table of them.

use std::fmt::Write;

use serde::Serialize;

use crate::catalog::Unit;

/// What must hold of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    Above(f64),
    /// Shown for the reader's judgement alone.
    None,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub name: String,
    /// The measured value, in `unit`.
    pub value: f64,
    pub unit: &'static str,
    pub bound: Bound,
    /// What it is made of, in words: both sides of a ratio.
    pub compared: String,
}

impl Figure {
    /// The measured value with its unit, for people.
    fn measured(&self) -> String {
        format!("{} {}", number(self.value), self.unit).trim_end().to_owned()
    }

    pub fn new(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        bound: Bound,
        compared: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), value, unit, bound, compared: compared.into() }
    }

    /// A figure in the unit that people read: milliseconds, megabytes, per cent.
    pub fn of_unit(name: String, value: f64, unit: Unit, bound: Bound, compared: String) -> Self {
        let (factor, unit) = match unit {
            Unit::Seconds => (1e3, "ms"),
            Unit::Bytes => (1e-6, "MB"),
            Unit::Ratio => (1e2, "%"),
            _ => (1.0, ""),
        };
        let bound = match bound {
            Bound::AtMost(limit) => Bound::AtMost(limit * factor),
            Bound::AtLeast(limit) => Bound::AtLeast(limit * factor),
            Bound::Below(limit) => Bound::Below(limit * factor),
            Bound::Above(limit) => Bound::Above(limit * factor),
            Bound::None => Bound::None,
        };
        Self::new(name, value * factor, unit, bound, compared)
    }

    /// Whether the bound holds; None where there is none.
    pub fn met(&self) -> Option<bool> {
        match self.bound {
            Bound::AtMost(limit) => Some(self.value <= limit),
            Bound::AtLeast(limit) => Some(self.value >= limit),
            Bound::Below(limit) => Some(self.value < limit),
            Bound::Above(limit) => Some(self.value > limit),
            Bound::None => None,
        }
    }

    fn bound_text(&self) -> String {
        match self.bound {
            Bound::AtMost(limit) => format!("≤ {}", number(limit)),
            Bound::AtLeast(limit) => format!("≥ {}", number(limit)),
            Bound::Below(limit) => format!("< {}", number(limit)),
            Bound::Above(limit) => format!("> {}", number(limit)),
            Bound::None => String::new(),
        }
    }
}

fn number(v: f64) -> String {
    let decimals = match v.abs() {
        _ if v.fract() == 0.0 => 0,
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        _ => 2,
    };
    if v != 0.0 && v.abs() < 0.01 { format!("{v:.5}") } else { format!("{v:.decimals$}") }
}

/// A table for people; columns are as wide as their widest cell.
pub fn table(figures: &[Figure]) -> String {
    let head = ["figure", "measured", "bound", "met", "compared"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head)
        .chain(figures.iter().map(|f| {
            let met = match f.met() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            [f.name.clone(), f.measured(), f.bound_text(), met.to_owned(), f.compared.clone()]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let mut out = String::new();
    for [name, measured, bound, met, compared] in &rows {
        let [a, b, c, d] = widths;
        let line = format!("{name:a$}  {measured:>b$}  {bound:>c$}  {met:d$}  {compared}");
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// Figures named `WHO: WHAT` side by side: one line a `WHAT`, one column a `WHO`. None where there is but one `WHO`.
pub fn comparison(figures: &[Figure]) -> Option<String> {
    let (mut who, mut what): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (a, b) in figures.iter().filter_map(|f| f.name.split_once(": ")) {
        if !who.contains(&a) {
            who.push(a);
        }
        if !what.contains(&b) {
            what.push(b);
        }
    }
    let cell = |a: &str, b: &str| {
        let name = format!("{a}: {b}");
        figures.iter().find(|f| f.name == name).map_or("-".to_owned(), Figure::measured)
    };
    let first = what.iter().map(|b| b.chars().count()).max()?.max(4);
    let widths: Vec<usize> = who
        .iter()
        .map(|a| what.iter().map(|b| cell(a, b).chars().count()).max().unwrap_or(0).max(a.chars().count()))
        .collect();
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().zip(&widths).map(|(text, width)| format!("  {text:>width$}")).collect();
        format!("{name:first$}{cells}\n")
    };
    let head = line("case", who.iter().map(|a| (*a).to_owned()).collect());
    let rows = what.iter().map(|b| line(b, who.iter().map(|a| cell(a, b)).collect()));
    (who.len() > 1).then(|| std::iter::once(head).chain(rows).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_their_limit() {
        let figure = |value, bound| Figure::new("x", value, "", bound, "");
        assert_eq!(figure(1.5, Bound::AtMost(1.5)).met(), Some(true));
        assert_eq!(figure(1.51, Bound::AtMost(1.5)).met(), Some(false));
        assert_eq!(figure(4.0, Bound::AtLeast(4.0)).met(), Some(true));
        assert_eq!(figure(3.99, Bound::AtLeast(4.0)).met(), Some(false));
        assert_eq!(figure(0.0, Bound::None).met(), None);
    }

    #[test]
    fn runtimes_stand_side_by_side() {
        let figure = |name: &str, value| Figure::new(name, value, "ms", Bound::None, "");
        let all = [
            figure("docker: start, cold", 300.0),
            figure("docker: start, warm", 9.5),
            figure("podman: start, cold", 400.0),
        ];
        assert_eq!(
            comparison(&all).unwrap(),
            "case          docker  podman\nstart, cold   300 ms  400 ms\nstart, warm  9.50 ms       -\n"
        );
        assert_eq!(comparison(&all[..2]), None);
    }

    #[test]
    fn the_table_is_aligned() {
        let text = table(&[
            Figure::new("a", 1.0, "ms", Bound::AtMost(2.0), "b"),
            Figure::new("longer", 12.345, "", Bound::None, "c"),
        ]);
        assert_eq!(
            text,
            "figure  measured  bound  met  compared\na           1 ms    ≤ 2  yes  b\nlonger      12.3              c\n"
        );
    }
}
