//! Whether the machine runs on its battery (`Documentation/ABI/testing/sysfs-class-power`).

use super::Context;
use super::file::KernelFile;
use crate::root::{ReadBuf, Root};

/// The power supplies of the machine itself; a wireless mouse has a battery of its own.
pub struct Battery {
    /// `online` of mains and USB chargers.
    chargers: Vec<KernelFile>,
    /// `status` of batteries.
    batteries: Vec<KernelFile>,
}

impl Battery {
    pub fn find(ctx: &Context<'_>) -> Self {
        let Root { sysfs, .. } = ctx.root;
        let class = sysfs.join("class/power_supply");
        let mut found = Self { chargers: Vec::new(), batteries: Vec::new() };
        for name in ctx.root.list(&class).unwrap_or_default() {
            let folder = class.join(name);
            let text = |file| ctx.root.read_to_string(&folder.join(file)).unwrap_or_default();
            if text("scope").trim() == "Device" {
                continue;
            }
            let (supplies, file) = match text("type").trim() {
                "Battery" => (&mut found.batteries, "status"),
                "Mains" | "USB" => (&mut found.chargers, "online"),
                _ => continue,
            };
            supplies.extend(KernelFile::open(&folder.join(file), ctx.budget));
        }
        found
    }

    /// None on a machine without a battery.
    pub fn read(&self, buf: &mut ReadBuf) -> Option<bool> {
        if self.batteries.is_empty() {
            return None;
        }
        let mut says = |file: &KernelFile, word: &[u8]| file.read(buf).is_ok_and(|b| b.trim_ascii() == word);
        let charger = self.chargers.iter().any(|c| says(c, b"1"));
        Some(!charger && self.batteries.iter().any(|b| says(b, b"Discharging")))
    }
}
