//! The runtimes stamp their events by the wall clock, which is set, slewed and leaps; the kernel stamps processes by the
//! boot clock, which never does. Durations are taken on the boot clock alone: each stamp is brought over with the
//! difference of both clocks, sampled at once.

use std::collections::VecDeque;

use crate::root::{Clock, Nanos, SECOND};

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub wall: Nanos,
    pub boot: Nanos,
}

impl Sample {
    /// Reads the boot clock on both sides of the wall clock, so that a thread that is put aside in between is noticed:
    /// of a few tries the tightest is taken.
    pub fn take(clock: &Clock) -> Self {
        let once = || {
            let before = clock.boot();
            let wall = clock.wall();
            let after = clock.boot();
            (after - before, Sample { wall, boot: before + (after - before) / 2 })
        };
        let tries = [once(), once(), once()];
        tries.into_iter().min_by_key(|(width, _)| *width).map_or(tries[0].1, |(_, s)| s)
    }

    pub fn offset(self) -> Nanos {
        self.wall - self.boot
    }
}

/// Differences of the clocks that were in force lately, newest last, each with the moment when it was last seen.
#[derive(Debug, Default)]
pub struct Reconciler {
    offsets: VecDeque<(Nanos, Nanos)>,
}

/// A change of the difference below this is slewing, not a leap.
const STEP: Nanos = 1_000_000;
const REMEMBERED: usize = 8;
/// An event's stamp may lie this far after its receipt: reading two clocks takes time, and stamps may be rounded up.
const AHEAD: Nanos = SECOND / 1000;
/// An event that is older than this when it is received was told late, not stamped before a leap.
const LATE: Nanos = 10 * SECOND;

impl Reconciler {
    /// Takes note of the clocks as they are now.
    pub fn note(&mut self, sample: Sample) {
        let new = (sample.offset(), sample.boot);
        match self.offsets.back_mut() {
            Some(last) if (last.0 - new.0).abs() < STEP => *last = new,
            _ => self.offsets.push_back(new),
        }
        if self.offsets.len() > REMEMBERED {
            self.offsets.pop_front();
        }
    }

    /// A wall-clock stamp that was received at `received` (boot clock), on the boot clock. Where the wall clock leapt
    /// lately, the stamp may be of before the leap: of the differences that were in force, the right one is that by which
    /// the event is youngest without lying in the future.
    pub fn to_boot(&self, stamp: Nanos, received: Nanos) -> Nanos {
        let Some(&(now, _)) = self.offsets.back() else { return received };
        let age = |offset: Nanos| received.saturating_sub(stamp.saturating_sub(offset));
        let plausible = |offset: Nanos| (-AHEAD..LATE).contains(&age(offset));
        let in_force = |(offset, seen): &(Nanos, Nanos)| *offset == now || received - seen < LATE;
        let candidates = self.offsets.iter().filter(|o| in_force(o)).map(|(o, _)| *o).filter(|o| plausible(*o));
        let offset = candidates
            .min_by_key(|o| age(*o))
            .or_else(|| self.offsets.iter().rev().map(|(o, _)| *o).find(|o| plausible(*o)))
            .unwrap_or(now);
        // An event of another machine's clock, or of the history: never later than its receipt.
        stamp.saturating_sub(offset).min(received)
    }

    pub fn to_wall(&self, boot: Nanos) -> Nanos {
        boot + self.offsets.back().map_or(0, |(o, _)| *o)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Nanos = 3600 * SECOND;

    fn at(offset: Nanos, boot: Nanos) -> Sample {
        Sample { wall: boot + offset, boot }
    }

    #[test]
    fn a_stamp_of_now_is_brought_over() {
        let mut r = Reconciler::default();
        r.note(at(HOUR, 10 * SECOND));
        assert_eq!(r.to_boot(HOUR + 9 * SECOND, 10 * SECOND), 9 * SECOND);
        assert_eq!(r.to_wall(9 * SECOND), HOUR + 9 * SECOND);
    }

    #[test]
    fn a_leap_between_two_stamps_changes_no_duration() {
        for leap in [HOUR, -HOUR, 90 * SECOND, -2 * SECOND, 2 * SECOND, 700_000_000] {
            let mut r = Reconciler::default();
            r.note(at(HOUR, 10 * SECOND));
            let requested = r.to_boot(HOUR + 10 * SECOND, 10 * SECOND + 1000);
            // Stamped before the leap, received after it.
            r.note(at(HOUR + leap, 11 * SECOND));
            let created = r.to_boot(HOUR + 10 * SECOND + SECOND / 2, 11 * SECOND);
            assert_eq!(created - requested, SECOND / 2, "leap {leap}");
            let running = r.to_boot(HOUR + leap + 11 * SECOND, 11 * SECOND + 5000);
            assert_eq!(running - requested, SECOND, "leap {leap}");
        }
    }

    #[test]
    fn slewing_fills_no_memory_and_no_stamp_lies_in_the_future() {
        let mut r = Reconciler::default();
        for i in 0..100 {
            r.note(at(HOUR + i * 500, i * SECOND));
        }
        assert_eq!(r.offsets.len(), 1);
        assert!(r.to_boot(i64::MAX / 2, 100 * SECOND) <= 100 * SECOND);
    }
}
