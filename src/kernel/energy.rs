//! Energy from the processor's own meters (RAPL, `/sys/class/powercap`), and each container's share of it.
//!
//! A meter counts microjoules and wraps around; it is read at collections alone, so these must not be further apart than
//! one turn (20 minutes and more at full power). What the packages used between two collections is divided by busy CPU
//! time: the shares of all containers and of the rest of the machine add up to it, idle power included.

use std::path::Path;
use std::sync::Arc;

use super::battery::Battery;
use super::file::KernelFile;
use super::{Context, Reader, Slots, parse};
use crate::catalog::Collector;
use crate::root::{ReadBuf, ReadError, Root};
use crate::runtime::Container;
use crate::snapshot::{HostFacts, Snapshot};

#[derive(Default)]
pub struct Energy {
    meters: Option<Meters>,
    shares: Slots<Share>,
}

struct Meters {
    domains: Vec<Domain>,
    battery: Battery,
}

/// One RAPL domain.
struct Domain {
    /// `package-0`, `dram-0` …
    name: Arc<str>,
    meter: KernelFile,
    turn: Turn,
}

/// A meter that wraps around, and what it counted since it was first read, in microjoules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    max: u64,
    last: Option<u64>,
    total: u64,
}

impl Turn {
    fn advance(&mut self, now: u64) {
        let used = match self.last {
            Some(last) if now >= last => now - last,
            Some(last) => self.max.saturating_sub(last).saturating_add(now),
            None => 0,
        };
        self.last = Some(now);
        self.total = self.total.saturating_add(used);
    }
}

/// Where a container stood when its share was last computed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    at: Standing,
    joules: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Standing {
    usage_ns: u64,
    busy_ns: u64,
    packages_uj: u64,
}

impl Share {
    fn advance(&mut self, now: Standing) {
        let busy = now.busy_ns.saturating_sub(self.at.busy_ns);
        if busy == 0 {
            return;
        }
        let usage = now.usage_ns.saturating_sub(self.at.usage_ns);
        let share = (usage as f64 / busy as f64).min(1.0);
        self.joules += share * now.packages_uj.saturating_sub(self.at.packages_uj) as f64 / 1e6;
        self.at = now;
    }
}

impl Reader for Energy {
    fn open(&mut self, slot: usize, _container: &Arc<Container>, _ctx: &mut Context<'_>) {
        self.shares.clear(slot);
    }

    fn close(&mut self, slot: usize) {
        self.shares.clear(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        let meters = self.meters.get_or_insert_with(|| Meters::find(ctx));
        snapshot.host.on_battery = meters.battery.read(ctx.buf);
        let packages_uj = meters.read(&mut snapshot.host, ctx);
        // The root cgroup's usage is the machine's. Without CPU facts in this collection the next one makes up for it.
        let machine = snapshot.containers.iter().find(|c| c.container.identity.id == "/");
        let busy_ns = machine.and_then(|c| c.cpu.usage_ns);
        let (Some(packages_uj), Some(busy_ns)) = (packages_uj, busy_ns) else { return };
        let containers = snapshot.containers.iter_mut().zip(slots);
        for (facts, &slot) in containers.filter(|(c, _)| c.container.identity.id != "/") {
            let Some(usage_ns) = facts.cpu.usage_ns else { continue };
            let now = Standing { usage_ns, busy_ns, packages_uj };
            let share = match self.shares.get(slot) {
                Some(share) => {
                    share.advance(now);
                    *share
                }
                None => {
                    let share = Share { at: now, joules: 0.0 };
                    self.shares.set(slot, share);
                    share
                }
            };
            facts.cpu.energy_joules = Some(share.joules);
        }
    }
}

impl Meters {
    fn find(ctx: &Context<'_>) -> Self {
        let class = ctx.root.sysfs.join("class/powercap");
        let zones = ctx.root.list(&class).unwrap_or_default();
        // `intel-rapl` (AMD's too) alone: `intel-rapl-mmio` counts the same packages once more.
        let zones = zones.iter().filter(|z| z.starts_with("intel-rapl:"));
        let domains: Vec<Domain> = zones.filter_map(|z| Domain::open(&class.join(z), z, ctx)).collect();
        match domains.first() {
            None => ctx.capabilities.no("rapl", "no RAPL domain in /sys/class/powercap"),
            Some(first) => match first.meter.read(&mut ReadBuf::default()) {
                Err(ReadError::Denied) => ctx.capabilities.no("rapl", "energy_uj may be read by root alone"),
                _ => ctx.capabilities.yes("rapl"),
            },
        }
        Self { domains, battery: Battery::find(ctx) }
    }

    /// What all packages used since the first collection, in microjoules; None when one can't be read.
    fn read(&mut self, host: &mut HostFacts, ctx: &mut Context<'_>) -> Option<u64> {
        let mut packages = None;
        let mut complete = true;
        for domain in &mut self.domains {
            let is_package = domain.name.starts_with("package-");
            match domain.meter.read(ctx.buf).and_then(|b| parse::value(b).map_err(|_| ReadError::Malformed)) {
                Ok(now) => {
                    domain.turn.advance(now);
                    host.energy.push((domain.name.clone(), domain.turn.total as f64 / 1e6));
                    if is_package {
                        packages = Some(packages.unwrap_or(0u64).saturating_add(domain.turn.total));
                    }
                }
                Err(e) => {
                    complete &= !is_package;
                    // Root alone may read it, as `kina_capability` tells: nothing has failed.
                    if e != ReadError::Denied {
                        ctx.failed(Collector::Energy, e);
                    }
                }
            }
        }
        packages.filter(|_| complete)
    }
}

impl Domain {
    fn open(folder: &Path, zone: &str, ctx: &Context<'_>) -> Option<Self> {
        let root = ctx.root;
        let name = domain_name(zone, root.read_to_string(&folder.join("name")).ok()?.trim());
        let meter = KernelFile::open(&folder.join("energy_uj"), ctx.budget).ok()?;
        let max = max_range(root, folder);
        Some(Self { name: name.into(), meter, turn: Turn { max, last: None, total: 0 } })
    }
}

fn max_range(root: &Root, folder: &Path) -> u64 {
    root.read_bytes(&folder.join("max_energy_range_uj")).ok().and_then(|b| parse::value(&b).ok()).unwrap_or(0)
}

/// Packages carry their number; what is below one (`intel-rapl:1:0`, `dram`) takes it on.
fn domain_name(zone: &str, name: &str) -> String {
    let mut numbers = zone.split(':').skip(1);
    match (numbers.next(), numbers.next()) {
        (Some(package), Some(_)) => format!("{name}-{package}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_that_wraps_around_goes_on() {
        let mut turn = Turn { max: 1000, last: None, total: 0 };
        for now in [700, 900, 100, 100] {
            turn.advance(now);
        }
        assert_eq!(turn.total, 200 + 200);
        let mut broken = Turn { max: 0, last: Some(10), total: 5 };
        broken.advance(3);
        assert_eq!(broken.total, 8, "without a range, what is on the meter");
    }

    #[test]
    fn a_share_goes_by_busy_time_and_never_back() {
        let at = |usage_ns, busy_ns, packages_uj| Standing { usage_ns, busy_ns, packages_uj };
        let mut share = Share { at: at(0, 0, 0), joules: 0.0 };
        share.advance(at(25, 100, 8_000_000));
        assert_eq!(share.joules, 2.0);
        share.advance(at(25, 100, 9_000_000));
        assert_eq!(share.joules, 2.0, "no busy time yet: the energy is shared out with the next");
        share.advance(at(75, 200, 10_000_000));
        assert_eq!(share.joules, 3.0);
        share.advance(at(10, 300, 12_000_000));
        assert_eq!(share.joules, 3.0, "usage that went back is none");
        share.advance(at(500, 310, 13_000_000));
        assert_eq!(share.joules, 4.0, "no more than all");
    }

    #[test]
    fn domains_are_numbered_by_package() {
        assert_eq!(domain_name("intel-rapl:0", "package-0"), "package-0");
        assert_eq!(domain_name("intel-rapl:1:0", "dram"), "dram-1");
        assert_eq!(domain_name("intel-rapl:2", "psys"), "psys");
    }
}
