//! What a container is: info, start time, health.

use crate::catalog;
use crate::collect::each;
use crate::config::Config;
use crate::root::{Nanos, SECOND};
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, entities: &[Entity], config: &Config, out: &mut Samples) {
    let allowed: Vec<(&str, String)> = config.label_allow.iter().map(|l| (l.as_str(), label_name(l))).collect();
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(3 + allowed.len());
    for (facts, entity) in each(snapshot, entities) {
        let c = &facts.container;
        out.push(catalog::CONTAINER_LAST_SEEN, entity, seconds(snapshot.wall));
        out.push_opt(catalog::CONTAINER_START_TIME, entity, c.started.or(facts.started).map(seconds));
        out.push_opt(catalog::CONTAINER_CREATION_TIME, entity, c.created.map(seconds));
        out.push_opt(catalog::CONTAINER_HEALTH_STATE, entity, c.healthy);
        if c.identity.id == "/" {
            continue;
        }
        let mut digits = itoa::Buffer::new();
        let pid = if c.pid == 0 { "" } else { digits.format(c.pid) };
        let mut own = pairs_of(std::mem::take(&mut pairs));
        own.extend([
            ("container_id", c.native_id.as_str()),
            ("pid", pid),
            ("restart_policy", c.restart_policy.as_str()),
            ("role", c.role.as_str()),
        ]);
        own.extend(
            allowed.iter().filter_map(|(label, name)| Some((name.as_str(), c.user_labels.get(*label)?.as_str()))),
        );
        out.push_with(catalog::CONTAINER_INFO, entity, &own, 1.0);
        pairs = pairs_of(own);
    }
}

fn seconds(at: Nanos) -> f64 {
    at as f64 / SECOND as f64
}

/// The same memory for borrows of another life: an empty vector holds none.
fn pairs_of<'b>(mut pairs: Vec<(&str, &str)>) -> Vec<(&'b str, &'b str)> {
    pairs.clear();
    pairs.into_iter().map(|_| ("", "")).collect()
}

/// `com.example/tier` → `label_com_example_tier`, as Prometheus' own service discovery writes label names.
fn label_name(label: &str) -> String {
    let plain = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    "label_".chars().chain(plain).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn label_names_are_plain() {
        assert_eq!(super::label_name("com.example/tier-1"), "label_com_example_tier_1");
    }
}
