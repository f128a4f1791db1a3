//! A model of the L2 cache: which sectors it has, which it must fetch, which it writes back.

use super::traffic::Kind;

/// Bytes of a line, and of its sectors, which come and go by themselves.
pub(super) const LINE: u64 = 128;
pub(super) const SECTOR: u64 = 32;

const WAYS: usize = 16;

/// A line of the cache.
#[derive(Clone, Copy, Default)]
struct Line {
    /// Number of the line in memory, plus one; 0 is an empty place.
    tag: u64,
    /// When it was last used.
    used: u64,
    /// Which bytes of each sector it has.
    valid: [u32; (LINE / SECTOR) as usize],
    /// Which sectors were written.
    dirty: u8,
}

/// A cache with sets of 16 lines, in each of which the least recently used goes first.
pub(super) struct Cache {
    lines: Vec<Line>,
    now: u64,
    /// Sectors asked for by reads, and those of them that were there.
    pub(super) read_sectors: u64,
    pub(super) read_hits: u64,
    /// Sectors fetched from memory, and written back to it.
    pub(super) fetched: u64,
    pub(super) written_back: u64,
}

impl Cache {
    pub(super) fn new(bytes: u64) -> Cache {
        let sets = (bytes / LINE) as usize / WAYS;
        let lines = vec![Line::default(); sets.max(1) * WAYS];
        Cache { lines, now: 0, read_sectors: 0, read_hits: 0, fetched: 0, written_back: 0 }
    }

    /// Accesses consecutive bytes.
    pub(super) fn access(&mut self, mut start: u64, bytes: u64, kind: Kind) {
        let end = start + bytes;
        while start < end {
            let in_sector = start % SECTOR;
            let count = (SECTOR - in_sector).min(end - start);
            let wanted = (u32::MAX >> (SECTOR - count)) << in_sector;
            self.access_sector(start / LINE, (start % LINE / SECTOR) as usize, wanted, kind);
            start += count;
        }
    }

    fn access_sector(&mut self, number: u64, sector: usize, wanted: u32, kind: Kind) {
        self.now += 1;
        let now = self.now;
        let line = self.line(number);
        line.used = now;
        let missing = line.valid[sector] & wanted != wanted;
        let reads = kind != Kind::Write;
        line.valid[sector] |= if reads { u32::MAX } else { wanted };
        if kind != Kind::Read {
            line.dirty |= 1 << sector;
        }
        self.read_sectors += u64::from(kind == Kind::Read);
        self.read_hits += u64::from(kind == Kind::Read && !missing);
        self.fetched += u64::from(reads && missing);
    }

    /// The place of a line, which the least recently used one of its set makes if need be.
    fn line(&mut self, number: u64) -> &mut Line {
        let sets = self.lines.len() / WAYS;
        let first = (number % sets as u64) as usize * WAYS;
        let set = &mut self.lines[first..first + WAYS];
        let found = set.iter().position(|line| line.tag == number + 1);
        let place = found.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|&place| set[place].used).unwrap_or(0);
            self.written_back += u64::from(set[oldest].dirty.count_ones());
            set[oldest] = Line { tag: number + 1, ..Line::default() };
            oldest
        });
        &mut set[place]
    }

    /// Writes back what is left.
    pub(super) fn flush(&mut self) {
        self.written_back += self.lines.iter().map(|line| u64::from(line.dirty.count_ones())).sum::<u64>();
        self.lines.fill(Line::default());
    }
}
