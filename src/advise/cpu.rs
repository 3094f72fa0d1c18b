use super::{Action, Case, Figures, Items, Member, hot, percent};
use crate::snapshot::{Snapshot, ThermalState};
use crate::targets;

pub(super) fn rules(c: &mut Case<'_>) {
    cores_by_type(c);
    reduce_cores(c);
    power(c);
}

/// Only where the host has both kinds.
fn cores_by_type(c: &mut Case<'_>) {
    let m = *c.measures;
    let intensity = m.cpu_intensity.filter(|_| m.core_types);
    let high = c.over(Action::AssignPerformanceCores, intensity, targets::HIGH_CPU_INTENSITY);
    let low = c.under(Action::AssignEfficiencyCores, intensity, targets::LOW_CPU_INTENSITY);
    let (Some(intensity), Some([performance, _])) = (intensity, c.host.cores_by_type) else { return };
    if high {
        let count = (intensity * f64::from(performance)).ceil();
        let finding = format_args!(
            "CPU intensity is {}, above {}",
            percent(intensity),
            percent(c.targets.get(targets::HIGH_CPU_INTENSITY))
        );
        let advice = format_args!("give it {count} of the {performance} performance cores");
        c.recommend(Action::AssignPerformanceCores, finding, advice, to(None, count));
    } else if low {
        let finding = format_args!(
            "CPU intensity is {}, below {}",
            percent(intensity),
            percent(c.targets.get(targets::LOW_CPU_INTENSITY))
        );
        c.recommend(
            Action::AssignEfficiencyCores,
            finding,
            format_args!("one efficiency core is enough for it"),
            to(None, 1.0),
        );
    }
}

fn to(current: Option<f64>, recommended: f64) -> Figures {
    Figures { current, recommended: Some(recommended), savings_bytes: None }
}

fn reduce_cores(c: &mut Case<'_>) {
    let m = *c.measures;
    let low = c.under(Action::ReduceCores, m.cpu_efficiency, targets::LOW_CPU_EFFICIENCY);
    let (true, Some(efficiency), Some(cores)) = (low, m.cpu_efficiency, m.allocated_cores) else { return };
    let recommended = (cores * c.targets.get(targets::CORE_FACTOR)).max(c.targets.get(targets::CORE_MINIMUM));
    if recommended >= cores {
        return;
    }
    let (used, limit) = (percent(efficiency), percent(c.targets.get(targets::LOW_CPU_EFFICIENCY)));
    let figures = to(Some(cores), recommended);
    if m.whole_machine {
        let finding =
            format_args!("it may use all {cores} cores of the machine and uses {used} of them, below {limit}");
        c.recommend(Action::ReduceCores, finding, format_args!("limit it to {recommended:.1} cores"), figures);
    } else {
        let finding = format_args!("it uses {used} of its {cores:.1} cores, below {limit}");
        let advice = format_args!("reduce its cores from {cores:.1} to {recommended:.1}");
        c.recommend(Action::ReduceCores, finding, advice, figures);
    }
}

fn power(c: &mut Case<'_>) {
    let m = *c.measures;
    let idle = m.cpu_intensity.is_some_and(|i| i < c.targets.get(targets::LOW_CPU_INTENSITY));
    let low =
        c.under(Action::PreferPowerEfficiency, m.power_efficiency.filter(|_| idle), targets::LOW_POWER_EFFICIENCY);
    let (true, Some(efficiency), Some(intensity)) = (low, m.power_efficiency, m.cpu_intensity) else { return };
    let finding = format_args!(
        "it gets {efficiency:.3} CPU seconds for a joule, below {}, at an intensity of {}",
        c.targets.get(targets::LOW_POWER_EFFICIENCY),
        percent(intensity)
    );
    let advice = format_args!("let it run slower: a power-saving governor, efficiency cores, or fewer wake-ups");
    c.recommend(Action::PreferPowerEfficiency, finding, advice, Figures::default());
}

/// What concerns all containers of the machine.
pub(super) fn machine(snapshot: &Snapshot, out: &mut Items) {
    let mut give = |action, finding: std::fmt::Arguments<'_>, advice: &str| {
        let item = out.add(action, Figures::default());
        item.subject.make_machine();
        item.say(finding, format_args!("{advice}"));
    };
    if let Some(state) = hot(&snapshot.host) {
        let name = ThermalState::ALL.iter().find(|(s, _)| *s == state).map_or("", |(_, name)| name);
        let finding = format_args!("the machine's thermal state is {name}; busiest: {}", busiest(snapshot));
        give(Action::MitigateThermal, finding, "lower the highest frequency, or move containers to efficiency cores");
    }
    if snapshot.host.on_battery == Some(true) {
        let finding = format_args!("the machine runs on battery; busiest: {}", busiest(snapshot));
        give(Action::PreferPowerEfficiency, finding, "prefer efficiency cores and a power-saving governor");
    }
}

/// Up to three containers that use the most CPU.
fn busiest(snapshot: &Snapshot) -> String {
    let mut all: Vec<_> = snapshot
        .containers
        .iter()
        .enumerate()
        .filter(|(_, f)| f.container.identity.id != "/")
        .filter_map(|(index, f)| Some((f.cpu.usage_rate_cores?, Member { index, container: f.container.clone() })))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    if all.is_empty() {
        return "not known".into();
    }
    let named: Vec<_> = all.iter().take(3).map(|(cores, s)| format!("{} ({cores:.2} cores)", s.name())).collect();
    named.join(", ")
}
