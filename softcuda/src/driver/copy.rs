//! Copies between host and device memory.

use std::ffi::{c_uint, c_void};
use std::slice::{from_raw_parts, from_raw_parts_mut};

use super::memory::synchronised_stream;
use super::state::{DRIVER, Device, Stream};
use super::status::Status;
use super::stream::resolve;
use super::{Answer, driver, driver_api};
use crate::fault::Fault;

/// One end of a copy.
#[derive(Clone, Copy)]
enum End {
    Host(*mut u8),
    Device(u64),
}

impl End {
    /// Under unified addressing an address that is in no device's memory is the host's. So is a
    /// wild one, and host pointers are the caller's responsibility.
    fn of(address: u64, near: &std::sync::Arc<Device>) -> End {
        match DRIVER.owner_of(address, near) {
            Some(_) => End::Device(address),
            None => End::Host(address as *mut u8),
        }
    }

    fn offset(self, bytes: usize) -> Answer<End> {
        match self {
            End::Host(start) => Ok(End::Host(start.wrapping_add(bytes))),
            End::Device(start) => start.checked_add(bytes as u64).map(End::Device).ok_or(Status::INVALID_VALUE),
        }
    }
}

/// Copies in stream order. The source is read, and the destination written, before this returns:
/// what the driver promises for pageable host memory, and allowed for any other.
///
/// # Safety
/// Host ends are valid for `bytes` bytes; a null one is refused.
unsafe fn copy(to: End, from: End, bytes: usize, stream: &Stream) -> Answer {
    if bytes == 0 {
        return Ok(());
    }
    let near = &stream.context.device;
    let owner = |address| DRIVER.owner_of(address, near).unwrap_or_else(|| near.clone());
    if [to, from].iter().any(|end| matches!(end, End::Host(start) if start.is_null())) {
        return Err(Status::INVALID_VALUE);
    }
    if matches!(to, End::Host(_)) {
        // The host may read the result as soon as this returns.
        stream.context.synchronise()?;
    }
    let moved = stream.submit(|_| match (to, from) {
        (End::Device(to), End::Host(from)) => {
            // SAFETY: not null, and the caller vouches for `bytes` bytes.
            owner(to).memory.write(to, unsafe { from_raw_parts(from, bytes) })
        }
        (End::Host(to), End::Device(from)) => {
            // SAFETY: as above, and nobody else uses the destination during the call.
            owner(from).memory.read(from, unsafe { from_raw_parts_mut(to, bytes) })
        }
        (End::Device(to), End::Device(from)) => between(&owner(to), to, &owner(from), from, bytes),
        (End::Host(to), End::Host(from)) => {
            // SAFETY: as above; `copy` allows the two to overlap.
            unsafe { std::ptr::copy(from, to, bytes) };
            Ok(())
        }
    });
    moved.unwrap_or(Ok(())).map_err(|fault| near.refuse(Status::INVALID_VALUE, fault))
}

/// Copies inside one device's memory, or from one device to another by way of the host. (The
/// latter makes undefined bytes defined.)
fn between(to_device: &Device, to: u64, from_device: &Device, from: u64, bytes: usize) -> Result<(), Fault> {
    if std::ptr::eq(to_device, from_device) {
        return to_device.memory.copy(from, to, bytes as u64);
    }
    let mut staged = vec![0; bytes.min(1 << 20)];
    let mut done = 0;
    while done < bytes {
        let part = staged.len().min(bytes - done);
        from_device.memory.read(from + done as u64, &mut staged[..part])?;
        to_device.memory.write(to + done as u64, &staged[..part])?;
        done += part;
    }
    Ok(())
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Copy2D {
    from_x: usize,
    from_y: usize,
    from_type: c_uint,
    from_host: *mut u8,
    from_device: u64,
    from_array: *mut c_void,
    from_pitch: usize,
    to_x: usize,
    to_y: usize,
    to_type: c_uint,
    to_host: *mut u8,
    to_device: u64,
    to_array: *mut c_void,
    to_pitch: usize,
    width: usize,
    height: usize,
}

/// # Safety
/// `request` is null or valid, and so are the host rows that it names.
unsafe fn copy_2d(request: *const Copy2D, stream: &Stream) -> Answer {
    if request.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let request = unsafe { request.read_unaligned() };
    let near = &stream.context.device;
    let end = |kind: c_uint, host: *mut u8, device: u64| match kind {
        1 => Ok(End::Host(host)),
        2 => Ok(End::Device(device)),
        4 => Ok(End::of(device, near)),
        3 => Err(near.refuse(Status::NOT_SUPPORTED, "cuMemcpy2D: there are no arrays")),
        _ => Err(Status::INVALID_VALUE),
    };
    let from = end(request.from_type, request.from_host, request.from_device)?;
    let to = end(request.to_type, request.to_host, request.to_device)?;
    let at = |end: End, x: usize, y: usize, pitch: usize| {
        let offset = y.checked_mul(pitch).and_then(|rows| rows.checked_add(x));
        end.offset(offset.ok_or(Status::INVALID_VALUE)?)
    };
    for row in 0..request.height {
        let from = at(from, request.from_x, request.from_y + row, request.from_pitch)?;
        let to = at(to, request.to_x, request.to_y + row, request.to_pitch)?;
        // SAFETY: the caller vouches for the rows.
        unsafe { copy(to, from, request.width, stream)? };
    }
    Ok(())
}

driver_api! {
    fn cuMemcpy(to: u64, from: u64, bytes: usize) {
        let stream = synchronised_stream()?;
        let near = &stream.context.device;
        copy(End::of(to, near), End::of(from, near), bytes, &stream)
    }

    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        let near = &stream.context.device;
        copy(End::of(to, near), End::of(from, near), bytes, &stream)
    }

    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) {
        copy(End::Device(to), End::Host(from.cast_mut().cast()), bytes, &*synchronised_stream()?)
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void) {
        copy(End::Device(to), End::Host(from.cast_mut().cast()), bytes, &*resolve(stream)?)
    }

    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) {
        copy(End::Host(to.cast()), End::Device(from), bytes, &*synchronised_stream()?)
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void) {
        copy(End::Host(to.cast()), End::Device(from), bytes, &*resolve(stream)?)
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        copy(End::Device(to), End::Device(from), bytes, &*synchronised_stream()?)
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void) {
        copy(End::Device(to), End::Device(from), bytes, &*resolve(stream)?)
    }

    fn cuMemcpyPeer(to: u64, to_context: *mut c_void, from: u64, from_context: *mut c_void, bytes: usize) {
        let stream = synchronised_stream()?;
        driver()?.context(to_context)?.check()?;
        driver()?.context(from_context)?.check()?;
        copy(End::Device(to), End::Device(from), bytes, &stream)
    }

    fn cuMemcpyPeerAsync(to: u64, to_context: *mut c_void, from: u64, from_context: *mut c_void, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        driver()?.context(to_context)?.check()?;
        driver()?.context(from_context)?.check()?;
        copy(End::Device(to), End::Device(from), bytes, &stream)
    }

    fn cuMemcpy2D_v2(request: *const Copy2D) {
        copy_2d(request, &*synchronised_stream()?)
    }

    fn cuMemcpy2DUnaligned_v2(request: *const Copy2D) {
        copy_2d(request, &*synchronised_stream()?)
    }

    fn cuMemcpy2DAsync_v2(request: *const Copy2D, stream: *mut c_void) {
        copy_2d(request, &*resolve(stream)?)
    }
}
