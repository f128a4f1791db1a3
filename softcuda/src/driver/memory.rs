//! Device memory, pinned host memory, fills, and what is known of a pointer.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::calls::running;
use super::pinned::{Pages, is_mapped};
use super::state::{Context, DRIVER, Device, Pinned, Stream, current, lock};
use super::status::Status;
use super::stream::resolve;
use super::work::{Block, Work};
use super::{Answer, capture, driver, driver_api, put, put_if_wanted};
use crate::fault::Fault;
use crate::memory::room::is_set_aside;

/// Rows of pitched allocations begin at multiples of this.
const PITCH: usize = 512;

/// Allocates in stream order. Zero bytes give a null pointer, which the matching free accepts:
/// cudarc allocates empty slices this way.
pub(super) fn allocate_async(out: *mut u64, bytes: usize, stream: &Stream, pool: u64) -> Answer {
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let address = if bytes == 0 { 0 } else { reserve(bytes as u64, stream, pool)? };
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, address) }
}

fn reserve(bytes: u64, stream: &Stream, pool: u64) -> Answer<u64> {
    let device = &stream.context.device;
    let address = device.reserve(bytes)?;
    // What a graph allocates is the host's when the graph is launched.
    if !stream.is_capturing() {
        device.enter(address, bytes, stream.context.handle, pool, None);
    }
    stream.submit(Work::Allocate(Block { device: device.clone(), address, bytes }))?;
    Ok(address)
}

/// Allocates at once.
fn allocate(out: *mut u64, bytes: usize) -> Answer {
    let context = current()?;
    capture::refuse_unsafe(&context)?;
    context.verdict()?;
    if bytes == 0 || out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let address = context.device.allocate(bytes as u64, context.handle, 0)?;
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, address) }
}

/// The device that owns an address; with no owner the current one, to word the refusal.
fn owner(address: u64, current: &Arc<Device>) -> Arc<Device> {
    DRIVER.owner_of(address, current).unwrap_or_else(|| current.clone())
}

/// Frees when all work of the contexts concerned is done.
fn free(address: u64) -> Answer {
    let context = current()?;
    capture::refuse_unsafe(&context)?;
    context.synchronise()?;
    if address == 0 {
        return Ok(());
    }
    let device = owner(address, &context.device);
    let holder = lock(&device.allocations).get(&address).and_then(|known| DRIVER.contexts.get(known.context));
    if let Some(holder) = holder {
        holder.drain();
    }
    let _work = device.work();
    device.deallocate(address)
}

/// Frees in stream order.
fn free_async(address: u64, stream: &Stream) -> Answer {
    if address == 0 {
        return Ok(());
    }
    let device = owner(address, &stream.context.device);
    if !stream.is_capturing() {
        device.release_allocation(address)?;
    }
    stream.submit(Work::Free(Block { device, address, bytes: 0 })).map(|_| ())
}

/// Sets rows of elements.
#[derive(Clone)]
pub(crate) struct Fill {
    device: Arc<Device>,
    pub(super) address: u64,
    pub(super) pitch: usize,
    pub(super) value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub(super) element: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Fill {
    /// Checks the request; `None` if there is nothing to set.
    pub(super) fn new(
        address: u64,
        pitch: usize,
        (value, element): (u32, usize),
        (width, height): (usize, usize),
        near: &Arc<Device>,
    ) -> Answer<Option<Fill>> {
        if width == 0 || height == 0 {
            return Ok(None);
        }
        let row = width.checked_mul(element).ok_or(Status::INVALID_VALUE)?;
        if height > 1 && row > pitch {
            return Err(Status::INVALID_VALUE);
        }
        let aligned = |at: u64| at.is_multiple_of(element as u64);
        if !aligned(address) || (height > 1 && !aligned(pitch as u64)) {
            return Err(
                near.refuse(Status::INVALID_VALUE, format!("memset of {element}-byte elements at {address:#x}"))
            );
        }
        let span = (height - 1).checked_mul(pitch).and_then(|rows| rows.checked_add(row));
        let device = owner(address, near);
        let known = device.memory.check(address, span.ok_or(Status::INVALID_VALUE)? as u64, "memset");
        known.map_err(|fault| near.refuse(Status::INVALID_VALUE, fault))?;
        Ok(Some(Fill { device, address, pitch, value, element, width, height }))
    }

    pub(super) fn run(&self) -> Result<(), Fault> {
        let pattern = &self.value.to_le_bytes()[..self.element];
        (0..self.height).try_for_each(|row| {
            let start = self.address + (row * self.pitch) as u64;
            self.device.memory.fill(start, pattern, self.width as u64)
        })
    }
}

fn fill(address: u64, value: (u32, usize), count: usize, stream: &Stream) -> Answer {
    fill_2d(address, 0, value, (count, 1), stream)
}

/// Memory of the device is set in stream order, whichever function is called.
fn fill_2d(address: u64, pitch: usize, value: (u32, usize), size: (usize, usize), stream: &Stream) -> Answer {
    match Fill::new(address, pitch, value, size, &stream.context.device)? {
        Some(fill) => stream.submit(Work::Fill(fill)).map(|_| ()),
        None => Ok(()),
    }
}

/// The default stream of the current context, on which the functions without a stream work.
pub(super) fn default_stream() -> Answer<Arc<Stream>> {
    resolve(std::ptr::null_mut())
}

/// Enters host memory among what the driver knows, and lets the context's device use it.
fn pin(context: &Context, start: *mut u8, bytes: usize, flags: c_uint, pages: Option<Pages>) -> Answer {
    let device = &context.device;
    device.memory.map_host(start, bytes as u64).map_err(|error| device.refuse(Status::OUT_OF_MEMORY, error))?;
    let (device, pages) = (Arc::downgrade(device), pages.map(Arc::new));
    let (context, id, by) = (context.handle, DRIVER.new_handle(), running());
    lock(&DRIVER.pinned).insert(start as usize, Pinned { bytes, context, flags, pages, id, by, device });
    Ok(())
}

/// Takes it out again, if it is there and was pinned in this way.
fn unpin(address: *mut c_void, owned: bool) -> Option<Pinned> {
    let mut pinned = lock(&DRIVER.pinned);
    pinned.get(&(address as usize)).filter(|block| block.pages.is_some() == owned)?;
    let block = pinned.remove(&(address as usize))?;
    drop(pinned);
    if let Some(device) = block.device.upgrade() {
        device.memory.unmap_host(address as u64);
    }
    Some(block)
}

fn allocate_host(out: *mut *mut c_void, bytes: usize, flags: c_uint) -> Answer {
    let context = current()?;
    if bytes == 0 || out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let pages = Pages::new(bytes)?;
    let start = pages.start();
    pin(&context, start, bytes, flags, Some(pages))?;
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, start.cast::<c_void>()) }
}

/// Waits for the work that may use a pinned block: that of its context, and of the current one.
fn settle_uses(address: usize) {
    let holder = pinned_at(address).and_then(|(_, _, context, _)| DRIVER.contexts.get(context));
    for context in holder.into_iter().chain(current()) {
        context.drain();
    }
}

/// Start and size of the pinned blocks that some addresses lie in.
pub(super) fn pinned_blocks(addresses: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let pinned = lock(&DRIVER.pinned);
    if pinned.is_empty() {
        return Vec::new();
    }
    let block = |address: usize| {
        let (base, block) = pinned.range(..=address).next_back()?;
        (address - base < block.bytes).then_some((*base, block.bytes))
    };
    addresses.filter_map(block).collect()
}

/// The pages that a host address lies in, if they were allocated here.
pub(super) fn pages_at(address: usize) -> Option<Arc<Pages>> {
    let pinned = lock(&DRIVER.pinned);
    let (base, block) = pinned.range(..=address).next_back()?;
    block.pages.clone().filter(|_| address - base < block.bytes)
}

/// The pinned block that contains a host address: its base, size, context and flags.
pub(super) fn pinned_at(address: usize) -> Option<(usize, usize, u64, u32)> {
    let pinned = lock(&DRIVER.pinned);
    let (base, block) = pinned.range(..=address).next_back()?;
    (address - base < block.bytes).then_some((*base, block.bytes, block.context, block.flags))
}

/// Writes one `CUpointer_attribute`.
///
/// # Safety
/// `out` is valid for a write of the attribute's type.
unsafe fn pointer_attribute(out: *mut c_void, attribute: c_uint, address: u64) -> Answer {
    let context = current()?;
    let host = pinned_at(address as usize);
    // Pinned memory is among what its device reaches, but it is the host's.
    let owner = if host.is_some() { None } else { DRIVER.owner_of(address, &context.device) };
    let device = owner.and_then(|device| device.memory.range_of(address).map(|range| (device, range)));
    if device.is_none() && host.is_none() {
        return Err(Status::INVALID_VALUE);
    }
    let allocation = device.as_ref().and_then(|(device, (base, _))| lock(&device.allocations).get(base).copied());
    let managed = allocation.is_some_and(|allocation| allocation.managed.is_some());
    // SAFETY: every `put` writes the type that the attribute is documented to have, for which the
    // caller made room.
    unsafe {
        match attribute {
            1 => {
                let of_host = host.map(|(_, _, context, _)| context);
                let owner = allocation.map(|allocation| allocation.context).or(of_host);
                put(out.cast::<u64>(), owner.unwrap_or(context.handle))
            }
            2 => put(out.cast::<c_uint>(), if device.is_some() { 2 } else { 1 }),
            3 => put(out.cast::<u64>(), address),
            4 if host.is_some() || managed => put(out.cast::<u64>(), address),
            8 => put(out.cast::<u8>(), u8::from(managed)),
            6 | 10 | 15 | 21 => put(out.cast::<u8>(), 0),
            7 | 20 => put(out.cast::<u64>(), allocation.map_or(0, |allocation| allocation.id)),
            9 => {
                let ordinal = device.map_or(context.device.ordinal, |(device, _)| device.ordinal);
                put(out.cast::<c_int>(), ordinal as c_int)
            }
            11 | 12 | 18 | 19 => {
                let of_host = host.map(|(base, bytes, ..)| (base as u64, bytes as u64));
                let (base, bytes) = device.map(|(_, range)| range).or(of_host).unwrap_or_default();
                put(out.cast::<u64>(), if matches!(attribute, 11 | 19) { base } else { bytes })
            }
            13 => put(out.cast::<u8>(), 1),
            14 => put(out.cast::<u64>(), 0),
            16 => put(out.cast::<c_uint>(), 3),
            17 => put(out.cast::<u64>(), allocation.map_or(0, |allocation| allocation.pool)),
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

driver_api! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let device = &current()?.device;
        put(free, device.memory.limit().saturating_sub(device.memory.used()) as usize)?;
        put(total, device.config.memory_bytes as usize)
    }

    fn cuMemAlloc_v2(out: *mut u64, bytes: usize) {
        allocate(out, bytes)
    }

    fn cuMemAllocPitch_v2(out: *mut u64, pitch: *mut usize, width: usize, height: usize, element: c_uint) {
        if width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
            return Err(Status::INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(PITCH).ok_or(Status::OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(Status::OUT_OF_MEMORY)?;
        current()?;
        put(pitch, row)?;
        allocate(out, bytes)
    }

    fn cuMemAllocAsync(out: *mut u64, bytes: usize, stream: *mut c_void) {
        let stream = resolve(stream)?;
        let pool = super::pool::current_pool(&stream.context.device);
        allocate_async(out, bytes, &stream, pool)
    }

    fn cuMemFree_v2(address: u64) {
        free(address)
    }

    fn cuMemFreeAsync(address: u64, stream: *mut c_void) {
        free_async(address, &*resolve(stream)?)
    }

    fn cuMemGetAddressRange_v2(base: *mut u64, bytes: *mut usize, address: u64) {
        let device = &current()?.device;
        let range = DRIVER.owner_of(address, device).and_then(|owner| owner.memory.range_of(address));
        let (start, size) = range.ok_or(Status::NOT_FOUND)?;
        put_if_wanted(base, start);
        put_if_wanted(bytes, size as usize);
        Ok(())
    }

    fn cuMemHostAlloc(out: *mut *mut c_void, bytes: usize, flags: c_uint) {
        if flags > 7 {
            return Err(Status::INVALID_VALUE);
        }
        allocate_host(out, bytes, flags)
    }

    fn cuMemAllocHost_v2(out: *mut *mut c_void, bytes: usize) {
        allocate_host(out, bytes, 0)
    }

    fn cuMemFreeHost(address: *mut c_void) {
        driver()?;
        settle_uses(address as usize);
        let block = unpin(address, true).ok_or(Status::INVALID_VALUE)?;
        // A graph may still have copies from or to it.
        block.pages.iter().for_each(|pages| pages.set_freed());
        Ok(())
    }

    fn cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint) {
        let context = current()?;
        if address.is_null() || bytes == 0 || flags > 15 {
            return Err(Status::INVALID_VALUE);
        }
        let start = address as usize;
        let end = start.checked_add(bytes).ok_or(Status::INVALID_VALUE)?;
        // What is set aside is managed memory, or nothing.
        if !is_mapped(start, bytes) || is_set_aside(start as u64) {
            let reason = format!("cuMemHostRegister: no memory of the host's at {start:#x} to {end:#x}");
            return Err(context.device.refuse(Status::INVALID_VALUE, reason));
        }
        let known = {
            let pinned = lock(&DRIVER.pinned);
            // The blocks are disjoint, so only the last one that begins before the end can overlap.
            let last = pinned.range(..end).next_back();
            last.is_some_and(|(base, block)| base + block.bytes > start)
        };
        if known {
            return Err(Status::HOST_MEMORY_ALREADY_REGISTERED);
        }
        pin(&context, address.cast(), bytes, flags, None)
    }

    fn cuMemHostUnregister(address: *mut c_void) {
        driver()?;
        settle_uses(address as usize);
        unpin(address, false).map(|_| ()).ok_or(Status::HOST_MEMORY_NOT_REGISTERED)
    }

    fn cuMemHostGetFlags(out: *mut c_uint, address: *mut c_void) {
        current()?;
        let (.., flags) = pinned_at(address as usize).ok_or(Status::INVALID_VALUE)?;
        put(out, flags)
    }

    fn cuMemHostGetDevicePointer_v2(out: *mut u64, address: *mut c_void, flags: c_uint) {
        current()?;
        if flags != 0 || pinned_at(address as usize).is_none() {
            return Err(Status::INVALID_VALUE);
        }
        // Under unified addressing both sides use the same one.
        put(out, address as u64)
    }

    fn cuMemsetD8_v2(address: u64, value: u8, count: usize) {
        fill(address, (u32::from(value), 1), count, &*default_stream()?)
    }

    fn cuMemsetD16_v2(address: u64, value: u16, count: usize) {
        fill(address, (u32::from(value), 2), count, &*default_stream()?)
    }

    fn cuMemsetD32_v2(address: u64, value: u32, count: usize) {
        fill(address, (value, 4), count, &*default_stream()?)
    }

    fn cuMemsetD8Async(address: u64, value: u8, count: usize, stream: *mut c_void) {
        fill(address, (u32::from(value), 1), count, &*resolve(stream)?)
    }

    fn cuMemsetD16Async(address: u64, value: u16, count: usize, stream: *mut c_void) {
        fill(address, (u32::from(value), 2), count, &*resolve(stream)?)
    }

    fn cuMemsetD32Async(address: u64, value: u32, count: usize, stream: *mut c_void) {
        fill(address, (value, 4), count, &*resolve(stream)?)
    }

    fn cuMemsetD2D8_v2(address: u64, pitch: usize, value: u8, width: usize, height: usize) {
        fill_2d(address, pitch, (u32::from(value), 1), (width, height), &*default_stream()?)
    }

    fn cuMemsetD2D16_v2(address: u64, pitch: usize, value: u16, width: usize, height: usize) {
        fill_2d(address, pitch, (u32::from(value), 2), (width, height), &*default_stream()?)
    }

    fn cuMemsetD2D32_v2(address: u64, pitch: usize, value: u32, width: usize, height: usize) {
        fill_2d(address, pitch, (value, 4), (width, height), &*default_stream()?)
    }

    fn cuMemsetD2D8Async(address: u64, pitch: usize, value: u8, width: usize, height: usize, stream: *mut c_void) {
        fill_2d(address, pitch, (u32::from(value), 1), (width, height), &*resolve(stream)?)
    }

    fn cuMemsetD2D16Async(address: u64, pitch: usize, value: u16, width: usize, height: usize, stream: *mut c_void) {
        fill_2d(address, pitch, (u32::from(value), 2), (width, height), &*resolve(stream)?)
    }

    fn cuMemsetD2D32Async(address: u64, pitch: usize, value: u32, width: usize, height: usize, stream: *mut c_void) {
        fill_2d(address, pitch, (value, 4), (width, height), &*resolve(stream)?)
    }

    fn cuPointerGetAttribute(out: *mut c_void, attribute: c_uint, address: u64) {
        pointer_attribute(out, attribute, address)
    }

    fn cuPointerGetAttributes(count: c_uint, attributes: *const c_uint, outs: *const *mut c_void, address: u64) {
        current()?;
        if attributes.is_null() || outs.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        for index in 0..count as usize {
            let (attribute, out) = (attributes.add(index).read(), outs.add(index).read());
            // As documented, unknown pointers are no error here: memory type, device ordinal and
            // the rest are zeroed. The smallest type any attribute has is one byte.
            if pointer_attribute(out, attribute, address).is_err() {
                let zero = match attribute {
                    6 | 8 | 10 | 13 | 15 | 21 => put(out.cast::<u8>(), 0),
                    2 | 16 => put(out.cast::<c_uint>(), 0),
                    9 => put(out.cast::<c_int>(), -2),
                    1 | 3 | 4 | 7 | 11 | 12 | 14 | 17..=20 => put(out.cast::<u64>(), 0),
                    _ => Err(Status::INVALID_VALUE),
                };
                zero?;
            }
        }
        Ok(())
    }
}
