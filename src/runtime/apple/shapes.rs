//! What Apple's `container` prints as JSON, from 0.5.0 to 1.2.2, in one set of types.
//!
//! Shapes are told apart by what is seen, never by version numbers: a field that a version lacks is absent, a field that a
//! newer version adds is ignored. Dates are a number of seconds since 2001 (up to 0.12) or an ISO-8601 string (since 1.0).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::root::{Nanos, SECOND, parse_date};

/// Seconds from the Unix epoch to 2001-01-01T00:00:00Z, the reference date of Apple's encoders.
const REFERENCE_DATE: i64 = 978_307_200;

/// A moment in nanoseconds since the Unix epoch; None for "unknown", which the CLI writes as the Unix epoch itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Date(pub Option<Nanos>);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Date;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a date: seconds since 2001 or an ISO-8601 string")
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Date, E> {
                let unix = seconds + REFERENCE_DATE as f64;
                // Beyond what nanoseconds in an i64 can hold (the year 2262) there is no date, only garbage.
                let known = unix > 0.0 && unix < (i64::MAX / SECOND) as f64;
                Ok(Date(known.then_some((unix * SECOND as f64) as Nanos)))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Date, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Date, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Date, E> {
                let at = parse_date(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(Date((at > 0).then_some(at)))
            }
        }
        d.deserialize_any(Either)
    }
}

/// One element of `container list` and `container inspect`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    pub id: String,
    pub state: State,
    pub configuration: Configuration,
    pub networks: Vec<Attachment>,
    /// When its first process started; kept after a stop, so only the state tells whether it runs.
    pub started: Option<Nanos>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Stopped,
    Stopping,
    #[default]
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            #[serde(default)]
            id: String,
            status: Status,
            #[serde(default)]
            configuration: Configuration,
            #[serde(default)]
            networks: Vec<Attachment>,
            #[serde(default)]
            started_date: Date,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Status {
            Word(State),
            Object(Object),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            #[serde(default)]
            state: State,
            #[serde(default)]
            networks: Vec<Attachment>,
            #[serde(default)]
            started_date: Date,
        }
        let raw = Raw::deserialize(d)?;
        let id = if raw.id.is_empty() { raw.configuration.id.clone() } else { raw.id };
        if id.is_empty() {
            return Err(de::Error::missing_field("id"));
        }
        let (state, networks, started) = match raw.status {
            Status::Word(state) => (state, raw.networks, raw.started_date),
            Status::Object(o) => (o.state, o.networks, o.started_date),
        };
        Ok(Listed { id, state, configuration: raw.configuration, networks, started: started.0 })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub id: String,
    pub image: Image,
    pub init_process: InitProcess,
    pub resources: Resources,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub networks: Vec<serde_json::Value>,
    pub creation_date: Date,
    pub rosetta: bool,
    pub virtualization: bool,
    /// Since 0.10.0.
    pub use_init: Option<bool>,
    /// Since 0.12.0.
    pub cap_add: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Image {
    pub reference: String,
    pub descriptor: Descriptor,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Descriptor {
    pub digest: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct InitProcess {
    pub executable: String,
    pub arguments: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    pub cpus: Option<f64>,
    pub memory_in_bytes: Option<u64>,
    /// CPUs that the VM has beyond the container's (since 1.0.0).
    pub cpu_overhead: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// An object with one key that names the kind: virtiofs, tmpfs, block or volume.
    #[serde(rename = "type")]
    pub kind: serde_json::Map<String, serde_json::Value>,
}

/// An address in a network; `address` up to 0.7, `ipv4Address` since 0.8; both with a prefix length.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attachment {
    pub network: String,
    address: Option<String>,
    ipv4_address: Option<String>,
    ipv6_address: Option<String>,
}

impl Attachment {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [&self.address, &self.ipv4_address, &self.ipv6_address]
            .into_iter()
            .flatten()
            .filter_map(|cidr| cidr.split('/').next()?.parse().ok())
    }
}

/// One element of `container stats --no-stream --format json`. `u64::MAX` means unlimited.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    pub id: String,
    pub memory_usage_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    pub cpu_usage_usec: Option<u64>,
    pub network_rx_bytes: Option<u64>,
    pub network_tx_bytes: Option<u64>,
    pub block_read_bytes: Option<u64>,
    pub block_write_bytes: Option<u64>,
    pub num_processes: Option<u64>,
}

/// One element of `container machine list --format json` (since 1.0.0).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    pub id: String,
    pub status: State,
    /// Tells a machine from a later one of the same name.
    pub created_date: Date,
}

/// One element of `container machine inspect`: the container that the machine is, which no list shows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineDetail {
    pub container_id: Option<String>,
}

/// One element of `container network list --format json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    /// `nat` or `hostOnly`.
    pub mode: String,
    /// With its prefix length; empty where the network does not run.
    pub ipv4_subnet: String,
    pub ipv6_subnet: String,
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        /// `config` up to 0.12, `configuration` since 1.0; `address` up to 0.7.
        #[derive(Deserialize)]
        struct Raw {
            id: String,
            #[serde(alias = "configuration", default)]
            config: Config,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Config {
            mode: String,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Status {
            #[serde(alias = "address")]
            ipv4_subnet: String,
            ipv6_subnet: String,
        }
        let Raw { id, config, status } = Raw::deserialize(d)?;
        let Status { ipv4_subnet, ipv6_subnet } = status;
        Ok(Network { id, mode: config.mode, ipv4_subnet, ipv6_subnet })
    }
}

/// `container system df --format json` (since 0.7.0).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DiskUsage {
    pub containers: Option<Usage>,
    pub images: Option<Usage>,
    pub volumes: Option<Usage>,
}

/// Bytes allocated on disk, and those of them that nothing uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    pub size_in_bytes: Option<u64>,
    pub reclaimable: Option<u64>,
}

/// One element of `container image list` (and `inspect`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListedImage {
    pub reference: String,
    pub digest: String,
    /// Compressed size of the largest platform's variant, where the version tells.
    pub size_bytes: Option<u64>,
    pub layers: Option<u32>,
}

impl<'de> Deserialize<'de> for ListedImage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Raw {
            reference: String,
            name: String,
            descriptor: Descriptor,
            index: Descriptor,
            configuration: Named,
            variants: Vec<Variant>,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Named {
            name: String,
            descriptor: Descriptor,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Variant {
            size: Option<u64>,
            platform: Platform,
            config: Config,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Platform {
            os: String,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Config {
            rootfs: RootFs,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct RootFs {
            diff_ids: Vec<String>,
        }
        let raw = Raw::deserialize(d)?;
        let first = |options: [String; 3]| options.into_iter().find(|s| !s.is_empty()).unwrap_or_default();
        // Attestations are listed as variants of an unknown platform: they are no image.
        let real = raw.variants.iter().filter(|v| v.platform.os != "unknown").max_by_key(|v| v.size);
        Ok(ListedImage {
            reference: first([raw.reference, raw.name, raw.configuration.name]),
            digest: first([raw.descriptor.digest, raw.index.digest, raw.configuration.descriptor.digest]),
            size_bytes: real.and_then(|v| v.size),
            layers: real.map(|v| v.config.rootfs.diff_ids.len() as u32).filter(|n| *n > 0),
        })
    }
}

/// A list whose elements are read one by one: an element that can't be read costs itself alone, and is counted.
pub fn parse_list<T: de::DeserializeOwned>(json: &[u8]) -> Result<(Vec<T>, usize), serde_json::Error> {
    let elements: Vec<serde_json::Value> = serde_json::from_slice(json)?;
    let total = elements.len();
    let good: Vec<T> = elements.into_iter().filter_map(|e| serde_json::from_value(e).ok()).collect();
    let bad = total - good.len();
    Ok((good, bad))
}

/// Where the daemon keeps its files, from `container system status` (JSON since 0.10, sentences before); None when it does
/// not run.
pub fn parse_status(stdout: &[u8]) -> Option<String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Raw {
        status: String,
        app_root: String,
    }
    let root = match serde_json::from_slice::<Raw>(stdout) {
        Ok(raw) if raw.status == "running" => raw.app_root,
        Ok(_) => return None,
        Err(_) => {
            let text = String::from_utf8_lossy(stdout);
            text.lines().any(|l| l.trim() == "apiserver is running").then_some(())?;
            text.lines().find_map(|l| l.strip_prefix("application data root: "))?.trim().to_owned()
        }
    };
    let root = root.trim_end_matches('/').to_owned();
    (!root.is_empty()).then_some(root)
}

/// Why a command failed: one value per cause, fit for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The daemon is not registered, or died in mid-call.
    ServiceNotRunning,
    /// The daemon's own time-out: it hangs.
    ServiceHung,
    /// The daemon belongs to another user.
    OtherUser,
    /// This version has no such command.
    Unsupported,
    NotFound,
    /// The image has no such program.
    NoProgram,
    /// It did not end within our limit and was killed.
    TimedOut,
    /// It ended well but printed no JSON.
    BadAnswer,
    /// It could not be run at all.
    NoCommand,
    Other,
}

impl Failure {
    /// From what the command printed to standard error.
    pub fn from_stderr(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let says = |needle: &str| text.contains(needle);
        if says("failed to find target executable") {
            Self::NoProgram
        } else if says("unauthorized request") {
            Self::OtherUser
        } else if says("XPC timeout") {
            Self::ServiceHung
        } else if says("XPC connection error") || says("container system start") {
            Self::ServiceNotRunning
        } else if says("Plugin '")
            || says("Plugins are unavailable")
            || says("Unknown option")
            || says("Unexpected argument")
        {
            Self::Unsupported
        } else if says("not found") || says("o such container") {
            Self::NotFound
        } else {
            Self::Other
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::ServiceNotRunning => "the container service is not running",
            Self::ServiceHung => "the container service does not answer",
            Self::OtherUser => "the container service belongs to another user",
            Self::Unsupported => "this version has no such command",
            Self::NotFound => "not found",
            Self::NoProgram => "the image has no such program",
            Self::TimedOut => "the container command did not end in time",
            Self::BadAnswer => "the container command printed no JSON",
            Self::NoCommand => "the container command is not installed",
            Self::Other => "the container command failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_both_ages() {
        let at = |json: &str| serde_json::from_str::<Date>(json).map(|d| d.0);
        assert_eq!(at("\"2026-08-07T08:15:42Z\"").unwrap(), Some(1_786_090_542 * SECOND));
        assert_eq!(at("807783342").unwrap(), Some(1_786_090_542 * SECOND));
        assert_eq!(at("0.5").unwrap(), Some(978_307_200 * SECOND + SECOND / 2));
        // Unknown is written as the Unix epoch.
        assert_eq!(at("\"1970-01-01T00:00:00Z\"").unwrap(), None);
        assert_eq!(at("-978307200").unwrap(), None);
        assert_eq!(at("1e300").unwrap(), None);
        assert!(at("\"yesterday\"").is_err());
        assert!(at("\"2026-13-07T08:15:42Z\"").is_err());
    }

    #[test]
    fn the_unlimited_value_survives() {
        let (stats, bad) =
            parse_list::<Stats>(br#"[{"id":"a","memoryLimitBytes":18446744073709551615},{"id":"b"},7]"#).unwrap();
        assert_eq!(stats[0].memory_limit_bytes, Some(u64::MAX));
        assert_eq!(stats[1].memory_usage_bytes, None);
        assert_eq!(bad, 1);
    }

    #[test]
    fn states_that_are_new_are_unknown() {
        let one = |status: &str| {
            let json = format!(r#"[{{"id":"a","configuration":{{"id":"a"}},"status":{status}}}]"#);
            parse_list::<Listed>(json.as_bytes()).unwrap().0[0].state
        };
        assert_eq!(one("\"running\""), State::Running);
        assert_eq!(one("{\"state\":\"running\"}"), State::Running);
        assert_eq!(one("\"hibernating\""), State::Unknown);
        assert_eq!(one("{\"state\":\"hibernating\"}"), State::Unknown);
    }
}
