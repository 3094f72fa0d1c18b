//! Which containers are shown: the configured include and exclude patterns.

use std::collections::BTreeMap;

use crate::config::{Pattern, Selection};

/// A label that a container does not have is empty, as everywhere in Prometheus.
pub fn shows(selection: &Selection, name: &str, image: &str, labels: &BTreeMap<String, String>) -> bool {
    let takes = |include: &Option<Pattern>, exclude: &Option<Pattern>, text: &str| {
        include.as_ref().is_none_or(|p| p.matches(text)) && !exclude.as_ref().is_some_and(|p| p.matches(text))
    };
    let label = |name: &String| labels.get(name).map_or("", String::as_str);
    takes(&selection.name_include, &selection.name_exclude, name)
        && takes(&selection.image_include, &selection.image_exclude, image)
        && selection.label_include.iter().all(|(name, p)| p.matches(label(name)))
        && !selection.label_exclude.iter().any(|(name, p)| p.matches(label(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_include_must_match_and_no_exclude() {
        let pattern = |p: &str| Pattern::new(p).unwrap();
        let selection = Selection {
            name_include: Some(pattern("web.*")),
            image_exclude: Some(pattern("nginx|alpine")),
            label_include: [("tier".to_owned(), pattern("front|"))].into(),
            label_exclude: [("hidden".to_owned(), pattern(".+"))].into(),
            ..Selection::default()
        };
        let shows = |name: &str, image: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            shows(&selection, name, image, &labels)
        };
        assert!(shows("web1", "busybox", &[]));
        assert!(shows("web1", "busybox", &[("tier", "front")]));
        assert!(!shows("web1", "busybox", &[("tier", "back")]));
        assert!(!shows("web1", "busybox", &[("hidden", "yes\nno")]));
        assert!(!shows("my-web", "busybox", &[]), "anchored");
        assert!(!shows("web1", "nginx", &[]));
        assert!(shows("web1", "nginx:1", &[]), "anchored");
    }
}
