//! The configuration file, also as reloads read it, and the values of flags and variables.
#![no_main]

use std::path::Path;

use kina_exporter::config::{Given, check_text, settings};
use kina_exporter::root::Root;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let root = Root::default();
    if let Err(errors) = check_text(&Given::default(), &root, Path::new("kina.yml"), &text) {
        assert!(!errors.0.is_empty(), "a file that is refused has a reason");
        let _ = errors.to_string();
    }
    kina_exporter::serve::web::fuzzing::parse(&text);

    // The first byte chooses the setting whose variable has the rest as its value.
    if let Some((choice, value)) = bytes.split_first() {
        let all = settings();
        let setting = &all[usize::from(*choice) % all.len()];
        let value = String::from_utf8_lossy(value).into_owned();
        let given = Given { env: [(setting.env(), value)].into(), ..Given::default() };
        let _ = check_text(&given, &root, Path::new("kina.yml"), "");
    }
});
