//! Containers that start slowly, waste memory, run short of CPU, are killed or never start.

use super::*;
use crate::catalog::*;
use crate::generate::promql::*;
use crate::generate::rules::{cpu, memory, startup};
use crate::targets::{DEGRADED_CPU_UTILIZATION, DEGRADED_MEMORY_EFFICIENCY, DEGRADED_START};

const RUNTIME: &[&str] = &["job", "instance", "runtime"];

pub fn alerts(s: &Settings) -> Vec<Alert> {
    vec![slow_starts(s), memory_efficiency(s), cpu_utilization(s), oom_killed(s), start_failed(s), advice_held(s)]
}

fn slow_starts(s: &Settings) -> Alert {
    let limit = s.targets.get(DEGRADED_START);
    let slow = format!("topk(5, {} > {limit})", of_alert(family(LAST_STARTUP_DURATION), RUNTIME));
    Alert {
        name: "KinaSlowStarts",
        summary: "Containers of {{ $labels.runtime }} on {{ $labels.instance }} start slowly.".into(),
        description: format!(
            "Starts took {{{{ $value | humanizeDuration }}}} on average in the last hour; {limit} s is the limit. Running \
             containers that started slower than that: {}.",
            for_each(&slow, RUNTIME, &format!("{EACH} ({{{{ .Value | humanizeDuration }}}})"))
        ),
        advice: Some(Advice { domain: "startup", labels: RUNTIME }),
        dashboard: "kina-startup",
        conditions: vec![Condition::new(
            Severity::Warning,
            5.0 * MINUTE,
            format!("{} > {limit}", recorded(startup::RUNTIME_STARTUP_MEAN)),
        )],
        runbook: Runbook {
            meaning: "The mean time from the request to start a container until it ran, over all starts of one runtime in \
                      the last hour, is above the limit. One very slow start in a quiet hour is enough.",
            impact: "Deployments, scale-outs and restarts after a crash take longer than people expect, and health checks \
                     may give up before the container is ready.",
            diagnosis: vec![
                (
                    "Which phase takes the time: `image` points at the registry or the size, `vm_create` and \
                     `kernel_boot` at the VM, `ready` at the application.",
                    recorded(startup::PHASE_MEAN).to_string(),
                ),
                ("Which images are slow.", format!("topk(10, {})", recorded(startup::IMAGE_STARTUP_MEAN))),
                ("Whether starts are cold.", recorded(startup::RUNTIME_COLD_STARTS).to_string()),
                ("What the analysis of slow starts says.", recorded(startup::RUNTIME_SLOW_STARTS).to_string()),
            ],
            remedy: &[
                "Follow the startup advice: `kina-exporter advise` names the image, its size and layers, the init system and the VM settings.",
                "Pull images ahead of time on every node, or keep prepared containers, so that starts are warm.",
                "Where `process` or `init` dominates, look at the disk and the CPU of the host: a busy machine starts everything slowly.",
            ],
        },
    }
}

fn memory_efficiency(s: &Settings) -> Alert {
    let limit = s.targets.get(DEGRADED_MEMORY_EFFICIENCY);
    Alert {
        name: "KinaMemoryEfficiencyLow",
        summary: format!("{WHO} uses little of its memory allocation."),
        description: format!(
            "Its processes and libraries hold {{{{ $value | humanizePercentage }}}} of the {} that it may use; {} is the limit.",
            for_each(
                &of_alert(family(MEMORY_ALLOCATED), CONTAINER).to_string(),
                CONTAINER,
                "{{ .Value | humanize1024 }}B"
            ),
            percent(limit)
        ),
        advice: Some(Advice { domain: "memory", labels: CONTAINER }),
        dashboard: "kina-memory",
        conditions: vec![Condition::new(
            Severity::Warning,
            5.0 * MINUTE,
            format!("{} < {limit}", recorded(memory::MEMORY_EFFICIENCY_MEAN)),
        )],
        runbook: Runbook {
            meaning: "Memory efficiency is (process memory + mapped libraries) ÷ allocated memory. A low value means that \
                      the limit, or the VM, is much larger than what the processes hold.",
            impact: "Nothing breaks. The machine holds or reserves memory that other containers could use, and schedulers \
                     place fewer containers on it than would fit.",
            diagnosis: vec![
                ("What the memory is used for.", family(MEMORY_KIND).to_string()),
                (
                    "How much the container needed at its busiest in the last hour, beside its allocation.",
                    format!("{}\n/\n{}", recorded(memory::WORKING_SET_P95), family(MEMORY_ALLOCATED)),
                ),
                (
                    "Whether the page cache is needed: refaults mean that it is.",
                    format!("{} > 0", recorded(memory::REFAULTS)),
                ),
            ],
            remedy: &[
                "Set the limit to what `kina-exporter advise` recommends (1.5 × the memory its processes hold), and watch pressure and refaults for a day.",
                "Leave it as it is where the page cache earns its place: high refaults or memory pressure say so, and the advice then says so too.",
                "For a VM per container, lower the VM's memory instead of the limit inside.",
            ],
        },
    }
}

fn cpu_utilization(s: &Settings) -> Alert {
    let limit = s.targets.get(DEGRADED_CPU_UTILIZATION);
    Alert {
        name: "KinaCpuUtilizationHigh",
        summary: format!("{WHO} uses nearly all the CPU it may use."),
        description: format!(
            "It used {{{{ $value | humanizePercentage }}}} of its {} cores over five minutes; {} is the limit.",
            for_each(&of_alert(family(CPU_ALLOCATED), CONTAINER).to_string(), CONTAINER, "{{ .Value | humanize }}"),
            percent(limit)
        ),
        advice: Some(Advice { domain: "cpu", labels: CONTAINER }),
        dashboard: "kina-cpu",
        conditions: vec![Condition::new(
            Severity::Warning,
            5.0 * MINUTE,
            format!("{} > {limit}", recorded(cpu::CPU_EFFICIENCY)),
        )],
        runbook: Runbook {
            meaning: "The container used almost all of the core time that it may use (its quota, its cpuset, or its VM's \
                      CPUs), on average over five minutes.",
            impact: "Work queues up. With a quota the kernel throttles it in every period, and latency grows in steps of \
                     the period.",
            diagnosis: vec![
                ("Whether it is throttled, and how often.", format!("topk(10, {})", recorded(cpu::CPU_THROTTLED))),
                ("Whether tasks wait for a CPU.", format!("topk(10, {})", recorded(cpu::CPU_WAITING))),
                (
                    "Whether the time goes to user code or to the kernel.",
                    format!("{}\n/\n{}", recorded(cpu::CPU_INTENSITY), recorded(cpu::CPU_EFFICIENCY)),
                ),
                ("Whether the whole machine is busy.", recorded(cpu::HOST_CPU_UTILIZATION).to_string()),
            ],
            remedy: &[
                "Raise the quota or the number of CPUs, if the machine has idle cores; else move the container or add replicas.",
                "Follow the CPU advice: intensive containers belong on performance cores.",
                "Profile the process where the load is not expected (a busy loop, a retry storm, garbage collection against a memory limit).",
            ],
        },
    }
}

fn oom_killed(s: &Settings) -> Alert {
    let window = s.minutes(10.0);
    Alert {
        name: "KinaContainerOomKilled",
        summary: "The kernel killed a process of {{ if $labels.name }}{{ $labels.name }}{{ else if $labels.id }}{{ \
                  $labels.id }}{{ else }}a container of {{ $labels.image }}{{ end }} on {{ $labels.instance }} for memory."
            .into(),
        description: "{{ $value | humanize }} OOM kills in the last ten minutes.".into(),
        advice: Some(Advice { domain: "memory", labels: CONTAINER }),
        dashboard: "kina-memory",
        conditions: vec![
            killed("process", format!("{} > 0", increase(&family(OOM_EVENTS), &window))),
            killed("container", format!("{} > 0", grown(&family(EXITS).eq("reason", "oom"), &window))),
        ],
        runbook: Runbook {
            meaning: "The container reached its memory limit (or the machine ran out) and the kernel killed one of its \
                      processes. `victim=\"process\"` means that the container lives on, `victim=\"container\"` that it ended.",
            impact: "Requests in flight are lost; the container restarts, or a worker is missing until its parent starts a \
                     new one.",
            diagnosis: vec![
                ("How close containers are to their limits.", format!("topk(10, {})", recorded(memory::WORKING_SET_RATIO))),
                ("Whether it waited for memory before.", recorded(memory::MEMORY_WAITING).to_string()),
                ("What the memory was used for.", family(MEMORY_KIND).to_string()),
            ],
            remedy: &[
                "If the use grew over hours or days, look for a leak first: a larger limit only delays the next kill.",
                "If it grows with load, raise the limit above the highest working set, or bound the load.",
                "Set the runtime's own heap limit (JVM, Node, Go) below the container's limit.",
            ],
        },
    }
}

/// `victim` keeps apart a process in a container that lives on, and a whole container.
fn killed(victim: &str, expr: String) -> Condition {
    Condition { labels: vec![("victim", victim.into())], ..Condition::new(Severity::Warning, 0.0, expr) }
}

fn start_failed(s: &Settings) -> Alert {
    Alert {
        name: "KinaContainerStartFailed",
        summary: "A container of {{ $labels.image }} could not start on {{ $labels.instance }}.".into(),
        description: "{{ $value | humanize }} starts failed in the last 15 minutes: {{ $labels.reason }} \
                      ({{ $labels.runtime }})."
            .into(),
        advice: None,
        dashboard: "kina-startup",
        conditions: vec![Condition::new(
            Severity::Warning,
            0.0,
            format!("{} > 0", grown(&family(START_FAILURES), &s.minutes(15.0))),
        )],
        runbook: Runbook {
            meaning: "A start was requested and the container never ran. The `reason` label says what the runtime \
                      answered: the image is missing, the OCI runtime failed, the process ended at once, or it took too \
                      long.",
            impact: "The service has fewer instances than asked for, or none.",
            diagnosis: vec![
                ("Which images and reasons.", family(START_FAILURES).to_string()),
                ("Which share of starts fails.", recorded(startup::RUNTIME_START_FAILURE_RATIO).to_string()),
            ],
            remedy: &[
                "Image missing: check the name, the tag, and the credentials for the registry on that host.",
                "OCI runtime: read the runtime's message (`docker events`, `journalctl -u docker`): a mount, a device or an entry point that does not exist is the usual cause.",
                "Ended at once: read the container's log; the process itself refused to run.",
            ],
        },
    }
}

fn advice_held(_: &Settings) -> Alert {
    Alert {
        name: "KinaAdviceHeld",
        summary:
            "There is lasting advice for {{ if $labels.name }}{{ $labels.name }}{{ else if $labels.id }}{{ $labels.id \
                  }}{{ else }}the machine{{ end }} on {{ $labels.instance }}: {{ $labels.action }}."
                .into(),
        // Nothing is queried here, as other alerts do: most containers may have some advice, and Prometheus would ask for
        // each of them in each evaluation, long before the alert fires.
        description: "The recommendation has held for a day{{ if ne $value 1.0 }}; recommended: {{ $value | humanize }}{{ end }}. \
                      Figures and reasons: kina-exporter advise."
            .into(),
        advice: None,
        dashboard: "kina-advice",
        conditions: vec![Condition::new(
            Severity::Info,
            24.0 * HOUR,
            format!("{} or {} == 1", every(RECOMMENDATION_RECOMMENDED), advice_of_anyone()),
        )],
        runbook: Runbook {
            meaning: "A recommendation of the exporter has held for a whole day, so it is not the hour's load that causes \
                      it. The `domain` and `action` labels name it.",
            impact: "None by itself: something could be cheaper, faster or safer than it is.",
            diagnosis: vec![
                ("All advice that holds.", advice_of_anyone().to_string()),
                ("What following it would save.", by("sum", "action", every(RECOMMENDATION_SAVINGS))),
            ],
            remedy: &[
                "Read the finding with its figures: `kina-exporter advise`, or `/api/v1/recommendations`.",
                "Apply it in a quiet hour and watch the container's dashboard; the recommendation ends by itself.",
                "If it is wrong for you, override its threshold under `targets` in the configuration file.",
            ],
        },
    }
}

/// Advice is given to containers and to the machine, whose series has no `runtime`.
fn every(f: FamilyId) -> Selector {
    recorded(f.name())
}

fn advice_of_anyone() -> Selector {
    every(RECOMMENDATION)
}

fn percent(share: f64) -> String {
    format!("{}%", (share * 1000.0).round() / 10.0)
}
