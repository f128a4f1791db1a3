//! What is measured: shapes, modes, and how much of each.

use std::time::Duration;

use crate::workloads::WORKLOADS;

/// What is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Loss and gradient.
    Gradient,
    /// Loss only.
    Forward,
    /// Loss and gradient, which overwrites the scores.
    InPlace,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Gradient, Mode::Forward, Mode::InPlace];

    /// Name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Gradient => "gradient",
            Mode::Forward => "forward",
            Mode::InPlace => "in place",
        }
    }
}

/// One shape.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Where it comes from; [`GRID`] and [`ODD`] are not workloads.
    pub name: &'static str,
    pub rows: usize,
    pub cols: usize,
}

/// Powers of two at a constant number of elements: what is plotted as lines.
pub const GRID: &str = "grid";
/// The same, one column more: rows at every alignment.
pub const ODD: &str = "odd";

/// So little work that its time is that of a node in a graph.
pub const TINY: &str = "tiny";

/// Few rows, and so little work that its time is that of a launch.
const FEW: [(&str, usize, usize); 3] = [("eight rows", 8, 262_144), ("one row", 1, 1_048_576), (TINY, 1, 128)];

/// How much is measured.
pub struct Settings {
    /// Once through everything, for its own sake.
    pub quick: bool,
    /// Elements of the grid's problems, as far as columns divide them.
    pub elements: usize,
    /// Bytes that one replay of a graph moves, within the bounds of `launches`.
    pub replay_bytes: usize,
    /// Fewest and most launches in a graph, unless more are needed to take every buffer in turn.
    pub launches: (usize, usize),
    /// Replays before the first that counts last this long.
    pub warm_up: Duration,
    /// The measurement of one line.
    pub measurement: Duration,
}

impl Settings {
    pub fn new(quick: bool) -> Settings {
        if quick {
            let shortest = Duration::from_millis(1);
            return Settings {
                quick,
                elements: 2048,
                replay_bytes: 0,
                launches: (2, 3),
                warm_up: shortest,
                measurement: shortest,
            };
        }
        Settings {
            quick,
            elements: 1 << 26,
            replay_bytes: 8 << 30,
            launches: (20, 200),
            warm_up: Duration::from_millis(200),
            measurement: Duration::from_millis(100),
        }
    }

    /// All shapes.
    pub fn shapes(&self) -> Vec<Shape> {
        let grid = |name, cols: usize| Shape { name, rows: (self.elements / cols).max(1), cols };
        if self.quick {
            // More than one block of the streaming kernel, the last of them not whole.
            let odd = Shape { name: ODD, rows: 40, cols: 257 };
            return vec![grid(GRID, 64), grid(GRID, 1024), odd, Shape { name: TINY, rows: 1, cols: 128 }];
        }
        let powers = (5..=20).map(|bits| grid(GRID, 1 << bits));
        let odd = (8..=20).step_by(2).map(|bits| grid(ODD, (1 << bits) + 1));
        // Twice the grid's elements: all but the largest workloads as they are.
        let most = |cols: usize| (2 * self.elements / cols).max(1);
        let fitting = WORKLOADS.into_iter().chain(FEW);
        let fitting = fitting.map(|(name, rows, cols)| Shape { name, rows: rows.min(most(cols)), cols });
        powers.chain(odd).chain(fitting).collect()
    }

    /// Launches in one graph of a problem that moves so many bytes and takes so many buffers in turn.
    pub fn launches(&self, bytes: usize, buffers: usize) -> usize {
        let (least, most) = self.launches;
        // Whole turns: every buffer is used as often as the others.
        (self.replay_bytes / bytes.max(1)).clamp(least, most).next_multiple_of(buffers)
    }
}
