//! Energy by part of the chip, through `macmon`: what macOS tells of it without root is private (IOReport, SMC). Its sampler
//! waits while it measures, so it has a thread of its own; that ends with whoever holds the [`Power`].

use std::sync::{Arc, Mutex, PoisonError, Weak};

use core_foundation::base::{CFType, TCFType};
use core_foundation::data::CFData;
use core_foundation::dictionary::CFDictionary;
use core_foundation::string::CFString;
use macmon::sources::{IOServiceIterator, cfio_get_props};

use super::map::Energy;

/// One measurement is over this time, without gaps in between.
const INTERVAL_MS: u32 = 5000;

#[derive(Debug, Clone)]
enum State {
    Measured(Energy),
    /// Nothing was told, for this reason.
    Without(&'static str),
}

#[derive(Debug)]
pub struct Power(Arc<Mutex<State>>);

impl Default for Power {
    fn default() -> Self {
        let state = Arc::new(Mutex::new(State::Measured(Energy::default())));
        let weak = Arc::downgrade(&state);
        let thread = std::thread::Builder::new().name("power".into()).spawn(move || {
            // It works on interfaces that Apple does not document: whatever it stumbles over ends this thread alone.
            if std::panic::catch_unwind(|| sample(&weak)).is_err() {
                without(&weak, "the chip's power counters are not as expected");
            }
        });
        if thread.is_err() {
            without(&Arc::downgrade(&state), "no thread for it");
        }
        Self(state)
    }
}

fn without(state: &Weak<Mutex<State>>, why: &'static str) {
    if let Some(state) = state.upgrade() {
        *state.lock().unwrap_or_else(PoisonError::into_inner) = State::Without(why);
    }
}

fn sample(weak: &Weak<Mutex<State>>) {
    let Ok(mut sampler) = macmon::Sampler::new() else {
        return without(weak, "the chip's power counters can't be read");
    };
    if sampler.get_soc_info().vm {
        return without(weak, "a virtual machine has no power counters");
    }
    let mut energy = Energy::default();
    while weak.strong_count() > 0 {
        let Ok(m) = sampler.get_metrics(INTERVAL_MS) else {
            return without(weak, "the chip's power counters can't be read");
        };
        let seconds = f64::from(INTERVAL_MS) / 1e3;
        energy.add("cpu", m.cpu_power, seconds);
        energy.add("gpu", m.gpu_power, seconds);
        energy.add("ane", m.ane_power, seconds);
        energy.add("dram", m.ram_power, seconds);
        energy.add("system", m.sys_power, seconds);
        if let Some(state) = weak.upgrade() {
            *state.lock().unwrap_or_else(PoisonError::into_inner) = State::Measured(energy.clone());
        }
    }
}

impl Power {
    pub fn energy(&self) -> Result<Vec<(&'static str, f64)>, &'static str> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Measured(energy) => Ok(energy.by_part()),
            State::Without(why) => Err(why),
        }
    }
}

/// `cluster-type` of each core, of the device tree's entries `cpuN`.
pub fn clusters() -> Vec<(u32, String)> {
    let Ok(entries) = IOServiceIterator::new("IOPlatformDevice") else { return Vec::new() };
    let kind = |entry, name: &str| {
        let properties = cfio_get_props(entry, name.to_owned()).ok()?;
        // SAFETY: the dictionary was created for us, and is released with `properties`.
        let properties: CFDictionary<CFString, CFType> = unsafe { CFDictionary::wrap_under_create_rule(properties) };
        let data = properties.find(CFString::from_static_string("cluster-type"))?.downcast::<CFData>()?;
        Some(String::from_utf8_lossy(data.bytes()).trim_end_matches('\0').to_owned())
    };
    entries
        .filter_map(|(entry, name)| {
            let core = name.strip_prefix("cpu")?.parse().ok()?;
            Some((core, kind(entry, &name)?))
        })
        .collect()
}
