//! `/api/v1/containers`: what is known of each container now, as JSON. `docs/api.md` describes every field; names never
//! change their meaning, new ones may come.

use http::{Response, StatusCode};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::containers::{Sort, found, machine, measured};
use super::respond::{Body, json, text};
use super::{App, query};
use crate::root::{Nanos, SECOND};
use crate::sample::LabelBlock;
use crate::snapshot::{
    ContainerFacts, CpuFacts, DeviceIo, HostFacts, InterfaceFacts, Limit, MemoryFacts, NetworkFacts, PressureFacts,
    ProcessFacts, Snapshot, SocketFacts, StorageFacts, TCP_STATES, ThermalState, VmFacts,
};

pub(super) async fn containers(app: &App, query: &str) -> Response<Body> {
    let sort = match query::get(query, "sort").map(|s| Sort::parse(&s)) {
        None => Sort::Name,
        Some(Some(sort)) => sort,
        Some(None) => {
            let known = Sort::ALL.map(Sort::name).join(", ");
            return text(StatusCode::BAD_REQUEST, format!("sort: known are {known}"));
        }
    };
    let search = query::get(query, "q").unwrap_or_default();
    let (collection, _scrape) = match measured(app).await {
        Ok(measured) => measured,
        Err(response) => return response,
    };
    let snapshot = &collection.snapshot;
    let mut containers = found(snapshot, &search);
    sort.apply(&mut containers);
    let allow = &app.engine.shared().config().label_allow;
    match serde_json::to_vec(&Answer { snapshot, containers, allow }) {
        Ok(body) => json(StatusCode::OK, body),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

struct Answer<'a> {
    snapshot: &'a Snapshot,
    containers: Vec<&'a ContainerFacts>,
    allow: &'a [String],
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let shown = |facts| One { facts, allow: self.allow };
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("timestamp_seconds", &seconds(self.snapshot.wall))?;
        map.serialize_entry("containers", &List(|| self.containers.iter().map(|f| shown(f))))?;
        if let Some(facts) = machine(self.snapshot) {
            map.serialize_entry("machine", &Machine(facts))?;
        }
        map.serialize_entry("host", &Host(&self.snapshot.host))?;
        map.end()
    }
}

/// Writes an iterator as a list.
struct List<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(None)?;
        for item in (self.0)() {
            seq.serialize_element(&item)?;
        }
        seq.end()
    }
}

/// An object that leaves out what is not known.
macro_rules! object {
    ($name:ident($facts:ty), $f:ident => { $($key:literal: $value:expr,)* }) => {
        struct $name<'a>(&'a $facts);

        impl Serialize for $name<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let $f = self.0;
                let mut map = s.serialize_map(None)?;
                $(if let Some(value) = $value {
                    map.serialize_entry($key, &value)?;
                })*
                map.end()
            }
        }
    };
}

struct One<'a> {
    facts: &'a ContainerFacts,
    allow: &'a [String],
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let c = &*self.facts.container;
        let labels: std::collections::BTreeMap<_, _> =
            c.user_labels.iter().filter(|(name, _)| self.allow.contains(name)).collect();
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("runtime", c.runtime.name())?;
        map.serialize_entry("native_id", &c.native_id)?;
        identity(&mut map, &c.labels)?;
        let image = serde_json::json!({
            "id": c.image.id, "size_bytes": c.image.size_bytes, "layers": c.image.layers,
        });
        map.serialize_entry("image_facts", &known(image))?;
        map.serialize_entry("labels", &labels)?;
        map.serialize_entry("addresses", &c.addresses)?;
        map.serialize_entry("host_network", &c.host_network)?;
        map.serialize_entry("restart_policy", &c.restart_policy)?;
        for (key, time) in [("created_timestamp_seconds", c.created), ("started_timestamp_seconds", c.started)] {
            if let Some(time) = time {
                map.serialize_entry(key, &seconds(time))?;
            }
        }
        if c.pid != 0 {
            map.serialize_entry("pid", &c.pid)?;
        }
        if let Some(healthy) = c.healthy {
            map.serialize_entry("healthy", &healthy)?;
        }
        measures(&mut map, self.facts)?;
        map.end()
    }
}

struct Machine<'a>(&'a ContainerFacts);

impl Serialize for Machine<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        measures(&mut map, self.0)?;
        map.end()
    }
}

/// The labels that every series of the container carries, under the same names.
fn identity<M: SerializeMap>(map: &mut M, labels: &LabelBlock) -> Result<(), M::Error> {
    for (name, value) in labels.pairs.iter().filter(|(name, _)| *name != "runtime") {
        map.serialize_entry(name, value)?;
    }
    Ok(())
}

/// Without nulls and empty texts.
fn known(mut object: serde_json::Value) -> serde_json::Value {
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, v| !v.is_null() && v != "");
    }
    object
}

fn measures<M: SerializeMap>(map: &mut M, f: &ContainerFacts) -> Result<(), M::Error> {
    map.serialize_entry("cpu", &Cpu(&f.cpu))?;
    map.serialize_entry("memory", &Memory(&f.memory))?;
    map.serialize_entry("pressure", &Pressure(&f.pressure))?;
    map.serialize_entry("storage", &Storage(&f.storage))?;
    map.serialize_entry("network", &Network(&f.network))?;
    map.serialize_entry("sockets", &Sockets(&f.sockets))?;
    map.serialize_entry("processes", &Processes(&f.process))?;
    if f.vm != VmFacts::default() {
        map.serialize_entry("vm", &Vm(&f.vm))?;
    }
    Ok(())
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

fn from_ns(nanos: Option<u64>) -> Option<f64> {
    nanos.map(|n| n as f64 / 1e9)
}

fn from_us(micros: Option<u64>) -> Option<f64> {
    micros.map(|n| n as f64 / 1e6)
}

/// Null: there is no limit. Left out: not known.
fn limit(limit: Option<Limit>) -> Option<Option<u64>> {
    limit.map(Limit::value)
}

object!(Cpu(CpuFacts), c => {
    "usage_cores": c.usage_rate_cores,
    "user_cores": c.user_rate_cores,
    "allocated_cores": c.allocated_cores,
    "efficiency_ratio": per(c.usage_rate_cores, c.allocated_cores),
    "intensity_ratio": per(c.user_rate_cores, c.allocated_cores),
    "usage_seconds_total": from_ns(c.usage_ns),
    "user_seconds_total": from_ns(c.user_ns),
    "system_seconds_total": from_ns(c.system_ns),
    "capacity_seconds_total": c.capacity_seconds,
    "idle_seconds_total": c.idle_seconds,
    "periods_total": c.nr_periods,
    "throttled_periods_total": c.nr_throttled,
    "throttled_seconds_total": from_ns(c.throttled_ns),
    "burst_seconds_total": from_ns(c.burst_ns),
    "energy_joules_total": c.energy_joules,
});

/// Used of given, where something is given.
fn per(used: Option<f64>, given: Option<f64>) -> Option<f64> {
    Some(used? / given.filter(|g| *g > 0.0)?)
}

object!(Memory(MemoryFacts), m => {
    "usage_bytes": m.usage,
    "working_set_bytes": m.working_set(),
    "allocated_bytes": m.allocated,
    "efficiency_ratio": m.efficiency(),
    "process_bytes": m.process(),
    "shared_libraries_bytes": m.shared_libraries(),
    "page_cache_bytes": m.page_cache(),
    "guest_kernel_bytes": m.kernel,
    "vm_overhead_bytes": m.vm_overhead,
    "limit_bytes": limit(m.limit),
    "reservation_bytes": limit(m.reservation),
    "peak_bytes": m.peak,
    "swap_bytes": m.swap,
    "swap_limit_bytes": limit(m.swap_limit),
    "zswap_bytes": m.zswap,
    "page_faults_total": m.pgfault,
    "major_page_faults_total": m.pgmajfault,
    "refaults_per_second": m.refault_rate,
    "oom_kills_total": m.oom_kill,
});

object!(Pressure(PressureFacts), p => {
    "cpu_some_seconds_total": from_us(p.cpu_some_us),
    "cpu_full_seconds_total": from_us(p.cpu_full_us),
    "memory_some_seconds_total": from_us(p.memory_some_us),
    "memory_full_seconds_total": from_us(p.memory_full_us),
    "io_some_seconds_total": from_us(p.io_some_us),
    "io_full_seconds_total": from_us(p.io_full_us),
});

object!(Storage(StorageFacts), s => {
    "operations_per_second": s.iops_rate,
    "bytes_per_second": s.bytes_rate,
    "logical_read_bytes_total": s.logical_read_bytes,
    "queue_depth": s.queue_depth,
    "devices": Some(List(|| s.devices.iter().map(Device))),
});

object!(Device(DeviceIo), d => {
    "device": Some(&d.device),
    "read_bytes_total": d.read_bytes,
    "written_bytes_total": d.write_bytes,
    "reads_total": d.reads,
    "writes_total": d.writes,
});

object!(Network(NetworkFacts), n => {
    "receive_bytes_per_second": n.rx_rate,
    "transmit_bytes_per_second": n.tx_rate,
    "tcp_sent_segments_total": n.tcp_out_segs,
    "tcp_retransmitted_segments_total": n.tcp_retrans_segs,
    "interfaces": Some(List(|| n.interfaces.iter().map(Interface))),
});

object!(Interface(InterfaceFacts), i => {
    "interface": Some(&i.name),
    "receive_bytes_total": i.rx_bytes,
    "receive_packets_total": i.rx_packets,
    "receive_errors_total": i.rx_errors,
    "receive_dropped_total": i.rx_dropped,
    "transmit_bytes_total": i.tx_bytes,
    "transmit_packets_total": i.tx_packets,
    "transmit_errors_total": i.tx_errors,
    "transmit_dropped_total": i.tx_dropped,
    "link_speed_bytes_per_second": i.speed_bytes_per_second,
});

object!(Sockets(SocketFacts), s => {
    "round_trip_time_median_seconds": s.rtt_median,
    "tcp_connections": s.states.as_ref().map(States),
    "peers": Some(List(|| s.peers.iter().map(|(peer, n)| serde_json::json!({"peer": &**peer, "connections": n})))),
});

struct States<'a>(&'a [u32; 12]);

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(TCP_STATES.iter().zip(self.0).filter(|(state, _)| !state.is_empty()))
    }
}

object!(Processes(ProcessFacts), p => {
    "processes": p.processes,
    "threads": p.threads,
    "threads_max": limit(p.threads_max),
    "file_descriptors": p.file_descriptors,
    "voluntary_context_switches_total": p.switches_voluntary,
    "involuntary_context_switches_total": p.switches_involuntary,
    "context_switches_total": p.switches_all,
});

object!(Vm(VmFacts), v => {
    "host_memory_bytes": v.host_memory,
    "guest_used_memory_bytes": v.guest_used,
});

object!(Host(HostFacts), h => {
    "memory_bytes": h.memory_bytes,
    "swap_bytes": h.swap_bytes,
    "online_cpus": h.cpus_online,
    "physical_cores": h.physical_cores,
    "performance_cores": h.cores_by_type.map(|c| c[0]),
    "efficiency_cores": h.cores_by_type.map(|c| c[1]),
    "thermal_state": h.thermal.and_then(thermal),
    "on_battery": h.on_battery,
});

fn thermal(state: ThermalState) -> Option<&'static str> {
    ThermalState::ALL.into_iter().find(|(s, _)| *s == state).map(|(_, name)| name)
}
