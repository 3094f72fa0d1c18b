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

impl Version {
    /// The path prefix of the version to speak: the oldest that both sides know. None if the daemon is older.
    pub fn prefix(&self) -> Option<String> {
        let parse = |v: &Option<String>| {
            let (major, minor) = v.as_deref()?.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let newest: (u32, u32) = parse(&self.api_version)?;
        let (major, minor) = OLDEST.max(parse(&self.min_api_version).unwrap_or(OLDEST));
        (newest >= (major, minor)).then(|| format!("/v{major}.{minor}"))
    }
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

/// RFC 3339 with up to nine decimals, as Go writes time. None for Go's zero time (year 1): it did not happen.
pub fn parse_time(text: &str) -> Option<Nanos> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if separators.iter().any(|(i, s)| text.get(*i..i + 1) != Some(*s)) || year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let used = fraction.get(..digits.min(9))?;
        nanos = used.parse::<i64>().ok()? * 10_i64.pow(9 - used.len() as u32);
        rest = fraction.get(digits..)?;
    }
    let offset = match rest {
        "Z" | "z" => 0,
        zone => {
            let sign = match zone.get(0..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60)
        }
    };
    // Days from the civil date, Howard Hinnant's algorithm: March is the first month.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_era = (y % 400) * 365 + (y % 400) / 4 - (y % 400) / 100 + (153 * m + 2) / 5 + day - 1;
    let days = y / 400 * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(SECOND)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        assert_eq!(parse_time("2026-11-23T18:21:35.352063269Z"), Some(1_795_458_095_352_063_269));
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_time("2024-02-29T12:00:00.5+02:00"), Some(1_709_200_800_500_000_000));
        assert_eq!(parse_time("2026-11-23T18:21:35.1234567891Z"), Some(1_795_458_095_123_456_789));
        assert_eq!(parse_time("0001-01-01T00:00:00Z"), None);
        for bad in ["", "Z", "2026-13-01T00:00:00Z", "2026-11-23", "2026-11-23T18:21:35", "ä026-11-23T18:21:35Z"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

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
    }
}
