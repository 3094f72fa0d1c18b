//! Latency and depth of block devices.

use crate::catalog::*;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, out: &mut Samples) {
    for device in &snapshot.host.devices {
        for (op, count, ms) in [("read", device.reads, device.read_ms), ("write", device.writes, device.write_ms)] {
            if count > 0 {
                let labels = [("device", &*device.name), ("op", op)];
                out.push_summary(DEVICE_IO_LATENCY, Entity::NONE, &labels, ms as f64 / 1e3, count);
            }
        }
        out.push_with(DEVICE_QUEUE_DEPTH, Entity::NONE, &[("device", &device.name)], device.in_flight as f64);
    }
}
