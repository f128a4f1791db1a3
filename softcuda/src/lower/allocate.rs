//! Virtual registers to slots of the register file.
//!
//! Liveness by data flow over the basic blocks, then a linear scan. What a lane does depends on
//! its own path through the code only, so this is sound for diverged warps: lanes never share a
//! column of the register file. A register that may be read before it is written on some path is
//! live from the start, so it has its slot to itself until then and reads as undefined.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::context::Content;
use super::op::{Inst, Op, PredRef};
use super::special::Special;
use super::visit::Role;

/// The register file of a kernel. A slot holds 32 bits of each lane; 64-bit registers take two.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Slots of a warp.
    pub slots: u32,
    /// Slots that hold the same immediate in every lane, with its low half.
    pub constants32: Vec<(u32, u32)>,
    /// The same for 64-bit immediates.
    pub constants64: Vec<(u32, u64)>,
    /// Slots that hold special registers.
    pub specials: Vec<(u32, Special)>,
    /// Slots that some path may read before it writes them; two for a 64-bit register.
    pub unwritten: Vec<u32>,
    /// Most 32-bit registers live at once, a lower bound of what a compiler needs.
    pub pressure: u32,
}

/// The first and last operation at which a register's value matters.
#[derive(Clone, Copy)]
struct Interval {
    reg: u32,
    start: u32,
    end: u32,
}

struct Block {
    start: usize,
    end: usize,
    next: Vec<usize>,
}

/// Blocks of straight code and what may follow each.
fn blocks(code: &[Inst]) -> Vec<Block> {
    let mut leader = vec![false; code.len() + 1];
    leader[0] = true;
    for (index, inst) in code.iter().enumerate() {
        match &inst.op {
            Op::Bra { to } => {
                leader[*to as usize] = true;
                leader[index + 1] = true;
            }
            Op::Brx { targets, .. } => {
                targets.iter().for_each(|&to| leader[to as usize] = true);
                leader[index + 1] = true;
            }
            Op::Exit | Op::Trap => leader[index + 1] = true,
            _ => {}
        }
    }
    let starts: Vec<usize> = (0..code.len()).filter(|&index| leader[index]).collect();
    let block_at = |index: usize| starts.partition_point(|&start| start < index);
    let count = starts.len();
    (0..count)
        .map(|number| {
            let (start, end) = (starts[number], starts.get(number + 1).copied().unwrap_or(code.len()));
            let last = &code[end - 1];
            let guarded = last.guard != PredRef::TRUE;
            let mut next = Vec::new();
            let falls = match &last.op {
                Op::Bra { to } => {
                    next.push(block_at(*to as usize));
                    guarded
                }
                Op::Brx { targets, .. } => {
                    next.extend(targets.iter().map(|&to| block_at(to as usize)));
                    guarded
                }
                Op::Exit | Op::Trap => guarded,
                _ => true,
            };
            if falls && number + 1 < count {
                next.push(number + 1);
            }
            next.retain(|&block| block < count);
            Block { start, end, next }
        })
        .collect()
}

/// Bits that the sets of a kernel may have together: 256 MiB in each of three.
const MAX_SET_BITS: usize = 1 << 31;

/// Bit sets of registers, one per block. Only registers that some block reads without having
/// written them have a place there: the others live inside one block.
struct Sets {
    words: usize,
    bits: Vec<u64>,
}

impl Sets {
    fn new(sets: usize, registers: usize) -> Sets {
        let words = registers.div_ceil(64);
        Sets { words, bits: vec![0; sets * words] }
    }

    fn get(&self, set: usize) -> &[u64] {
        &self.bits[set * self.words..(set + 1) * self.words]
    }

    fn insert(&mut self, set: usize, place: u32) {
        self.bits[set * self.words + place as usize / 64] |= 1 << (place % 64);
    }
}

/// The places that are set.
fn ones(words: &[u64]) -> impl Iterator<Item = u32> {
    words.iter().enumerate().flat_map(|(word, &bits)| {
        (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| word as u32 * 64 + bit)
    })
}

/// Renumbers the registers of `code` from virtual ones to slots; `None` if that needs too much
/// memory.
pub(super) fn allocate(code: &mut [Inst], contents: &[Content]) -> Option<Frame> {
    // Number densely the registers that occur: declarations are generous.
    let mut dense = vec![u32::MAX; contents.len()];
    let mut used = Vec::new();
    for inst in code.iter_mut() {
        inst.op.visit(|reg, _| {
            let number = &mut dense[*reg as usize];
            if *number == u32::MAX {
                *number = used.len() as u32;
                used.push(contents[*reg as usize]);
            }
            *reg = *number;
        });
    }
    let (intervals, unwritten) = intervals(code, &used)?;
    let mut frame = Frame::default();
    let mut slot_of = vec![0u32; used.len()];
    let mut next = 0;
    for (number, content) in used.iter().enumerate() {
        let slot = match *content {
            Content::Const32(bits) => {
                frame.constants32.push((next, bits));
                1
            }
            Content::Special(special) => {
                frame.specials.push((next, special));
                1
            }
            Content::Const64(bits) => {
                frame.constants64.push((next, bits));
                2
            }
            Content::Narrow | Content::Wide => 0,
        };
        slot_of[number] = next;
        next += slot;
    }
    for (wide, size) in [(true, 2), (false, 1)] {
        let (assignment, count) = scan(intervals.iter().filter(|i| used[i.reg as usize].wide() == wide));
        for (reg, index) in assignment {
            slot_of[reg as usize] = next + index * size;
        }
        next += count * size;
        frame.pressure += count * size;
    }
    frame.slots = next;
    for reg in unwritten {
        let slot = slot_of[reg as usize];
        let size = if used[reg as usize].wide() { 2 } else { 1 };
        frame.unwritten.extend(slot..slot + size);
    }
    for inst in code.iter_mut() {
        inst.op.visit(|reg, _| *reg = slot_of[*reg as usize]);
    }
    Some(frame)
}

/// Registers that blocks read before they write them: a place in the sets for each, the registers
/// by place, and the pairs of block and register.
fn exposed(code: &mut [Inst], blocks: &[Block], used: &[Content]) -> (Vec<u32>, Vec<u32>, Vec<(usize, u32)>) {
    let mut places = vec![u32::MAX; used.len()];
    let mut registers = Vec::new();
    let mut needs = Vec::new();
    // The last block that wrote a register, or noted that it needs it.
    let mut settled = vec![usize::MAX; used.len()];
    for (number, block) in blocks.iter().enumerate() {
        for inst in &mut code[block.start..block.end] {
            let partial = inst.guard != PredRef::TRUE;
            inst.op.visit(|&mut reg, role| {
                if !written(used, reg) || settled[reg as usize] == number {
                    return;
                }
                settled[reg as usize] = number;
                if role == Role::Use || partial {
                    let place = &mut places[reg as usize];
                    if *place == u32::MAX {
                        *place = registers.len() as u32;
                        registers.push(reg);
                    }
                    needs.push((number, *place));
                }
            });
        }
    }
    (places, registers, needs)
}

fn written(used: &[Content], reg: u32) -> bool {
    matches!(used[reg as usize], Content::Narrow | Content::Wide)
}

/// The lifetimes of all registers that the kernel writes, by where they start, and the registers
/// that may be read before they are written; `None` if that is more than there is room for.
fn intervals(code: &mut [Inst], used: &[Content]) -> Option<(Vec<Interval>, Vec<u32>)> {
    let blocks = blocks(code);
    let (places, registers, needs) = exposed(code, &blocks, used);
    if blocks.len().checked_mul(registers.len())? > MAX_SET_BITS {
        return None;
    }
    let mut kills = Sets::new(blocks.len(), registers.len());
    for (number, block) in blocks.iter().enumerate() {
        for inst in code[block.start..block.end].iter_mut().filter(|inst| inst.guard == PredRef::TRUE) {
            inst.op.visit(|&mut reg, role| {
                let place = places[reg as usize];
                if role == Role::Def && place != u32::MAX {
                    kills.insert(number, place);
                }
            });
        }
    }
    // Live on entry to each block: needed there, or live later and not written there.
    let mut live_in = Sets::new(blocks.len(), registers.len());
    for (number, place) in needs {
        live_in.insert(number, place);
    }
    let mut live_out = Sets::new(blocks.len(), registers.len());
    let mut before = vec![Vec::new(); blocks.len()];
    for (number, block) in blocks.iter().enumerate() {
        block.next.iter().for_each(|&next| before[next].push(number));
    }
    let mut work: Vec<usize> = (0..blocks.len()).collect();
    let mut queued = vec![true; blocks.len()];
    while let Some(number) = work.pop() {
        queued[number] = false;
        let mut changed = false;
        for word in 0..live_in.words {
            let out = blocks[number].next.iter().fold(0, |bits, &next| bits | live_in.get(next)[word]);
            let at = number * live_in.words + word;
            live_out.bits[at] = out;
            let new = live_in.bits[at] | out & !kills.bits[at];
            changed |= new != live_in.bits[at];
            live_in.bits[at] = new;
        }
        if changed {
            for &previous in &before[number] {
                if !std::mem::replace(&mut queued[previous], true) {
                    work.push(previous);
                }
            }
        }
    }
    let mut ranges = vec![(u32::MAX, 0u32); used.len()];
    let mut touch = |reg: u32, at: usize| {
        let range = &mut ranges[reg as usize];
        *range = (range.0.min(at as u32), range.1.max(at as u32));
    };
    for (number, block) in blocks.iter().enumerate() {
        for (set, at) in [(live_in.get(number), block.start), (live_out.get(number), block.end)] {
            ones(set).for_each(|place| touch(registers[place as usize], at));
        }
        for (at, inst) in code.iter_mut().enumerate().take(block.end).skip(block.start) {
            inst.op.visit(|&mut reg, _| {
                if written(used, reg) {
                    touch(reg, at);
                }
            });
        }
    }
    let mut intervals: Vec<Interval> = ranges
        .iter()
        .enumerate()
        .filter(|(_, range)| range.0 <= range.1)
        .map(|(reg, range)| Interval { reg: reg as u32, start: range.0, end: range.1 })
        .collect();
    intervals.sort_by_key(|interval| (interval.start, interval.reg));
    let mut unwritten: Vec<u32> = ones(live_in.get(0)).map(|place| registers[place as usize]).collect();
    unwritten.sort_unstable();
    Some((intervals, unwritten))
}

/// Gives each interval the lowest index that is free, and returns how many there are. An index is
/// free again after the operation that reads its last value, for the result of that operation too:
/// operations read all of their operands first.
fn scan<'i>(intervals: impl Iterator<Item = &'i Interval>) -> (Vec<(u32, u32)>, u32) {
    let mut assignment = Vec::new();
    let mut active: BinaryHeap<Reverse<(u32, u32)>> = BinaryHeap::new();
    let mut free: BinaryHeap<Reverse<u32>> = BinaryHeap::new();
    let mut count = 0;
    for interval in intervals {
        while let Some(&Reverse((end, index))) = active.peek()
            && end <= interval.start
        {
            active.pop();
            free.push(Reverse(index));
        }
        let index = free.pop().map_or(count, |Reverse(index)| index);
        count = count.max(index + 1);
        // What is written and never read takes its slot too, or it would clobber another result.
        active.push(Reverse((interval.end.max(interval.start + 1), index)));
        assignment.push((interval.reg, index));
    }
    (assignment, count)
}
