//! The calls to macOS: `sysctlbyname`, `host_statistics`, `notify`, `libproc`. All are unprivileged for processes of the same user.
//!
//! `libc` has what it can of them. The `libproc` crate knows neither `proc_pid_rusage`'s version 6 (core time by type, energy)
//! nor a build without libclang.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use core_foundation::base::{CFType, CFTypeRef, TCFType};
use core_foundation::string::{CFString, CFStringRef};

use super::System;
use super::gauge::{Gauge, Memory, Own};
use super::map::{Level, Ticks, Usage, mach_to_ns};
use crate::root::Nanos;

// Of libSystem; not in the libc crate.
unsafe extern "C" {
    fn notify_register_check(name: *const c_char, token: *mut c_int) -> u32;
    fn notify_get_state(token: c_int, state: *mut u64) -> u32;
    fn proc_listpidspath(
        kind: u32,
        info: u32,
        path: *const c_char,
        flags: u32,
        buffer: *mut c_void,
        size: c_int,
    ) -> c_int;
    fn mach_timebase_info(info: *mut Timebase) -> c_int;
    fn mach_host_self() -> libc::mach_port_t;
}

#[link(name = "IOKit", kind = "framework")]
unsafe extern "C" {
    fn IOPSCopyPowerSourcesInfo() -> CFTypeRef;
    fn IOPSGetProvidingPowerSourceType(snapshot: CFTypeRef) -> CFStringRef;
}

const PROC_ALL_PIDS: u32 = 1;
const RUSAGE_INFO_V6: c_int = 6;

#[repr(C)]
#[derive(Default)]
struct Timebase {
    numer: u32,
    denom: u32,
}

/// `struct rusage_info_v6` of sys/resource.h (macOS 13): what `libc` has as version 4, and what was added since.
#[repr(C)]
struct RusageV6 {
    v4: libc::rusage_info_v4,
    flags: u64,
    user_ptime: u64,
    system_ptime: u64,
    pinstructions: u64,
    pcycles: u64,
    energy_nj: u64,
    penergy_nj: u64,
    /// Fields that later systems have named.
    others: [u64; 14],
}

/// This Mac.
#[derive(Debug)]
pub struct Mac {
    thermal: Option<c_int>,
    /// The right to ask the machine, taken once: each further one would have to be given back.
    host: libc::mach_port_t,
    gauge: Gauge,
    #[cfg(feature = "power")]
    power: super::power::Power,
}

impl Default for Mac {
    fn default() -> Self {
        let mut token = 0;
        // SAFETY: the name is NUL-terminated and `token` writable; both outlive the call.
        let status = unsafe { notify_register_check(c"com.apple.system.thermalpressurelevel".as_ptr(), &mut token) };
        Self {
            thermal: (status == 0).then_some(token),
            // SAFETY: it has no arguments and cannot fail.
            host: unsafe { mach_host_self() },
            gauge: Gauge::default(),
            #[cfg(feature = "power")]
            power: super::power::Power::default(),
        }
    }
}

/// Fills `value` with what the name stands for, and tells how many bytes that is.
fn sysctl(name: &str, value: &mut [u8]) -> Option<usize> {
    let name = CString::new(name).ok()?;
    let mut size = value.len();
    // SAFETY: the name is NUL-terminated; `size` says how much of `value` may be written; nothing is set.
    let done =
        unsafe { libc::sysctlbyname(name.as_ptr(), value.as_mut_ptr().cast(), &mut size, std::ptr::null_mut(), 0) };
    (done == 0).then_some(size)
}

impl System for Mac {
    fn levels(&self) -> Vec<Level> {
        let count = self.number("hw.nperflevels").unwrap_or(0).min(8);
        (0..count)
            .filter_map(|n| {
                let mut name = [0_u8; 64];
                let size = sysctl(&format!("hw.perflevel{n}.name"), &mut name).unwrap_or(0);
                let name = CStr::from_bytes_until_nul(name.get(..size)?).map(|c| c.to_string_lossy().into_owned());
                let cores = u32::try_from(self.number(&format!("hw.perflevel{n}.physicalcpu"))?).ok()?;
                Some(Level { name: name.unwrap_or_default(), cores })
            })
            .collect()
    }

    fn number(&self, name: &str) -> Option<u64> {
        let mut value = [0_u8; 8];
        match sysctl(name, &mut value)? {
            4 => Some(u64::from(u32::from_ne_bytes([value[0], value[1], value[2], value[3]]))),
            8 => Some(u64::from_ne_bytes(value)),
            _ => None,
        }
    }

    fn memory(&self) -> Memory {
        self.gauge.memory()
    }

    fn ticks(&self) -> Option<Ticks> {
        let mut ticks = [0_u32; libc::CPU_STATE_MAX as usize];
        let mut count = libc::HOST_CPU_LOAD_INFO_COUNT;
        // SAFETY: `ticks` is writable and holds as many numbers as `count` says.
        let done = unsafe {
            libc::host_statistics(self.host, libc::HOST_CPU_LOAD_INFO, ticks.as_mut_ptr().cast(), &mut count)
        };
        let of = |state: c_int| ticks[state as usize];
        (done == libc::KERN_SUCCESS).then(|| Ticks {
            user: of(libc::CPU_STATE_USER),
            system: of(libc::CPU_STATE_SYSTEM),
            nice: of(libc::CPU_STATE_NICE),
        })
    }

    fn on_battery(&self) -> Option<bool> {
        // SAFETY: it has no arguments; what it gives is ours to release, or null.
        let all = unsafe { IOPSCopyPowerSourcesInfo() };
        if all.is_null() {
            return None;
        }
        // SAFETY: it is not null, and released with `all`.
        let all = unsafe { CFType::wrap_under_create_rule(all) };
        // SAFETY: `all` is what the call above gave, and lives as long as what it points at is looked at.
        let source = unsafe { IOPSGetProvidingPowerSourceType(all.as_CFTypeRef()) };
        if source.is_null() {
            return None;
        }
        // SAFETY: it is a string that is not ours to release.
        Some(unsafe { CFString::wrap_under_get_rule(source) } == "Battery Power")
    }

    fn own(&self) -> Own {
        self.gauge.own()
    }

    fn load(&self, now: Nanos) -> Vec<f64> {
        self.gauge.load(now)
    }

    #[cfg(feature = "power")]
    fn clusters(&self) -> Vec<(u32, String)> {
        super::power::clusters()
    }

    #[cfg(not(feature = "power"))]
    fn clusters(&self) -> Vec<(u32, String)> {
        Vec::new()
    }

    #[cfg(feature = "power")]
    fn energy(&self) -> Result<Vec<(&'static str, f64)>, &'static str> {
        self.power.energy()
    }

    #[cfg(not(feature = "power"))]
    fn energy(&self) -> Result<Vec<(&'static str, f64)>, &'static str> {
        Err("built without the feature power")
    }

    fn thermal_pressure(&self) -> Option<u64> {
        let mut state = 0;
        // SAFETY: the token was registered by this process and `state` is writable.
        (unsafe { notify_get_state(self.thermal?, &mut state) } == 0).then_some(state)
    }

    fn openers(&self, file: &Path) -> Vec<(u32, String)> {
        let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return Vec::new() };
        let mut pids = [0 as c_int; 64];
        // SAFETY: the path is NUL-terminated and the size is that of `pids`, which is writable.
        let bytes = unsafe {
            proc_listpidspath(PROC_ALL_PIDS, 0, path.as_ptr(), 0, pids.as_mut_ptr().cast(), size_of_val(&pids) as c_int)
        };
        let count = usize::try_from(bytes).unwrap_or(0) / size_of::<c_int>();
        pids.iter().take(count).filter_map(|pid| Some((u32::try_from(*pid).ok()?, program(*pid)?))).collect()
    }

    fn usage(&self, pid: u32) -> Option<Usage> {
        let mut timebase = Timebase::default();
        // SAFETY: `timebase` is a writable mach_timebase_info.
        unsafe { mach_timebase_info(&mut timebase) };
        let ns = |units: u64| mach_to_ns(units, timebase.numer, timebase.denom);
        // SAFETY: all-zero is a valid rusage of any version.
        let mut usage: RusageV6 = unsafe { std::mem::zeroed() };
        let mut ask = |version: c_int| {
            // SAFETY: `usage` is writable and at least as large as the struct of any version up to 6.
            unsafe { libc::proc_pid_rusage(pid as c_int, version, (&raw mut usage).cast()) == 0 }
        };
        // Version 6 is of macOS 13; before it, memory and time alone are told.
        let newest = ask(RUSAGE_INFO_V6);
        if !newest && !ask(libc::RUSAGE_INFO_V4) {
            return None;
        }
        Some(Usage {
            footprint: usage.v4.ri_phys_footprint,
            cpu_ns: ns(usage.v4.ri_user_time.saturating_add(usage.v4.ri_system_time)),
            performance_ns: newest.then(|| ns(usage.user_ptime.saturating_add(usage.system_ptime))),
            energy_nj: newest.then_some(usage.energy_nj),
        })
    }
}

/// The path of a process's program.
fn program(pid: c_int) -> Option<String> {
    let mut path = [0_u8; 4096];
    // SAFETY: the size is that of `path`, which is writable (PROC_PIDPATHINFO_MAXSIZE is 4096).
    let size = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), path.len() as u32) };
    let bytes = path.get(..usize::try_from(size).ok().filter(|n| *n > 0)?)?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}
