//! Apple's `container`: every sample of every version, and the real binary against a stand-in for the command.

use std::path::PathBuf;

use kina_exporter::runtime::apple::shapes::{
    Failure, Listed, ListedImage, Machine, MachineDetail, Network, State, Stats, parse_list, parse_status,
};

use crate::apple_live::VERSIONS;
use crate::common::fixture;

/// All sample files whose name begins so, over all versions.
fn samples(prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for version in std::fs::read_dir(fixture("apple")).unwrap().filter_map(Result::ok).filter(|e| e.path().is_dir()) {
        let files = std::fs::read_dir(version.path()).unwrap().filter_map(Result::ok);
        found.extend(files.map(|f| f.path()).filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(prefix) && name.ends_with(".json") && !name.contains(".not-json")
        }));
    }
    found.sort();
    assert!(!found.is_empty(), "no samples of {prefix}");
    found
}

fn read(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn every_list_and_inspect_sample_is_read_whole() {
    for path in samples("container-list").into_iter().chain(samples("container-inspect")) {
        let (containers, bad) = parse_list::<Listed>(&read(&path)).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert_eq!(bad, 0, "{path:?}");
        for c in &containers {
            assert_eq!(c.id, c.configuration.id, "{path:?}");
            assert!(c.configuration.resources.cpus.is_some() && c.configuration.resources.memory_in_bytes.is_some());
            if c.state == State::Running {
                assert!(c.networks.iter().flat_map(|n| n.addresses()).count() > 0, "{path:?} {}", c.id);
            }
        }
    }
}

#[test]
fn the_same_container_reads_the_same_in_every_version() {
    for path in samples("container-list-all") {
        let (containers, _) = parse_list::<Listed>(&read(&path)).unwrap();
        let web = containers.iter().find(|c| c.id == "web").unwrap();
        assert_eq!(web.state, State::Running, "{path:?}");
        assert_eq!(web.configuration.image.reference, "docker.io/library/nginx:1.29");
        assert_eq!(web.configuration.resources.cpus, Some(2.0));
        assert_eq!(web.configuration.resources.memory_in_bytes, Some(512 << 20));
        assert_eq!(web.configuration.labels["com.example.note"], "say \"hi\" \\ a/b\tend");
        assert_eq!(web.configuration.init_process.executable, "/docker-entrypoint.sh");
        // Up to 0.7 nothing tells when a container started.
        let old = path.components().any(|c| c.as_os_str() == "0.5.0" || c.as_os_str() == "0.7.1");
        assert_eq!(web.started.is_none(), old, "{path:?}");
    }
}

#[test]
fn every_stats_and_image_sample_is_read_whole() {
    for path in samples("stats-") {
        let (stats, bad) = parse_list::<Stats>(&read(&path)).unwrap();
        assert_eq!(bad, 0, "{path:?}");
        assert!(stats.iter().all(|s| !s.id.is_empty()), "{path:?}");
    }
    for path in samples("image-") {
        let (images, bad) = parse_list::<ListedImage>(&read(&path)).unwrap();
        assert_eq!(bad, 0, "{path:?}");
        assert!(images.iter().all(|i| !i.reference.is_empty() && i.digest.starts_with("sha256:")), "{path:?}");
    }
    let nginx = |version: &str| {
        let path = fixture("apple").join(version).join("image-inspect-nginx.json");
        parse_list::<ListedImage>(&std::fs::read(path).unwrap()).unwrap().0.remove(0)
    };
    for version in VERSIONS {
        let image = nginx(version);
        assert!(image.size_bytes.is_some_and(|s| s > 1 << 20) && image.layers.is_some_and(|l| l > 0), "{version}");
    }
}

#[test]
fn networks_read_the_same_in_every_version_and_machines_name_their_container() {
    for version in VERSIONS {
        let json = std::fs::read(fixture("apple").join(version).join("network-list.json")).unwrap();
        let (networks, bad) = parse_list::<Network>(&json).unwrap();
        assert_eq!(bad, 0, "{version}");
        let told: Vec<_> = networks.iter().map(|n| [&*n.id, &n.mode, &n.ipv4_subnet]).collect();
        assert_eq!(told, [["default", "nat", "192.168.64.0/24"], ["backend", "nat", "10.20.0.0/24"]], "{version}");
        // Since 0.8.
        let old = ["0.5.0", "0.7.1"].contains(&version);
        assert!(networks.iter().all(|n| n.ipv6_subnet.is_empty() == old), "{version}");
    }
    for path in samples("machine-list") {
        let (machines, bad) = parse_list::<Machine>(&read(&path)).unwrap();
        assert_eq!(bad, 0, "{path:?}");
        let running: Vec<_> = machines.iter().filter(|m| m.status == State::Running).map(|m| &*m.id).collect();
        let empty = path.to_string_lossy().contains("empty");
        assert_eq!(running, if empty { vec![] } else { vec!["dev"] }, "{path:?}");
    }
    for path in samples("machine-inspect") {
        let (details, _) = parse_list::<MachineDetail>(&read(&path)).unwrap();
        assert_eq!(details[0].container_id.as_deref(), Some("dev-1a2b3c"), "{path:?}");
    }
}

#[test]
fn the_daemons_state_is_told_in_both_forms() {
    for version in VERSIONS {
        let dir = fixture("apple").join(version);
        let form = |name: &str| {
            ["json", "txt"].iter().find_map(|e| std::fs::read(dir.join(format!("{name}.{e}"))).ok()).unwrap()
        };
        let root = parse_status(&form("system-status-running"));
        assert_eq!(root.as_deref(), Some("/Users/alice/Library/Application Support/com.apple.container"), "{version}");
        assert_eq!(parse_status(&form("system-status-not-running.exit1")), None, "{version}");
        assert_eq!(parse_status(&form("system-status-unregistered.exit1")), None, "{version}");
    }
}

#[test]
fn every_error_sample_has_its_cause() {
    for version in VERSIONS {
        for entry in std::fs::read_dir(fixture("apple").join(version).join("errors")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".stderr.txt") {
                continue;
            }
            let expected = match name.split('.').next().unwrap() {
                n if n.contains("service-not-running") => Failure::ServiceNotRunning,
                n if n.contains("no-such-command") => Failure::Unsupported,
                n if n.contains("timeout") => Failure::ServiceHung,
                n if n.contains("unknown") => Failure::NotFound,
                _ => Failure::Other,
            };
            assert_eq!(Failure::from_stderr(&std::fs::read(&path).unwrap()), expected, "{path:?}");
        }
    }
}
