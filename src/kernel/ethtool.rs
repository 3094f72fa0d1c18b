//! Link speed of interfaces, asked of their drivers (`SIOCETHTOOL`): sysfs shows only the exporter's own namespace.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What a driver says of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub bytes_per_second: u64,
    /// A veth pair says 10 Gb/s whatever is beneath it.
    pub nominal: bool,
}

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSET: u32 = 1;
const ETHTOOL_GDRVINFO: u32 = 3;

/// `struct ethtool_cmd`. Its successor (`ETHTOOL_GLINKSETTINGS`) takes two calls and a longer answer for the same speed.
#[repr(C)]
#[derive(Default)]
struct Settings {
    cmd: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    duplex: u8,
    port: u8,
    phy_address: u8,
    transceiver: u8,
    autoneg: u8,
    mdio_support: u8,
    maxtxpkt: u32,
    maxrxpkt: u32,
    speed_hi: u16,
    eth_tp_mdix: u8,
    eth_tp_mdix_ctrl: u8,
    lp_advertising: u32,
    reserved: [u32; 2],
}

/// `struct ethtool_drvinfo`, up to what is read of it.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// Any socket of the namespace whose interfaces are asked for.
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens it in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        // SAFETY: no memory of ours is touched; the result is checked before use.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// None when the interface has no speed (bridge, tunnel, virtio), or no link just now.
    pub fn link(&self, interface: &str) -> Option<Link> {
        let mut settings = Settings { cmd: ETHTOOL_GSET, ..Settings::default() };
        self.ask(interface, &mut settings)?;
        let megabits = u32::from(settings.speed_hi) << 16 | u32::from(settings.speed);
        // SPEED_UNKNOWN is -1; drivers of old also answered 0 and 65535.
        if matches!(megabits, 0 | 0xffff | u32::MAX) {
            return None;
        }
        let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        let nominal = self.ask(interface, &mut info).is_some() && info.driver.starts_with(b"veth\0");
        Some(Link { bytes_per_second: u64::from(megabits) * 125_000, nominal })
    }

    fn ask<T>(&self, interface: &str, answer: &mut T) -> Option<()> {
        #[repr(C)]
        struct Request {
            name: [u8; libc::IFNAMSIZ],
            data: *mut libc::c_void,
            // `struct ifreq` is larger than what is used of it here.
            rest: [u8; 16],
        }
        let mut name = [0; libc::IFNAMSIZ];
        name.get_mut(..interface.len()).filter(|n| n.len() < libc::IFNAMSIZ)?.copy_from_slice(interface.as_bytes());
        let mut request = Request { name, data: std::ptr::from_mut(answer).cast(), rest: [0; 16] };
        // SAFETY: `request` is laid out as `struct ifreq` and at least as large; `data` points to a writable structure as
        // large as the command in its first field promises, which outlives the call.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL as _, &mut request) };
        (done == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Settings>(), 44);
        assert_eq!(size_of::<DriverInfo>(), 196);
    }

    #[test]
    fn what_has_no_speed_has_none() {
        let ethtool = Ethtool::open().unwrap();
        assert_eq!(ethtool.link("lo"), None);
        assert_eq!(ethtool.link("no-such-if"), None);
        assert_eq!(ethtool.link("a-name-longer-than-the-kernel-takes"), None);
    }
}
