use std::fmt::{self, Display, Formatter};

use super::{Action, Case, Figures, Images, Items, Member, bytes, over, percent};
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
    match (reduce, increase, felt) {
        (true, true, Some(felt)) => give_increase(c, Note::Felt(felt)),
        (true, true, None) => give_reduce(c, Note::NotFelt),
        (true, false, _) => give_reduce(c, Note::Plain),
        (false, true, _) => give_increase(c, Note::Plain),
        (false, false, _) => {}
    }
}

/// Why one of two contradictory findings was left out.
enum Note {
    Plain,
    Felt(Felt),
    NotFelt,
}

/// How the lack of a page cache shows.
enum Felt {
    Pressure(f64),
    Refaults(f64),
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => Ok(()),
            Self::Felt(how) => {
                f.write_str("; its efficiency is low too, but the small page cache is felt: ")?;
                match how {
                    Felt::Pressure(p) => write!(f, "its tasks wait for memory {:.1} % of the time", p * 100.0),
                    Felt::Refaults(r) => write!(f, "{r:.0} refaults a second"),
                }
            }
            Self::NotFelt => f.write_str(
                "; its page cache is small too, but neither memory pressure nor refaults say that it is missed",
            ),
        }
    }
}

fn felt(c: &mut Case<'_>) -> Option<Felt> {
    let m = c.measures;
    let (pressure, refaults) = (c.targets.get(targets::MEMORY_PRESSURE), c.targets.get(targets::MEMORY_REFAULTS));
    let band = c.band();
    c.state.pressed = m.memory_pressure.is_some_and(|v| over(v, pressure, band, c.state.pressed));
    c.state.refaulting = m.refaults.is_some_and(|v| over(v, refaults, band, c.state.refaulting));
    match (m.memory_pressure, m.refaults) {
        (Some(p), _) if c.state.pressed => Some(Felt::Pressure(p)),
        (_, Some(r)) if c.state.refaulting => Some(Felt::Refaults(r)),
        _ => None,
    }
}

fn give_reduce(c: &mut Case<'_>, note: Note) {
    let m = c.measures;
    let (Some(efficiency), Some(allocated), Some(process)) = (m.memory_efficiency, m.allocated, m.process) else {
        return;
    };
    let factor = c.targets.get(targets::ALLOCATION_FACTOR);
    let recommended = (process * factor).max(c.targets.get(targets::ALLOCATION_MINIMUM));
    if recommended >= allocated {
        return;
    }
    let finding = format_args!(
        "memory efficiency is {}, below {}: its processes hold {} of {}{note}",
        percent(efficiency),
        percent(c.targets.get(targets::LOW_MEMORY_EFFICIENCY)),
        bytes(process),
        bytes(allocated)
    );
    let advice = format_args!("reduce the allocation from {} to {}", bytes(allocated), bytes(recommended));
    let figures = Figures {
        current: Some(allocated),
        recommended: Some(recommended),
        savings_bytes: Some(allocated - recommended),
    };
    c.recommend(Action::ReduceAllocation, finding, advice, figures);
}

fn give_increase(c: &mut Case<'_>, note: Note) {
    let m = c.measures;
    let (Some(share), Some(allocated)) = (m.page_cache_share, m.allocated) else { return };
    let recommended = allocated + c.targets.get(targets::ALLOCATION_STEP);
    let finding = format_args!(
        "the page cache has {} of the allocation of {}, below {}{note}",
        percent(share),
        bytes(allocated),
        percent(c.targets.get(targets::LOW_PAGE_CACHE))
    );
    let advice = format_args!("increase the allocation from {} to {}", bytes(allocated), bytes(recommended));
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
    let finding = format_args!("{} of its memory are cold while its tasks wait for memory", bytes(cold));
    let advice = format_args!("compress cold memory (zswap or zram){}", Expected(ratio));
    let saving = ratio.map(|r| cold - cold / r);
    let figures = Figures { current: Some(cold), recommended: ratio.map(|r| cold / r), savings_bytes: saving };
    c.recommend(Action::CompressMemory, finding, advice, figures);
}

/// What compression would bring, where something reports it.
struct Expected(Option<f64>);

impl Display for Expected {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ratio) => write!(f, "; it shrinks {ratio:.1} to 1 here"),
            None => f.write_str("; nothing here reports a compression ratio"),
        }
    }
}

/// Containers of one image could share what they load: one item an image, all its containers in it.
pub(super) fn share_libraries(images: &Images, snapshot: &Snapshot, t: &Targets, out: &mut Items) {
    let saving = t.get(targets::SHARED_LIBRARY_SAVING);
    for group in images.groups() {
        let figures = Figures { savings_bytes: Some(saving), ..Figures::default() };
        let item = out.add(Action::ShareLibraries, figures);
        let count = group.len();
        let members = group.iter().filter_map(|&index| Member::at(snapshot, index));
        item.subject.make_group(members);
        let image = item.subject.name().to_owned();
        item.say(
            format_args!("{count} containers run the image {image}"),
            format_args!(
                "share libraries between them (one read-only layer or volume): about {} in all",
                bytes(saving * count as f64)
            ),
        );
    }
}
