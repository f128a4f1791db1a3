//! Peer access: kernels of one device that use the memory of another. Every two devices can.
//!
//! It opens all of a device's memory, that of its pools included, which hardware opens by
//! `cuMemPoolSetAccess` only.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::state::{Context, DRIVER, Device, current, lock};
use super::status::Status;
use super::{Answer, driver, driver_api, put};

/// Two devices, the first of which is to use the other's memory.
fn pair(device: c_int, peer: c_int) -> Answer<(Arc<Device>, Arc<Device>)> {
    let driver = driver()?;
    Ok((driver.device(device)?, driver.device(peer)?))
}

impl Context {
    /// Ends the peer access that this context has.
    pub(super) fn forget_peers(&self) {
        for peer in std::mem::take(&mut *lock(&self.peers)) {
            if let Some(peer) = DRIVER.contexts.get(peer) {
                self.device.memory.remove_peer(&peer.device.memory);
            }
        }
    }
}

driver_api! {
    fn cuDeviceCanAccessPeer(out: *mut c_int, device: c_int, peer: c_int) {
        let (device, peer) = pair(device, peer)?;
        put(out, c_int::from(!Arc::ptr_eq(&device, &peer)))
    }

    fn cuDeviceGetP2PAttribute(out: *mut c_int, attribute: c_int, device: c_int, peer: c_int) {
        let (device, peer) = pair(device, peer)?;
        if Arc::ptr_eq(&device, &peer) {
            return Err(Status::INVALID_DEVICE);
        }
        let value = match attribute {
            1 | 4..=6 => 0, // the best link there is; no arrays, no separate kinds of atomics
            2 | 3 => 1,     // access, and atomics
            _ => return Err(Status::INVALID_VALUE),
        };
        put(out, value)
    }

    fn cuCtxEnablePeerAccess(peer: *mut c_void, flags: c_uint) {
        let context = current()?;
        let peer = driver()?.context(peer)?;
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        if Arc::ptr_eq(&context.device, &peer.device) {
            let reason = "cuCtxEnablePeerAccess: both contexts are of the same device";
            return Err(context.device.refuse(Status::INVALID_DEVICE, reason));
        }
        let mut peers = lock(&context.peers);
        if peers.contains(&peer.handle) {
            return Err(Status::PEER_ACCESS_ALREADY_ENABLED);
        }
        peers.push(peer.handle);
        context.device.memory.add_peer(&peer.device.memory);
        Ok(())
    }

    fn cuCtxDisablePeerAccess(peer: *mut c_void) {
        let context = current()?;
        let peer = driver()?.context(peer)?;
        // Kernels that were launched before still use it.
        context.drain();
        let mut peers = lock(&context.peers);
        let known = peers.iter().position(|known| *known == peer.handle).ok_or(Status::PEER_ACCESS_NOT_ENABLED)?;
        peers.swap_remove(known);
        context.device.memory.remove_peer(&peer.device.memory);
        Ok(())
    }
}
