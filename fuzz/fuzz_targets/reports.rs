//! Reports of starts (`POST /api/v1/startups`) and the boot log of a virtual machine.
#![no_main]

use kina_exporter::startup::{boot_log::BootLog, report};
use libfuzzer_sys::fuzz_target;

/// Some moment of 2026.
const NOW: i64 = 1_780_000_000_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reports) = report::parse(bytes, NOW) {
        assert!(!reports.is_empty() && reports.len() <= report::MAX_REPORTS);
    }

    let mut whole = BootLog::default();
    whole.feed(bytes, None);
    let mut parts = BootLog::default();
    bytes.chunks(7).for_each(|part| parts.feed(part, None));
    assert_eq!(whole.boots(), parts.boots(), "it makes no difference how the bytes come");
    for boot in whole.boots() {
        let _ = (boot.kernel_boot(), boot.is_running(), boot.moments(Some(NOW)));
    }
});
