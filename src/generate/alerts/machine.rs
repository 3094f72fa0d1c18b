use super::*;
use crate::catalog::*;
use crate::generate::promql::*;
use crate::generate::rules::cpu;

pub fn alerts(_: &Settings) -> Vec<Alert> {
    let state = |state| format!("{} == 1", family(HOST_THERMAL_STATE).eq("state", state));
    vec![Alert {
        name: "KinaThermalPressure",
        summary: "{{ $labels.instance }} is too hot: {{ $labels.state }}.".into(),
        description: format!(
            "The machine's thermal state is {{{{ $labels.state }}}}; it lowers its own speed. Busiest containers: {}.",
            for_each(
                &format!("topk(5, {})", of_alert(recorded(cpu::CPU_USAGE_RATE), &["job", "instance"])),
                &["job", "instance"],
                &format!("{EACH} ({{{{ .Value | humanize }}}} cores)")
            )
        ),
        advice: Some(Advice { domain: "cpu", labels: &["job", "instance"] }),
        dashboard: "kina-cpu",
        conditions: vec![
            Condition::new(Severity::Warning, 2.0 * MINUTE, state("serious")),
            Condition::new(Severity::Critical, MINUTE, state("critical")),
        ],
        runbook: Runbook {
            meaning: "A thermal zone is past its passive (serious) or critical trip point, or the system reports that \
                      thermal pressure level. The firmware lowers clock speeds; at critical it may switch off.",
            impact: "Everything on the machine becomes slower, first what needs the most CPU. A machine at its critical \
                     point may power off without warning.",
            diagnosis: vec![
                ("How the state changed.", family(HOST_THERMAL_STATE).to_string()),
                ("What uses the CPU.", format!("topk(10, {})", recorded(cpu::CPU_USAGE_RATE))),
                ("What the machine draws.", recorded(cpu::HOST_POWER).to_string()),
            ],
            remedy: &[
                "Move or stop the containers that use the most CPU; pin what may be slow to efficiency cores.",
                "Lower the highest frequency or choose a power-saving governor until it has cooled.",
                "Look at fans, dust, air flow and the room, if the load is as usual.",
            ],
        },
    }]
}
