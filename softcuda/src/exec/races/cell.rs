//! What memory remembers of who touched it.
//!
//! For every 16 bytes there is one cell for the last write and one for the last reads. A cell
//! names one thread, or neighbours that each touched an equal part, as the lanes of a warp do;
//! where that does not describe it the cell points to a list by bytes in the [`Table`].

use std::sync::atomic::Ordering::Relaxed;

use super::clock::{BlockClock, WarpClock};
use super::table::{Shard, Split};
use super::view::View;
use super::{Act, Touch};

/// Bytes that a cell stands for.
pub(super) const GRANULE: usize = crate::memory::GRANULE as usize;

const PARTS_BITS: u32 = 3;
const MANY_SHIFT: u32 = PARTS_BITS;
const STRONG_SHIFT: u32 = MANY_SHIFT + 2;
const CLOCK_SHIFT: u32 = STRONG_SHIFT + 1;
const CLOCK_BITS: u32 = 22;
pub(super) const UID_SHIFT: u32 = CLOCK_SHIFT + CLOCK_BITS;
const CLOCK_MASK: u64 = (1 << CLOCK_BITS) - 1;

/// The clock of what nobody waited for yet: no thread has it, and none knows it.
pub(super) const FLIGHT: u32 = CLOCK_MASK as u32;

/// Value of the lowest bits of a cell whose accesses are strong for the threads of their block only:
/// all bytes are of one thread, or of several.
const NARROW: u64 = 5;

/// Value of the lowest bits of a cell whose bytes are listed in the table.
const SPLIT: u64 = 7;

/// Several threads read: of a warp, of a block, of several blocks.
const OF_WARP: u64 = 1;
const OF_BLOCK: u64 = 2;
const OF_BLOCKS: u64 = 3;

/// Beside each cell is the number of the instruction that it tells of, plus one; 0 if that is not known.
pub(super) fn mark(site: u32) -> u16 {
    u16::try_from(site + 1).ok().filter(|&mark| mark != MIXED).unwrap_or(0)
}

/// Bytes of the granule were touched by several instructions, which the table has.
const MIXED: u16 = u16::MAX;

/// A cell, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Cell(u64);

impl Cell {
    const NONE: Cell = Cell(0);

    #[inline(always)]
    fn new(uid: u64, clock: u32, strong: bool, many: u64, parts: u64) -> Cell {
        let clock = u64::from(clock) & CLOCK_MASK;
        Cell(uid << UID_SHIFT | clock << CLOCK_SHIFT | u64::from(strong) << STRONG_SHIFT | many << MANY_SHIFT | parts)
    }

    #[inline(always)]
    fn uid(self) -> u64 {
        self.0 >> UID_SHIFT
    }

    #[inline(always)]
    fn clock(self) -> u32 {
        (self.0 >> CLOCK_SHIFT & CLOCK_MASK) as u32
    }

    fn strong(self) -> bool {
        self.0 >> STRONG_SHIFT & 1 != 0
    }

    fn many(self) -> u64 {
        self.0 >> MANY_SHIFT & 3
    }

    /// Strong, for the threads of the same block.
    fn narrow(self) -> bool {
        self.parts() == NARROW
    }

    /// Log2 of the number of neighbours, [`NARROW`] or [`SPLIT`].
    #[inline(always)]
    fn parts(self) -> u64 {
        self.0 & SPLIT
    }

    /// Whether it is plain that what it tells of comes before what the block does now.
    #[inline(always)]
    fn is_calm(self, view: &View<'_>, block: &BlockClock) -> bool {
        let own = self.uid().wrapping_sub(block.uid) < block.threads && self.clock() <= block.base();
        self.0 < view.floor || (own && self.parts() != SPLIT && self.many() != OF_BLOCKS)
    }

    /// The cell of one of its bytes alone.
    fn of_byte(self, byte: usize) -> Cell {
        if self.0 == 0 || self.narrow() {
            return self;
        }
        let size = GRANULE >> self.parts();
        Cell::new(self.uid() + (byte / size) as u64, self.clock(), self.strong(), self.many(), 0)
    }
}

/// Two accesses that nothing orders.
#[derive(Debug)]
pub(super) struct Conflict {
    /// The thread whose access found it.
    pub(super) by: u64,
    /// The thread, or one of several, that came before.
    pub(super) other: u64,
    pub(super) several: Several,
    /// It is an asynchronous copy that nobody waited for.
    pub(super) flight: bool,
    pub(super) wrote: bool,
    pub(super) strong: bool,
    /// Both are strong, and one of them for its own block only.
    pub(super) apart: bool,
    /// The [`mark`] of its instruction; that of the last of several.
    pub(super) mark: u16,
}

/// How many threads a cell tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Several {
    One,
    OfWarp,
    OfBlock,
    OfBlocks,
}

/// Consecutive bytes that neighbours touch in equal parts.
pub(super) struct Piece {
    /// The thread of the first part.
    pub(super) uid: u64,
    /// Bytes of a part.
    pub(super) size: usize,
    pub(super) clock: u32,
    /// The first thread stands for several of its warp that read the same.
    pub(super) many: bool,
    /// Whose knowledge counts, if it is another thread's: that which issued a copy.
    pub(super) who: Option<u64>,
    pub(super) touch: Touch,
}

impl Piece {
    #[inline(always)]
    fn cell(&self, uid: u64, parts: u64) -> Cell {
        let many = if self.many { OF_WARP } else { 0 };
        let parts = if self.touch.narrow() { NARROW } else { parts };
        Cell::new(uid, self.clock, self.touch.strong, many, parts)
    }
}

/// An access of consecutive bytes, aligned to the size of a part; `FLYING` if it is in flight from now on.
#[inline(always)]
pub(super) fn touch_run<const FLYING: bool>(
    view: &View<'_>,
    block: &BlockClock,
    warp: &WarpClock,
    piece: &Piece,
    offset: usize,
    length: usize,
) -> Result<(), Conflict> {
    let size = piece.size;
    // Whole granules in equal parts of a power of two; the rest goes by bytes.
    let regular = size.is_power_of_two() && !piece.touch.narrow();
    let parts = if size >= GRANULE { 0 } else { u64::from((GRANULE / size.max(1)).trailing_zeros()) };
    let end = offset + length;
    let mark = mark(piece.touch.site);
    let mut at = offset;
    let mut unmarked = offset / GRANULE;
    while at < end {
        let granule = at / GRANULE;
        let stop = ((granule + 1) * GRANULE).min(end);
        let uid = piece.uid + ((at - offset) / size) as u64;
        let whole = regular && stop - at == GRANULE && (at - offset).is_multiple_of(size.min(GRANULE));
        let new = piece.cell(uid, parts);
        if !whole || !quick::<FLYING>(view, block, warp, granule, new, piece) {
            exact(view, block, warp, piece, (offset, at..stop), (uid, parts, whole))?;
            view.mark_run(unmarked..granule, piece.touch.act, mark);
            unmarked = granule + 1;
        }
        at = stop;
    }
    view.mark_run(unmarked..end.div_ceil(GRANULE), piece.touch.act, mark);
    Ok(())
}

/// An access of one part that is a whole granule, if it is plain that it is in order.
#[inline(always)]
pub(super) fn touch_granule<const FLYING: bool>(
    view: &View<'_>,
    block: &BlockClock,
    warp: &WarpClock,
    piece: &Piece,
    offset: usize,
) -> bool {
    let whole = piece.size == GRANULE && offset.is_multiple_of(GRANULE) && !piece.touch.narrow();
    let granule = offset / GRANULE;
    let plain = whole && quick::<FLYING>(view, block, warp, granule, piece.cell(piece.uid, 0), piece);
    if plain {
        view.mark(granule, piece.touch.act).store(mark(piece.touch.site), Relaxed);
    }
    plain
}

/// A whole granule, if it is plain that the access is in order.
#[inline(always)]
fn quick<const FLYING: bool>(
    view: &View<'_>,
    block: &BlockClock,
    warp: &WarpClock,
    granule: usize,
    new: Cell,
    piece: &Piece,
) -> bool {
    // Two copies in flight by the same thread are not in order.
    let same = |cell: Cell| !FLYING && cell.0 == new.0;
    let calm = |cell: Cell| cell.is_calm(view, block) || same(cell);
    let write = Cell(view.write(granule).load(Relaxed));
    if !calm(write) {
        return false;
    }
    let reads = view.read(granule);
    let read = Cell(reads.load(Relaxed));
    match piece.touch.act {
        Act::Read => {
            let next = match calm(read) {
                true => Some(new),
                // Threads of several blocks stay what they are.
                false if FLYING && piece.who.is_some() => {
                    (read.many() == OF_BLOCKS && read.parts() != SPLIT && !read.strong()).then_some(read)
                }
                false => more_readers(view, block, warp, read, new),
            };
            match next {
                Some(next) if next.0 == read.0 => {}
                Some(next) => reads.store(next.0, Relaxed),
                None => return false,
            }
        }
        Act::Write | Act::Update => {
            if !calm(read) {
                return false;
            }
            view.write(granule).store(new.0, Relaxed);
        }
    }
    true
}

/// The readers of a whole granule, of which a new one is not plainly ordered after the others.
#[inline(never)]
fn more_readers(view: &View<'_>, block: &BlockClock, warp: &WarpClock, read: Cell, new: Cell) -> Option<Cell> {
    if read.parts() == SPLIT || read.0 < view.floor {
        return None;
    }
    let alone = |byte: usize| read.of_byte(byte).uid() == new.of_byte(byte).uid();
    if read.clock() == FLIGHT && read.many() == 0 && (0..GRANULE).all(alone) {
        return Some(read);
    }
    let after = |byte: usize| ordered(block, warp, new.of_byte(byte).uid(), read.of_byte(byte));
    if (0..GRANULE).all(after) {
        return Some(new);
    }
    let lanes = super::LANES as u64;
    let (many, warp) = (read.many(), new.uid() / lanes == read.uid() / lanes);
    let own = read.uid().wrapping_sub(block.uid) < block.threads;
    let strong = read.strong() && new.strong();
    let parts = if strong && (read.narrow() || new.narrow()) { NARROW } else { 0 };
    // A granule's threads are of one warp.
    Some(if warp && many < OF_BLOCK {
        Cell::new(new.uid(), read.clock().max(new.clock()), strong, OF_WARP, parts)
    } else if own && many < OF_BLOCKS {
        let clock = if read.clock() == FLIGHT { FLIGHT } else { new.clock() };
        Cell::new(new.uid(), clock, strong, OF_BLOCK, parts)
    } else {
        Cell::new(read.uid(), if read.clock() == FLIGHT { 1 } else { read.clock() }, strong, OF_BLOCKS, parts)
    })
}

/// The cells of a granule by bytes, and what is beside each.
struct Bytes {
    written: [Cell; GRANULE],
    read: [Cell; GRANULE],
    write_marks: [u16; GRANULE],
    read_marks: [u16; GRANULE],
}

impl Bytes {
    fn load(view: &View<'_>, granule: usize, listed: Option<&Split>) -> Bytes {
        let floor = view.floor;
        let expand = |cell: Cell, listed: Option<&[u64; GRANULE]>| {
            let mut bytes = [Cell::NONE; GRANULE];
            if cell.0 >= floor {
                for (byte, slot) in bytes.iter_mut().enumerate() {
                    *slot = match listed {
                        Some(list) if cell.parts() == SPLIT => Cell(list[byte]),
                        _ if cell.parts() == SPLIT => Cell::NONE,
                        _ => cell.of_byte(byte),
                    };
                    if slot.0 < floor {
                        *slot = Cell::NONE;
                    }
                }
            }
            bytes
        };
        let unmix = |act: Act, listed: Option<&[u16; GRANULE]>| match view.mark(granule, act).load(Relaxed) {
            MIXED => listed.copied().unwrap_or_default(),
            mark => [mark; GRANULE],
        };
        Bytes {
            written: expand(Cell(view.write(granule).load(Relaxed)), listed.map(|split| &split.writes)),
            read: expand(Cell(view.read(granule).load(Relaxed)), listed.map(|split| &split.reads)),
            write_marks: unmix(Act::Write, listed.map(|split| &split.write_marks)),
            read_marks: unmix(Act::Read, listed.map(|split| &split.read_marks)),
        }
    }

    /// Stores them as one cell where they are one of these numbers of neighbours; `latest` is some cell of
    /// the present.
    fn store(self, view: &View<'_>, granule: usize, shard: &mut Shard, (tried, latest): ([u64; 3], Cell)) {
        let Bytes { written, read, write_marks, read_marks } = self;
        let compress = |bytes: &[Cell; GRANULE]| {
            for parts in tried {
                let head = Cell(bytes[0].0 & !SPLIT | parts);
                if bytes[0].0 == 0 && parts != 0 {
                    continue;
                }
                let uniform = bytes.iter().enumerate().all(|(byte, cell)| cell.0 == head.of_byte(byte).0);
                if uniform {
                    return head.0;
                }
            }
            latest.0 | SPLIT
        };
        let (write_cell, read_cell) = (compress(&written), compress(&read));
        view.write(granule).store(write_cell, Relaxed);
        view.read(granule).store(read_cell, Relaxed);
        let merge = |act: Act, cells: &[Cell; GRANULE], marks: &[u16; GRANULE]| {
            let mut known = cells.iter().zip(marks).filter(|(cell, _)| cell.0 != 0).map(|(_, &mark)| mark);
            let first = known.next().unwrap_or(0);
            let merged = if known.all(|other| other == first) { first } else { MIXED };
            view.mark(granule, act).store(merged, Relaxed);
            merged == MIXED
        };
        let mixed = merge(Act::Write, &written, &write_marks) | merge(Act::Read, &read, &read_marks);
        let key = view.key(granule);
        if mixed || write_cell & SPLIT == SPLIT || read_cell & SPLIT == SPLIT {
            let (writes, reads) = (written.map(|cell| cell.0), read.map(|cell| cell.0));
            let split = Split { writes, reads, write_marks, read_marks };
            match shard.get_mut(&key) {
                Some(old) => **old = split,
                None => _ = shard.insert(key, Box::new(split)),
            }
        } else {
            shard.remove(&key);
        }
    }
}

/// Part of a granule, or one whose cells need a closer look.
#[cold]
#[inline(never)]
fn exact(
    view: &View<'_>,
    block: &BlockClock,
    warp: &WarpClock,
    piece: &Piece,
    (offset, range): (usize, std::ops::Range<usize>),
    (first, parts, whole): (u64, u64, bool),
) -> Result<(), Conflict> {
    let granule = range.start / GRANULE;
    let key = view.key(granule);
    let mut shard = view.table.shard(key);
    let mut bytes = Bytes::load(view, granule, shard.get(&key).map(|split| &**split));
    let Bytes { written, read, write_marks, read_marks } = &mut bytes;
    let mark = mark(piece.touch.site);
    let act = piece.touch.act;
    let start = granule * GRANULE;
    for byte in range.start - start..range.end - start {
        let uid = piece.uid + ((start + byte - offset) / piece.size) as u64;
        let who = piece.who.unwrap_or(uid);
        let new = piece.cell(uid, 0);
        check(block, warp, piece, who, written[byte], (true, write_marks[byte]))?;
        if act == Act::Read {
            let joined = join_readers(block, warp, who, read[byte], new);
            if joined.0 != read[byte].0 || joined.0 == new.0 {
                (read[byte], read_marks[byte]) = (joined, mark);
            }
        } else {
            check(block, warp, piece, who, read[byte], (false, read_marks[byte]))?;
            // A strong write does not make up for a weak one that nobody was told of.
            let mine = written[byte].uid() == uid && written[byte].clock() == new.clock();
            let weak = written[byte].0 != 0 && mine && !written[byte].strong();
            if !weak {
                (written[byte], write_marks[byte]) = (new, mark);
            }
        }
    }
    let tried = if whole { [parts, 0, NARROW] } else { [0, 0, NARROW] };
    bytes.store(view, granule, &mut shard, (tried, piece.cell(first, 0)));
    Ok(())
}

/// A copy that was in flight has been waited for: its accesses get the clock of now.
pub(super) fn land(view: &View<'_>, block: &BlockClock, piece: &Piece, offset: usize, length: usize) {
    let (size, end) = (piece.size, offset + length);
    let parts = if size >= GRANULE { 0 } else { u64::from((GRANULE / size.max(1)).trailing_zeros()) };
    let mut at = offset;
    while at < end {
        let granule = at / GRANULE;
        let stop = ((granule + 1) * GRANULE).min(end);
        let new = piece.cell(piece.uid + ((at - offset) / size) as u64, parts);
        let cell = if piece.touch.act == Act::Read { view.read(granule) } else { view.write(granule) };
        if stop - at == GRANULE && cell.load(Relaxed) == new.0 | CLOCK_MASK << CLOCK_SHIFT {
            cell.store(new.0, Relaxed);
        } else {
            land_exactly(view, block, piece, offset, at..stop);
        }
        at = stop;
    }
}

#[cold]
#[inline(never)]
fn land_exactly(view: &View<'_>, block: &BlockClock, piece: &Piece, offset: usize, range: std::ops::Range<usize>) {
    let granule = range.start / GRANULE;
    let key = view.key(granule);
    let mut shard = view.table.shard(key);
    let mut bytes = Bytes::load(view, granule, shard.get(&key).map(|split| &**split));
    let cells = if piece.touch.act == Act::Read { &mut bytes.read } else { &mut bytes.written };
    let start = granule * GRANULE;
    let landing = range.start - start..range.end - start;
    for (byte, cell) in cells.iter_mut().enumerate().filter(|(byte, _)| landing.contains(byte)) {
        let uid = piece.uid + ((start + byte - offset) / piece.size) as u64;
        // With others that read the same, whichever lands first does so for all.
        let mine = match cell.many() {
            OF_WARP | OF_BLOCK => block.has(cell.uid(), false),
            OF_BLOCKS => false,
            _ => block.index_of(cell.uid()).is_some_and(|index| Some(index) == block.index_of(uid)),
        };
        if cell.0 != 0 && cell.clock() == FLIGHT && mine {
            *cell = Cell::new(uid, piece.clock, cell.strong(), cell.many(), cell.parts());
        }
    }
    let parts = (GRANULE / piece.size.clamp(1, GRANULE)).trailing_zeros();
    bytes.store(view, granule, &mut shard, ([parts.into(), 0, NARROW], piece.cell(piece.uid, 0)));
}

/// Whether an access is ordered after an earlier one.
fn check(
    block: &BlockClock,
    warp: &WarpClock,
    piece: &Piece,
    uid: u64,
    earlier: Cell,
    (wrote, mark): (bool, u16),
) -> Result<(), Conflict> {
    let both = earlier.strong() && piece.touch.strong;
    let apart =
        both && (earlier.narrow() || piece.touch.narrow()) && !block.has(earlier.uid(), earlier.many() == OF_BLOCKS);
    if earlier.0 == 0 || (both && !apart) || ordered(block, warp, uid, earlier) {
        return Ok(());
    }
    let several = match earlier.many() {
        OF_WARP => Several::OfWarp,
        OF_BLOCK => Several::OfBlock,
        OF_BLOCKS => Several::OfBlocks,
        _ => Several::One,
    };
    Err(Conflict {
        by: uid,
        other: earlier.uid(),
        several,
        flight: earlier.clock() == FLIGHT,
        wrote,
        strong: earlier.strong(),
        apart,
        mark,
    })
}

fn ordered(block: &BlockClock, warp: &WarpClock, uid: u64, earlier: Cell) -> bool {
    let lane = (uid - warp.uid) as usize;
    let (other, clock) = (earlier.uid(), earlier.clock());
    if clock == FLIGHT {
        return false;
    }
    match earlier.many() {
        OF_WARP => warp.knows_warp(block, lane, other, clock),
        // Who knows of the last of them has synchronised with the others as well, it is assumed.
        OF_BLOCK if other != uid => warp.knows_warp(block, lane, other, clock),
        OF_BLOCK => clock <= block.base() || warp.knows_peers(block, lane),
        // Who knows of any other block has synchronised with others; of all, it is assumed.
        OF_BLOCKS => warp.knows_others(block, lane),
        _ => other == uid || warp.knows(block, lane, other, clock),
    }
}

/// The readers so far, and one more, of which `who` knows.
fn join_readers(block: &BlockClock, warp: &WarpClock, who: u64, earlier: Cell, new: Cell) -> Cell {
    let (uid, other) = (new.uid(), earlier.uid());
    let alone = earlier.0 != 0 && other == uid && earlier.many() == 0;
    // A strong read does not make up for a weak one that nobody was told of, nor any for one in flight.
    if alone && (earlier.clock() == FLIGHT || (earlier.clock() == new.clock() && !earlier.strong())) {
        return earlier;
    }
    if earlier.0 == 0 || ordered(block, warp, who, earlier) {
        return new;
    }
    let strong = earlier.strong() && new.strong();
    let parts = if strong && (earlier.narrow() || new.narrow()) { NARROW } else { 0 };
    let lanes = super::LANES as u64;
    let same_block = block.has(other, false) && block.has(uid, false);
    let many =
        match (other / lanes == uid / lanes && earlier.many() < OF_BLOCK, same_block && earlier.many() < OF_BLOCKS) {
            (true, _) => OF_WARP,
            (false, true) => OF_BLOCK,
            _ => OF_BLOCKS,
        };
    let clock = match (many, earlier.clock() == FLIGHT || new.clock() == FLIGHT) {
        // Of several blocks nobody keeps account.
        (OF_BLOCKS, true) => 1,
        (_, true) => FLIGHT,
        (OF_WARP, false) => earlier.clock().max(new.clock()),
        _ => new.clock(),
    };
    Cell::new(uid, clock, strong, many, parts)
}
