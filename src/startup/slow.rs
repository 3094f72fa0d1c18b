//! Why a start was slow: what the container, its image and its VM were, beside the rules of [`crate::targets`].

use crate::runtime::Container;
use crate::targets::{LARGE_IMAGE, MANY_LAYERS, STARTUP_CPUS, STARTUP_MEMORY, Targets};

/// A rule that a slow start matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The value of the `reason` label: what to do about it, or that no rule matched.
    pub reason: &'static str,
    /// The figures, for a person.
    pub detail: String,
}

pub const SMALLER_IMAGE: &str = "use_smaller_base_image";
pub const FEWER_LAYERS: &str = "reduce_image_layers";
pub const MINIMAL_INIT: &str = "use_minimal_init";
pub const CAP_RESOURCES: &str = "cap_startup_resources";
pub const VM_CONFIG: &str = "optimize_vm_config";
/// Slow, and no rule tells why.
pub const UNEXPLAINED: &str = "unexplained";

/// All values of the label.
pub const REASONS: [&str; 6] = [SMALLER_IMAGE, FEWER_LAYERS, MINIMAL_INIT, CAP_RESOURCES, VM_CONFIG, UNEXPLAINED];

const INITS: [(&str, &str); 9] = [
    ("systemd", "systemd"),
    ("openrc-init", "OpenRC"),
    ("openrc", "OpenRC"),
    ("runit", "runit"),
    ("runit-init", "runit"),
    ("runsvdir", "runit"),
    ("s6-svscan", "s6"),
    ("s6-linux-init", "s6"),
    ("upstart", "Upstart"),
];

/// What rules a slow start of this container matches; [`UNEXPLAINED`] when none does.
pub fn analyse(container: Option<&Container>, targets: &Targets) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(c) = container {
        image(c, targets, &mut findings);
        init(c, &mut findings);
        vm(c, targets, &mut findings);
    }
    if findings.is_empty() {
        findings.push(Finding { reason: UNEXPLAINED, detail: "no rule of the analysis matches".into() });
    }
    findings
}

fn image(c: &Container, targets: &Targets, out: &mut Vec<Finding>) {
    if let Some(size) = c.image.size_bytes.filter(|s| *s as f64 > targets.get(LARGE_IMAGE)) {
        out.push(Finding { reason: SMALLER_IMAGE, detail: format!("the image has {}", mib(size as f64)) });
    }
    if let Some(layers) = c.image.layers.filter(|l| f64::from(*l) > targets.get(MANY_LAYERS)) {
        out.push(Finding { reason: FEWER_LAYERS, detail: format!("the image has {layers} layers") });
    }
}

fn init(c: &Container, out: &mut Vec<Finding>) {
    if let Some(name) = full_init(&c.command) {
        out.push(Finding { reason: MINIMAL_INIT, detail: format!("the first process is a full init: {name}") });
    }
}

/// The init system that a command is, by its program's name. `/sbin/init` and `/init` are one whichever it is; minimal
/// ones (tini, dumb-init, catatonit, docker-init) are none.
pub fn full_init(command: &[String]) -> Option<&'static str> {
    let program = command.first()?;
    let name = program.rsplit('/').next()?;
    // The kernel and distributions agree on these paths; s6-overlay's entry point is `/init`.
    match program.as_str() {
        "/sbin/init" | "/usr/sbin/init" | "/lib/systemd/systemd" => return Some("init"),
        "/init" => return Some("s6"),
        _ => {}
    }
    INITS.iter().find(|(program, _)| *program == name).map(|(_, name)| *name)
}

fn vm(c: &Container, targets: &Targets, out: &mut Vec<Finding>) {
    let Some(vm) = &c.vm else { return };
    let mut sizes = Vec::new();
    if let Some(cpus) = vm.cpus.filter(|n| *n > targets.get(STARTUP_CPUS)) {
        sizes.push(format!("{cpus} virtual CPUs"));
    }
    if let Some(memory) = vm.memory_bytes.filter(|m| *m as f64 > targets.get(STARTUP_MEMORY)) {
        sizes.push(format!("{} of memory", mib(memory as f64)));
    }
    if !sizes.is_empty() {
        out.push(Finding { reason: CAP_RESOURCES, detail: format!("the VM starts with {}", sizes.join(" and ")) });
    }
    let mut settings = Vec::new();
    if vm.swap_bytes.is_some_and(|s| s > 0) {
        settings.push("swap is on".to_owned());
    }
    if vm.initrd == Some(true) {
        settings.push("a full initrd is loaded".to_owned());
    }
    for device in vm.devices.iter().filter(|d| !d.contains("virtio")) {
        let kind = ["net", "eth", "e1000", "rtl"].iter().any(|w| device.contains(w)).then_some("network");
        let kind =
            kind.or(["blk", "disk", "ide", "ata", "scsi", "nvme"].iter().any(|w| device.contains(w)).then_some("disk"));
        if let Some(kind) = kind {
            settings.push(format!("the {kind} device {device} is not virtio"));
        }
    }
    if !settings.is_empty() {
        out.push(Finding { reason: VM_CONFIG, detail: settings.join(", ") });
    }
}

fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / crate::targets::MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ImageFacts, VmSettings};

    fn reasons(c: &Container) -> Vec<&'static str> {
        analyse(Some(c), &Targets::default()).into_iter().map(|f| f.reason).collect()
    }

    #[test]
    fn each_rule_fires_above_its_figure_alone() {
        let gib = 1 << 30;
        let mut c = Container {
            image: ImageFacts { size_bytes: Some(gib), layers: Some(20), ..ImageFacts::default() },
            command: vec!["/usr/bin/tini".into(), "--".into(), "systemd".into()],
            vm: Some(VmSettings {
                cpus: Some(4.0),
                memory_bytes: Some(2 * gib),
                devices: vec!["virtio-net".into(), "virtio-blk".into()],
                ..VmSettings::default()
            }),
            ..Container::default()
        };
        assert_eq!(reasons(&c), [UNEXPLAINED]);
        c.image.size_bytes = Some(gib + 1);
        c.image.layers = Some(21);
        c.command = vec!["/lib/systemd/systemd".into()];
        if let Some(vm) = &mut c.vm {
            vm.cpus = Some(5.0);
            vm.swap_bytes = Some(1);
            vm.devices.push("e1000".into());
        }
        assert_eq!(reasons(&c), [SMALLER_IMAGE, FEWER_LAYERS, MINIMAL_INIT, CAP_RESOURCES, VM_CONFIG]);
        let details = analyse(Some(&c), &Targets::default());
        assert_eq!(details[4].detail, "swap is on, the network device e1000 is not virtio");
        assert_eq!(analyse(None, &Targets::default())[0].reason, UNEXPLAINED);
    }
}
