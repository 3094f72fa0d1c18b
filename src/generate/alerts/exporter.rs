//! The exporter itself, and the sources that it reads.

use super::*;
use crate::catalog::*;
use crate::generate::promql::*;

pub fn alerts(s: &Settings) -> Vec<Alert> {
    vec![
        down(s),
        absent(),
        collector_failing(),
        source_stale(s),
        capability_lost(s),
        reload_failed(),
        series_dropped(s),
    ]
}

fn down(s: &Settings) -> Alert {
    let known = format!("last_over_time({})", family(BUILD_INFO).over(&s.hours(24.0)));
    Alert {
        name: "KinaExporterDown",
        summary: "kina-exporter on {{ $labels.instance }} can't be scraped.".into(),
        description: "Prometheus has not reached {{ $labels.instance }} (job {{ $labels.job }}) for five minutes; its up is {{ $value }}."
            .into(),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(
            Severity::Critical,
            5.0 * MINUTE,
            format!("up == 0 and on (job, instance) {known}"),
        )],
        runbook: Runbook {
            meaning: "An address that answered as kina-exporter within the last day does not answer scrapes any more.",
            impact: "Nothing is known of the containers on that machine: their panels are empty and no other alert about \
                     them can fire. Starts that happen meanwhile are counted afterwards where the runtime keeps a history.",
            diagnosis: vec![
                ("Which exporters are down.", "up == 0".into()),
                ("Whether scrapes had become slow before.", family(COLLECTOR_DURATION).to_string()),
            ],
            remedy: &[
                "Is the machine there? If not, this is not about the exporter.",
                "`systemctl status kina-exporter` and its journal, or `kubectl describe pod`: was it killed, does it restart?",
                "`curl -s localhost:10217/-/healthy` on the machine: if that answers, look at the network, TLS and authentication between Prometheus and it.",
            ],
        },
    }
}

fn absent() -> Alert {
    Alert {
        name: "KinaExporterAbsent",
        summary: "Prometheus knows no kina-exporter at all.".into(),
        description:
            "No target has shown kina-exporter's build for 15 minutes (absent is {{ $value }}): it is not scraped, \
                      or its series are dropped."
                .into(),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(Severity::Critical, 15.0 * MINUTE, format!("absent({})", family(BUILD_INFO)))],
        runbook: Runbook {
            meaning: "Prometheus has no series of any kina-exporter: no target is configured or discovered, all are down, \
                      or relabelling drops what they say.",
            impact: "All alerts and dashboards of kina-exporter are blind.",
            diagnosis: vec![("Which targets there are, and which answer.", "count by (job) (up)".into())],
            remedy: &[
                "Look at *Status → Targets* in Prometheus: is the job there, and what is its last error?",
                "In Kubernetes, compare the labels that the PodMonitor selects with those of the pods.",
                "Look for a `metric_relabel_configs` that drops names starting with `kina_`.",
            ],
        },
    }
}

fn collector_failing() -> Alert {
    Alert {
        name: "KinaCollectorFailing",
        summary: "The collector {{ $labels.collector }} fails on {{ $labels.instance }}.".into(),
        description: format!(
            "Its success has been {{{{ $value }}}} for ten minutes. Failed reads a second: {}.",
            for_each(
                &rate(&of_alert(family(READ_ERRORS), &["job", "instance", "collector"]), "5m"),
                &["job", "instance", "collector"],
                "{{ .Labels.kind }} {{ .Value | humanize }}"
            )
        ),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(
            Severity::Warning,
            10.0 * MINUTE,
            format!("{} == 0", family(COLLECTOR_SUCCESS)),
        )],
        runbook: Runbook {
            meaning: "A source of facts that is there could not be read in every scrape for ten minutes. A source that \
                      this machine does not have never counts as a failure.",
            impact: "The families of this collector are missing or incomplete; the others are not affected.",
            diagnosis: vec![
                ("What kind of error.", rate(&family(READ_ERRORS), "5m")),
                ("What the machine offers.", format!("{} == 0", family(CAPABILITY))),
            ],
            remedy: &[
                "`denied`: a permission is missing; `kina-exporter check` on the machine says which.",
                "`malformed`: the kernel or the runtime answered in a form that the exporter does not know: report it with its version.",
                "`io`: look at the kernel log of the machine.",
                "Switch it off with `--no-collector.NAME` if you don't need it.",
            ],
        },
    }
}

fn source_stale(s: &Settings) -> Alert {
    let limit = s.targets.get(crate::targets::STALE_SOURCE);
    Alert {
        name: "KinaSourceStale",
        summary: "The source of {{ $labels.collector }} on {{ $labels.instance }} has stopped answering.".into(),
        description: "It last answered {{ $value | humanizeDuration }} ago.".into(),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(
            Severity::Warning,
            5.0 * MINUTE,
            format!("time() - {} > {limit}", family(COLLECTOR_LAST_SUCCESS)),
        )],
        runbook: Runbook {
            meaning: "A source that is read in the background, beside scrapes, has not answered for too long (five \
                      minutes, unless overridden). Scrapes still show its last facts.",
            impact: "What this source says is old, and gets older.",
            diagnosis: vec![
                ("How old each source is.", format!("time() - {}", family(COLLECTOR_LAST_SUCCESS))),
                ("Whether it fails.", family(COLLECTOR_SUCCESS).to_string()),
            ],
            remedy: &[
                "Ask the source yourself as the exporter's user (`container list`, `docker ps`): does it answer, and how fast?",
                "Restart the runtime's daemon if it hangs; the exporter finds it again by itself.",
            ],
        },
    }
}

fn capability_lost(s: &Settings) -> Alert {
    let before = format!("max_over_time({})", family(CAPABILITY).over(&s.hours(6.0)));
    Alert {
        name: "KinaCapabilityLost",
        summary: "{{ $labels.instance }} no longer offers {{ $labels.capability }}.".into(),
        description: "It did within the last six hours; now it is {{ $value }}: {{ $labels.reason }}.".into(),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(
            Severity::Warning,
            10.0 * MINUTE,
            format!("{} == 0 and on (job, instance, capability) {before} == 1", family(CAPABILITY)),
        )],
        runbook: Runbook {
            meaning: "Something that this machine offered is gone: a runtime's socket, a permission, a kernel interface. \
                      The `reason` label says why.",
            impact: "The families that depend on it end. For a runtime: its containers lose their names, or are not seen.",
            diagnosis: vec![
                ("Everything that is missing, and why.", format!("{} == 0", family(CAPABILITY))),
                ("Whether containers are still seen.", by("count", "instance, runtime", family(CONTAINER_INFO))),
            ],
            remedy: &[
                "A runtime: is its daemon running, and may the exporter open its socket?",
                "A permission: compare the unit's or the pod's capabilities with the README's table.",
                "It was removed on purpose: the alert ends by itself after six hours.",
            ],
        },
    }
}

fn reload_failed() -> Alert {
    Alert {
        name: "KinaConfigReloadFailed",
        summary: "kina-exporter on {{ $labels.instance }} could not read its new configuration.".into(),
        description: format!(
            "It goes on with the configuration of {}; reading succeeded is {{{{ $value }}}}.",
            for_each(
                &of_alert(family(CONFIG_RELOAD_TIME), &["job", "instance"]).to_string(),
                &["job", "instance"],
                "{{ .Value | humanizeTimestamp }}"
            )
        ),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(
            Severity::Warning,
            5.0 * MINUTE,
            format!("{} == 0", family(CONFIG_RELOAD_SUCCESS)),
        )],
        runbook: Runbook {
            meaning: "The configuration file was read again and is not valid. The exporter keeps the old configuration; \
                      a restart would fail.",
            impact: "The change is not in force, and the exporter does not come back after a reboot.",
            diagnosis: vec![("Since when.", format!("time() - {}", family(CONFIG_RELOAD_TIME)))],
            remedy: &[
                "`kina-exporter check --config.file FILE` names the key and the line.",
                "Mend the file and reload: `systemctl reload kina-exporter`, or SIGHUP.",
            ],
        },
    }
}

fn series_dropped(s: &Settings) -> Alert {
    Alert {
        name: "KinaSeriesDropped",
        summary: "kina-exporter on {{ $labels.instance }} drops series: {{ $labels.reason }}.".into(),
        description: "A limit dropped {{ $value | humanize }} series in the last hour.".into(),
        advice: None,
        dashboard: "kina-exporter",
        conditions: vec![Condition::new(
            Severity::Info,
            0.0,
            format!("{} > 0", grown(&family(DROPPED_SERIES), &s.hours(1.0))),
        )],
        runbook: Runbook {
            meaning: "One of the exporter's limits, which protect Prometheus from too many series, was reached. The \
                      `reason` label names the limit.",
            impact: "What is over the limit is counted together under `other`, or not shown.",
            diagnosis: vec![
                ("Which limit.", family(DROPPED_SERIES).to_string()),
                ("How many series each exporter has.", "topk(10, scrape_samples_scraped)".into()),
            ],
            remedy: &[
                "Many images: does a pipeline give every build an image name of its own? Exclude it by pattern.",
                "Raise the limit in the configuration file if Prometheus can hold the series.",
            ],
        },
    }
}
