use std::collections::HashMap;

use super::{Action, Case, Figures, Member, Recommendation, Subject, bytes, over, percent};
use crate::snapshot::Snapshot;
use crate::targets::{self, Targets};

pub(super) fn rules(c: &mut Case<'_>) {
    allocation(c);
    compress(c);
}

/// Reduce and increase are never both given: where both rules hold, the page cache decides only if its loss is felt.
fn allocation(c: &mut Case<'_>) {
    let m = *c.measures;
    let reduce = c.under(Action::ReduceAllocation, m.memory_efficiency, targets::LOW_MEMORY_EFFICIENCY);
    let increase = c.under(Action::IncreaseAllocation, m.page_cache_share, targets::LOW_PAGE_CACHE);
    let felt = felt(c);
    match (reduce, increase) {
        (true, true) if felt.is_some() => give_increase(c, &both(true, felt)),
        (true, true) => give_reduce(c, &both(false, None)),
        (true, false) => give_reduce(c, ""),
        (false, true) => give_increase(c, ""),
        (false, false) => {}
    }
}

fn both(felt: bool, how: Option<String>) -> String {
    match how.filter(|_| felt) {
        Some(how) => format!("; its efficiency is low too, but the small page cache is felt: {how}"),
        None => "; its page cache is small too, but neither memory pressure nor refaults say that it is missed".into(),
    }
}

/// Memory pressure or refaults, in words.
fn felt(c: &mut Case<'_>) -> Option<String> {
    let m = c.measures;
    let (pressure, refaults) = (c.targets.get(targets::MEMORY_PRESSURE), c.targets.get(targets::MEMORY_REFAULTS));
    let band = c.band();
    c.state.pressed = m.memory_pressure.is_some_and(|v| over(v, pressure, band, c.state.pressed));
    c.state.refaulting = m.refaults.is_some_and(|v| over(v, refaults, band, c.state.refaulting));
    match (m.memory_pressure, m.refaults) {
        (Some(p), _) if c.state.pressed => Some(format!("its tasks wait for memory {:.1} % of the time", p * 100.0)),
        (_, Some(r)) if c.state.refaulting => Some(format!("{r:.0} refaults a second")),
        _ => None,
    }
}

fn give_reduce(c: &mut Case<'_>, note: &str) {
    let m = c.measures;
    let (Some(efficiency), Some(allocated), Some(process)) = (m.memory_efficiency, m.allocated, m.process) else {
        return;
    };
    let factor = c.targets.get(targets::ALLOCATION_FACTOR);
    let recommended = (process * factor).max(c.targets.get(targets::ALLOCATION_MINIMUM));
    if recommended >= allocated {
        return;
    }
    let finding = format!(
        "memory efficiency is {}, below {}: its processes hold {} of {}{note}",
        percent(efficiency),
        percent(c.targets.get(targets::LOW_MEMORY_EFFICIENCY)),
        bytes(process),
        bytes(allocated)
    );
    let advice = format!("reduce the allocation from {} to {}", bytes(allocated), bytes(recommended));
    let figures = Figures {
        current: Some(allocated),
        recommended: Some(recommended),
        savings_bytes: Some(allocated - recommended),
    };
    c.recommend(Action::ReduceAllocation, finding, advice, figures);
}

fn give_increase(c: &mut Case<'_>, note: &str) {
    let m = c.measures;
    let (Some(share), Some(allocated)) = (m.page_cache_share, m.allocated) else { return };
    let recommended = allocated + c.targets.get(targets::ALLOCATION_STEP);
    let finding = format!(
        "the page cache has {} of the allocation of {}, below {}{note}",
        percent(share),
        bytes(allocated),
        percent(c.targets.get(targets::LOW_PAGE_CACHE))
    );
    let advice = format!("increase the allocation from {} to {}", bytes(allocated), bytes(recommended));
    let figures = Figures { current: Some(allocated), recommended: Some(recommended), savings_bytes: None };
    c.recommend(Action::IncreaseAllocation, finding, advice, figures);
}

fn compress(c: &mut Case<'_>) {
    let m = *c.measures;
    // `allocation` has judged the pressure of this collection already.
    let pressed = c.state.pressed;
    let cold = c.over(Action::CompressMemory, m.cold_memory, targets::COLD_MEMORY);
    let (true, true, Some(cold)) = (cold, pressed, m.cold_memory) else { return };
    let ratio = m.compression_ratio.filter(|r| *r > 1.0);
    let expected = ratio.map_or_else(
        || "; nothing here reports a compression ratio".to_owned(),
        |r| format!("; zswap reports {r:.1} to 1 here"),
    );
    let finding = format!("{} of its memory are cold while its tasks wait for memory", bytes(cold));
    let advice = format!("compress cold memory (zswap or zram){expected}");
    let saving = ratio.map(|r| cold - cold / r);
    let figures = Figures { current: Some(cold), recommended: ratio.map(|r| cold / r), savings_bytes: saving };
    c.recommend(Action::CompressMemory, finding, advice, figures);
}

/// Containers of one image could share what they load.
pub(super) fn share_libraries(
    images: &HashMap<String, usize>,
    snapshot: &Snapshot,
    t: &Targets,
    out: &mut Vec<Recommendation>,
) {
    let begin = out.len();
    for (image, count) in images.iter().filter(|(_, n)| **n > 1) {
        let group: Vec<_> = snapshot
            .containers
            .iter()
            .enumerate()
            .filter(|(_, f)| f.container.identity.image == *image && f.container.identity.id != "/")
            .map(|(index, f)| Member { index, container: f.container.clone() })
            .collect();
        let saving = t.get(targets::SHARED_LIBRARY_SAVING);
        out.push(Recommendation {
            subject: Subject::Group(group),
            action: Action::ShareLibraries,
            finding: format!("{count} containers run the image {image}"),
            advice: format!(
                "share libraries between them (one read-only layer or volume): about {} in all",
                bytes(saving * *count as f64)
            ),
            figures: Figures { savings_bytes: Some(saving), ..Figures::default() },
        });
    }
    if let Some(added) = out.get_mut(begin..) {
        added.sort_by(|a, b| a.subject.name().cmp(b.subject.name()));
    }
}
