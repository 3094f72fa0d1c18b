//! The reader of the machine's own facts: memory, cores, file systems.

use std::sync::Arc;

use super::file::KernelFile;
use super::filesystems::Filesystems;
use super::topology::{self, Cores};
use super::{Context, Reader};
use super::{meminfo, parse};
use crate::catalog::Collector;
use crate::root::{ReadError, Root};
use crate::runtime::Container;
use crate::snapshot::{HostFacts, Snapshot};

const COLLECTOR: Collector = Collector::Host;

#[derive(Default)]
pub struct Host {
    files: Option<Files>,
}

struct Files {
    meminfo: Result<KernelFile, ReadError>,
    online: Result<KernelFile, ReadError>,
    /// What `online` said when the cores were counted.
    counted: Vec<u8>,
    cores: Result<Cores, ReadError>,
    filesystems: Result<Filesystems, ReadError>,
    zram: Vec<KernelFile>,
}

impl Reader for Host {
    fn open(&mut self, _slot: usize, _container: &Arc<Container>, _ctx: &mut Context<'_>) {}

    fn close(&mut self, _slot: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _slots: &[usize], ctx: &mut Context<'_>) {
        let files = self.files.get_or_insert_with(|| Files::open(ctx));
        let host = &mut snapshot.host;
        for outcome in [files.memory(host, ctx), files.cores(host, ctx), files.filesystems(host, ctx)] {
            if let Err(e) = outcome {
                ctx.failed(COLLECTOR, e);
            }
        }
        files.zram(host, ctx);
    }
}

impl Files {
    fn open(ctx: &Context<'_>) -> Self {
        let Root { procfs, sysfs, .. } = ctx.root;
        let block = sysfs.join("block");
        let devices = ctx.root.list(&block).unwrap_or_default().into_iter().filter(|name| name.starts_with("zram"));
        let mm_stat = |name: String| KernelFile::open(&block.join(name).join("mm_stat"), ctx.budget).ok();
        Self {
            zram: devices.filter_map(mm_stat).collect(),
            meminfo: KernelFile::open(&procfs.join("meminfo"), ctx.budget),
            online: KernelFile::open(&sysfs.join("devices/system/cpu/online"), ctx.budget),
            counted: Vec::new(),
            cores: Err(ReadError::Absent),
            filesystems: Filesystems::open(ctx.root),
        }
    }

    fn memory(&self, host: &mut HostFacts, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        let file = self.meminfo.as_ref().map_err(|e| *e)?;
        let (memory, sound) = meminfo::parse(file.read(ctx.buf)?);
        host.memory_bytes = memory.memory;
        host.swap_bytes = memory.swap;
        sound.map_err(|_| ReadError::Malformed)
    }

    /// CPUs may be switched on and off: the cores are counted again when others are online.
    fn cores(&mut self, host: &mut HostFacts, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        let online = self.online.as_ref().map_err(|e| *e)?.read(ctx.buf)?;
        if online != self.counted {
            self.counted.clear();
            self.counted.extend_from_slice(online);
            self.cores = topology::read(ctx.root).map(|t| t.cores(ctx.root));
            match self.cores.as_ref().is_ok_and(|c| c.by_type.is_some()) {
                true => ctx.capabilities.yes("core_types"),
                false => ctx.capabilities.no("core_types", "the machine has one kind of core, or does not tell"),
            }
        }
        let cores = self.cores.as_ref().map_err(|e| *e)?;
        host.cpus_online = Some(cores.cpus);
        host.physical_cores = cores.physical;
        host.cores_by_type = cores.by_type;
        Ok(())
    }

    /// `orig_data_size compr_data_size …` of mm_stat (Documentation/admin-guide/blockdev/zram.rst). A device that has
    /// gone, or was reset, holds nothing.
    fn zram(&self, host: &mut HostFacts, ctx: &mut Context<'_>) {
        let (mut original, mut compressed) = (0u64, 0u64);
        for file in &self.zram {
            let Ok(bytes) = file.read(ctx.buf) else { continue };
            let mut numbers = parse::words(bytes).map_while(parse::number);
            if let (Some(o), Some(c)) = (numbers.next(), numbers.next()) {
                original = original.saturating_add(o);
                compressed = compressed.saturating_add(c);
            }
        }
        host.zram_ratio = (compressed > 0).then(|| original as f64 / compressed as f64);
    }

    fn filesystems(&mut self, host: &mut HostFacts, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        self.filesystems.as_mut().map_err(|e| *e)?.read(&mut host.filesystems, ctx.root, ctx.buf)
    }
}
