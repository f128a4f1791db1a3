//! The tracer: follows every global access of a launch. It is there only if the configuration asks
//! for it, and then the launch runs on one host thread, so that its numbers are reproducible.

use std::collections::{BTreeMap, HashMap};

use crate::lower::Role;
use crate::lower::op::{Op, Reg};
use crate::memory::Window;
use crate::traffic::{Accesses, BufferTraffic, Traffic};

use super::access::{lanes_of, least_sectors};
use super::cache::{Cache, LINE, SECTOR};
use super::grid::{residency, resident_per_sm};
use super::registers::Lanes64;
use super::state::{Launch, Warp, Worker};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// Reads and writes in the cache; counted as a write.
    Atomic,
}

/// A part of a request: consecutive bytes, at the address that the cache knows them by.
struct Piece {
    start: u64,
    bytes: u32,
    kind: Kind,
    /// It begins a request.
    first: bool,
}

/// Blocks that are on the device together.
#[derive(Default)]
struct Wave {
    blocks: Vec<Vec<Piece>>,
    ended: usize,
}

/// Which bytes were touched: a bit each, in pages that come into being when they are.
#[derive(Default)]
struct Touched(HashMap<u64, Box<[u64; PAGE / 64]>>);

/// Bytes of a page of [`Touched`].
const PAGE: usize = 4096;

impl Touched {
    /// Adds a range, and answers how many of its bytes are new.
    fn add(&mut self, mut start: u64, end: u64) -> u64 {
        let mut new = 0;
        while start < end {
            let (page, word, bit) = (start / PAGE as u64, start as usize % PAGE / 64, start % 64);
            let count = (64 - bit).min(end - start);
            let bits = (u64::MAX >> (64 - count)) << bit;
            let words = self.0.entry(page).or_insert_with(|| Box::new([0; PAGE / 64]));
            new += u64::from((bits & !words[word]).count_ones());
            words[word] |= bits;
            start += count;
        }
        new
    }
}

/// An allocation.
struct Buffer {
    traffic: BufferTraffic,
    /// Its address for the cache: allocations lie side by side there, so that results do not depend
    /// on where the memory has them.
    packed: u64,
    read: Touched,
    written: Touched,
}

/// Loads of a warp whose results nothing has used.
#[derive(Default)]
struct Flight {
    /// Place of the load, and its bytes.
    loads: Vec<(u32, u64)>,
    most: u64,
}

/// Follows the accesses of a launch.
pub(super) struct Tracer {
    buffers: Vec<Buffer>,
    cache: Cache,
    /// Blocks that are resident together.
    together: u64,
    /// Where each block that is running has its pieces: its wave and place there.
    running: HashMap<u64, (u64, usize)>,
    started: u64,
    waves: BTreeMap<u64, Wave>,
    current: u64,
    /// Registers that the operation at each place reads or writes, and in what role.
    registers: Vec<Vec<(Reg, Role)>>,
    flights: HashMap<(u64, u32), Flight>,
    most_in_warp: u64,
    most_in_block: u64,
}

impl Tracer {
    pub(super) fn new(launch: &Launch<'_>, windows: &[Window]) -> Tracer {
        let mut packed = 0;
        let buffers = windows.iter().map(|window| {
            let traffic = BufferTraffic { base: window.base, size: window.size, ..BufferTraffic::default() };
            let buffer = Buffer { traffic, packed, read: Touched::default(), written: Touched::default() };
            packed += window.size.next_multiple_of(LINE);
            buffer
        });
        let registers = launch.entry.code.iter().map(|inst| {
            let mut found = Vec::new();
            inst.op.clone().visit(|reg, role| found.push((*reg, role)));
            found
        });
        Tracer {
            buffers: buffers.collect(),
            cache: Cache::new(u64::from(launch.config.l2_bytes)),
            together: residency(launch),
            running: HashMap::new(),
            started: 0,
            waves: BTreeMap::new(),
            current: 0,
            registers: registers.collect(),
            flights: HashMap::new(),
            most_in_warp: 0,
            most_in_block: 0,
        }
    }

    /// A block begins, or goes on.
    fn enter(&mut self, block: u64) {
        self.current = block;
        if !self.running.contains_key(&block) {
            let wave = self.started / self.together;
            self.started += 1;
            let blocks = &mut self.waves.entry(wave).or_default().blocks;
            self.running.insert(block, (wave, blocks.len()));
            blocks.push(Vec::new());
        }
    }

    /// A block ends. When all of its wave have, their accesses go to the cache.
    fn leave(&mut self, block: u64) {
        let flights = self.flights.extract_if(|&(of, _), _| of == block).map(|(_, flight)| flight.most);
        let most = flights.sum();
        self.most_in_block = self.most_in_block.max(most);
        let Some((wave, _)) = self.running.remove(&block) else { return };
        if let Some(wave) = self.waves.get_mut(&wave) {
            wave.ended += 1;
        }
        while let Some(first) = self.waves.first_entry() {
            if (first.get().ended as u64) < self.together {
                break;
            }
            replay(first.remove(), &mut self.cache);
        }
    }

    /// One request of a warp.
    fn access(&mut self, kind: Kind, ranges: impl Iterator<Item = (u64, u64)>) {
        let mut ranges: Vec<(u64, u64)> = ranges.filter(|&(_, bytes)| bytes != 0).collect();
        ranges.sort_unstable();
        let place = self.running.get(&self.current).copied();
        let mut pieces = place.and_then(|(wave, at)| self.waves.get_mut(&wave).map(|wave| &mut wave.blocks[at]));
        let mut first = true;
        let mut rest = &ranges[..];
        while let Some(&(start, _)) = rest.first() {
            let index = self.buffers.partition_point(|buffer| buffer.traffic.base <= start);
            // What lies outside of all allocations is an error, which ends the launch.
            let Some(buffer) = index.checked_sub(1).map(|index| &mut self.buffers[index]) else { return };
            let BufferTraffic { base, size, .. } = buffer.traffic;
            let inside = rest.partition_point(|&(at, _)| at - base < size);
            if inside == 0 {
                return;
            }
            let (mine, others) = rest.split_at(inside);
            rest = others;
            let (counts, touched) = match kind {
                Kind::Read => (&mut buffer.traffic.read, &mut buffer.read),
                Kind::Write | Kind::Atomic => (&mut buffer.traffic.written, &mut buffer.written),
            };
            let bytes = mine.iter().map(|range| range.1).sum();
            let (mut sectors, mut unique_bytes, mut sector) = (0, 0, u64::MAX);
            for (start, end) in merged(mine) {
                unique_bytes += touched.add(start, end);
                let (from, to) = (start / SECTOR, (end - 1) / SECTOR);
                sectors += to - from + u64::from(from != sector);
                sector = to;
                if let Some(pieces) = &mut pieces {
                    let bytes = (end - start) as u32;
                    pieces.push(Piece { start: buffer.packed + (start - base), bytes, kind, first });
                }
                first = false;
            }
            let sectors_least = least_sectors(bytes, sectors);
            *counts += Accesses { requests: 1, sectors, sectors_least, bytes, unique_bytes };
        }
    }

    /// After an operation that loaded so many bytes: loads whose registers it touched have landed.
    fn follow(&mut self, warp: &Warp, pc: u32, code: &Op, loaded: u64) {
        let Tracer { registers, flights, .. } = self;
        let flight = flights.entry((self.current, warp.index)).or_default();
        let touched = &registers[pc as usize];
        let loads = |place: u32, reg: Reg| registers[place as usize].contains(&(reg, Role::Def));
        flight.loads.retain(|&(load, _)| !touched.iter().any(|&(reg, _)| loads(load, reg)));
        let copies = warp.copies.outstanding();
        if matches!(code, Op::Load(_)) && loaded != 0 {
            flight.loads.push((pc, loaded));
        }
        let now = copies + flight.loads.iter().map(|load| load.1).sum::<u64>();
        flight.most = flight.most.max(now);
        self.most_in_warp = self.most_in_warp.max(now);
    }

    /// The sums, when all blocks have run.
    pub(super) fn finish(mut self, launch: &Launch<'_>) -> Traffic {
        for wave in std::mem::take(&mut self.waves).into_values() {
            replay(wave, &mut self.cache);
        }
        self.cache.flush();
        let blocks: u64 = launch.shape.grid.iter().map(|&n| u64::from(n)).product();
        let resident = resident_per_sm(launch).min(blocks.div_ceil(u64::from(launch.config.sm_count)));
        let touched = |buffer: &BufferTraffic| buffer.read.requests + buffer.written.requests != 0;
        Traffic {
            buffers: self.buffers.iter().map(|buffer| buffer.traffic).filter(touched).collect(),
            l2_read_sectors: self.cache.read_sectors,
            l2_read_hits: self.cache.read_hits,
            dram_read_bytes: self.cache.fetched * SECTOR,
            dram_write_bytes: self.cache.written_back * SECTOR,
            warp_bytes_in_flight: self.most_in_warp,
            sm_bytes_in_flight: self.most_in_block * resident,
        }
    }
}

/// Sorted ranges, those that touch or overlap made one: starts and ends.
fn merged(ranges: &[(u64, u64)]) -> impl Iterator<Item = (u64, u64)> {
    let mut rest = ranges.iter().map(|&(start, bytes)| (start, start + bytes)).peekable();
    std::iter::from_fn(move || {
        let (start, mut end) = rest.next()?;
        while let Some((_, more)) = rest.next_if(|next| next.0 <= end) {
            end = end.max(more);
        }
        Some((start, end))
    })
}

/// Sends the accesses of blocks to the cache, one request of each in turn.
fn replay(wave: Wave, cache: &mut Cache) {
    let mut streams: Vec<_> = wave.blocks.into_iter().map(|pieces| pieces.into_iter().peekable()).collect();
    while !streams.is_empty() {
        streams.retain_mut(|stream| {
            let Some(piece) = stream.next() else { return false };
            cache.access(piece.start, u64::from(piece.bytes), piece.kind);
            while let Some(piece) = stream.next_if(|piece| !piece.first) {
                cache.access(piece.start, u64::from(piece.bytes), piece.kind);
            }
            true
        });
    }
}

impl Worker<'_> {
    /// One request of the lanes of a warp to global memory.
    #[inline(always)]
    pub(super) fn trace(&mut self, kind: Kind, at: &Lanes64, mask: u32, bytes: usize) {
        if self.tracer.is_some() {
            self.trace_ranges(kind, lanes_of(mask).map(|lane| (at[lane], bytes as u64)));
        }
    }

    /// One request, as ranges of addresses: where they begin and their bytes.
    #[inline]
    pub(super) fn trace_ranges(&mut self, kind: Kind, ranges: impl Iterator<Item = (u64, u64)>) {
        if let Some(tracer) = &mut self.tracer {
            tracer.access(kind, ranges);
        }
    }

    /// A block begins, or goes on.
    pub(super) fn trace_block(&mut self, block: u64) {
        if let Some(tracer) = &mut self.tracer {
            tracer.enter(block);
        }
    }

    /// A block has run.
    pub(super) fn trace_end_of_block(&mut self, block: u64) {
        if let Some(tracer) = &mut self.tracer {
            tracer.leave(block);
        }
    }

    /// After the operation at a place, before which `read` bytes had been read from global memory.
    #[cold]
    #[inline(never)]
    pub(super) fn trace_flight(&mut self, warp: &Warp, pc: u32, read: u64) {
        let loaded = self.counters.global_read_bytes - read;
        if let Some(tracer) = &mut self.tracer {
            tracer.follow(warp, pc, &self.launch.entry.code[pc as usize].op, loaded);
        }
    }
}
