//! The YAML file, as a list of settings with the line that each stands in.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::load::Error;
use super::settings::{Setting, Shape, settings};

/// One setting of the file.
pub struct Entry {
    pub setting: &'static Setting,
    pub values: Vec<String>,
    pub line: u64,
}

enum Node {
    Null,
    /// Text as quoted in the file; None for a plain scalar with a type of its own, whose text is read from the source.
    Scalar(Option<String>),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value, a list or a mapping")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Scalar(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Scalar(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Scalar(None))
            }

            fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
                Ok(Node::Scalar(None))
            }

            fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
                Ok(Node::Scalar(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Scalar(None))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Scalar(Some(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Node::Map(map))
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Reads the whole file: what is right in form, and all that is wrong with it.
pub fn parse(text: &str, name: &str) -> (Vec<Entry>, Vec<Error>) {
    let fail = |line: u64, key: &str, problem: String| Error {
        origin: format!("{name}:{line}"),
        key: key.to_owned(),
        problem,
    };
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return Default::default();
    }
    let document: Spanned<Node> = match serde_saphyr::from_str(text) {
        Ok(document) => document,
        Err(e) => {
            let line = e.location().map_or(1, |l| l.line());
            return (Vec::new(), vec![fail(line, "", e.without_snippet().to_string())]);
        }
    };
    let mut reader = Reader { text, entries: Vec::new(), errors: Vec::new(), fail: &fail };
    match document.value {
        Node::Null => {}
        Node::Map(map) => reader.section("", map),
        _ => reader.errors.push(fail(document.referenced.line(), "", "a mapping of settings is expected".into())),
    }
    (reader.entries, reader.errors)
}

struct Reader<'a> {
    text: &'a str,
    entries: Vec<Entry>,
    errors: Vec<Error>,
    fail: &'a dyn Fn(u64, &str, String) -> Error,
}

impl Reader<'_> {
    fn section(&mut self, prefix: &str, map: Vec<(Spanned<String>, Spanned<Node>)>) {
        for (key, node) in map {
            let line = key.referenced.line();
            let path = if prefix.is_empty() { key.value } else { format!("{prefix}.{}", key.value) };
            if let Some(setting) = settings().iter().find(|s| s.in_file && s.key == path) {
                match self.values(setting, node) {
                    Ok(Some(values)) => self.entries.push(Entry { setting, values, line }),
                    Ok(None) => {}
                    Err((line, problem)) => self.errors.push((self.fail)(line, &path, problem)),
                }
                continue;
            }
            let below = format!("{path}.");
            match node.value {
                _ if !settings().iter().any(|s| s.in_file && s.key.starts_with(&below)) => {
                    self.errors.push((self.fail)(line, &path, unknown(&path)));
                }
                Node::Map(map) => self.section(&path, map),
                Node::Null => {}
                _ => self.errors.push((self.fail)(line, &path, "a mapping of settings is expected".into())),
            }
        }
    }

    /// The values of a setting; None where the key stands without a value: the default holds.
    fn values(&self, setting: &Setting, node: Spanned<Node>) -> Result<Option<Vec<String>>, (u64, String)> {
        let line = node.referenced.line();
        let expected = |what: &str| Err((line, format!("{what} is expected; allowed: {}", setting.allowed)));
        let at = node.defined;
        match (setting.shape, node.value) {
            (_, Node::Null) => Ok(None),
            (Shape::Switch | Shape::One | Shape::List, Node::Scalar(s)) => Ok(Some(vec![self.scalar(s, at)])),
            (Shape::List, Node::List(items)) => items
                .into_iter()
                .map(|item| match item.value {
                    Node::Scalar(s) => Ok(self.scalar(s, item.defined)),
                    _ => Err((item.referenced.line(), "a list of plain values is expected".into())),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            (Shape::Map, Node::Map(entries)) => entries
                .into_iter()
                .map(|(key, item)| match item.value {
                    Node::Scalar(s) => Ok(format!("{}={}", key.value, self.scalar(s, item.defined))),
                    _ => Err((key.referenced.line(), format!("{:?}: a plain value is expected", key.value))),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            (Shape::Switch | Shape::One, _) => expected("one value"),
            (Shape::List, _) => expected("a list"),
            (Shape::Map, _) => expected("a mapping"),
        }
    }

    /// A scalar as it is written: `1.0` stays `1.0`, whatever YAML takes it for.
    fn scalar(&self, text: Option<String>, at: Location) -> String {
        let span = at.span();
        let source = || {
            let start = span.byte_offset()? as usize;
            self.text.get(start..start + span.byte_len()? as usize)
        };
        text.or_else(|| source().map(|s| s.trim().to_owned())).unwrap_or_default()
    }
}

fn unknown(path: &str) -> String {
    let (section, _) = path.rsplit_once('.').unwrap_or(("", path));
    match nearest(path) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; allowed here: {}", siblings(section).join(", ")),
    }
}

/// Keys and sections directly below a section.
fn siblings(section: &str) -> Vec<String> {
    let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
    let mut names: Vec<String> = settings()
        .iter()
        .filter(|s| s.in_file)
        .filter_map(|s| s.key.strip_prefix(&prefix)?.split('.').next().map(str::to_owned))
        .collect();
    names.dedup();
    names
}

/// The key, or section, most like `path`; None when nothing is near.
fn nearest(path: &str) -> Option<String> {
    let mut candidates: Vec<String> = Vec::new();
    for setting in settings().iter().filter(|s| s.in_file) {
        let mut end = 0;
        for part in setting.key.split('.') {
            end += part.len() + usize::from(end > 0);
            candidates.push(setting.key[..end].to_owned());
        }
    }
    candidates.sort_unstable();
    candidates.dedup();
    let near = candidates.into_iter().map(|c| (distance(path, &c), c)).min()?;
    (near.0 <= 1 + path.len() / 6).then_some(near.1)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
