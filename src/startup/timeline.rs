//! Moments of one start → phases that are never negative and add up to the total.

use super::Phase;
use crate::root::Nanos;

/// What is known of when things happened in one start, all on one clock. Each is evidence of its own; whatever is missing
/// takes the phases that it bounds with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    pub requested: Option<Nanos>,
    /// The image is there, unpacked, its snapshot prepared.
    pub image_ready: Option<Nanos>,
    /// The guest kernel's first line.
    pub kernel_started: Option<Nanos>,
    /// The guest's init starts.
    pub init_started: Option<Nanos>,
    pub process_created: Option<Nanos>,
    pub running: Option<Nanos>,
}

/// How long each phase took, in nanoseconds; None without evidence of both its ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases([Option<Nanos>; Phase::ALL.len()]);

impl Phases {
    pub fn get(&self, phase: Phase) -> Option<Nanos> {
        self.0[phase as usize]
    }

    /// A negative duration is no duration.
    pub fn set(&mut self, phase: Phase, duration: Option<Nanos>) {
        self.0[phase as usize] = duration.filter(|d| *d >= 0);
    }

    pub fn iter(&self) -> impl Iterator<Item = (Phase, Nanos)> {
        Phase::ALL.into_iter().filter_map(|p| Some((p, self.get(p)?)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// All phases that are part of the total.
    pub fn sum(&self) -> Nanos {
        self.iter().filter(|(p, _)| *p != Phase::Ready).map(|(_, d)| d).sum()
    }
}

impl Moments {
    /// The same moments in their order: none before the request or an earlier moment, none after running. Clocks of
    /// different grain (a process's start time counts in hundredths of a second) may disagree by a little.
    fn ordered(mut self) -> Self {
        let mut floor = self.requested;
        let running = match (self.requested, self.running) {
            (Some(requested), Some(running)) => Some(running.max(requested)),
            (_, running) => running,
        };
        for moment in
            [&mut self.image_ready, &mut self.kernel_started, &mut self.init_started, &mut self.process_created]
        {
            let Some(at) = *moment else { continue };
            let at = at.max(floor.unwrap_or(at)).min(running.unwrap_or(Nanos::MAX));
            *moment = Some(at);
            floor = Some(at);
        }
        self.running = running;
        self
    }

    /// These moments, and where one is missing, that of `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            requested: self.requested.or(other.requested),
            image_ready: self.image_ready.or(other.image_ready),
            kernel_started: self.kernel_started.or(other.kernel_started),
            init_started: self.init_started.or(other.init_started),
            process_created: self.process_created.or(other.process_created),
            running: self.running.or(other.running),
        }
    }

    /// Requested → running.
    pub fn total(&self) -> Option<Nanos> {
        Some((self.running? - self.requested?).max(0))
    }

    /// Phases between the moments, [`Phase::Ready`] left out: it is learnt later.
    pub fn phases(&self) -> Phases {
        let m = self.ordered();
        let span = |from: Option<Nanos>, to: Option<Nanos>| Some(to? - from?);
        let prepared = m.image_ready.or(m.requested);
        let in_vm = m.kernel_started.is_some() || m.init_started.is_some();
        let init_from = if in_vm { m.init_started } else { prepared };
        let mut phases = Phases::default();
        phases.set(Phase::Image, span(m.requested, m.image_ready));
        phases.set(Phase::VmCreate, span(prepared, m.kernel_started));
        phases.set(Phase::KernelBoot, span(m.kernel_started, m.init_started));
        phases.set(Phase::Init, span(init_from, m.process_created));
        phases.set(Phase::Process, span(m.process_created, m.running));
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(moments: Moments) -> Vec<(&'static str, Nanos)> {
        moments.phases().iter().map(|(p, d)| (p.name(), d)).collect()
    }

    #[test]
    fn a_container_on_the_host_has_image_init_and_process() {
        let m = Moments {
            requested: Some(100),
            image_ready: Some(140),
            process_created: Some(200),
            running: Some(350),
            ..Moments::default()
        };
        assert_eq!(of(m), [("image", 40), ("init", 60), ("process", 150)]);
        assert_eq!(Some(m.phases().sum()), m.total());
    }

    #[test]
    fn a_vm_has_all_phases() {
        let m = Moments {
            requested: Some(0),
            image_ready: Some(10),
            kernel_started: Some(210),
            init_started: Some(610),
            process_created: Some(710),
            running: Some(1000),
        };
        assert_eq!(of(m), [("image", 10), ("vm_create", 200), ("kernel_boot", 400), ("init", 100), ("process", 290)]);
        assert_eq!(Some(m.phases().sum()), m.total());
    }

    #[test]
    fn a_phase_without_evidence_is_absent() {
        let m = Moments { requested: Some(0), running: Some(5), ..Moments::default() };
        assert_eq!(of(m), []);
        let m = Moments { kernel_started: Some(0), process_created: Some(4), running: Some(5), ..Moments::default() };
        assert_eq!(of(m), [("process", 1)], "nobody saw init start");
        assert_eq!(m.total(), None);
    }

    #[test]
    fn no_phase_is_negative_whatever_the_clocks_say() {
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64 % 100 - 50
        };
        for _ in 0..20_000 {
            let mut moment = || Some(random()).filter(|v| v % 5 != 0);
            let m = Moments {
                requested: moment(),
                image_ready: moment(),
                kernel_started: moment(),
                init_started: moment(),
                process_created: moment(),
                running: moment(),
            };
            let phases = m.phases();
            assert!(phases.iter().all(|(_, d)| d >= 0), "{m:?} {phases:?}");
            if let Some(total) = m.total() {
                assert!(phases.sum() <= total, "{m:?} {phases:?}");
                let complete = m.process_created.is_some() && m.kernel_started.is_some() == m.init_started.is_some();
                assert!(!complete || phases.sum() == total, "{m:?} {phases:?}");
            }
        }
    }
}
