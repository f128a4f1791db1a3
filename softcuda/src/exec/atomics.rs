//! Atomic operations.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::fault::FaultKind;
use crate::lower::op::{Atom, AtomOp, Mode, NONE};
use crate::memory::{DEFINED, fill_bytes, scan_shadow};
use crate::ptx::{Space, Type};

use super::access::{addresses, lanes_of, sectors, spaces};
use super::banks::atomic_wavefronts;
use super::cluster::Cluster;
use super::float::{self, bits, f, flush, from_bf16, from_f16, to_bf16, to_f16};
use super::races::{Act, Touch};
use super::shared::in_flight;
use super::state::{BUSY, Problem, Shared, Step, WRITTEN, Warp, Worker};
use super::traffic::Kind;
use super::{LOCAL_WINDOW, SHARED_WINDOW};

/// The value after an operation, or `None` to leave it. f32 additions on global memory flush subnormals:
/// "whereas atom.add.f32 on shared memory supports subnormal inputs", however it is addressed.
fn apply(atom: &Atom, global: bool, old: u64, a: u64, b: u64) -> Option<u64> {
    let halves = |function: fn(u32, u32) -> u32| {
        let low = function(old as u32 & 0xffff, a as u32 & 0xffff);
        let high = function(old as u32 >> 16, a as u32 >> 16);
        u64::from(low | high << 16)
    };
    fn add_f16(x: u32, y: u32) -> u32 {
        to_f16(bits(f(from_f16(x)) + f(from_f16(y))))
    }
    fn add_bf16(x: u32, y: u32) -> u32 {
        to_bf16(bits(f(from_bf16(x)) + f(from_bf16(y))))
    }
    fn extremum_f16(maximum: bool, x: u32, y: u32) -> u32 {
        to_f16(float::extremum(Mode::PLAIN, maximum, from_f16(x), from_f16(y)))
    }
    fn extremum_bf16(maximum: bool, x: u32, y: u32) -> u32 {
        to_bf16(float::extremum(Mode::PLAIN, maximum, from_bf16(x), from_bf16(y)))
    }
    let signed32 = atom.ty == Type::S32;
    let signed64 = atom.ty == Type::S64;
    Some(match (atom.op, atom.ty) {
        (AtomOp::Add, Type::F32) => {
            let flushed = |x: u64| if global { flush(x as u32) } else { x as u32 };
            let sum = bits(f(flushed(old)) + f(flushed(a)));
            u64::from(if global { flush(sum) } else { sum })
        }
        (AtomOp::Add, Type::F64) => float::propagate64([old, a], (f64::from_bits(old) + f64::from_bits(a)).to_bits()),
        (AtomOp::Add, Type::F16) => u64::from(add_f16(old as u32, a as u32)),
        (AtomOp::Add, Type::Bf16) => u64::from(add_bf16(old as u32, a as u32)),
        (AtomOp::Add, Type::F16x2) => halves(add_f16),
        (AtomOp::Add, Type::Bf16x2) => halves(add_bf16),
        (AtomOp::Min, Type::F16) => u64::from(extremum_f16(false, old as u32, a as u32)),
        (AtomOp::Max, Type::F16) => u64::from(extremum_f16(true, old as u32, a as u32)),
        (AtomOp::Min, Type::Bf16) => u64::from(extremum_bf16(false, old as u32, a as u32)),
        (AtomOp::Max, Type::Bf16) => u64::from(extremum_bf16(true, old as u32, a as u32)),
        (AtomOp::Min, Type::F16x2) => halves(|x, y| extremum_f16(false, x, y)),
        (AtomOp::Max, Type::F16x2) => halves(|x, y| extremum_f16(true, x, y)),
        (AtomOp::Min, Type::Bf16x2) => halves(|x, y| extremum_bf16(false, x, y)),
        (AtomOp::Max, Type::Bf16x2) => halves(|x, y| extremum_bf16(true, x, y)),
        (AtomOp::Add, _) => old.wrapping_add(a),
        (AtomOp::Min, _) if signed32 => (old as i32).min(a as i32) as u32 as u64,
        (AtomOp::Max, _) if signed32 => (old as i32).max(a as i32) as u32 as u64,
        (AtomOp::Min, _) if signed64 => (old as i64).min(a as i64) as u64,
        (AtomOp::Max, _) if signed64 => (old as i64).max(a as i64) as u64,
        (AtomOp::Min, _) => old.min(a),
        (AtomOp::Max, _) => old.max(a),
        (AtomOp::And, _) => old & a,
        (AtomOp::Or, _) => old | a,
        (AtomOp::Xor, _) => old ^ a,
        (AtomOp::Exch, _) => a,
        (AtomOp::Cas, _) => return (old == a).then_some(b),
        (AtomOp::Inc, _) => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        (AtomOp::Dec, _) => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
    })
}

/// Applies a function to the value at an address, atomically.
///
/// # Safety
/// `at` must be valid for reads and writes of `size` bytes and aligned to them.
unsafe fn update(at: *mut u8, size: usize, function: impl Fn(u64) -> Option<u64>) -> u64 {
    // SAFETY: passed on.
    unsafe {
        match size {
            2 => {
                let cell = AtomicU16::from_ptr(at.cast());
                let step = |old| function(u64::from(old)).map(|new| new as u16);
                u64::from(cell.fetch_update(SeqCst, SeqCst, step).unwrap_or_else(|old| old))
            }
            4 => {
                let cell = AtomicU32::from_ptr(at.cast());
                let step = |old| function(u64::from(old)).map(|new| new as u32);
                u64::from(cell.fetch_update(SeqCst, SeqCst, step).unwrap_or_else(|old| old))
            }
            _ => {
                let cell = AtomicU64::from_ptr(at.cast());
                cell.fetch_update(SeqCst, SeqCst, function).unwrap_or_else(|old| old)
            }
        }
    }
}

impl Worker<'_> {
    /// An atomic operation, lane after lane.
    #[inline(never)]
    pub(super) fn atomic(&mut self, cluster: &mut Cluster, warp: &mut Warp, atom: &Atom, mask: u32) -> Step {
        let at = addresses(warp, &atom.at, mask)?;
        let size = usize::from(atom.at.size);
        let operand = |warp: &Warp, index: usize, lane: usize| match atom.at.regs[index] {
            NONE => 0,
            reg if atom.at.wide => warp.r.get64(reg)[lane],
            reg => u64::from(warp.r.get32(reg)[lane]),
        };
        for &reg in &atom.at.regs[..usize::from(atom.at.count)] {
            let undefined = mask & !warp.r.defined(reg);
            if undefined != 0 {
                let lane = undefined.trailing_zeros() as usize;
                let detail = "an operand depends on uninitialised data".to_owned();
                return Err(Problem::new(FaultKind::Uninitialised, lane, at[lane], detail));
            }
        }
        let groups = match atom.at.space {
            Some(Space::Global) => [(0, mask), (0, 0)],
            Some(Space::Shared | Space::Cluster) => [(SHARED_WINDOW, mask), (0, 0)],
            _ => {
                let mut groups = [(0, 0); 2];
                for (window, lanes) in spaces(&at, mask) {
                    match window {
                        0 => groups[0] = (0, lanes),
                        SHARED_WINDOW => groups[1] = (SHARED_WINDOW, lanes),
                        _ => {
                            let lane = lanes.trailing_zeros() as usize;
                            let space = if window == LOCAL_WINDOW { "local" } else { "parameter" };
                            let detail = format!("atomic operation on {space} memory");
                            let kind = FaultKind::Unsupported;
                            return Err(Problem::new(kind, lane, at[lane], detail));
                        }
                    }
                }
                groups
            }
        };
        self.polls += u32::from(atom.d != NONE);
        for (window, lanes) in groups.into_iter().filter(|group| group.1 != 0) {
            let base = if atom.at.space.is_some() { 0 } else { window };
            let offsets = at.map(|address| address.wrapping_sub(base));
            let mut places = Vec::new();
            if window != 0 {
                places = cluster.ranks(&offsets, lanes, "atomic operation")?;
                for &(rank, lanes, _) in &places {
                    let what = (atom.at.site, "atomic operation");
                    self.visit(&cluster.blocks[rank], cluster.own(), warp, lanes, what)?;
                }
            }
            for lane in lanes_of(lanes) {
                let address = at[lane];
                let (a, b) = (operand(warp, 0, lane), operand(warp, 1, lane));
                let align = u64::from(atom.align);
                if address & (align - 1) != 0 {
                    let detail = format!(
                        "atomic operation on {align} bytes at {address:#x}, which is not aligned \
                         to {align}"
                    );
                    return Err(Problem::new(FaultKind::Misaligned, lane, address, detail));
                }
                let (old, was_defined) = if window == 0 {
                    self.atomic_global(atom, lane, address, size, (a, b))?
                } else {
                    let address = if atom.at.space.is_none() { address - window } else { address };
                    let (rank, offset) = cluster.place(address, lane, "atomic operation")?;
                    if rank != cluster.me && atom.at.space == Some(Space::Shared) {
                        let detail = format!("atomic operation on `.shared::cta` in block {rank} of the cluster");
                        return Err(Problem::new(FaultKind::OutOfBounds, lane, address, detail));
                    }
                    self.atomic_shared(&mut cluster.blocks[rank], atom, lane, offset, size, (a, b))?
                };
                if atom.d != NONE {
                    self.set_old(warp, atom, lane, old, was_defined);
                }
            }
            let touch = Touch::of(&atom.at, Act::Update);
            if window == 0 {
                self.race_global(cluster.own(), warp, &at, lanes, size, touch)?;
                let bytes = u64::from(lanes.count_ones()) * size as u64;
                self.count_write_request(bytes, sectors(&at, lanes, size));
                self.trace(Kind::Atomic, &at, lanes, size);
            } else {
                for (rank, lanes, offsets) in places {
                    self.race_shared(&cluster.blocks[rank], cluster.own(), warp, &offsets, lanes, size, touch)?;
                }
                self.count_shared(atomic_wavefronts(&offsets, lanes, size), lanes, size, true);
            }
        }
        Ok(())
    }

    fn set_old(&self, warp: &mut Warp, atom: &Atom, lane: usize, old: u64, defined: bool) {
        let undefined = if defined { 0 } else { u64::MAX };
        if atom.at.wide {
            let mut values = [0; 32];
            values[lane] = old;
            warp.r.set64(atom.d, &values, 1 << lane);
            warp.r.set_undefined64(atom.d, lane, undefined);
        } else {
            let mut values = [0; 32];
            values[lane] = old as u32;
            warp.r.set32(atom.d, &values, 1 << lane);
            warp.r.set_undefined32(atom.d, lane, undefined as u32);
        }
    }

    pub(super) fn atomic_global(
        &mut self,
        atom: &Atom,
        lane: usize,
        address: u64,
        size: usize,
        (a, b): (u64, u64),
    ) -> Step<(u64, bool)> {
        let Some((window, offset)) = self.window(atom.at.site, address, size as u64) else {
            return Err(self.outside(lane, address, size, "atomic operation"));
        };
        if window.read_only {
            let detail = format!("atomic operation at {address:#x}, which is constant");
            return Err(Problem::new(FaultKind::WriteToReadOnly, lane, address, detail));
        }
        // SAFETY: the range lies inside the allocation and has a shadow byte for each byte.
        let (defined, _) = unsafe { scan_shadow(window.shadow.add(offset), size, 0) };
        must_be_defined(atom, defined, lane, address, size)?;
        // SAFETY: the range lies inside the allocation; its alignment was checked, and that of
        // allocations is larger.
        let old = unsafe {
            let old = update(window.data.add(offset), size, |old| apply(atom, true, old, a, b));
            fill_bytes(window.shadow.add(offset), DEFINED | self.launch.tag, size);
            old
        };
        window.mark_written(offset, size);
        self.progress += u64::from(apply(atom, true, old, a, b).is_some_and(|new| new != old));
        Ok((old, defined))
    }

    pub(super) fn atomic_shared(
        &mut self,
        shared: &mut Shared,
        atom: &Atom,
        lane: usize,
        offset: u64,
        size: usize,
        (a, b): (u64, u64),
    ) -> Step<(u64, bool)> {
        let total = shared.bytes.len();
        if offset.saturating_add(size as u64) > total as u64 {
            let detail = format!(
                "atomic operation on {size} bytes at offset {offset:#x} of shared memory, which \
                 has {total} bytes"
            );
            return Err(Problem::new(FaultKind::OutOfBounds, lane, offset, detail));
        }
        let start = offset as usize;
        let states = &mut shared.state[start..start + size];
        if states.iter().any(|state| state & BUSY != 0) {
            return Err(in_flight(states, lane, offset, size, "atomic operation"));
        }
        let defined = states.iter().all(|&state| state & DEFINED != 0);
        must_be_defined(atom, defined, lane, offset, size)?;
        states.fill(DEFINED | WRITTEN);
        let bytes = &mut shared.bytes[start..start + size];
        let mut old = [0; 8];
        old[..size].copy_from_slice(bytes);
        let old = u64::from_le_bytes(old);
        if let Some(new) = apply(atom, false, old, a, b) {
            bytes.copy_from_slice(&new.to_le_bytes()[..size]);
            self.progress += u64::from(new != old);
        }
        Ok((old, defined))
    }
}

/// Only an exchange may meet memory that nothing wrote.
fn must_be_defined(atom: &Atom, defined: bool, lane: usize, address: u64, size: usize) -> Step {
    if defined || atom.op == AtomOp::Exch {
        return Ok(());
    }
    let detail = format!("atomic operation on {size} uninitialised bytes at {address:#x}");
    Err(Problem::new(FaultKind::Uninitialised, lane, address, detail))
}
