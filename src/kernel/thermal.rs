//! Thermal state of the machine: zones against their trip points, and throttled cores.
//!
//! `/sys/class/thermal/thermal_zone*` (`Documentation/driver-api/thermal/sysfs-api.rst`). A zone is
//! - *critical* at its critical trip point, where the kernel shuts the machine down;
//! - *serious* at its hot trip point, or within 5 °C of the critical one;
//! - *fair* at its passive trip point, where the machine begins to slow down;
//! - *nominal* below.
//!
//! The machine is as its worst zone. A core that was throttled for heat since the collection before makes it fair at least.

use std::path::Path;
use std::sync::Arc;

use super::file::KernelFile;
use super::topology;
use super::{Context, Reader};
use crate::root::{ReadBuf, Root};
use crate::runtime::Container;
use crate::snapshot::{Snapshot, ThermalState};

/// Thousandths of a degree Celsius below the critical trip point.
const NEAR_CRITICAL: i64 = 5_000;

/// Trip points in thousandths of a degree Celsius.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trips {
    passive: Option<i64>,
    hot: Option<i64>,
    critical: Option<i64>,
}

impl Trips {
    /// Takes in one trip point. Drivers write 0 or less for one that is switched off; fans (`active`) slow nothing down.
    fn add(&mut self, kind: &str, temperature: i64) {
        let point = match kind {
            "passive" => &mut self.passive,
            "hot" => &mut self.hot,
            "critical" => &mut self.critical,
            _ => return,
        };
        if temperature > 0 {
            *point = Some(point.map_or(temperature, |known| known.min(temperature)));
        }
    }

    pub fn state(&self, temperature: i64) -> ThermalState {
        let at = |point: Option<i64>| point.is_some_and(|p| temperature >= p);
        if at(self.critical) {
            ThermalState::Critical
        } else if at(self.hot) || at(self.critical.map(|c| c - NEAR_CRITICAL)) {
            ThermalState::Serious
        } else if at(self.passive) {
            ThermalState::Fair
        } else {
            ThermalState::Nominal
        }
    }
}

struct Zone {
    temperature: KernelFile,
    trips: Trips,
}

#[derive(Default)]
pub struct Thermal {
    sensors: Option<Sensors>,
}

struct Sensors {
    zones: Vec<Zone>,
    /// `core_throttle_count` of each core, with what it said last.
    throttles: Vec<(KernelFile, Option<u64>)>,
}

impl Reader for Thermal {
    fn open(&mut self, _slot: usize, _container: &Arc<Container>, _ctx: &mut Context<'_>) {}

    fn close(&mut self, _slot: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _slots: &[usize], ctx: &mut Context<'_>) {
        let sensors = self.sensors.get_or_insert_with(|| Sensors::find(ctx));
        let zones = sensors.zones.iter();
        // A sensor that has nothing to say just now (its device sleeps) answers with an error: it is left out.
        let states = zones.filter_map(|z| Some(z.trips.state(number(z.temperature.read(ctx.buf).ok()?)?)));
        let Some(worst) = states.max() else { return };
        let throttled = sensors.throttled(ctx.buf);
        snapshot.host.thermal = Some(if throttled { worst.max(ThermalState::Fair) } else { worst });
    }
}

impl Sensors {
    fn find(ctx: &Context<'_>) -> Self {
        let root = ctx.root;
        let class = root.sysfs.join("class/thermal");
        let names = root.list(&class).unwrap_or_default();
        let zones: Vec<Zone> = names
            .iter()
            .filter(|name| name.starts_with("thermal_zone"))
            .filter_map(|name| {
                let folder = class.join(name);
                let trips = trips(root, &folder)?;
                Some(Zone { temperature: KernelFile::open(&folder.join("temp"), ctx.budget).ok()?, trips })
            })
            .collect();
        match zones.is_empty() {
            true => ctx.capabilities.no("thermal", "no thermal zone with a trip point"),
            false => ctx.capabilities.yes("thermal"),
        }
        let cpus = topology::read(root).map(|t| t.online).unwrap_or_default();
        let throttles = cpus.iter().filter_map(|cpu| {
            let path = format!("devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count");
            Some((KernelFile::open(&root.sysfs.join(path), ctx.budget).ok()?, None))
        });
        let throttles = if zones.is_empty() { Vec::new() } else { throttles.collect() };
        Self { zones, throttles }
    }

    fn throttled(&mut self, buf: &mut ReadBuf) -> bool {
        let mut any = false;
        for (file, last) in &mut self.throttles {
            let now = file.read(buf).ok().and_then(number).and_then(|n| u64::try_from(n).ok());
            any |= matches!((*last, now), (Some(last), Some(now)) if now > last);
            *last = now.or(*last);
        }
        any
    }
}

/// None for a zone without a trip point that tells of heat.
fn trips(root: &Root, zone: &Path) -> Option<Trips> {
    let mut trips = Trips::default();
    for name in root.list(zone).ok()? {
        let Some(point) = name.strip_prefix("trip_point_").and_then(|n| n.strip_suffix("_type")) else { continue };
        let kind = root.read_to_string(&zone.join(&name));
        let temperature = root.read_bytes(&zone.join(format!("trip_point_{point}_temp")));
        if let (Ok(kind), Some(temperature)) = (kind, temperature.ok().as_deref().and_then(number)) {
            trips.add(kind.trim(), temperature);
        }
    }
    (trips != Trips::default()).then_some(trips)
}

fn number(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    let Some(temperature) = number(bytes) else { return };
    let mut trips = Trips::default();
    ["passive", "hot", "critical"].into_iter().for_each(|kind| trips.add(kind, temperature));
    let _ = (trips.state(temperature), trips.state(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_judged_by_its_trip_points() {
        let mut trips = Trips::default();
        for (kind, t) in
            [("active", 40_000), ("passive", 90_000), ("passive", 85_000), ("hot", 0), ("critical", 105_000)]
        {
            trips.add(kind, t);
        }
        let states = [60_000, 85_000, 99_999, 100_000, 105_000].map(|t| trips.state(t));
        use ThermalState::*;
        assert_eq!(states, [Nominal, Fair, Fair, Serious, Critical]);
        trips.add("hot", 95_000);
        assert_eq!(trips.state(95_000), Serious);
        assert_eq!(Trips::default().state(200_000), Nominal);
    }

    #[test]
    fn temperatures_may_be_below_zero_and_nothing_else() {
        assert_eq!(number(b"-5000\n"), Some(-5000));
        for bad in [&b""[..], b"hot", b"\xff", b"99999999999999999999", b"1 2"] {
            assert_eq!(number(bad), None);
        }
    }
}
