//! A token bucket over all requests.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::root::Nanos;

/// A token every `interval`, `burst` of them at most: with 0 nothing passes, as with the Go library that exporters use.
/// The interval is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) struct Rate {
    pub interval: Duration,
    pub burst: u32,
}

#[derive(Default)]
pub(super) struct Limiter(Mutex<Option<Bucket>>);

struct Bucket {
    rate: Rate,
    /// When the bucket is full again: counting time in place of tokens leaves nothing to round.
    full_at: Nanos,
}

impl Limiter {
    pub fn admits(&self, rate: Option<Rate>, now: Nanos) -> bool {
        let Some(rate) = rate else { return true };
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.as_ref().is_none_or(|b| b.rate != rate) {
            *bucket = Some(Bucket { rate, full_at: now });
        }
        let Some(bucket) = bucket.as_mut() else { return true };
        let interval = i64::try_from(rate.interval.as_nanos()).unwrap_or(i64::MAX);
        let after = bucket.full_at.max(now).saturating_add(interval);
        let admitted = after.saturating_sub(now) <= interval.saturating_mul(i64::from(rate.burst));
        if admitted {
            bucket.full_at = after;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::SECOND;

    #[test]
    fn a_burst_passes_then_one_an_interval() {
        let rate = Some(Rate { interval: Duration::from_secs(1), burst: 3 });
        let limiter = Limiter::default();
        let mut now = 5 * SECOND;
        let passed = |now, n| (0..n).filter(|_| limiter.admits(rate, now)).count();
        assert_eq!(passed(now, 10), 3);
        now += SECOND / 2;
        assert_eq!(passed(now, 10), 0);
        now += SECOND / 2;
        assert_eq!(passed(now, 10), 1);
        now += 100 * SECOND;
        assert_eq!(passed(now, 10), 3);
        let other = Some(Rate { interval: Duration::from_secs(1), burst: 5 });
        assert_eq!((0..10).filter(|_| limiter.admits(other, now)).count(), 5, "a new limit starts full");
        assert!((0..100).all(|_| limiter.admits(None, now)));
        let none = Some(Rate { interval: Duration::from_secs(1), burst: 0 });
        assert!((0..100).all(|n| !limiter.admits(none, now + n * SECOND)), "no token ever");
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        let rate = Some(Rate { interval: Duration::MAX, burst: u32::MAX });
        let limiter = Limiter::default();
        assert!(limiter.admits(rate, i64::MAX - 1));
    }
}
