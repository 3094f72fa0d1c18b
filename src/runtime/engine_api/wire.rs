//! What Docker's Engine API says (API 1.41 and later), and Podman's compatible one: the fields that are used, all
//! optional, since both write `null` freely.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::root::{Nanos, SECOND};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub struct Version {
    pub api_version: Option<String>,
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: Option<String>,
}

/// Oldest API whose answers are understood (Docker 20.10).
const OLDEST: (u32, u32) = (1, 41);
/// From Docker 28 on a container's networks are connected once its process exists (`initializeCreatedTask`), before that
/// first of all.
const NETWORK_AFTER_PROCESS: (u32, u32) = (1, 48);

impl Version {
    /// The path prefix of the version to speak: the oldest that both sides know. None if the daemon is older.
    pub fn prefix(&self) -> Option<String> {
        let newest = parse_version(&self.api_version)?;
        let (major, minor) = OLDEST.max(parse_version(&self.min_api_version).unwrap_or(OLDEST));
        (newest >= (major, minor)).then(|| format!("/v{major}.{minor}"))
    }

    /// Whether Docker connects a container's networks after its process was created.
    pub fn network_after_process(&self) -> bool {
        parse_version(&self.api_version).is_some_and(|newest| newest >= NETWORK_AFTER_PROCESS)
    }
}

fn parse_version(version: &Option<String>) -> Option<(u32, u32)> {
    let (major, minor) = version.as_deref()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A row of `GET /containers/json`.
#[derive(Debug, Deserialize)]
pub struct Summary {
    #[serde(rename = "Id")]
    pub id: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inspect {
    pub created: Option<String>,
    pub path: Option<String>,
    pub args: Option<Vec<String>>,
    pub name: Option<String>,
    /// The image's id.
    pub image: Option<String>,
    pub state: Option<State>,
    pub config: Option<ContainerConfig>,
    pub host_config: Option<HostConfig>,
    pub network_settings: Option<NetworkSettings>,
    pub graph_driver: Option<GraphDriver>,
    /// In the folder that Docker keeps for a container, and Podman while it is up.
    pub hostname_path: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    pub data: Option<GraphDriverData>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriverData {
    /// Where overlay2 mounts a container's root file system.
    pub merged_dir: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    pub running: Option<bool>,
    pub pid: Option<i64>,
    pub exit_code: Option<i64>,
    pub error: Option<String>,
    pub started_at: Option<String>,
    pub health: Option<Health>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    pub status: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// As it was asked for: a name, or an id.
    pub image: Option<String>,
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    pub network_mode: Option<String>,
    pub restart_policy: Option<RestartPolicy>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    pub name: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    pub networks: Option<BTreeMap<String, Option<Endpoint>>>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Endpoint {
    #[serde(rename = "IPAddress")]
    pub ip_address: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: Option<String>,
}

/// `GET /images/ID/json`.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Image {
    pub id: Option<String>,
    pub repo_tags: Option<Vec<String>>,
    pub repo_digests: Option<Vec<String>>,
    pub size: Option<i64>,
    #[serde(rename = "RootFS")]
    pub root_fs: Option<RootFs>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    pub layers: Option<Vec<String>>,
}

/// A message of `GET /events`.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Message {
    #[serde(rename = "Type")]
    pub kind: Option<String>,
    #[serde(rename = "Action")]
    pub action: Option<String>,
    #[serde(rename = "Actor")]
    pub actor: Option<Actor>,
    pub time: Option<i64>,
    #[serde(rename = "timeNano")]
    pub time_nano: Option<i64>,
    /// Podman's own.
    #[serde(rename = "HealthStatus", alias = "health_status")]
    pub health_status: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: Option<String>,
    #[serde(rename = "Attributes")]
    pub attributes: Option<BTreeMap<String, Option<String>>>,
}

impl Message {
    pub fn at(&self) -> Nanos {
        match (self.time_nano, self.time) {
            (Some(n), _) if n > 0 => n,
            (_, Some(s)) => s.saturating_mul(SECOND),
            _ => 0,
        }
    }

    pub fn id(&self) -> &str {
        self.actor.as_ref().and_then(|a| a.id.as_deref()).unwrap_or("")
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.actor.as_ref()?.attributes.as_ref()?.get(name)?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_common_version_is_spoken() {
        let version = |api: &str, min: &str| Version {
            api_version: Some(api.to_owned()),
            min_api_version: Some(min.to_owned()).filter(|m| !m.is_empty()),
        };
        assert_eq!(version("1.41", "1.12").prefix().as_deref(), Some("/v1.41"));
        assert_eq!(version("1.52", "1.44").prefix().as_deref(), Some("/v1.44"));
        assert_eq!(version("1.41", "").prefix().as_deref(), Some("/v1.41"));
        assert_eq!(version("1.40", "1.12").prefix(), None);
        assert_eq!(version("nonsense", "").prefix(), None);
        for (api, after) in [("1.47", false), ("1.48", true), ("1.56", true), ("2.0", true), ("", false)] {
            assert_eq!(version(api, "1.40").network_after_process(), after, "{api}");
        }
    }
}
