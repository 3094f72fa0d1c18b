//! Thermal state, as a state set.

use crate::catalog::*;
use crate::sample::{Entity, IntoValue, Samples};
use crate::snapshot::{Snapshot, ThermalState};

pub fn emit(snapshot: &Snapshot, out: &mut Samples) {
    let Some(now) = snapshot.host.thermal else { return };
    for (state, name) in ThermalState::ALL {
        out.push_with(HOST_THERMAL_STATE, Entity::NONE, &[("state", name)], (state == now).into_value());
    }
}
