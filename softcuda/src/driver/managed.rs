//! Managed memory. Both sides use it in place, at one address, so nothing ever moves: advice and
//! prefetching are remembered for those who ask, and change nothing.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::state::{DRIVER, Device, current, lock};
use super::status::Status;
use super::stream::resolve;
use super::{Answer, driver, driver_api, put};

/// No particular device, and the host.
const NOWHERE: c_int = -2;
const HOST: c_int = -1;

/// `CUmemLocation`; its type is 1 for a device, and 2 to 4 are the host's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Location {
    kind: c_uint,
    id: c_int,
}

impl Location {
    /// As older functions say it: a device, or -1 for the host.
    fn place(self) -> Answer<c_int> {
        match self.kind {
            1 => driver()?.device(self.id).map(|device| device.handle),
            2..=4 => Ok(HOST),
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

/// The place that a device handle or -1 names.
fn place(device: c_int) -> Answer<c_int> {
    if device == HOST { Ok(HOST) } else { driver()?.device(device).map(|device| device.handle) }
}

/// What was said of an allocation.
#[derive(Clone, Copy)]
pub(crate) struct Advice {
    read_mostly: bool,
    preferred: c_int,
    accessed_by: c_int,
    prefetched: c_int,
}

impl Default for Advice {
    fn default() -> Advice {
        Advice { read_mostly: false, preferred: NOWHERE, accessed_by: NOWHERE, prefetched: NOWHERE }
    }
}

/// Looks at, or changes, what was said of the managed allocation that a range lies in.
fn advice<T>(
    device: &Arc<Device>,
    address: u64,
    bytes: usize,
    body: impl FnOnce(&mut Advice) -> Answer<T>,
) -> Answer<T> {
    let owner = DRIVER.owner_of(address, device);
    let mut allocations = lock(&owner.as_ref().unwrap_or(device).allocations);
    let below = allocations.range_mut(..=address).next_back();
    let inside = |base: u64, size: u64| {
        let offset = address - base;
        bytes > 0 && offset < size && bytes as u64 <= size - offset
    };
    let managed = below.and_then(|(base, allocation)| {
        inside(*base, allocation.bytes).then_some(allocation).and_then(|allocation| allocation.managed.as_mut())
    });
    match managed {
        Some(managed) => body(managed),
        None => {
            drop(allocations);
            let reason = format!("{bytes} bytes at {address:#x} are not inside one block of managed memory");
            Err(device.refuse(Status::INVALID_VALUE, reason))
        }
    }
}

fn prefetch(address: u64, bytes: usize, to: Answer<c_int>, stream: *mut c_void) -> Answer {
    let device = &resolve(stream)?.context.device;
    let to = to?;
    advice(device, address, bytes, |advice| {
        advice.prefetched = to;
        Ok(())
    })
}

fn advise(address: u64, bytes: usize, number: c_uint, to: Answer<c_int>) -> Answer {
    let context = current()?;
    advice(&context.device, address, bytes, |advice| {
        match number {
            1 => advice.read_mostly = true,
            2 => advice.read_mostly = false,
            3 => advice.preferred = to?,
            4 => advice.preferred = NOWHERE,
            5 => advice.accessed_by = to?,
            6 => advice.accessed_by = NOWHERE,
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    })
}

/// Writes one `CUmem_range_attribute`: numbers, or a list of the devices that access the range.
///
/// # Safety
/// `out` is null or valid for `size` bytes.
unsafe fn range_attribute(out: *mut c_void, size: usize, attribute: c_uint, address: u64, bytes: usize) -> Answer {
    let context = current()?;
    let advice = advice(&context.device, address, bytes, |advice| Ok(*advice))?;
    let value = match attribute {
        1 => c_int::from(advice.read_mostly),
        2 => advice.preferred,
        3 => advice.accessed_by,
        4 => advice.prefetched,
        _ => return Err(Status::INVALID_VALUE),
    };
    let count = size / size_of::<c_int>();
    if count == 0 || !size.is_multiple_of(size_of::<c_int>()) || (attribute != 3 && count != 1) {
        return Err(Status::INVALID_VALUE);
    }
    for index in 0..count {
        // SAFETY: within the `size` bytes for which the caller vouches.
        unsafe { put(out.cast::<c_int>().wrapping_add(index), if index == 0 { value } else { NOWHERE })? };
    }
    Ok(())
}

driver_api! {
    fn cuMemAllocManaged(out: *mut u64, bytes: usize, flags: c_uint) {
        let context = current()?;
        context.verdict()?;
        // Attached to all streams, or to the host.
        if bytes == 0 || !matches!(flags, 1 | 2) || out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put(out, context.device.allocate_managed(bytes as u64, context.handle)?)
    }

    fn cuStreamAttachMemAsync(stream: *mut c_void, address: u64, bytes: usize, flags: c_uint) {
        let stream = resolve(stream)?;
        if !matches!(flags, 1 | 2 | 4) {
            return Err(Status::INVALID_VALUE);
        }
        let device = &stream.context.device;
        // No bytes stand for the whole block.
        advice(device, address, bytes.max(1), |_| Ok(()))
    }

    fn cuMemPrefetchAsync(address: u64, bytes: usize, device: c_int, stream: *mut c_void) {
        prefetch(address, bytes, place(device), stream)
    }

    fn cuMemPrefetchAsync_v2(address: u64, bytes: usize, location: Location, flags: c_uint, stream: *mut c_void) {
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        prefetch(address, bytes, location.place(), stream)
    }

    fn cuMemAdvise(address: u64, bytes: usize, number: c_uint, device: c_int) {
        advise(address, bytes, number, place(device))
    }

    fn cuMemAdvise_v2(address: u64, bytes: usize, number: c_uint, location: Location) {
        advise(address, bytes, number, location.place())
    }

    fn cuMemRangeGetAttribute(out: *mut c_void, size: usize, attribute: c_uint, address: u64, bytes: usize) {
        range_attribute(out, size, attribute, address, bytes)
    }

    fn cuMemRangeGetAttributes(outs: *const *mut c_void, sizes: *const usize, attributes: *const c_uint, count: usize, address: u64, bytes: usize) {
        current()?;
        if outs.is_null() || sizes.is_null() || attributes.is_null() || count == 0 {
            return Err(Status::INVALID_VALUE);
        }
        for index in 0..count {
            let (out, size) = (outs.add(index).read(), sizes.add(index).read());
            range_attribute(out, size, attributes.add(index).read(), address, bytes)?;
        }
        Ok(())
    }
}
