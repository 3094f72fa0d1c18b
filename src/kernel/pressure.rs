//! Pressure stall information: `cpu.pressure`, `memory.pressure` and `io.pressure` of cgroup v2, for the root cgroup
//! `/proc/pressure` where the kernel shows it only there.

use crate::catalog::Collector;
use crate::kernel::Context;
use crate::kernel::parse;
use crate::kernel::table::{Home, Source, Subject};
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, PressureFacts};

#[derive(Default)]
pub struct Pressure;

macro_rules! source {
    ($home:expr, $file:literal, $some:ident, $full:ident) => {
        Source {
            home: $home,
            files: &[$file],
            parse: |bytes, facts| {
                let (some, full, sound) = parse::pressure(bytes);
                facts.$some = some.or(facts.$some);
                facts.$full = full.or(facts.$full);
                sound
            },
        }
    };
}

static SOURCES: &[Source<PressureFacts>] = &[
    source!(Home::V2(""), "cpu.pressure", cpu_some_us, cpu_full_us),
    source!(Home::V2(""), "memory.pressure", memory_some_us, memory_full_us),
    source!(Home::V2(""), "io.pressure", io_some_us, io_full_us),
    source!(Home::Host, "pressure/cpu", cpu_some_us, cpu_full_us),
    source!(Home::Host, "pressure/memory", memory_some_us, memory_full_us),
    source!(Home::Host, "pressure/io", io_some_us, io_full_us),
];

impl Subject for Pressure {
    const COLLECTOR: Collector = Collector::Pressure;
    type Raw = PressureFacts;
    type Kept = ();

    fn sources() -> &'static [Source<PressureFacts>] {
        SOURCES
    }

    fn reset(raw: &mut PressureFacts) {
        *raw = PressureFacts::default();
    }

    fn opened(&mut self, _: &Container, _: &mut Context<'_>) {}

    fn finish(&mut self, raw: &mut PressureFacts, _: &mut (), facts: &mut ContainerFacts, _: &mut Context<'_>) {
        facts.pressure = *raw;
    }
}
