//! Each rule below, at and above its threshold; what is missing; contradictions; no flapping.

use std::sync::Arc;

use super::*;
use crate::root::SECOND;
use crate::runtime::{Identity, ImageFacts, VmSettings};
use crate::snapshot::{ContainerFacts, DeviceFacts, DeviceIo, InterfaceFacts};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn named(name: &str) -> Container {
    let identity = Identity { id: format!("/c/{name}"), name: name.into(), image: name.into(), ..Identity::default() };
    Container { native_id: name.into(), identity, ..Container::default() }
}

fn facts() -> ContainerFacts {
    ContainerFacts { container: Arc::new(named("web")), ..ContainerFacts::default() }
}

fn snapshot(containers: Vec<ContainerFacts>) -> Snapshot {
    Snapshot { boot: 100 * SECOND, containers, ..Snapshot::default() }
}

fn run(advisor: &mut Advisor, s: &Snapshot) -> Advice {
    let mut out = Advice::default();
    advisor.advise(s, |_| None, &Targets::default(), &mut out);
    out
}

fn actions(advice: &Advice) -> Vec<&'static str> {
    advice.items.iter().map(|i| i.action.name()).collect()
}

/// Actions for one container whose facts `set` fills.
fn given(set: impl FnOnce(&mut ContainerFacts)) -> Vec<&'static str> {
    let mut f = facts();
    set(&mut f);
    actions(&run(&mut Advisor::default(), &snapshot(vec![f])))
}

/// As [`given`], on a host that `host` fills.
fn given_on(host: HostFacts, set: impl FnOnce(&mut ContainerFacts)) -> Vec<&'static str> {
    let mut f = facts();
    set(&mut f);
    let s = Snapshot { host, ..snapshot(vec![f]) };
    actions(&run(&mut Advisor::default(), &s))
}

/// Memory of 1000 MiB: what processes hold and what the page cache has, in MiB.
fn memory(process: u64, cache: u64) -> impl Fn(&mut ContainerFacts) {
    move |f| {
        f.memory.allocated = Some(1000 * MIB);
        f.memory.anon = Some(process * MIB);
        f.memory.shmem = Some(0);
        f.memory.file_mapped = Some(0);
        f.memory.file = Some(cache * MIB);
    }
}

#[test]
fn memory_allocation_below_at_and_above() {
    assert_eq!(given(memory(599, 200)), ["reduce_allocation"]);
    assert_eq!(given(memory(600, 200)), [""; 0]);
    assert_eq!(given(memory(601, 100)), [""; 0]);
    assert_eq!(given(memory(601, 99)), ["increase_allocation"]);
}

#[test]
fn reduce_and_increase_are_never_both_given() {
    let calm = given(memory(300, 50));
    assert_eq!(calm, ["reduce_allocation"]);
    let missed = given(|f| {
        memory(300, 50)(f);
        f.memory.refault_rate = Some(11.0);
    });
    assert_eq!(missed, ["increase_allocation"]);
    let at = given(|f| {
        memory(300, 50)(f);
        f.memory.refault_rate = Some(10.0);
    });
    assert_eq!(at, ["reduce_allocation"]);
}

#[test]
fn an_item_that_had_to_choose_says_so() {
    let mut f = facts();
    memory(300, 50)(&mut f);
    f.memory.refault_rate = Some(40.0);
    let advice = run(&mut Advisor::default(), &snapshot(vec![f]));
    assert!(advice.items[0].finding.contains("efficiency is low too"), "{}", advice.items[0].finding);
    assert!(advice.items[0].finding.contains("40 refaults a second"));
}

#[test]
fn memory_pressure_counts_from_two_collections() {
    let mut advisor = Advisor::default();
    let mut f = facts();
    memory(300, 50)(&mut f);
    f.pressure.memory_some_us = Some(1_000_000);
    assert_eq!(actions(&run(&mut advisor, &snapshot(vec![f.clone()]))), ["reduce_allocation"]);
    // 2 % of ten seconds.
    f.pressure.memory_some_us = Some(1_200_000);
    let later = Snapshot { boot: 110 * SECOND, ..snapshot(vec![f]) };
    assert_eq!(actions(&run(&mut advisor, &later)), ["increase_allocation"]);
}

#[test]
fn figures_of_memory_advice() {
    let mut f = facts();
    memory(200, 300)(&mut f);
    let advice = run(&mut Advisor::default(), &snapshot(vec![f]));
    let item = &advice.items[0];
    let mib = MIB as f64;
    let expected =
        Figures { current: Some(1000.0 * mib), recommended: Some(300.0 * mib), savings_bytes: Some(700.0 * mib) };
    assert_eq!(item.figures, expected);
    assert_eq!(item.finding, "memory efficiency is 20 %, below 60 %: its processes hold 200 MiB of 1000 MiB");
    assert_eq!(item.advice, "reduce the allocation from 1000 MiB to 300 MiB");
}

#[test]
fn a_recommendation_does_not_come_and_go_at_its_threshold() {
    let mut advisor = Advisor::default();
    let mut at = |process| {
        let mut f = facts();
        memory(process, 200)(&mut f);
        !run(&mut advisor, &snapshot(vec![f])).items.is_empty()
    };
    // Begins below 0.6, ends at 0.63.
    let seen: Vec<bool> = [610, 599, 605, 629, 630, 605, 601, 599].into_iter().map(&mut at).collect();
    assert_eq!(seen, [false, true, true, true, false, false, false, true]);
}

#[test]
fn a_restarted_container_begins_anew_and_one_that_is_gone_is_forgotten() {
    let mut advisor = Advisor::default();
    let mut f = facts();
    memory(599, 200)(&mut f);
    assert_eq!(actions(&run(&mut advisor, &snapshot(vec![f.clone()]))), ["reduce_allocation"]);
    assert!(run(&mut advisor, &snapshot(Vec::new())).items.is_empty());
    memory(605, 200)(&mut f);
    assert!(run(&mut advisor, &snapshot(vec![f])).items.is_empty());
    assert_eq!(advisor.states.len(), 1);
}

#[test]
fn containers_of_one_image_share_libraries() {
    let two = |a: &str, b: &str| {
        let one = |name: &str, image: &str| {
            let mut c = named(name);
            c.identity.image = image.into();
            ContainerFacts { container: Arc::new(c), ..ContainerFacts::default() }
        };
        run(&mut Advisor::default(), &snapshot(vec![one("x", a), one("y", b)]))
    };
    assert_eq!(actions(&two("nginx", "redis")), [""; 0]);
    let shared = two("nginx", "nginx");
    assert_eq!(actions(&shared), ["share_libraries"]);
    assert_eq!(shared.items[0].subject.members().len(), 2);
    assert_eq!(shared.items[0].figures.savings_bytes, Some(50.0 * MIB as f64));
    assert_eq!(actions(&two("", "")), [""; 0], "no image is no common image");
}

#[test]
fn cold_memory_is_compressed_only_under_pressure() {
    let with = |cold: u64, waited_us: u64| {
        let mut advisor = Advisor::default();
        let mut f = facts();
        f.memory.inactive_anon = Some(cold * MIB);
        f.memory.zswap = Some(10 * MIB);
        f.memory.zswapped = Some(30 * MIB);
        f.pressure.memory_some_us = Some(0);
        run(&mut advisor, &snapshot(vec![f.clone()]));
        f.pressure.memory_some_us = Some(waited_us);
        run(&mut advisor, &Snapshot { boot: 110 * SECOND, ..snapshot(vec![f]) })
    };
    assert_eq!(actions(&with(64, 200_000)), [""; 0], "at the threshold");
    assert_eq!(actions(&with(65, 100_000)), [""; 0], "exactly 1 % of the time");
    let given = with(90, 200_000);
    assert_eq!(actions(&given), ["compress_memory"]);
    assert!(given.items[0].advice.contains("3.0 to 1"), "{}", given.items[0].advice);
    assert_eq!(given.items[0].figures.savings_bytes, Some(60.0 * MIB as f64));
}

#[test]
fn the_machines_zram_tells_a_ratio_where_zswap_does_not() {
    let mut advisor = Advisor::default();
    let mut f = facts();
    f.memory.inactive_anon = Some(100 * MIB);
    f.pressure.memory_some_us = Some(0);
    let host = HostFacts { zram_ratio: Some(4.0), ..HostFacts::default() };
    run(&mut advisor, &Snapshot { host: host.clone(), ..snapshot(vec![f.clone()]) });
    f.pressure.memory_some_us = Some(200_000);
    let given = run(&mut advisor, &Snapshot { host, boot: 110 * SECOND, ..snapshot(vec![f]) });
    assert!(given.items[0].advice.ends_with("it shrinks 4.0 to 1 here"), "{}", given.items[0].advice);
    assert_eq!(given.items[0].figures.recommended, Some(25.0 * MIB as f64));
}

fn hybrid() -> HostFacts {
    HostFacts { cores_by_type: Some([8, 4]), ..HostFacts::default() }
}

/// Two allocated cores: those in use, and those in use in user mode.
fn cpu(usage: f64, user: f64) -> impl Fn(&mut ContainerFacts) {
    move |f| {
        f.cpu.allocated_cores = Some(2.0);
        f.cpu.usage_rate_cores = Some(usage);
        f.cpu.user_rate_cores = Some(user);
    }
}

#[test]
fn cores_by_intensity_only_where_the_host_has_both_kinds() {
    assert_eq!(given_on(hybrid(), cpu(2.0, 1.62)), ["assign_performance_cores"]);
    assert_eq!(given_on(hybrid(), cpu(2.0, 1.6)), [""; 0]);
    assert_eq!(given_on(hybrid(), cpu(2.0, 0.6)), [""; 0]);
    assert_eq!(given_on(hybrid(), cpu(2.0, 0.58)), ["assign_efficiency_cores"]);
    assert_eq!(given_on(HostFacts::default(), cpu(2.0, 1.9)), [""; 0]);
    let one_kind = HostFacts { cores_by_type: Some([8, 0]), ..HostFacts::default() };
    assert_eq!(given_on(one_kind, cpu(2.0, 1.9)), [""; 0]);
}

#[test]
fn performance_cores_are_rounded_up() {
    let mut f = facts();
    cpu(2.0, 1.7)(&mut f);
    let s = Snapshot { host: hybrid(), ..snapshot(vec![f]) };
    let advice = run(&mut Advisor::default(), &s);
    assert_eq!(advice.items[0].figures.recommended, Some(7.0));
}

#[test]
fn cores_are_reduced_below_a_third_in_use_and_never_under_the_minimum() {
    assert_eq!(given(cpu(0.58, 0.0)), ["reduce_cores"]);
    assert_eq!(given(cpu(0.6, 0.0)), [""; 0]);
    assert_eq!(given(cpu(0.62, 0.0)), [""; 0]);
    let with = |cores: f64| {
        let mut f = facts();
        f.cpu.allocated_cores = Some(cores);
        f.cpu.usage_rate_cores = Some(0.01);
        run(&mut Advisor::default(), &snapshot(vec![f])).items.first().and_then(|i| i.figures.recommended)
    };
    assert_eq!(with(4.0), Some(2.8));
    assert_eq!(with(0.6), Some(0.5));
    assert_eq!(with(0.5), None);
}

#[test]
fn cores_that_nothing_limits_are_said_to_be_the_machines() {
    let said = |cpus_online| {
        let mut f = facts();
        cpu(0.2, 0.0)(&mut f);
        let s = Snapshot { host: HostFacts { cpus_online, ..HostFacts::default() }, ..snapshot(vec![f]) };
        let advice = run(&mut Advisor::default(), &s);
        (advice.items[0].finding.clone(), advice.items[0].advice.clone())
    };
    let (finding, advice) = said(Some(2));
    assert_eq!(finding, "it may use all 2 cores of the machine and uses 10 % of them, below 30 %");
    assert_eq!(advice, "limit it to 1.4 cores");
    assert_eq!(said(Some(8)).1, "reduce its cores from 2.0 to 1.4");
}

#[test]
fn a_vm_that_is_too_large_has_the_figure_of_its_cores_alone() {
    let figures = |cpus, memory| {
        let mut c = named("web");
        c.vm = Some(VmSettings { cpus: Some(cpus), memory_bytes: Some(memory), ..VmSettings::default() });
        let s = snapshot(vec![ContainerFacts { container: Arc::new(c), ..ContainerFacts::default() }]);
        let mut out = Advice::default();
        Advisor::default().advise(&s, |_| Some(1.6), &Targets::default(), &mut out);
        (out.items[0].figures.current, out.items[0].figures.recommended)
    };
    assert_eq!(figures(5.0, 3 * GIB), (Some(5.0), Some(4.0)));
    assert_eq!(figures(4.0, 3 * GIB), (None, None), "bytes are no cores");
}

#[test]
fn thermal_state_and_battery_concern_the_machine() {
    let hot = |thermal| given_on(HostFacts { thermal, ..HostFacts::default() }, |_| {});
    assert_eq!(hot(None), [""; 0]);
    assert_eq!(hot(Some(ThermalState::Fair)), [""; 0]);
    assert_eq!(hot(Some(ThermalState::Serious)), ["mitigate_thermal"]);
    assert_eq!(hot(Some(ThermalState::Critical)), ["mitigate_thermal"]);
    let battery = |on_battery| given_on(HostFacts { on_battery, ..HostFacts::default() }, |_| {});
    assert_eq!(battery(Some(true)), ["prefer_power_efficiency"]);
    assert_eq!(battery(Some(false)), [""; 0]);
    assert_eq!(battery(None), [""; 0]);
}

#[test]
fn power_is_spent_badly_only_at_low_intensity() {
    let with = |joules: f64, user: f64| {
        let mut advisor = Advisor::default();
        let mut f = facts();
        cpu(1.5, user)(&mut f);
        (f.cpu.usage_ns, f.cpu.energy_joules) = (Some(0), Some(0.0));
        run(&mut advisor, &snapshot(vec![f.clone()]));
        (f.cpu.usage_ns, f.cpu.energy_joules) = (Some(1_000_000_000), Some(joules));
        actions(&run(&mut advisor, &Snapshot { boot: 110 * SECOND, ..snapshot(vec![f]) }))
    };
    assert_eq!(with(20.0, 0.1), [""; 0], "exactly 0.05 CPU seconds a joule");
    assert_eq!(with(21.0, 0.1), ["prefer_power_efficiency"]);
    assert_eq!(with(21.0, 0.6), [""; 0], "not at an intensity of 0.3");
}

#[test]
fn network_rules_at_below_and_above() {
    let fanout = |n| given(|f| f.sockets.fanout = Some(n));
    assert_eq!(fanout(5), [""; 0]);
    assert_eq!(fanout(6), ["dedicated_network"]);
    let rtt = |s| given(|f| f.sockets.rtt_median = Some(s));
    assert_eq!(rtt(0.01), [""; 0]);
    assert_eq!(rtt(0.0101), ["reduce_latency"]);
    let bandwidth = |rx: f64, tx: f64| {
        given(|f| {
            f.network
                .interfaces
                .push(InterfaceFacts { speed_bytes_per_second: Some(1000), ..InterfaceFacts::default() });
            (f.network.rx_rate, f.network.tx_rate) = (Some(rx), Some(tx));
        })
    };
    assert_eq!(bandwidth(800.0, 700.0), [""; 0]);
    assert_eq!(bandwidth(10.0, 801.0), ["increase_bandwidth"]);
    assert_eq!(given(|f| f.network.rx_rate = Some(1e12)), [""; 0], "no link speed, no share");
}

#[test]
fn storage_rates_at_below_and_above() {
    assert_eq!(given(|f| f.storage.iops_rate = Some(10_000.0)), [""; 0]);
    assert_eq!(given(|f| f.storage.iops_rate = Some(10_001.0)), ["tune_for_iops"]);
    assert_eq!(given(|f| f.storage.bytes_rate = Some(1e9)), [""; 0]);
    assert_eq!(given(|f| f.storage.bytes_rate = Some(1.001e9)), ["tune_for_throughput"]);
}

#[test]
fn cache_hit_rate_at_below_and_above() {
    let with = |from_device: u64| {
        let mut advisor = Advisor::default();
        let mut f = facts();
        f.storage.logical_read_bytes = Some(0);
        f.storage.devices.push(DeviceIo { device: "/dev/sda".into(), read_bytes: Some(0), ..DeviceIo::default() });
        run(&mut advisor, &snapshot(vec![f.clone()]));
        f.storage.logical_read_bytes = Some(1000);
        f.storage.devices[0].read_bytes = Some(from_device);
        actions(&run(&mut advisor, &Snapshot { boot: 110 * SECOND, ..snapshot(vec![f]) }))
    };
    assert_eq!(with(199), [""; 0]);
    assert_eq!(with(200), [""; 0]);
    assert_eq!(with(201), ["enlarge_cache"]);
    assert_eq!(with(5000), ["enlarge_cache"], "read-ahead beyond what was asked for");
}

#[test]
fn latency_is_that_of_the_devices_in_use_where_the_container_has_none_of_its_own() {
    let with = |ms: u64, device: &str| {
        let mut advisor = Advisor::default();
        let mut f = facts();
        f.storage.devices.push(DeviceIo { device: device.into(), ..DeviceIo::default() });
        let disk =
            |requests, ms| DeviceFacts { name: "sda".into(), reads: requests, read_ms: ms, ..DeviceFacts::default() };
        let mut s = snapshot(vec![f]);
        s.host.devices = vec![disk(0, 0)];
        run(&mut advisor, &s);
        s.host.devices = vec![disk(100, ms)];
        s.boot += 10 * SECOND;
        actions(&run(&mut advisor, &s))
    };
    assert_eq!(with(2000, "/dev/sda"), [""; 0]);
    assert_eq!(with(2001, "/dev/sda"), ["reduce_io_latency"]);
    assert_eq!(with(9000, "/dev/sdb"), [""; 0]);
}

fn started(seconds: f64, set: impl FnOnce(&mut Container)) -> Vec<&'static str> {
    let mut c = named("web");
    set(&mut c);
    let s = snapshot(vec![ContainerFacts { container: Arc::new(c), ..ContainerFacts::default() }]);
    let mut out = Advice::default();
    Advisor::default().advise(&s, |id| (id == "web").then_some(seconds), &Targets::default(), &mut out);
    actions(&out)
}

#[test]
fn startup_rules_at_below_and_above() {
    let image = |size, layers| ImageFacts { size_bytes: Some(size), layers: Some(layers), ..ImageFacts::default() };
    assert_eq!(started(1.5, |c| c.image = image(2 * GIB, 30)), [""; 0], "not a slow start");
    assert_eq!(started(1.6, |c| c.image = image(GIB, 20)), [""; 0]);
    assert_eq!(started(1.6, |c| c.image = image(GIB + 1, 20)), ["use_smaller_base_image"]);
    assert_eq!(started(1.6, |c| c.image = image(GIB, 21)), ["reduce_image_layers"]);
    assert_eq!(started(1.6, |c| c.command = vec!["/usr/lib/systemd/systemd".into()]), ["use_minimal_init"]);
    let vm = |cpus, memory| Some(VmSettings { cpus: Some(cpus), memory_bytes: Some(memory), ..VmSettings::default() });
    assert_eq!(started(1.6, |c| c.vm = vm(4.0, 2 * GIB)), [""; 0]);
    assert_eq!(started(1.6, |c| c.vm = vm(5.0, 2 * GIB)), ["cap_startup_resources"]);
    assert_eq!(started(1.6, |c| c.vm = vm(4.0, 3 * GIB)), ["cap_startup_resources"]);
    assert_eq!(
        started(1.6, |c| c.vm = Some(VmSettings { swap_bytes: Some(1), ..VmSettings::default() })),
        ["optimize_vm_config"]
    );
}

#[test]
fn a_rule_without_its_inputs_says_what_is_missing() {
    let advice = run(&mut Advisor::default(), &snapshot(vec![facts(), facts()]));
    assert!(advice.items.iter().all(|i| i.action == Action::ShareLibraries));
    let missing = advice.missing();
    let of = |a| missing.iter().find(|m| m.action == a);
    let memory = of(Action::ReduceAllocation).expect("no limit is set");
    assert_eq!((memory.measures.as_slice(), memory.containers), (&[Measure::MemoryEfficiency][..], 2));
    assert!(of(Action::ShareLibraries).is_none(), "this needs nothing");
    assert_eq!(of(Action::MitigateThermal).expect("no zone").measures, [Measure::Thermal]);
    let with_limit = given_missing(memory_facts());
    assert!(!with_limit.contains(&Action::ReduceAllocation));
}

fn memory_facts() -> ContainerFacts {
    let mut f = facts();
    memory(700, 200)(&mut f);
    f
}

fn given_missing(f: ContainerFacts) -> Vec<Action> {
    run(&mut Advisor::default(), &snapshot(vec![f])).missing().into_iter().map(|m| m.action).collect()
}

#[test]
fn the_machine_itself_is_no_container() {
    let mut f = facts();
    memory(10, 10)(&mut f);
    let mut c = named("root");
    c.identity.id = "/".into();
    f.container = Arc::new(c);
    assert!(run(&mut Advisor::default(), &snapshot(vec![f])).items.is_empty());
}

#[test]
fn thresholds_can_be_overridden() {
    let mut f = facts();
    memory(599, 200)(&mut f);
    let mut targets = Targets::default();
    targets.set(targets::LOW_MEMORY_EFFICIENCY, 0.5).expect("allowed");
    let mut out = Advice::default();
    Advisor::default().advise(&snapshot(vec![f]), |_| None, &targets, &mut out);
    assert!(out.items.is_empty());
}
