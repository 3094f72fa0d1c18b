//! Which containers are shown: the configured include and exclude patterns, compiled.

use std::collections::BTreeMap;

use regex::Regex;

use crate::config::Selection;

#[derive(Debug, Default)]
pub struct Patterns {
    name: Pair,
    image: Pair,
    labels_in: Vec<(String, Regex)>,
    labels_out: Vec<(String, Regex)>,
}

#[derive(Debug, Default)]
struct Pair {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Pair {
    fn takes(&self, text: &str) -> bool {
        self.include.as_ref().is_none_or(|r| r.is_match(text)) && !self.exclude.as_ref().is_some_and(|r| r.is_match(text))
    }
}

/// Anchored on both sides, as Prometheus anchors its own. The configuration has been validated: a pattern that does not
/// compile can't arrive here, and matches nothing.
pub fn anchored(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("^(?s:{pattern})$")).ok()
}

impl Patterns {
    pub fn new(s: &Selection) -> Self {
        let one = |p: &Option<String>| p.as_deref().and_then(anchored);
        let many = |m: &BTreeMap<String, String>| {
            m.iter().filter_map(|(label, p)| Some((label.clone(), anchored(p)?))).collect()
        };
        Self {
            name: Pair { include: one(&s.name_include), exclude: one(&s.name_exclude) },
            image: Pair { include: one(&s.image_include), exclude: one(&s.image_exclude) },
            labels_in: many(&s.label_include),
            labels_out: many(&s.label_exclude),
        }
    }

    /// A label that a container does not have is empty, as everywhere in Prometheus.
    pub fn shows(&self, name: &str, image: &str, labels: &BTreeMap<String, String>) -> bool {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        self.name.takes(name)
            && self.image.takes(image)
            && self.labels_in.iter().all(|(name, r)| r.is_match(label(name)))
            && !self.labels_out.iter().any(|(name, r)| r.is_match(label(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(patterns: &Patterns, name: &str, image: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        patterns.shows(name, image, &labels)
    }

    #[test]
    fn every_include_must_match_and_no_exclude() {
        let patterns = Patterns::new(&Selection {
            name_include: Some("web.*".into()),
            image_exclude: Some("nginx|alpine".into()),
            label_include: [("tier".to_owned(), "front|".to_owned())].into(),
            label_exclude: [("hidden".to_owned(), ".+".to_owned())].into(),
            ..Selection::default()
        });
        assert!(shows(&patterns, "web1", "busybox", &[]));
        assert!(shows(&patterns, "web1", "busybox", &[("tier", "front")]));
        assert!(!shows(&patterns, "web1", "busybox", &[("tier", "back")]));
        assert!(!shows(&patterns, "web1", "busybox", &[("hidden", "yes\nno")]));
        assert!(!shows(&patterns, "my-web", "busybox", &[]), "anchored");
        assert!(!shows(&patterns, "web1", "nginx", &[]));
        assert!(shows(&patterns, "web1", "nginx:1", &[]), "anchored");
    }
}
