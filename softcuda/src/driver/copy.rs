//! Copies between host and device memory.

use std::ffi::{c_uint, c_void};
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::Arc;

use super::memory::{default_stream, pages_at, pinned_at};
use super::pinned::{Pages, Rows, Watch, is_mapped};
use super::queue::Order;
use super::state::{Context, DRIVER, Device, Stream};
use super::status::Status;
use super::stream::resolve;
use super::work::Work;
use super::{Answer, capture, driver, driver_api};
use crate::fault::{Fault, FaultKind};
use crate::memory::is_of_devices;
use crate::memory::room::is_set_aside;

/// One end of a copy.
#[derive(Clone)]
pub(super) enum End {
    Host(HostAddress),
    Device(Arc<Device>, u64),
    /// Host memory as it was at submission, row after row without gaps.
    Staged(Arc<Vec<u8>>),
}

/// The caller's memory, and what keeps it mapped if it was allocated here.
#[derive(Clone)]
pub(super) struct HostAddress(*mut u8, Option<Arc<Pages>>);

// SAFETY: the caller of a copy vouches for the memory until the copy is done, on whatever thread.
unsafe impl Send for HostAddress {}
// SAFETY: as above.
unsafe impl Sync for HostAddress {}

impl End {
    /// Memory of the host's. Managed memory is looked after by its device.
    fn host(address: *const c_void, near: &Arc<Device>) -> End {
        let pages = pages_at(address as usize);
        if pages.is_none() && is_set_aside(address as u64) {
            return End::device(address as u64, near);
        }
        End::Host(HostAddress(address.cast_mut().cast(), pages))
    }

    /// A device address, of whichever device: with no owner the one that had it words the refusal.
    fn device(address: u64, near: &Arc<Device>) -> End {
        let owner = DRIVER.owner_of(address, near).or_else(|| DRIVER.former_owner_of(address));
        End::Device(owner.unwrap_or_else(|| near.clone()), address)
    }

    /// Under unified addressing an address that is in no device's memory is the host's, unless it
    /// is one that only devices, managed and pinned memory have: what was there is gone, and as the
    /// device's it is refused.
    fn unified(address: u64, near: &Arc<Device>) -> End {
        // Pinned memory is among what its device reaches, but it is the host's.
        let pinned = pinned_at(address as usize).is_some();
        let never_host = is_of_devices(address) || is_set_aside(address);
        if !pinned && (never_host || DRIVER.owner_of(address, near).is_some()) {
            End::device(address, near)
        } else {
            End::host(address as *const c_void, near)
        }
    }
}

/// An end with the distances of its rows and planes.
#[derive(Clone)]
pub(super) struct Side {
    end: End,
    pitch: usize,
    plane: usize,
}

impl Side {
    fn flat(end: End) -> Side {
        Side { end, pitch: 0, plane: 0 }
    }
}

/// A copy of `depth` planes of `height` rows of `width` bytes, none of them 0.
#[derive(Clone)]
pub(crate) struct Transfer {
    to: Side,
    from: Side,
    width: usize,
    height: usize,
    depth: usize,
}

impl Transfer {
    fn flat(to: End, from: End, bytes: usize) -> Transfer {
        Transfer { to: Side::flat(to), from: Side::flat(from), width: bytes, height: 1, depth: 1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// Bytes from the first to the last of a side.
    fn span(&self, side: &Side) -> Answer<usize> {
        let rows = (self.height - 1).checked_mul(side.pitch);
        let planes = (self.depth - 1).checked_mul(side.plane);
        let sum = rows.zip(planes).and_then(|(rows, planes)| rows.checked_add(planes)?.checked_add(self.width));
        sum.ok_or(Status::INVALID_VALUE)
    }

    /// Refuses null pointers and device addresses that are not allocated.
    pub(super) fn check(&self, near: &Device) -> Answer {
        for side in [&self.to, &self.from] {
            let span = self.span(side)?;
            match &side.end {
                &End::Host(HostAddress(start, _)) if start.is_null() => return Err(Status::INVALID_VALUE),
                &End::Host(HostAddress(start, _)) if is_of_devices(start as u64) => {
                    let reason = format!("copy: {start:p} is a device's address, and one of the host's is asked for");
                    return Err(near.refuse(Status::INVALID_VALUE, reason));
                }
                // Memory of the host's own can go on behind what it registered; what was allocated
                // here ends where it ends.
                &End::Host(HostAddress(start, Some(_))) if self.pinned(side).is_none() => {
                    let reason =
                        format!("copy: {span} bytes at {start:p} go beyond the end of the pinned memory there");
                    return Err(near.refuse(Status::INVALID_VALUE, reason));
                }
                &End::Host(HostAddress(start, _)) if !is_mapped(start as usize, self.width) => {
                    let reason = format!("copy: no {} bytes of the host's memory at {start:p}", self.width);
                    return Err(near.refuse(Status::INVALID_VALUE, reason));
                }
                End::Device(owner, address) => {
                    let known = owner.memory.check(*address, span as u64, "copy");
                    known.map_err(|fault| near.refuse(Status::INVALID_VALUE, fault))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The device besides this one, if the copy is between two.
    fn other_device(&self, near: &Arc<Device>) -> Option<Arc<Device>> {
        match (&self.to.end, &self.from.end) {
            (End::Device(to, _), End::Device(from, _)) if !Arc::ptr_eq(to, from) => {
                Some(if Arc::ptr_eq(to, near) { from.clone() } else { to.clone() })
            }
            _ => None,
        }
    }

    /// The rows of a side in pinned host memory.
    fn pinned(&self, side: &Side) -> Option<Rows> {
        let End::Host(HostAddress(start, _)) = side.end else { return None };
        let (base, bytes, ..) = pinned_at(start as usize)?;
        let span = self.span(side).ok()?;
        let Transfer { width, height, depth, .. } = *self;
        let Side { pitch, plane, .. } = *side;
        (span <= bytes - (start as usize - base)).then_some(Rows { start, width, pitch, height, plane, depth })
    }

    /// Watches over its pinned memory from now on.
    pub(super) fn watch(&self, device: i32) -> Option<Watch> {
        let source = self.pinned(&self.from).map(|rows| Watch::new(rows, false, device));
        source.or_else(|| self.pinned(&self.to).map(|rows| Watch::new(rows, true, device)))
    }

    /// Whether one of its ends is managed memory.
    fn is_shared(&self) -> bool {
        [&self.to, &self.from].iter().any(|side| matches!(side.end, End::Device(_, address) if is_set_aside(address)))
    }

    pub(super) fn staged_bytes(&self) -> usize {
        if let End::Staged(bytes) = &self.from.end { bytes.len() } else { 0 }
    }

    /// Reads the source now.
    fn stage(&mut self) -> Answer {
        let bytes = self.width.checked_mul(self.height).and_then(|plane| plane.checked_mul(self.depth));
        let mut staged = Vec::new();
        staged.try_reserve_exact(bytes.ok_or(Status::INVALID_VALUE)?).map_err(|_| Status::OUT_OF_MEMORY)?;
        if let End::Host(HostAddress(start, _)) = self.from.end {
            for (_, from) in self.rows() {
                // SAFETY: the caller vouches for the rows of the source.
                staged.extend_from_slice(unsafe { from_raw_parts(start.wrapping_add(from), self.width) });
            }
        }
        let (pitch, plane) = (self.width, self.width * self.height);
        self.from = Side { end: End::Staged(Arc::new(staged)), pitch, plane };
        Ok(())
    }

    /// The offsets of each row in the destination and in the source.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (height, depth) = (self.height, self.depth);
        let strides = [&self.to, &self.from].map(|side| (side.pitch, side.plane));
        (0..depth).flat_map(move |z| {
            (0..height).map(move |y| {
                let [to, from] = strides.map(|(pitch, plane)| z * plane + y * pitch);
                (to, from)
            })
        })
    }

    /// Copies. The host's memory is valid: pageable memory is waited for by the caller, pinned
    /// memory is held on to, and what else graphs use is their owner's care.
    pub(super) fn run(&self) -> Result<(), Fault> {
        let width = self.width;
        for side in [&self.to, &self.from] {
            if let &End::Host(HostAddress(start, Some(ref pages))) = &side.end
                && pages.are_freed()
            {
                let detail = format!("a copy uses the pinned memory at {start:p}, which was freed");
                return Err(Fault::of_host(FaultKind::UseAfterFree, start as u64, detail));
            }
        }
        for (to_offset, from_offset) in self.rows() {
            match (&self.to.end, &self.from.end) {
                (End::Device(device, to), End::Host(HostAddress(from, _))) => {
                    // SAFETY: see above.
                    let bytes = unsafe { from_raw_parts(from.wrapping_add(from_offset), width) };
                    device.memory.write(to + to_offset as u64, bytes)?;
                }
                (End::Device(device, to), End::Staged(from)) => {
                    device.memory.write(to + to_offset as u64, &from[from_offset..from_offset + width])?;
                }
                (End::Host(HostAddress(to, _)), End::Device(device, from)) => {
                    // SAFETY: see above; nobody else uses the destination until the copy is done.
                    let bytes = unsafe { from_raw_parts_mut(to.wrapping_add(to_offset), width) };
                    device.memory.read(from + from_offset as u64, bytes)?;
                }
                (End::Device(to_device, to), End::Device(from_device, from)) => {
                    between(to_device, to + to_offset as u64, from_device, from + from_offset as u64, width)?;
                }
                (End::Host(HostAddress(to, _)), End::Host(HostAddress(from, _))) => {
                    let (to, from) = (to.wrapping_add(to_offset), from.wrapping_add(from_offset));
                    // SAFETY: see above; `copy` allows the two to overlap.
                    unsafe { std::ptr::copy(from, to, width) };
                }
                // Staged memory goes to a device only.
                (End::Host(_), End::Staged(_)) | (End::Staged(_), _) => {}
            }
        }
        Ok(())
    }
}

/// How long a function that copies takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Return {
    /// It returns when the copy is done, as far as the host can tell.
    Done,
    /// As soon as it can.
    Submitted,
}

/// Copies in stream order, with the driver's promises: pageable sources are read before this
/// returns, and pageable destinations are written.
fn copy(mut transfer: Transfer, stream: &Stream, until: Return) -> Answer {
    if until == Return::Done {
        capture::refuse_unsafe(&stream.context)?;
    }
    if transfer.is_empty() {
        return Ok(());
    }
    transfer.check(&stream.context.device)?;
    if stream.is_capturing() {
        return stream.submit(Work::Copy(transfer)).map(|_| ());
    }
    let host = |side: &Side| matches!(side.end, End::Host(_));
    let (to_host, from_host) = (host(&transfer.to), host(&transfer.from));
    let pageable_source = from_host && transfer.pinned(&transfer.from).is_none();
    let wait = match (to_host, from_host) {
        (true, true) => true,
        (true, false) => until == Return::Done || transfer.pinned(&transfer.to).is_none(),
        (false, true) => until == Return::Done && !pageable_source,
        // Managed memory is where the host looks next.
        (false, false) => until == Return::Done && transfer.is_shared(),
    };
    if pageable_source && !to_host {
        transfer.stage()?;
    }
    let number = match transfer.other_device(&stream.context.device) {
        // As documented, in the implicit stream it starts when all that was submitted to either
        // device is done, and what is submitted later to either waits for it.
        Some(other) if stream.order() == Order::Legacy => {
            other.drain();
            stream.context.device.drain();
            let number = stream.submit(Work::Copy(transfer))?;
            return stream.finish(number);
        }
        _ => stream.submit(Work::Copy(transfer))?,
    };
    if wait { stream.finish(number) } else { Ok(()) }
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

/// One side of a `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Side3D {
    x: usize,
    y: usize,
    z: usize,
    lod: usize,
    kind: c_uint,
    host: *mut c_void,
    device: u64,
    array: *mut c_void,
    reserved: *mut c_void,
    pitch: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Copy3D {
    from: Side3D,
    to: Side3D,
    width: usize,
    height: usize,
    depth: usize,
}

impl Side3D {
    fn side(&self, near: &Arc<Device>) -> Answer<Side> {
        let plane = self.pitch.checked_mul(self.height).ok_or(Status::INVALID_VALUE)?;
        let (rows, planes) = (self.y.checked_mul(self.pitch), self.z.checked_mul(plane));
        let offset = rows.zip(planes).and_then(|(rows, planes)| rows.checked_add(planes)?.checked_add(self.x));
        let offset = offset.ok_or(Status::INVALID_VALUE)?;
        let address = |start: u64| start.checked_add(offset as u64).ok_or(Status::INVALID_VALUE);
        let end = match self.kind {
            1 if self.host.is_null() => return Err(Status::INVALID_VALUE),
            1 => End::host(self.host.wrapping_byte_add(offset), near),
            2 => End::device(address(self.device)?, near),
            4 => End::unified(address(self.device)?, near),
            3 => return Err(near.refuse(Status::NOT_SUPPORTED, "cuMemcpy: there are no arrays")),
            _ => return Err(Status::INVALID_VALUE),
        };
        Ok(Side { end, pitch: self.pitch, plane })
    }
}

impl Copy3D {
    /// # Safety
    /// `request` is null or valid.
    pub(super) unsafe fn read(request: *const Copy3D) -> Answer<Copy3D> {
        if request.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller vouches for the rest.
        Ok(unsafe { request.read_unaligned() })
    }

    pub(super) fn transfer(&self, near: &Arc<Device>) -> Answer<Transfer> {
        let Copy3D { width, height, depth, .. } = *self;
        Ok(Transfer { to: self.to.side(near)?, from: self.from.side(near)?, width, height, depth })
    }
}

impl Transfer {
    /// As the request that asks for it, for the functions that tell what a graph's node does.
    pub(super) fn request(&self) -> Copy3D {
        let side = |side: &Side| {
            let (kind, host, device) = match &side.end {
                End::Host(HostAddress(start, _)) => (1, start.cast::<c_void>(), 0),
                End::Device(_, address) => (2, std::ptr::null_mut(), *address),
                End::Staged(_) => (1, std::ptr::null_mut(), 0),
            };
            let height = side.plane.checked_div(side.pitch).unwrap_or(0);
            let (array, reserved) = (std::ptr::null_mut(), std::ptr::null_mut());
            Side3D { x: 0, y: 0, z: 0, lod: 0, kind, host, device, array, reserved, pitch: side.pitch, height }
        };
        let Transfer { width, height, depth, .. } = *self;
        Copy3D { from: side(&self.from), to: side(&self.to), width, height, depth }
    }
}

/// One side of a `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Side2D {
    x: usize,
    y: usize,
    kind: c_uint,
    host: *mut c_void,
    device: u64,
    array: *mut c_void,
    pitch: usize,
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Copy2D {
    from: Side2D,
    to: Side2D,
    width: usize,
    height: usize,
}

/// # Safety
/// `request` is null or valid, and so are the host rows that it names.
unsafe fn copy_2d(request: *const Copy2D, stream: &Stream, until: Return) -> Answer {
    if request.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    let Copy2D { from, to, width, height } = unsafe { request.read_unaligned() };
    let side = |Side2D { x, y, kind, host, device, array, pitch }: Side2D| {
        let reserved = std::ptr::null_mut();
        Side3D { x, y, z: 0, lod: 0, kind, host, device, array, reserved, pitch, height: 0 }
    };
    let request = Copy3D { from: side(from), to: side(to), width, height, depth: 1 };
    copy(request.transfer(&stream.context.device)?, stream, until)
}

/// # Safety
/// As for [`copy_2d`].
unsafe fn copy_3d(request: *const Copy3D, stream: &Stream, until: Return) -> Answer {
    // SAFETY: the caller vouches for it.
    let request = unsafe { Copy3D::read(request)? };
    copy(request.transfer(&stream.context.device)?, stream, until)
}

/// A copy with its two ends.
fn flat(to: End, from: End, bytes: usize, stream: &Stream, until: Return) -> Answer {
    copy(Transfer::flat(to, from, bytes), stream, until)
}

/// The contexts of a copy between devices.
fn peers(to: *mut c_void, from: *mut c_void) -> Answer<[Arc<Context>; 2]> {
    let contexts = [driver()?.context(to)?, driver()?.context(from)?];
    contexts.iter().try_for_each(|context| context.check())?;
    Ok(contexts)
}

driver_api! {
    fn cuMemcpy(to: u64, from: u64, bytes: usize) {
        let stream = default_stream()?;
        let near = &stream.context.device;
        flat(End::unified(to, near), End::unified(from, near), bytes, &stream, Return::Done)
    }

    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        let near = &stream.context.device;
        flat(End::unified(to, near), End::unified(from, near), bytes, &stream, Return::Submitted)
    }

    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) {
        let stream = default_stream()?;
        flat(End::device(to, &stream.context.device), End::host(from, &stream.context.device), bytes, &stream, Return::Done)
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        flat(End::device(to, &stream.context.device), End::host(from, &stream.context.device), bytes, &stream, Return::Submitted)
    }

    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) {
        let stream = default_stream()?;
        flat(End::host(to, &stream.context.device), End::device(from, &stream.context.device), bytes, &stream, Return::Done)
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        flat(End::host(to, &stream.context.device), End::device(from, &stream.context.device), bytes, &stream, Return::Submitted)
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        let stream = default_stream()?;
        let near = &stream.context.device;
        flat(End::device(to, near), End::device(from, near), bytes, &stream, Return::Done)
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        let near = &stream.context.device;
        flat(End::device(to, near), End::device(from, near), bytes, &stream, Return::Submitted)
    }

    fn cuMemcpyPeer(to: u64, to_context: *mut c_void, from: u64, from_context: *mut c_void, bytes: usize) {
        let stream = default_stream()?;
        // As documented, it is serialised with all work of the three contexts.
        for context in peers(to_context, from_context)? {
            context.drain();
        }
        stream.context.drain();
        let near = &stream.context.device;
        flat(End::device(to, near), End::device(from, near), bytes, &stream, Return::Done)?;
        stream.context.drain();
        Ok(())
    }

    fn cuMemcpyPeerAsync(to: u64, to_context: *mut c_void, from: u64, from_context: *mut c_void, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        peers(to_context, from_context)?;
        let near = &stream.context.device;
        flat(End::device(to, near), End::device(from, near), bytes, &stream, Return::Submitted)
    }

    fn cuMemcpy2D_v2(request: *const Copy2D) {
        copy_2d(request, &*default_stream()?, Return::Done)
    }

    fn cuMemcpy2DUnaligned_v2(request: *const Copy2D) {
        copy_2d(request, &*default_stream()?, Return::Done)
    }

    fn cuMemcpy2DAsync_v2(request: *const Copy2D, stream: *mut c_void) {
        copy_2d(request, &*resolve(stream)?, Return::Submitted)
    }

    fn cuMemcpy3D_v2(request: *const Copy3D) {
        copy_3d(request, &*default_stream()?, Return::Done)
    }

    fn cuMemcpy3DAsync_v2(request: *const Copy3D, stream: *mut c_void) {
        copy_3d(request, &*resolve(stream)?, Return::Submitted)
    }
}
