//! Memory, processes, the cores' load and the exporter itself, through `sysinfo`, which asks the machine itself: on a Mac alone it is more than
//! a test.

use std::sync::{Mutex, PoisonError};

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, ProcessRefreshKind, ProcessesToUpdate};

use crate::root::Nanos;

/// Bytes, and a number of processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: Option<u64>,
    pub used: Option<u64>,
    pub swap: Option<u64>,
    pub swap_used: Option<u64>,
    pub processes: Option<u64>,
}

/// What the exporter itself takes, in bytes, and the second since the Unix epoch when it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    pub resident: Option<u64>,
    pub size: Option<u64>,
    pub started: Option<u64>,
}

/// One machine, asked again and again.
#[derive(Debug)]
pub struct Gauge(Mutex<State>);

#[derive(Debug)]
struct State {
    /// None where the machine can't be asked at all.
    system: Option<sysinfo::System>,
    /// When the load was last asked for, boot clock.
    asked: Option<Nanos>,
    /// The first answer says nothing: there is no time that it is of.
    warm: bool,
}

impl Default for Gauge {
    fn default() -> Self {
        Self(Mutex::new(State { system: sysinfo::System::new().ok(), asked: None, warm: false }))
    }
}

impl Gauge {
    pub fn memory(&self) -> Memory {
        let State { system, .. } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(system) = system else { return Memory::default() };
        system.refresh_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing().without_tasks());
        let total = Some(system.total_memory()).filter(|n| *n > 0);
        let swap = Some(system.total_swap());
        Memory {
            total,
            used: total.map(|_| system.used_memory()),
            swap: total.and(swap),
            swap_used: total.map(|_| system.used_swap()),
            processes: Some(system.processes().len() as u64).filter(|n| *n > 0),
        }
    }

    pub fn own(&self) -> Own {
        let State { system, .. } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(system), Ok(pid)) = (system, sysinfo::get_current_pid()) else {
            return Own::default();
        };
        let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        let process = system.process(pid);
        let told = |n: u64| Some(n).filter(|n| *n > 0);
        Own {
            resident: process.and_then(|p| told(p.memory())),
            size: process.and_then(|p| told(p.virtual_memory())),
            started: process.and_then(|p| told(p.start_time())),
        }
    }

    /// Asked sooner than the system counts, it says again what it said.
    pub fn load(&self, now: Nanos) -> Vec<f64> {
        let State { system, asked, warm } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(system) = system else { return Vec::new() };
        let least = MINIMUM_CPU_UPDATE_INTERVAL.as_nanos() as Nanos;
        if asked.is_none_or(|at| now - at > least) {
            system.refresh_cpu_usage();
            *warm = asked.is_some();
            *asked = Some(now);
        }
        if !*warm {
            return Vec::new();
        }
        let shares = system.cpus().iter().map(|cpu| f64::from(cpu.usage()) / 100.0);
        shares.map(|share| if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    #[test]
    fn memory_and_processes_of_this_machine() {
        let told = Gauge::default().memory();
        let (total, used) = (told.total.unwrap(), told.used.unwrap());
        assert!(0 < used && used < total, "{told:?}");
        assert!(told.swap_used <= told.swap, "{told:?}");
        assert!(told.processes.unwrap() > 1, "{told:?}");
    }

    #[test]
    fn what_the_exporter_takes_is_what_the_kernel_says() {
        let gauge = Gauge::default();
        let before = gauge.own();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let own = gauge.own();
        // Other tests run beside this one.
        assert!(own.resident.unwrap() > before.resident.unwrap() && own.size >= own.resident, "{before:?} {own:?}");
        let now = Root::default().clock.wall() / crate::root::SECOND;
        let age = now - i64::try_from(own.started.unwrap()).unwrap();
        assert!((0..7200).contains(&age), "started {age} s ago");
        drop(held);
    }

    #[test]
    fn a_busy_core_is_seen() {
        let (gauge, clock) = (Gauge::default(), Root::default().clock);
        assert_eq!(gauge.load(clock.boot()), Vec::<f64>::new(), "of what time?");
        let least = MINIMUM_CPU_UPDATE_INTERVAL.as_nanos() as Nanos;
        let begin = clock.boot();
        let mut n = 0_u64;
        while clock.boot() - begin < 2 * least {
            n = std::hint::black_box(n.wrapping_add(1));
        }
        let load = gauge.load(clock.boot());
        assert_eq!(load.len(), std::thread::available_parallelism().unwrap().get());
        assert!(load.iter().any(|share| *share > 0.2) && load.iter().all(|share| *share <= 1.0), "{load:?}");
        assert_eq!(gauge.load(clock.boot()), load, "asked too soon");
    }
}
