//! Every setting, once: flag, environment variable, key in the file, default, help.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::value::{Pattern, Speed, Value, parse_map, show_map};
use super::{Config, RuntimeSource};
use crate::catalog::{Collector, Unit};
use crate::targets::{self, FigureId};

/// How often a setting may be given, and how it looks in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `--flag` and `--no-flag`; a boolean in the file.
    Switch,
    /// `--flag VALUE`; a scalar in the file.
    One,
    /// `--flag VALUE`, repeatable; a list (or one scalar) in the file.
    List,
    /// `--flag KEY=VALUE`, repeatable; a mapping in the file.
    Map,
}

type Set = Box<dyn Fn(&mut Config, &[String]) -> Result<(), String> + Send + Sync>;
type Get = Box<dyn Fn(&Config) -> Vec<String> + Send + Sync>;

pub struct Setting {
    /// Path of the key in the file, parts joined by dots.
    pub key: String,
    /// Name of the flag, without the leading dashes.
    pub flag: String,
    /// Placeholder of the value in the help.
    pub placeholder: &'static str,
    pub help: String,
    /// What may be written.
    pub allowed: String,
    pub shape: Shape,
    /// Takes effect at start alone; a reload that changes it warns.
    pub at_start: bool,
    /// Whether the file may have it.
    pub in_file: bool,
    set: Set,
    get: Get,
}

impl Setting {
    /// `KINA_` and the flag's name in capitals.
    pub fn env(&self) -> String {
        let name = self.flag.replace(['.', '-'], "_").to_ascii_uppercase();
        format!("KINA_{name}")
    }

    /// Values in a configuration, as text. Empty when nothing is set.
    pub fn get(&self, config: &Config) -> Vec<String> {
        (self.get)(config).into_iter().filter(|v| !v.is_empty()).collect()
    }

    /// Replaces the setting's values. The error says what is wrong, not where.
    pub fn set(&self, config: &mut Config, values: &[String]) -> Result<(), String> {
        (self.set)(config, values)
    }

    /// Splits an environment variable into values: lists at commas, mappings at line ends (patterns may hold commas).
    pub fn split_env(&self, text: &str) -> Vec<String> {
        let parts = |at: char| text.split(at).map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect();
        match self.shape {
            Shape::List => parts(','),
            Shape::Map => parts('\n'),
            Shape::One | Shape::Switch => vec![text.to_owned()],
        }
    }

    fn named(mut self, flag: &str) -> Self {
        self.flag = flag.to_owned();
        self
    }

    fn at_start(mut self) -> Self {
        self.at_start = true;
        self
    }

    fn flag_only(mut self) -> Self {
        self.in_file = false;
        self
    }

    /// Besides being of its type, every value must pass `check`.
    fn checked(mut self, allowed: &str, check: fn(&str) -> bool) -> Self {
        let inner = self.set;
        self.allowed = allowed.to_owned();
        self.set = Box::new(move |config, values| match values.iter().find(|v| !check(v)) {
            Some(bad) => Err(format!("{bad:?}: not allowed")),
            None => inner(config, values),
        });
        self
    }
}

/// All settings, in the order of the help and the reference.
pub fn settings() -> &'static [Setting] {
    static ALL: LazyLock<Vec<Setting>> = LazyLock::new(all);
    &ALL
}

fn setting(
    key: &str,
    shape: Shape,
    placeholder: &'static str,
    help: &str,
    allowed: &str,
    set: Set,
    get: Get,
) -> Setting {
    Setting {
        key: key.to_owned(),
        flag: key.to_owned(),
        placeholder,
        help: help.to_owned(),
        allowed: allowed.to_owned(),
        shape,
        at_start: false,
        in_file: true,
        set,
        get,
    }
}

/// `get` by way of `at`: a setting names its place in [`Config`] once. Copies the configuration; nothing hot reads so.
fn reading<T: 'static>(at: fn(&mut Config) -> &mut T, show: fn(&T) -> Vec<String>) -> Get {
    Box::new(move |config| show(at(&mut config.clone())))
}

fn scalar<T: Value>(values: &[String]) -> Result<T, String> {
    let text = values.last().map_or("", String::as_str);
    T::parse(text).map_err(|why| format!("{text:?}: {why}"))
}

fn one<T: Value + 'static>(key: &str, placeholder: &'static str, help: &str, at: fn(&mut Config) -> &mut T) -> Setting {
    let set: Set = Box::new(move |config, values| {
        *at(config) = scalar(values)?;
        Ok(())
    });
    setting(key, Shape::One, placeholder, help, T::allowed(), set, reading(at, |v| vec![v.show()]))
}

fn switch(key: &str, help: &str, at: fn(&mut Config) -> &mut bool) -> Setting {
    Setting { shape: Shape::Switch, ..one(key, "", help, at) }
}

fn list(key: &str, placeholder: &'static str, help: &str, at: fn(&mut Config) -> &mut Vec<String>) -> Setting {
    let set: Set = Box::new(move |config, values| {
        *at(config) = values.to_vec();
        Ok(())
    });
    setting(key, Shape::List, placeholder, help, String::allowed(), set, reading(at, Vec::clone))
}

fn patterns(key: &str, help: &str, at: fn(&mut Config) -> &mut BTreeMap<String, Pattern>) -> Setting {
    let set: Set = Box::new(move |config, values| {
        *at(config) = parse_map(values)?;
        Ok(())
    });
    let allowed = "label names, each with a regular expression over its whole value";
    setting(key, Shape::Map, "LABEL=PATTERN", help, allowed, set, reading(at, show_map))
}

fn choice<T: Copy + PartialEq + Send + Sync + 'static>(
    key: &str,
    help: &str,
    choices: &'static [(&'static str, T)],
    at: fn(&mut Config) -> &mut T,
) -> Setting {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let set: Set = Box::new(move |config, values| {
        let text = values.last().map_or("", String::as_str);
        let (_, value) =
            choices.iter().find(|(name, _)| *name == text).ok_or_else(|| format!("{text:?}: not allowed"))?;
        *at(config) = *value;
        Ok(())
    });
    let get: Get = Box::new(move |config| {
        let value = *at(&mut config.clone());
        choices.iter().filter(|(_, v)| *v == value).map(|(name, _)| (*name).to_owned()).collect()
    });
    setting(key, Shape::One, "NAME", help, &names.join(", "), set, get)
}

fn collector(c: Collector) -> Setting {
    let set: Set = Box::new(move |config, values| {
        let on = scalar(values)?;
        config.collectors = if on { config.collectors.with(c) } else { config.collectors.without(c) };
        Ok(())
    });
    let get: Get = Box::new(move |config| vec![config.collectors.contains(c).show()]);
    setting(
        &format!("collector.{}", c.name()),
        Shape::Switch,
        "",
        &format!("Collect {}.", c.about()),
        bool::allowed(),
        set,
        get,
    )
}

fn socket_runtime(name: &str, title: &str, at: fn(&mut Config) -> &mut RuntimeSource) -> [Setting; 3] {
    let enabled: Set = Box::new(move |config, values| {
        at(config).enabled = scalar(values)?;
        Ok(())
    });
    let socket: Set = Box::new(move |config, values| {
        at(config).socket = scalar(values)?;
        Ok(())
    });
    let timeout: Set = Box::new(move |config, values| {
        at(config).timeout = scalar(values)?;
        Ok(())
    });
    let key = |part: &str| format!("runtime.{name}.{part}");
    let places = format!("The socket of {title}; by default the usual places are looked at.");
    [
        setting(
            &key("enabled"),
            Shape::Switch,
            "",
            &format!("Ask {title} who the containers are."),
            bool::allowed(),
            enabled,
            Box::new(move |config| vec![at(&mut config.clone()).enabled.show()]),
        )
        .named(&format!("runtime.{name}")),
        setting(
            &key("socket"),
            Shape::One,
            "PATH",
            &places,
            "an absolute path",
            socket,
            Box::new(move |config| vec![at(&mut config.clone()).socket.show()]),
        )
        .checked("an absolute path", |v| v.is_empty() || v.starts_with('/')),
        setting(
            &key("timeout"),
            Shape::One,
            "DURATION",
            &format!("How long one answer of {title} may take."),
            std::time::Duration::allowed(),
            timeout,
            Box::new(move |config| vec![at(&mut config.clone()).timeout.show()]),
        ),
    ]
}

/// `:PORT`, `HOST:PORT`, `[IPV6]:PORT`, `unix:/PATH`.
fn listen_address(text: &str) -> bool {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/');
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(v6) => v6.split('%').next().is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.contains([':', '[', ']', '/']) && !host.contains(char::is_whitespace),
    };
    host_fits && port.parse::<u16>().is_ok()
}

fn telemetry_path(text: &str) -> bool {
    let reserved = text == "/" || text.starts_with("/-/") || text.starts_with("/api/");
    text.starts_with('/') && !reserved && !text.contains(['?', '#', ' '])
}

/// A label name as Prometheus and the runtimes have them: no white space, not empty.
fn label_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

fn all() -> Vec<Setting> {
    let mut all = vec![
        one("config.file", "PATH", "Configuration file (YAML); every other setting can stand in it.", |c| &mut c.file)
            .flag_only()
            .at_start(),
    ];
    all.extend(web());
    all.extend([
        choice("log.level", "How much is logged.", &LEVELS, |c| &mut c.log.level),
        choice("log.format", "Form of the log lines.", &[("logfmt", false), ("json", true)], |c| &mut c.log.json)
            .at_start(),
    ]);
    all.extend(paths());
    all.extend(Collector::ALL.map(collector));
    all.extend(runtimes());
    all.extend(containers());
    all.extend([
        choice(
            "profile",
            "Besides the standard set: `cadvisor` adds the series of cAdvisor whose names break the conventions.",
            &[("standard", false), ("cadvisor", true)],
            |c| &mut c.profile_cadvisor,
        ),
        link_speed(),
        one(
            "startup.max-images",
            "N",
            "Images with series of their own in the start histograms; the rest is counted under `other`.",
            |c| &mut c.startup.max_images,
        )
        .at_start(),
        one(
            "startup.ready-poll",
            "DURATION",
            "How long a started container's sockets are looked at for the first that listens; 0s: not at all.",
            |c| &mut c.startup.ready_poll,
        ),
        one(
            "startup.state-file",
            "PATH",
            "Where to keep how far starts have been counted, so that those during a restart of the exporter are recovered.",
            |c| &mut c.startup.state_file,
        )
        .at_start(),
    ]);
    all.extend(targets::ids().map(target));
    all.extend(otlp().into_iter().map(Setting::at_start));
    all
}

/// A figure of [`crate::targets`], in its base unit.
fn target(id: FigureId) -> Setting {
    let figure = id.figure();
    let set: Set = Box::new(move |config, values| {
        let value: f64 = scalar(values)?;
        config.targets.set(id, value).map_err(|_| format!("{value}: not allowed"))
    });
    let get: Get = Box::new(move |config| vec![config.targets.get(id).show()]);
    let unit = match figure.unit {
        Unit::Seconds => ", in seconds",
        Unit::Bytes => ", in bytes",
        Unit::BytesPerSecond => ", in bytes a second",
        Unit::Cores => ", in cores",
        Unit::Joules => ", in joules",
        Unit::Ratio => ", as a ratio",
        Unit::Count => "",
    };
    let (first, rest) = figure.about.split_at(figure.about.chars().next().map_or(0, char::len_utf8));
    let help = format!("{}{rest}{unit}.", first.to_uppercase());
    let key = format!("targets.{}", figure.name);
    setting(&key, Shape::One, "N", &help, figure.allowed(), set, get)
}

fn otlp() -> Vec<Setting> {
    let among = |setting: Setting, allowed: &str, check| setting.checked(allowed, check);
    let headers = {
        let set: Set = Box::new(|config, values| {
            config.otlp.headers = parse_map(values)?;
            Ok(())
        });
        let get: Get = Box::new(|config| config.otlp.headers.iter().map(|(k, v)| format!("{k}={v}")).collect());
        let help = "Headers of every request, such as an authorization.";
        setting("otlp.headers", Shape::Map, "NAME=VALUE", help, "header names, each with its value", set, get)
    };
    vec![
        one(
            "otlp.endpoint",
            "URL",
            "Push metrics and traces of starts there over OTLP. This and the other otlp settings go before the OTEL_* variables.",
            |c| &mut c.otlp.endpoint,
        ),
        among(
            one("otlp.protocol", "NAME", "How to talk to it; http/protobuf by default.", |c| &mut c.otlp.protocol),
            "grpc, http/protobuf, http/json",
            |v| matches!(v, "grpc" | "http/protobuf" | "http/json"),
        ),
        headers,
        among(
            one("otlp.compression", "NAME", "Compression of requests; none by default.", |c| &mut c.otlp.compression),
            "gzip, none",
            |v| matches!(v, "gzip" | "none"),
        ),
        one("otlp.timeout", "DURATION", "Longest wait for an answer; 10s by default.", |c| &mut c.otlp.timeout),
        one("otlp.certificate", "PATH", "Certificates (PEM) to trust, in place of the system's.", |c| {
            &mut c.otlp.certificate
        }),
        one("otlp.client-certificate", "PATH", "Certificate (PEM) to show the receiver.", |c| {
            &mut c.otlp.client_certificate
        }),
        one("otlp.client-key", "PATH", "Its private key (PEM).", |c| &mut c.otlp.client_key),
        one("otlp.interval", "DURATION", "Time between pushes of metrics; 1m by default.", |c| &mut c.otlp.interval),
        among(
            one(
                "otlp.temporality",
                "NAME",
                "Counters since their start, or since the last push; cumulative by default.",
                |c| &mut c.otlp.temporality,
            ),
            "cumulative, delta, lowmemory",
            |v| matches!(v, "cumulative" | "delta" | "lowmemory"),
        ),
        among(
            one("otlp.histograms", "NAME", "Form of histograms; explicit_bucket_histogram by default.", |c| {
                &mut c.otlp.histograms
            }),
            "explicit_bucket_histogram, base2_exponential_bucket_histogram",
            |v| matches!(v, "explicit_bucket_histogram" | "base2_exponential_bucket_histogram"),
        ),
        among(
            one(
                "otlp.identity",
                "NAME",
                "How a point tells its container: a Resource for each, or attributes on the point. By default attributes \
                 where the endpoint is Prometheus' own (…/api/v1/otlp), which merges Resources, else resource.",
                |c| &mut c.otlp.identity,
            ),
            "resource, attributes",
            |v| matches!(v, "resource" | "attributes"),
        ),
        one("otlp.max-request-bytes", "N", "A push is cut into requests below this size, before compression.", |c| {
            &mut c.otlp.max_request_bytes
        }),
        one("otlp.queue-bytes", "N", "What may wait while the receiver is away; the oldest goes first.", |c| {
            &mut c.otlp.queue_bytes
        }),
        switch(
            "otlp.self-traces",
            "Trace the exporter's own work as well: requests served, collections, calls to runtimes, pushes of metrics.",
            |c| &mut c.otlp.self_traces,
        ),
    ]
}

fn web() -> Vec<Setting> {
    vec![
        list("web.listen-address", "ADDRESS", "Where to listen; `:10217` is every address, IPv4 and IPv6.", |c| {
            &mut c.web.listen
        })
        .checked(":PORT, HOST:PORT, [IPV6]:PORT or unix:/PATH", listen_address)
        .at_start(),
        switch(
            "web.systemd-socket",
            "Listen on nothing but sockets from systemd; those that it hands over are used in any case.",
            |c| &mut c.web.systemd_socket,
        )
        .at_start(),
        one("web.telemetry-path", "PATH", "Where the metrics are served.", |c| &mut c.web.telemetry_path)
            .checked("a path that starts with / and is not taken by a page of the exporter", telemetry_path)
            .at_start(),
        one("web.max-requests", "N", "Scrapes served at the same time; 0 is no limit.", |c| &mut c.web.max_requests)
            .at_start(),
        one(
            "web.config.file",
            "PATH",
            "Web configuration file of the Prometheus exporter toolkit: TLS, authentication, headers.",
            |c| &mut c.web.config_file,
        )
        .at_start(),
        switch("web.enable-lifecycle", "Allow POST /-/reload from anywhere, not from loopback alone.", |c| {
            &mut c.web.enable_lifecycle
        }),
    ]
}

fn paths() -> Vec<Setting> {
    vec![
        one("path.procfs", "DIR", "The host's /proc.", |c| &mut c.path.procfs).at_start(),
        one("path.sysfs", "DIR", "The host's /sys.", |c| &mut c.path.sysfs).at_start(),
        one("path.cgroup", "DIR", "The host's /sys/fs/cgroup.", |c| &mut c.path.cgroup).at_start(),
        one("path.rootfs", "DIR", "The host's /: sockets and files of the runtimes are looked for below it.", |c| {
            &mut c.path.rootfs
        })
        .at_start(),
    ]
}

fn runtimes() -> Vec<Setting> {
    let mut all = Vec::new();
    all.extend(socket_runtime("docker", "the Docker engine", |c| &mut c.runtime.docker));
    all.extend(socket_runtime("podman", "Podman", |c| &mut c.runtime.podman));
    all.extend(socket_runtime("containerd", "containerd", |c| &mut c.runtime.containerd));
    all.extend([
        switch("runtime.cgroup.enabled", "Show containers that only the cgroup tree tells of.", |c| {
            &mut c.runtime.cgroup.enabled
        })
        .named("runtime.cgroup"),
        one("runtime.cgroup.include", "PATTERN", "Further cgroups to show as containers, by their path.", |c| {
            &mut c.runtime.cgroup.include
        }),
        switch("runtime.apple.enabled", "Ask Apple's container who the containers are.", |c| {
            &mut c.runtime.apple.enabled
        })
        .named("runtime.apple"),
        one("runtime.apple.command", "PATH", "The `container` command; by default it is looked for.", |c| {
            &mut c.runtime.apple.command
        }),
        one("runtime.apple.root", "DIR", "Where Apple's container keeps its data; by default it is asked.", |c| {
            &mut c.runtime.apple.root
        }),
        one(
            "runtime.apple.stats-interval",
            "DURATION",
            "How often `container stats` is asked; it takes two seconds itself.",
            |c| &mut c.runtime.apple.stats_interval,
        ),
        one(
            "runtime.apple.guest-interval",
            "DURATION",
            "How often the guests' own kernels are asked (`container exec ID cat …`), for memory by kind, throttling, pressure, I/O operations and TCP segments; by default never, for each call adds lines to the boot log and needs `cat` in the image.",
            |c| &mut c.runtime.apple.guest_interval,
        )
        .checked("nothing, or a duration of at least 10s", |v| at_least(v, Duration::from_secs(10))),
        one(
            "runtime.apple.agent-port",
            "PORT",
            "The port of an exporter that runs inside a container (`kina-exporter serve` in it): it is asked at the stats interval for all that its guest's kernel tells; by default none is asked.",
            |c| &mut c.runtime.apple.agent_port,
        )
        .checked("nothing, or a port from 1 to 65535", |v| {
            Option::<usize>::parse(v).is_ok_and(|p| p.is_none_or(|p| (1..=65_535).contains(&p)))
        }),
        one(
            "runtime.apple.disk-interval",
            "DURATION",
            "How often `container system df` is asked; by default never, for containers can't start while it runs.",
            |c| &mut c.runtime.apple.disk_interval,
        )
        .checked("nothing, or a duration of at least 10m", |v| at_least(v, Duration::from_secs(600))),
    ]);
    all
}

fn at_least(value: &str, least: Duration) -> bool {
    Option::<Duration>::parse(value).is_ok_and(|d| d.is_none_or(|d| d >= least))
}

fn containers() -> Vec<Setting> {
    vec![
        one("containers.name-include", "PATTERN", "Show only containers with such a name.", |c| {
            &mut c.containers.name_include
        }),
        one("containers.name-exclude", "PATTERN", "Show no container with such a name.", |c| {
            &mut c.containers.name_exclude
        }),
        one("containers.image-include", "PATTERN", "Show only containers of such an image.", |c| {
            &mut c.containers.image_include
        }),
        one("containers.image-exclude", "PATTERN", "Show no container of such an image.", |c| {
            &mut c.containers.image_exclude
        }),
        patterns("containers.label-include", "Show only containers whose labels all match.", |c| {
            &mut c.containers.label_include
        }),
        patterns("containers.label-exclude", "Show no container that has such a label.", |c| {
            &mut c.containers.label_exclude
        }),
        switch(
            "process.switch-counters",
            "Count context switches by counters of the kernel where it permits: exact, also for threads that have ended.",
            |c| &mut c.process.switch_counters,
        )
        .at_start(),
        list("labels.allow", "LABEL", "Labels of containers to show on kina_container_info, as label_NAME.", |c| {
            &mut c.label_allow
        })
        .checked("names of labels", label_name),
    ]
}

fn link_speed() -> Setting {
    let set: Set = Box::new(|config, values| {
        config.network.link_speed = scalar::<Option<Speed>>(values)?.map(|s| s.0);
        Ok(())
    });
    let get: Get = Box::new(|config| vec![config.network.link_speed.map(Speed).show()]);
    let help = "Speed of interfaces that have none of their own, such as a container's virtual ones.";
    setting("network.link-speed", Shape::One, "SPEED", help, Speed::allowed(), set, get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        for good in [":10217", "127.0.0.1:0", "localhost:80", "[::1]:10217", "[fe80::1%eth0]:1", "unix:/run/kina.sock"]
        {
            assert!(listen_address(good), "{good}");
        }
        for bad in ["", "10217", "::1:80", ":99999", "host:", "[::g]:1", "http://x:1", "a b:1", ":-1", "unix:kina.sock"]
        {
            assert!(!listen_address(bad), "{bad}");
        }
    }

    #[test]
    fn every_default_can_be_set_as_it_is_shown() {
        let default = Config::default();
        for setting in settings() {
            let shown = setting.get(&default);
            let mut config = Config::default();
            if !shown.is_empty() {
                setting.set(&mut config, &shown).unwrap_or_else(|e| panic!("{}: {e}", setting.key));
            }
            assert_eq!(setting.get(&config), shown, "{}", setting.key);
        }
    }

    #[test]
    fn names_are_distinct_and_follow_one_grammar() {
        let mut seen = std::collections::HashSet::new();
        for setting in settings() {
            assert!(seen.insert(setting.env()), "{}", setting.env());
            let own = setting.flag.strip_prefix("targets.");
            // Targets keep the names that their series have.
            let fits = |c: char| c.is_ascii_lowercase() || c == '.' || c == '-';
            let fits_series = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(own.map_or(setting.flag.chars().all(fits), |o| o.chars().all(fits_series)), "{}", setting.flag);
            assert!(setting.help.ends_with('.'), "{}: {}", setting.flag, setting.help);
        }
    }
}
